"""Curators in the loop: who is judged, what is refilled, what is counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

from studbook.arrays import Batch, numbers, states
from studbook.curation import Ideal, Judged
from studbook.errors import ConfigError, FitError
from studbook.mixing import Accumulate, Blend, Contaminated, Fresh, Keep, Mix, Origin, Replace, Weighted
from studbook.recursion import KEPT, FreshReserve, Generation, Needs, check_curation, run_generations
from studbook.rng import stream

N, LAST = 200, 3
ORIGINAL = numbers(np.zeros((300, 2)))


@dataclass(frozen=True)
class Tagged:
    """Its models' records carry the generation that made them: real ones are 0 (original) or -1 (fresh)."""

    def fit(self, data: Batch, *, rng: np.random.Generator) -> TaggedModel:
        return TaggedModel(max(0, int(data.values[:, 0].max())) + 1)


@dataclass(frozen=True)
class TaggedModel:
    generation: int

    @property
    def space(self) -> object:
        return ORIGINAL.space

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        return numbers(np.stack([np.full(n, float(self.generation)), rng.random(n)], axis=1))


class Endless:
    """Fresh records without an end."""

    def take(self, generation: int, n: int, *, rng: np.random.Generator, after: int = 0) -> Batch:
        return numbers(np.stack([np.full(n, -1.0), rng.random(n)], axis=1))


@dataclass
class Witnessing:
    """Rejects what was noted, and remembers in which order it was noted."""

    refill: bool = True
    candidates: int = 50
    remembers: bool = True
    noted: list[tuple[int, int]] = field(default_factory=list)
    known: set[float] = field(default_factory=set)

    def write(self, model: TaggedModel, n: int, *, rng: np.random.Generator) -> Batch:
        return model.sample(n, rng=rng)

    def note(self, generation: int, sample: Batch) -> None:
        self.noted.append((generation, len(sample)))
        self.known |= set(sample.values[::2, 1].tolist())

    def judge(self, candidates: Batch, origin: Origin, *, rng: np.random.Generator) -> Judged:
        found = np.array([value in self.known for value in candidates.values[:, 1].tolist()])
        details = {int(row): "it was noted" for row in np.flatnonzero(found)}
        return Judged(candidates, np.where(found, 0, -1), ("register",), details)


def run(curator: object, mix: Mix, *, fresh: object = None, last: int = LAST) -> list[Generation]:
    supply = Endless() if fresh is None else fresh
    return list(run_generations(Tagged(), mix, ORIGINAL, n=N, last=last, fresh=supply, streams=partial(stream, 3), curator=curator))


def kept(generation: Generation) -> dict[str, int]:
    assert generation.sifting is not None
    return {origin: int(n[0]) for (origin, reason), n in generation.sifting.counts.items() if reason == KEPT}


def test_a_screen_that_rejects_nothing_changes_nothing():
    plain = list(run_generations(Tagged(), Contaminated(0.5), ORIGINAL, n=N, last=LAST, fresh=Endless(), streams=partial(stream, 3)))
    curated = run(Ideal(0.0, 0.0), Contaminated(0.5))
    for before, after in zip(plain, curated, strict=True):
        assert np.array_equal(before.training.values, after.training.values)
        assert np.array_equal(before.sample.values, after.sample.values)


def test_generation_0_isnt_curated():
    chain = run(Ideal(1.0, 1.0), Fresh(50), last=0)
    assert chain[0].training is ORIGINAL
    assert chain[0].sifting is None


@pytest.mark.parametrize("mix", [Contaminated(0.5), Fresh(20), Keep(0.2), Blend(0.5, 0.3, 0.2)])
def test_the_training_set_keeps_its_size(mix):
    for generation in run(Ideal(0.7, 0.1), mix)[1:]:
        assert len(generation.training) == N
        assert sum(kept(generation).values()) == N


def test_without_refill_it_shrinks_by_what_was_rejected():
    for generation in run(Ideal(0.5, 0.0, refill=False), Contaminated(0.5))[1:]:
        counts = {key: int(n[0]) for key, n in generation.sifting.counts.items()}
        assert len(generation.training) == N - counts["generated", "ideal screen"]
        assert counts["fresh", KEPT] == N // 2
        assert sum(counts.values()) == N


def test_a_perfect_screen_leaves_real_records_alone():
    for generation in run(Ideal(1.0, 0.0), Contaminated(0.8))[1:]:
        assert set(generation.training.values[:, 0].tolist()) == {-1.0}
        assert generation.sifting.generated_share.tolist() == [0.0]


