"""Sufficient statistics form a commutative monoid that follows the records."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studbook.arrays import Batch, concatenate, counts, numbers, states
from studbook.errors import ConfigError, FitError
from studbook.learners.bernoulli import Bernoulli
from studbook.learners.categorical import Categorical
from studbook.learners.gaussian import Gaussian
from studbook.learners.poisson import Poisson
from studbook.learners.statistics import BinaryCounts, CategoricalCounts, GaussianMoments, PoissonTotals
from studbook.rng import stream

LEARNERS = {"gaussian": Gaussian(), "bernoulli": Bernoulli(), "poisson": Poisson(), "categorical": Categorical()}


def batch_of(kind: str, seed: int, n: int) -> Batch:
    rng = stream(seed, kind)
    if kind == "gaussian":
        return numbers(rng.normal(rng.normal(), 2.0, (n, 3)))
    if kind == "poisson":
        return counts(rng.poisson(3.0, n))
    return states(rng.integers(0, 2, n), 2) if kind == "bernoulli" else states(rng.integers(0, 8, n), 11)


def parts(statistics: object) -> list[np.ndarray]:
    if isinstance(statistics, GaussianMoments):
        return [statistics.weight, statistics.mean, statistics.scatter]
    if isinstance(statistics, PoissonTotals):
        return [statistics.weight, statistics.total]
    if isinstance(statistics, BinaryCounts):
        return [statistics.counts]
    assert isinstance(statistics, CategoricalCounts)
    return [statistics.dense(), statistics.totals()]


def same(one: object, two: object) -> None:
    for a, b in zip(parts(one), parts(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


sizes = st.integers(1, 20)
weights = st.floats(0.01, 100.0)


@pytest.mark.parametrize("kind", LEARNERS)
@settings(deadline=None)  # the first call compiles
@given(seed=st.integers(0, 99), n=st.tuples(sizes, sizes, sizes), w=weights)
def test_merge_is_associative_and_commutative(kind: str, seed: int, n: tuple[int, int, int], w: float) -> None:
    learner = LEARNERS[kind]
    a, b, c = (learner.summarise(batch_of(kind, seed + i, size)) for i, size in enumerate(n))
    b = b.scaled(w)
    same(a.merge(b).merge(c), a.merge(b.merge(c)))
    same(a.merge(b), b.merge(a))


@pytest.mark.parametrize("kind", LEARNERS)
@settings(deadline=None)  # the first call compiles
@given(seed=st.integers(0, 99), n=st.tuples(sizes, sizes), w=st.tuples(weights, weights))
def test_statistics_follow_the_records(kind: str, seed: int, n: tuple[int, int], w: tuple[float, float]) -> None:
    learner = LEARNERS[kind]
    one, two = (batch_of(kind, seed + i, size) for i, size in enumerate(n))
    merged = learner.summarise(one).scaled(w[0]).merge(learner.summarise(two).scaled(w[1]))
    same(merged, learner.summarise(concatenate([one.with_weight(w[0]), two.with_weight(w[1])])))


@pytest.mark.parametrize("kind", LEARNERS)
def test_repeat_copies_one_training_set(kind: str) -> None:
    single = LEARNERS[kind].summarise(batch_of(kind, 0, 10))
    repeated = single.repeat(3)
    assert repeated.n_replicates == 3
    for one, three in zip(parts(single), parts(repeated), strict=True):
        assert len(three) == 3
        np.testing.assert_array_equal(three, np.repeat(one, 3, axis=0))
    with pytest.raises(FitError, match="only a single training set"):
        repeated.repeat(2)
    with pytest.raises(ConfigError, match="weight of a record is 0"):
        single.scaled(0.0)


@pytest.mark.parametrize("kind", LEARNERS)
def test_nothing_merges_to_nothing(kind: str) -> None:
    learner = LEARNERS[kind]
    model = learner.fit(batch_of(kind, 0, 10), rng=stream(0))
    full, empty = learner.draw(model, 10, rng=stream(1)), learner.draw(model, 0, rng=stream(2))
    same(full.merge(empty), full)
    same(empty.merge(full), full)
    with pytest.raises(FitError, match=f"{kind} got no records"):
        learner.estimate(empty.merge(empty), model.space)


@settings(deadline=None)  # the first call compiles
@given(seed=st.integers(0, 99), share=st.floats(0.0, 1.0))
def test_a_subsample_is_part_of_the_whole(seed: int, share: float) -> None:
    for kind in ("bernoulli", "categorical"):
        whole = LEARNERS[kind].summarise(batch_of(kind, seed, 500)).repeat(4)
        n = int(500 * share)
        drawn = whole.subsample(n, rng=stream(seed))
        table, limit = (s.dense() if isinstance(s, CategoricalCounts) else s.counts for s in (drawn, whole))
        assert table.sum(axis=1).tolist() == [n] * 4
        assert (table <= limit).all()
        assert (table >= 0).all()


def test_a_subsample_of_everything_is_everything() -> None:
    whole = LEARNERS["categorical"].summarise(batch_of("categorical", 0, 500))
    same(whole.subsample(500, rng=stream(0)), whole)


@pytest.mark.parametrize("kind", ["bernoulli", "categorical"])
def test_subsampling_is_refused_where_it_means_nothing(kind: str) -> None:
    whole = LEARNERS[kind].summarise(batch_of(kind, 0, 20))
    with pytest.raises(FitError, match="can't draw 21 of 20 records"):
        whole.subsample(21, rng=stream(0))
    with pytest.raises(FitError, match="these are weighted"):
        whole.scaled(1 / 7).subsample(3, rng=stream(0))


def test_categorical_statistics_of_different_shape_do_not_merge() -> None:
    one = CategoricalCounts.from_dense(np.ones((1, 3)))
    with pytest.raises(FitError, match="2 replicates on 3 states"):
        one.merge(one.repeat(2))
