"""The loop on records: every mix really gets the records that it asks for."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from studbook.arrays import Batch, numbers
from studbook.data import Digits
from studbook.errors import ConfigError
from studbook.learners import Gaussian, KernelDensity
from studbook.mixing import Accumulate, Blend, Fresh, Keep, Replace, Subsample, Weighted
from studbook.recursion import FreshReserve, run_generations
from studbook.rng import stream

N, N_ORIGINAL, LAST = 40, 60, 4


@dataclass(frozen=True)
class Tagged:
    """A learner whose records carry their generation, so that a training set can be taken apart again."""

    def fit(self, data: Batch, *, rng: np.random.Generator) -> TaggedModel:
        return TaggedModel(data.space, int(data.values[:, 0].max()) + 1 if data.values[:, 0].max() < 900 else 1, float(rng.random()))


@dataclass(frozen=True)
class TaggedModel:
    space: object
    generation: int
    noise: float

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        return numbers(np.stack([np.full(n, float(self.generation)), rng.random(n)], axis=1))


def records(tag: float, n: int) -> Batch:
    return numbers(np.stack([np.full(n, tag), np.arange(n, dtype=float) + 10 * tag], axis=1))


def run(mix, fresh=None):
    original = records(0.0, N_ORIGINAL)
    return original, list(run_generations(Tagged(), mix, original, n=N, last=LAST, fresh=fresh, streams=partial(stream, 7)))


def tags(batch: Batch) -> Counter[float]:
    return Counter(batch.values[:, 0].tolist())


def test_generation_0_is_fitted_to_the_original():
    original, chain = run(Replace())
    assert chain[0].training is original
    assert [generation.index for generation in chain] == [0, 1, 2, 3, 4]


def test_replace_trains_on_the_newest_sample_alone():
    _, chain = run(Replace())
    for before, after in itertools.pairwise(chain):
        assert np.array_equal(after.training.values, before.sample.values)


def test_accumulate_grows_by_n_and_holds_everything():
    _, chain = run(Accumulate())
    assert [len(generation.training) for generation in chain] == [60, 100, 140, 180, 220]
    assert tags(chain[2].training) == {0.0: 60, 1.0: 40, 2.0: 40}


def test_subsample_draws_n_different_records_from_everything():
    _, chain = run(Subsample())
    for generation in chain[1:]:
        assert len(generation.training) == N
        assert len(np.unique(generation.training.values[:, 1])) == N
    assert len(tags(chain[-1].training)) >= 3


def test_keep_draws_other_original_records_every_time():
    _, chain = run(Keep(0.25))
    kept = [frozenset(row[1] for row in generation.training.values if row[0] == 0.0) for generation in chain[1:]]
    assert [len(rows) for rows in kept] == [10] * LAST
    assert len(set(kept)) == LAST
    assert all(len(generation.training) == N for generation in chain[1:])


def test_fresh_records_are_never_shown_twice():
    reserve = records(999.0, 5 * LAST)
    _, chain = run(Fresh(5), FreshReserve(reserve))
    seen = [row[1] for generation in chain[1:] for row in generation.training.values if row[0] == 999.0]
    assert len(seen) == len(set(seen)) == 5 * LAST
    assert all(len(generation.training) == N for generation in chain[1:])


def test_an_empty_reserve_is_an_error_that_says_what_to_do():
    with pytest.raises(ConfigError, match=r"up to number 20, the reserve has 19 \(raise data.reserve"):
        run(Fresh(5), FreshReserve(records(999.0, 19)))
    with pytest.raises(ConfigError, match="none were set aside"):
        run(Fresh(5))


def test_blend_takes_from_the_previous_training_set_without_replacement():
    _, chain = run(Blend(0.5, 0.3, 0.2))
    for generation in chain[1:]:
        assert len(generation.training) == N
    previous = {tuple(row) for row in chain[1].training.values}
    carried = [tuple(row) for row in chain[2].training.values if tuple(row) in previous]
    assert len(carried) >= 12
    assert tags(chain[2].training)[2.0] == 20


def test_weights_reach_the_fit():
    _original, chain = run(Weighted(0.5))
    training = chain[1].training
    assert len(training) == N_ORIGINAL + N
    assert np.isclose(training.weights[:N_ORIGINAL].sum(), training.weights[N_ORIGINAL:].sum())
    assert np.isclose(training.weights.sum(), N_ORIGINAL + N)


def test_the_same_streams_give_the_same_bits_and_others_do_not():
    data = numbers(np.random.default_rng(0).normal(size=50))
    chains = [
        [g.sample.values for g in run_generations(Gaussian(), Replace(), data, n=50, last=3, fresh=None, streams=partial(stream, seed))]
        for seed in (1, 1, 2)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(chains[0], chains[1], strict=True))
    assert not np.array_equal(chains[0][0], chains[2][0])


def test_real_pictures_lose_lineages():
    """Under replacement the 100 generated digits descend from ever fewer originals: fixed seed, no false alarm."""
    digits = Digits(limit=100).load().records
    descendants = []
    chain = run_generations(KernelDensity(bandwidth=1e-6), Replace(), digits, n=100, last=60, fresh=None, streams=partial(stream, 3))
    for generation in chain:
        nearest = ((generation.sample.flat[:, None] - digits.flat[None]) ** 2).sum(axis=2).argmin(axis=1)
        descendants.append(len(np.unique(nearest)))
    assert descendants[0] > 50
    assert descendants[-1] < 10
