"""Poisoned generations, then healing ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from studbook.arrays import Batch, numbers
from studbook.errors import ConfigError
from studbook.learners import Gaussian
from studbook.mixing import Heal, Keep, Origin
from studbook.recursion import can_run_in_law, run_generations
from studbook.rng import stream
from studbook.study.catalog import create_mix, describe
from studbook.theory import composition_of


@dataclass(frozen=True, slots=True)
class Marked:
    """Generates records that can be told from real ones."""

    def fit(self, data: Batch, *, rng: np.random.Generator) -> Marked:
        return self

    @property
    def space(self):
        return numbers(np.zeros(1)).space

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        return numbers(np.full(n, -1.0))


def test_parts_of_both_phases():
    mix = Heal(share=0.033, until=5)
    assert {part.origin: part.n for part in mix.at(1).parts(300, 300)} == {Origin.ORIGINAL: 290, Origin.GENERATED: 10}
    assert mix.at(5) is mix
    assert mix.at(6) == Keep(share=1.0)
    assert [(part.origin, part.n) for part in mix.at(6).parts(300, 300)] == [(Origin.ORIGINAL, 300)]
    assert Heal(share=0.0, until=1).parts(10, 10)[0].origin is Origin.ORIGINAL
    assert [part.origin for part in Heal(share=1.0, until=1).parts(10, 10)] == [Origin.GENERATED]


def test_the_loop_poisons_and_then_heals():
    original = numbers(np.arange(200.0))
    chain = run_generations(Marked(), Heal(share=0.1, until=3), original, n=200, last=6, fresh=None, streams=partial(stream, 0))
    training = [generation.training.values[:, 0] for generation in chain]
    assert [int((values < 0).sum()) for values in training] == [0, 20, 20, 20, 0, 0, 0]
    assert all(len(values) == 200 for values in training)
    assert all(len(np.unique(values[values >= 0])) == (values >= 0).sum() for values in training)  # without replacement
    assert not np.array_equal(np.sort(training[1]), np.sort(training[2]))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Heal(share=1.5, until=2), "mix.share is 1.5"),
        (lambda: Heal(share=0.1, until=0), "mix.until is 0"),
        (lambda: Heal(share=0.033, until=2).parts(10, 10), "is no generated record"),
        (lambda: Heal(share=0.1, until=2).parts(100, 50), "asks for 90 original records"),
        (lambda: Heal(share=0.9, until=2).at(3).parts(100, 50), "asks for 100 original records"),
    ],
)
def test_impossible_mixes_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_catalog_knows_it():
    mix = create_mix({"kind": "heal", "share": 0.1, "until": 3})
    assert mix == Heal(share=0.1, until=3)
    assert describe(mix) == {"kind": "heal", "share": 0.1, "until": 3}


def test_a_mix_that_changes_has_neither_theory_nor_a_law():
    assert composition_of("heal", {"share": 0.1, "until": 3}, 100, 100) is None
    learner = Gaussian()
    probe = learner.summarise(numbers(np.arange(50.0)))
    # Without original or generated subsets, so that only the change of phase stands in the way.
    assert not can_run_in_law(learner, Heal(share=1.0, until=3), n=50, n_original=50, real=None, probe=probe)
