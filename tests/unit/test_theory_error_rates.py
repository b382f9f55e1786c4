"""Bounds on rates against published values, their defining equations and brute force; the steps of the sequential test."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from studbook.errors import ConfigError
from studbook.theory import (
    Decision,
    PairedTrials,
    Sprt,
    SprtState,
    clopper_pearson,
    cluster_bootstrap,
    lower_bound,
    random_collision,
    trials_for_bound,
    upper_bound,
)

NOTHING = np.array([], dtype=np.int64)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def bound(paired: PairedTrials, confidence: float = 0.95, resamples: int = 400):
    return cluster_bootstrap(paired, confidence, rng=rng(), resamples=resamples)


@pytest.mark.parametrize(
    ("events", "trials", "low", "high"), [(0, 10, 0.0, 0.3085), (1, 10, 0.0025, 0.4450), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0)]
)
def test_clopper_pearson_of_the_tables(events: int, trials: int, low: float, high: float) -> None:
    assert clopper_pearson(events, trials, 0.95) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("events", "trials"), [(1, 7), (3, 1000), (999, 1000), (40, 10**9)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 1 - 1e-9])
def test_bounds_solve_their_tail_equations(events: int, trials: int, confidence: float) -> None:
    alpha = 1.0 - confidence
    assert stats.binom.cdf(events, trials, upper_bound(events, trials, confidence)) == pytest.approx(alpha, rel=1e-6)
    assert stats.binom.sf(events - 1, trials, lower_bound(events, trials, confidence)) == pytest.approx(alpha, rel=1e-6)


def test_no_event_and_nothing_but_events() -> None:
    assert upper_bound(0, 10**9, 0.95) == pytest.approx(2.9957e-9, rel=1e-4)
    assert lower_bound(0, 10, 0.95) == 0.0
    assert upper_bound(10, 10, 0.95) == 1.0
    assert lower_bound(10, 10, 0.95) == pytest.approx(1.0 - upper_bound(0, 10, 0.95))
    assert clopper_pearson(0, 0, 0.99) == (0.0, 1.0)


@pytest.mark.parametrize("rate", [1e-6, 2.67e-4, 0.3, 0.99])
@pytest.mark.parametrize("events", [0, 1, 12])
def test_trials_for_bound_is_the_smallest_number(rate: float, events: int) -> None:
    trials = trials_for_bound(rate, 0.95, events)
    assert upper_bound(events, trials, 0.95) <= rate
    assert trials == events + 1 or upper_bound(events, trials - 1, 0.95) > rate


@pytest.mark.parametrize(("n_bits", "radius", "figure"), [(64, 8, 2.8e-10), (64, 10, 1.0e-8), (256, 31, 8e-38)])
def test_random_collision_of_the_facts(n_bits: int, radius: int, figure: float) -> None:
    assert random_collision(n_bits, radius) == pytest.approx(figure, rel=0.04)


def test_random_collision_counts_strings() -> None:
    distances = [bin(word).count("1") for word in range(2**10)]
    for radius in range(11):
        assert random_collision(10, radius) == np.mean([d <= radius for d in distances])
    assert random_collision(64, 9) == pytest.approx(stats.binom.cdf(9, 64, 0.5), rel=1e-12)
    assert random_collision(2000, 0) == 0.0
    assert random_collision(65_536, 65_536) == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: upper_bound(3, 2, 0.95),
        lambda: upper_bound(-1, 2, 0.95),
        lambda: lower_bound(1, math.inf, 0.95),
        lambda: upper_bound(math.nan, 2, 0.95),
        lambda: clopper_pearson(1, 2, 1.0),
        lambda: clopper_pearson(1, 2, 95),
        lambda: trials_for_bound(0.0, 0.95),
        lambda: trials_for_bound(0.1, 0.95, events=-1),
        lambda: random_collision(0, 0),
        lambda: random_collision(64, 65),
        lambda: PairedTrials.listed(NOTHING, NOTHING, NOTHING),
        lambda: PairedTrials.listed(np.arange(3), np.arange(3), np.arange(2)),
        lambda: PairedTrials.listed(np.arange(3), np.arange(3), np.arange(3)),
        lambda: PairedTrials.complete(NOTHING, NOTHING, 1),
        lambda: PairedTrials.complete(np.array([1]), np.array([1]), 5),
        lambda: PairedTrials.complete(np.array([1]), np.array([5]), 5),
        lambda: PairedTrials.complete(np.array([1, 2]), np.array([2, 1]), 5),
        lambda: PairedTrials.complete(np.array([1]), np.array([2]), 5, np.array([2])),
        lambda: PairedTrials.complete(np.array([1, 2]), np.array([2]), 5),
        lambda: cluster_bootstrap(PairedTrials.complete(NOTHING, NOTHING, 9), 0.95, rng=rng(), resamples=10),
        lambda: cluster_bootstrap(PairedTrials.complete(NOTHING, NOTHING, 9), 1.5, rng=rng()),
        lambda: bound(PairedTrials.complete(NOTHING, NOTHING, 9)).more_clusters(0.0),
        lambda: Sprt(0.1, 0.1, 0.01, 0.01),
        lambda: Sprt(0.0, 0.1, 0.01, 0.01),
        lambda: Sprt(0.1, 0.2, 0.5, 0.5),
        lambda: Sprt(0.1, 0.2, 0.01, 0.01).add(SprtState(), [math.nan]),
        lambda: Sprt(0.1, 0.2, 0.01, 0.01).expected_more(SprtState(), (0.1, 0.2)),
    ],
)
def test_impossible_arguments_are_refused(call) -> None:
    with pytest.raises(ConfigError, match=r"expected|twice|isn't|aren't"):
        call()


def test_independent_comparisons_of_designs() -> None:
    """All pairs, a star, two sides, one-way, and unequal clusters."""
    i, j = np.triu_indices(40, 1)
    zero = np.zeros_like(i)
    assert PairedTrials.complete(NOTHING, NOTHING, 41).n_independent == 20
    assert PairedTrials.complete(NOTHING, NOTHING, np.full(40, 3)).n_independent == 20
    assert 19 <= PairedTrials.listed(i, j, zero).n_independent <= 20
    assert PairedTrials.listed(np.zeros(20, int), np.arange(1, 21), np.zeros(20, int)).n_independent == 1
    left, right = (side.ravel() for side in np.meshgrid(np.arange(10), np.arange(10, 40)))
    assert 9 <= PairedTrials.listed(left, right, np.zeros_like(left)).n_independent <= 10
    prompts = np.repeat(np.arange(25), 8)
    assert PairedTrials.listed(prompts, prompts, np.zeros(200, int)).n_independent == 25
    assert PairedTrials.listed(np.arange(3), np.arange(3), np.zeros(3, int), np.array([90, 5, 5])).n_independent == 1


@pytest.mark.parametrize("edges", range(1, 30, 4))
def test_independent_comparisons_are_never_more_than_a_matching(edges: int) -> None:
    """Brute force over graphs of six vertices: the count is at most the largest set of edges without a common vertex."""
    generator = np.random.default_rng(edges)
    every = np.array(list(itertools.combinations(range(6), 2)))
    for _ in range(20):
        chosen = every[generator.choice(len(every), min(edges, 15), replace=False)]
        largest = (
            max(
                size
                for size in range(1, 4)
                for part in itertools.combinations(chosen.tolist(), size)
                if len({v for e in part for v in e}) == 2 * size
            )
            if len(chosen)
            else 0
        )
        assert PairedTrials.listed(chosen[:, 0], chosen[:, 1], np.zeros(len(chosen), int)).n_independent <= largest


def test_ten_to_the_nine_pairs_are_not_as_many_trials() -> None:
    none = bound(PairedTrials.complete(NOTHING, NOTHING, 44_722))
    assert none.trials > 10**9
    assert none.upper == upper_bound(0, 22_361, 0.95) == pytest.approx(1.34e-4, rel=1e-2)
    assert none.upper > 40_000 * upper_bound(0, none.trials, 0.95)
    assert (none.lower, none.effective_trials) == (0.0, 22_361.0)


def test_an_event_never_lowers_the_upper_bound() -> None:
    none = bound(PairedTrials.complete(NOTHING, NOTHING, 300)).upper
    for m in (1, 3, 20):
        assert bound(PairedTrials.complete(np.arange(m), np.arange(m) + 150, 300)).upper >= none


def test_everything_an_event_mirrors_nothing_an_event() -> None:
    i, j = np.triu_indices(30, 1)
    every, none = bound(PairedTrials.complete(i, j, 30)), bound(PairedTrials.complete(NOTHING, NOTHING, 30))
    assert every.rate == every.upper == 1.0
    assert every.lower == pytest.approx(1.0 - none.upper)


def test_listed_and_complete_designs_agree() -> None:
    generator = np.random.default_rng(3)
    i, j = np.triu_indices(60, 1)
    hit = generator.random(i.size) < 0.1
    whole, sparse = bound(PairedTrials.listed(i, j, hit)), bound(PairedTrials.complete(i[hit], j[hit], 60))
    assert whole.trials == sparse.trials
    assert whole.effective_trials == pytest.approx(sparse.effective_trials)


def test_effective_trials_of_extremes() -> None:
    """One image that collides with everything: about as many trials as images; independent pairs: at least a third of the pairs."""
    n = 200
    hub = bound(PairedTrials.complete(np.zeros(n - 1, int), np.arange(1, n), n))
    assert 0.2 * n < hub.effective_trials < n
    i, j = np.triu_indices(n, 1)
    hit = np.random.default_rng(5).random(i.size) < 0.05
    free = bound(PairedTrials.complete(i[hit], j[hit], n))
    assert free.trials / 5 < free.effective_trials <= free.trials
    assert free.design_effect >= 1.0
    few = bound(PairedTrials.complete(np.array([0]), np.array([1]), 6))
    assert few.effective_trials <= few.n_independent == 3


def test_distribution_free_upper() -> None:
    """Equal to the exact bound without an event; above the other bound, and below Hoeffding's plain one, with some."""
    none = bound(PairedTrials.complete(NOTHING, NOTHING, 300))
    assert none.distribution_free_upper == pytest.approx(none.upper, rel=1e-12)
    i, j = np.triu_indices(200, 1)
    hit = np.random.default_rng(4).random(i.size) < 0.1
    some = bound(PairedTrials.complete(i[hit], j[hit], 200))
    assert some.upper < some.distribution_free_upper < some.rate + math.sqrt(math.log(20) / 200)
    assert bound(PairedTrials.complete(i, j, 200)).distribution_free_upper == 1.0


