"""The dose against closed forms, known figures and an independent chain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from studbook.errors import ConfigError
from studbook.planning import dose, share_kept
from studbook.planning._search import SimulatedDose, settle
from studbook.planning._support import States, rarefaction_curve
from studbook.theory import CategoricalLaw, Composition, Renewal, divisor_fit, expected_moments, expected_support


def zipf(n_states: int, exponent: float = 1.0) -> CategoricalLaw:
    weights = np.arange(1, n_states + 1.0) ** -exponent
    return CategoricalLaw((weights / weights.sum())[None])


def test_five_in_a_hundred_keep_nine_tenths():
    answer = dose("variance", 0.9, samples=100, generations=10_000)
    assert (answer.fresh, answer.fraction, answer.method) == (5, 0.05, "theory")
    assert answer.kept == pytest.approx(0.9065, abs=5e-5)
    assert answer.interval == (answer.kept, answer.kept) == (answer.kept_of_law,) * 2
    assert answer.kept_without == pytest.approx(0.99**10_001)


@pytest.mark.parametrize("samples", [50, 1_000, 10**6])
def test_one_migrant_keeps_two_thirds_whatever_the_size(samples):
    assert share_kept("heterozygosity", 1, samples, 10**9) == pytest.approx(0.667, abs=0.01)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("fresh", [0, 1, 7, 40])
def test_moments_agree_with_the_recursion_of_every_mix(fresh, ddof):
    composition = Composition(generated=40 - fresh, fresh=fresh) if fresh < 40 else Composition(generated=0, fresh=40)
    path = expected_moments(composition, 40, 60, fit=divisor_fit(ddof))
    for generations in (0, 1, 13, 60):
        assert share_kept("variance", fresh, 40, generations, ddof=ddof) == pytest.approx(float(path.variance[generations]), rel=1e-10)


@pytest.mark.parametrize(("metric", "samples"), [("variance", 60), ("heterozygosity", 7), ("support", 24)])
def test_more_fresh_records_never_keep_less_and_the_dose_is_the_smallest(metric, samples):
    law = zipf(30)
    curve = np.array([share_kept(metric, r, samples, 25, law=law) for r in range(samples + 1)])
    assert (np.diff(curve) >= -1e-12).all()
    for keep in (0.05, 0.4, 0.8, float(curve[-1])):
        answer = dose(metric, keep, samples, 25, law=law)
        assert answer.fresh == int(np.argmax(curve >= keep - 1e-12))
        assert answer.kept == pytest.approx(curve[answer.fresh])


def test_no_fresh_record_is_needed_where_little_is_lost():
    answer = dose("heterozygosity", 0.9, samples=10**9, generations=10**6)
    assert (answer.fresh, answer.golden_weight, answer.effective_sample_size) == (0, 0.0, 0.0)
    assert answer.kept == answer.kept_without == pytest.approx(np.exp(-1e-3), abs=1e-6)


def test_all_fresh_records_are_all_the_weight():
    answer = dose("variance", 0.99, samples=100, generations=50)
    assert answer.fresh in (99, 100)
    assert answer.kept == pytest.approx(0.99)
    whole = dose("support", 1.0, samples=1, generations=5, law=zipf(3))
    assert whole.kept == pytest.approx(1.0)


def test_golden_weight_and_effective_size_of_the_dose():
    answer = dose("variance", 0.98, samples=100, generations=10_000)
    assert 20 < answer.fresh < 40
    k = answer.fresh / (100 - answer.fresh)
    assert answer.golden_weight == pytest.approx((np.sqrt(k * k + 4 * k) - k) / 2)
    assert answer.effective_sample_size == pytest.approx(answer.fresh / answer.golden_weight)


def forward_support(probabilities, fresh, samples, generations):
    """The marginal chain, forward, with its full transition matrix."""
    counts = np.arange(samples + 1)
    total = 0.0
    for p in probabilities:
        generated = binom.pmf(np.arange(samples - fresh + 1)[None, :], samples - fresh, counts[:, None] / samples)
        real = binom.pmf(np.arange(fresh + 1), fresh, p)
        step = np.array([np.convolve(row, real) for row in generated])
        law = binom.pmf(counts, samples, p)
        for _ in range(generations):
            law = law @ step
        total += 1.0 - law[0]
    return total


@pytest.mark.parametrize(("fresh", "generations"), [(0, 0), (0, 12), (1, 30), (13, 9), (24, 5), (25, 3)])
def test_support_is_that_of_the_forward_chain(fresh, generations):
    law = zipf(12, 1.5)
    expected = forward_support(law.probabilities[0], fresh, 25, generations) / forward_support(law.probabilities[0], 0, 25, 0)
    assert share_kept("support", fresh, 25, generations, law=law) == pytest.approx(expected, rel=1e-12)


def test_the_published_fifty_state_figure():
    answer = dose("support", 0.05, 100, 99, law=zipf(50))
    assert answer.fresh == 0
    assert answer.kept_of_law * 50 == pytest.approx(2.18, abs=0.005)


@pytest.mark.parametrize(("keep", "samples", "generations"), [(0.8, 500, 100), (0.7, 3_000, 20), (0.5, 20_000, 50)])
def test_the_dose_for_support_is_the_smallest_by_theory(keep, samples, generations):
    law = zipf(1_000)
    answer = dose("support", keep, samples, generations, law=law, seed=4)

    def kept(fresh):
        found = expected_support(law.probabilities[0], Renewal(samples - fresh, fresh=fresh), samples, np.array([0, generations]))
        return found[1] / found[0]

    assert (answer.method, answer.replicates, answer.approximation) == ("theory", 0, None)
    assert kept(answer.fresh) >= keep > kept(answer.fresh - 1)
    assert answer.kept == pytest.approx(kept(answer.fresh), rel=1e-12)


@pytest.mark.parametrize("guess", [0, 3, 316, 317, 5_000, 10**6])
@pytest.mark.parametrize("width", [0, 10, 10**5])
def test_a_curve_settles_in_few_evaluations_from_any_guess(guess, width):
    asked = []

    def kept(fresh):
        asked.append(fresh)
        return (fresh / 10**6) ** 0.25

    smallest = int(np.ceil(10**6 * 0.1334**4))
    assert settle(kept, 0.1334, 10**6, SimulatedDose(guess, (guess, guess + width), 16)) == smallest
    assert len(asked) < 40
    assert {smallest, smallest - 1} <= set(asked)


def test_rarefaction_curve_reaches_a_billion_draws():
    states = States.of(zipf(5_000).probabilities[0])
    draws = np.unique(np.geomspace(1, 10**9, 60).astype(np.int64))
    exact = states.rarefaction(draws)
    assert np.abs(rarefaction_curve(states, 10**9)(draws) - exact).max() < 1e-9 * 5_000


def test_states_of_probability_nought_and_one():
    answer = dose("support", 1.0, 50, 1_000, law=CategoricalLaw(np.array([[0.0, 1.0]])))
    assert (answer.fresh, answer.kept, answer.kept_of_law) == (0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "varience"}, "did you mean 'variance'"),
        ({"keep": 0.0}, "keep is 0.0"),
        ({"keep": float("nan")}, "keep is nan"),
        ({"keep": 1.2}, "keep is 1.2"),
        ({"keep": 0.9999}, "at most 0.99, which 100 fresh records"),
        ({"samples": 0}, "samples is 0"),
        ({"samples": 10**15}, "samples is 1000000000000000"),
        ({"samples": True}, "samples is True"),
        ({"samples": 10.5}, "samples is 10.5"),
        ({"generations": -1}, "generations is -1"),
        ({"ddof": 2}, "ddof is 2"),
        ({"metric": "heterozygosity", "ddof": 1}, "ddof is 1"),
        ({"ddof": 1, "samples": 1}, "expected 2 or more"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"metric": "support"}, "no law was given"),
        ({"metric": "support", "law": CategoricalLaw(np.full((2, 2), 0.5))}, "holds 2 distributions"),
        ({"metric": "support", "law": CategoricalLaw(np.array([[0.5, 0.6]]))}, "sum to 1.1"),
        ({"metric": "support", "law": CategoricalLaw(np.array([[np.nan, 0.6]]))}, "not finite"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, words):
    arguments = {"metric": "variance", "keep": 0.9, "samples": 100, "generations": 10} | change
    with pytest.raises(ConfigError, match=words):
        dose(**arguments)


def test_a_curve_point_outside_the_samples_is_refused():
    with pytest.raises(ConfigError, match="fresh is 101"):
        share_kept("variance", 101, 100, 10)
    with pytest.raises(ConfigError, match="replicates is 0"):
        share_kept("support", 1, 5_000, 10, law=zipf(5), replicates=0)


def test_a_genealogy_that_would_take_minutes_is_refused():
    law = CategoricalLaw(np.full((1, 50), 0.02))
    with pytest.raises(ConfigError, match="beyond what can be simulated"):
        dose("support", keep=0.9, samples=10**8, generations=10**6, law=law)