def test_false_positives_hit_real_records():
    generation = run(Ideal(0.0, 1.0), Contaminated(0.5))[1]
    assert kept(generation) == {"fresh": 0, "generated": N}


def test_what_is_refilled_is_new():
    for generation in run(Ideal(0.8, 0.0), Contaminated(0.9))[1:]:
        assert len(np.unique(generation.training.values[:, 1])) == N


def test_weights_go_with_the_records():
    generation = run(Ideal(0.5, 0.2), Weighted(0.6, fresh=100))[1]
    real = generation.training.values[:, 0] == -1.0
    assert generation.training.weights is not None
    assert len({*generation.training.weights[real].tolist()}) == len({*generation.training.weights[~real].tolist()}) == 1
    assert generation.training.weights[real][0] > generation.training.weights[~real][0]


def test_the_previous_training_set_was_judged_when_it_came():
    counts = run(Ideal(1.0, 0.0), Blend(0.4, 0.6, 0.0))[2].sifting.counts
    assert ("previous", "ideal screen") not in counts
    assert int(counts["previous", KEPT][0]) == N


def test_nothing_left_is_an_error_that_says_so():
    with pytest.raises(FitError, match=r"rejected all 2,000 candidates of generation 1"):
        run(Ideal(1.0, 0.0, candidates=10), Replace())


def test_a_training_set_may_stay_smaller_where_candidates_run_out():
    generation = run(Ideal(1.0, 0.0, candidates=2), Contaminated(0.9))[1]
    assert 20 <= len(generation.training) < N
    total = sum(int(n[0]) for n in generation.sifting.counts.values())
    assert total <= 2 * N


def test_a_reserve_gives_each_generation_its_share_and_no_more():
    reserve = FreshReserve(numbers(np.stack([np.full(300, -1.0), np.arange(300.0)], axis=1)), share=100)
    seen: list[set[float]] = []
    for generation in run(Ideal(0.95, 0.0, candidates=5), Contaminated(0.9), fresh=reserve)[1:]:
        real = generation.training.values[generation.training.values[:, 0] == -1.0]
        seen.append(set(real[:, 1].tolist()))
        assert len(seen[-1]) == len(real)
    assert not seen[0] & seen[1]
    assert max(seen[0]) < 100 <= min(seen[1])


def test_a_pool_cant_be_curated():
    with pytest.raises(ConfigError, match="pool of real and generated"):
        check_curation(Accumulate().parts(N, N))


@pytest.mark.parametrize(("name", "value"), [("tpr", -0.1), ("tpr", float("nan")), ("fpr", 1.5), ("candidates", 0)])
def test_rates_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"curation.{name}"):
        Ideal(**({"tpr": 0.5, "fpr": 0.5} | {name: value}))


def test_rejects_are_kept_with_reasons_a_few_of_each():
    generation = run(Witnessing(), Contaminated(0.5))[1]
    shown = generation.sifting.rejects
    assert [(reject.origin, reject.reason, reject.detail) for reject in shown] == [("generated", "register", "it was noted")] * 3
    assert all(len(reject.record) == 1 for reject in shown)


def test_everything_published_is_noted_refills_too():
    curator = Witnessing()
    chain = run(curator, Contaminated(0.5))
    assert [generation for generation, n in curator.noted if n == N][:2] == [0, 1]
    extras = {generation for generation, n in curator.noted if n != N}
    assert extras == set(range(LAST))
    # Every other record is known, so that about every second generated candidate goes.
    assert 0.2 < float(chain[1].sifting.generated_share[0]) < 0.45


def test_needs_of_a_curator():
    assert Needs.of(Tagged(), Fresh(5), n=9, n_original=9, last=1, curator=Ideal(0.5, 0.5)) == Needs(model=True)
    assert Needs.of(Tagged(), Fresh(5), n=9, n_original=9, last=1, curator=Witnessing()) == Needs(model=True, history=True)


def test_an_ideal_screen_doesnt_look_at_records():
    rng = np.random.default_rng(0)
    judged = Ideal(0.25, 0.0).judge(states(np.arange(1000), 1000), Origin.GENERATED, rng=rng)
    # Bin(1000, .25): outside 180 … 320 in fewer than one of a million draws.
    assert 180 < (judged.verdicts == 0).sum() < 320