def test_more_clusters_is_the_smallest_number_that_is_enough() -> None:
    none = bound(PairedTrials.complete(NOTHING, NOTHING, 100))
    more = none.more_clusters(0.01)
    assert bound(PairedTrials.complete(NOTHING, NOTHING, 100 + more)).upper <= 0.01
    assert bound(PairedTrials.complete(NOTHING, NOTHING, 99 + more)).upper > 0.01
    assert none.more_clusters(0.9) == 0
    some = bound(PairedTrials.complete(np.arange(50), np.arange(50) + 50, 100))
    assert some.more_clusters(some.rate * 0.99) is None
    assert some.more_clusters(some.rate * 1.5) > some.more_clusters(some.rate * 3.0) > 0


def test_equal_generators_give_equal_bounds() -> None:
    paired = PairedTrials.complete(np.arange(50), np.arange(50) + 50, 100)
    assert bound(paired) == bound(paired)


def test_sprt_thresholds_and_steps() -> None:
    test = Sprt(0.1, 0.3, 0.02, 0.03)
    assert (test.lower, test.upper) == pytest.approx((math.log(0.03 / 0.98), math.log(0.97 / 0.02)))
    assert test.steps == pytest.approx((math.log(0.7 / 0.9), math.log(3.0)))
    assert test.decide(SprtState(test.lower)) is Decision.ACCEPT
    assert test.decide(SprtState(test.upper)) is Decision.REJECT
    assert test.decide(SprtState()) is Decision.CONTINUE


def test_sprt_may_look_for_fewer_events() -> None:
    """p1 below p0: matches instead of mismatches."""
    test = Sprt(0.97, 0.65, 1e-3, 1e-3)
    assert test.decide(test.observe(SprtState(), [True] * 40)) is Decision.ACCEPT
    assert test.decide(test.observe(SprtState(), [False] * 3)) is Decision.REJECT


def test_sprt_does_not_depend_on_how_the_stream_is_cut() -> None:
    outcomes = np.random.default_rng(2).random(500) < 0.2
    test = Sprt(0.1, 0.3, 1e-4, 1e-4)
    whole, state = test.observe(SprtState(), outcomes), SprtState()
    for start in range(0, 500, 7):
        state = test.observe(state, outcomes[start : start + 7])
    assert (state.n, state.llr) == (whole.n, pytest.approx(whole.llr))
    assert test.observe(whole, [True] * 100) is whole
    assert test.observe(state, []) is state


def test_sprt_takes_any_log_likelihood_ratio() -> None:
    test = Sprt(0.1, 0.3, 0.01, 0.01)
    state = test.add(SprtState(), [0.5, 2.0, 2.5, -50.0])
    assert (state.llr, state.n, test.decide(state)) == (5.0, 3, Decision.REJECT)
    impossible = test.add(SprtState(), [0.5, math.inf, -math.inf])
    assert (impossible.n, test.decide(impossible)) == (2, Decision.REJECT)


def test_sprt_expected_numbers() -> None:
    """Equal to Wald's formula at the start; none after the decision; more for what is left to show; finite for tiny error rates."""
    test = Sprt(0.1, 0.3, 0.02, 0.03)
    without, event = test.steps
    wald0 = (0.02 * test.upper + 0.98 * test.lower) / (0.1 * event + 0.9 * without)
    wald1 = (0.97 * test.upper + 0.03 * test.lower) / (0.3 * event + 0.7 * without)
    assert test.expected_more() == pytest.approx((wald0, wald1))
    assert test.more_needed() == math.ceil(max(wald0, wald1))
    assert test.more_needed(SprtState(10.0, 5)) == 0
    toward = [test.expected_more(SprtState(llr))[0] for llr in (0.0, -1.0, -2.0, -3.0)]
    assert toward == sorted(toward, reverse=True)
    assert test.expected_more(SprtState(), (-1.0, 1.0)) == pytest.approx(
        (-0.02 * test.upper - 0.98 * test.lower, 0.97 * test.upper + 0.03 * test.lower)
    )
    assert math.isfinite(Sprt(0.1, 0.3, 1e-300, 1e-300).more_needed())
