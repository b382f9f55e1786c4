"""Diversity and divergence against values worked out another way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import poisson

from studbook.arrays import counts, states, text
from studbook.errors import MetricError
from studbook.metrics import estimators
from studbook.metrics.divergence import KullbackLeibler, TotalVariation
from studbook.metrics.diversity import Entropy, Extinct, Heterozygosity, Support, SupportShare
from studbook.metrics.histograms import Histogram
from studbook.metrics.protocols import Observation, Reference
from studbook.theory.laws import CategoricalLaw, PoissonLaw


def measure(metric, reference, sample):
    return metric.measure(reference, Observation(sample, sample, model=None, base=None), rng=np.random.default_rng(0))[0]


SOURCE = Reference(None, CategoricalLaw(np.array([[0.5, 0.25, 0.25, 0.0]])))


def test_laws_are_measured_exactly() -> None:
    law = CategoricalLaw(np.array([[0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]))
    assert Support().of_law(SOURCE, law)["support"].tolist() == [2, 1]
    assert SupportShare().of_law(SOURCE, law)["support_share"].tolist() == [2 / 3, 1 / 3]
    assert Heterozygosity().of_law(SOURCE, law)["heterozygosity"].tolist() == [0.5, 0.0]
    assert Entropy().of_law(SOURCE, law)["entropy"] == pytest.approx([np.log(2), 0])
    assert KullbackLeibler().of_law(SOURCE, law)["kl"] == pytest.approx([0.5 * np.log(2), np.log(4)])
    assert TotalVariation().of_law(SOURCE, law)["tv"] == pytest.approx([0.25, 0.75])


def test_a_state_that_the_original_lacks_makes_the_divergence_infinite() -> None:
    found = measure(KullbackLeibler(), SOURCE, states(np.array([0, 1, 3]), 4))
    assert found.value == found.stderr == np.inf
    assert KullbackLeibler().of_law(SOURCE, CategoricalLaw(np.array([[0.0, 0.0, 0.0, 1.0]])))["kl"].tolist() == [np.inf]


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.2, 3.0, 40.0, 299.0, 301.0, 5000.0])
def test_poisson_closed_forms_by_summation(rate: float) -> None:
    source = 5.0
    reference, law = Reference(None, PoissonLaw(np.array([source]))), PoissonLaw(np.array([rate]))
    grid = np.arange(int(rate + 20 * np.sqrt(rate) + 100))
    q, p = poisson.pmf(grid, rate), poisson.pmf(grid, source)
    log_q = poisson.logpmf(grid[q > 0], rate)
    assert Heterozygosity().of_law(reference, law)["heterozygosity"][0] == pytest.approx(1 - (q**2).sum(), abs=1e-12)
    assert Entropy().of_law(reference, law)["entropy"][0] == pytest.approx(-(q[q > 0] @ log_q), abs=1e-9)
    assert TotalVariation().of_law(reference, law)["tv"][0] == pytest.approx(0.5 * np.abs(q - p).sum(), abs=1e-9)
    expected = q[q > 0] @ (log_q - poisson.logpmf(grid[q > 0], source))
    assert KullbackLeibler().of_law(reference, law)["kl"][0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_poisson_equal_to_its_source_is_no_distance() -> None:
    law = PoissonLaw(np.array([7.0, 0.0]))
    for rate in law.rate:
        reference = Reference(None, PoissonLaw(np.array([rate])))
        assert TotalVariation().of_law(reference, law)["tv"][law.rate == rate].tolist() == [0.0]


def test_estimates_on_a_small_sample() -> None:
    sample = states(np.array([0, 0, 1, 2]), 4)
    reference = Reference(states(np.array([0, 1, 2, 3]), 4), None)
    assert measure(Support(), reference, sample).value == 3
    assert measure(SupportShare(), reference, sample).value == 0.75
    assert measure(Heterozygosity(), reference, sample).value == pytest.approx(5 / 6)
    plug_in = 1.5 * np.log(2)
    assert measure(Entropy(), reference, sample).value == pytest.approx(plug_in + 2 / 8)
    assert measure(KullbackLeibler(), reference, sample).value == pytest.approx(np.log(4) - plug_in - 2 / 8)
    assert measure(TotalVariation(), reference, sample).value == pytest.approx(0.25)


def test_jackknife_in_closed_form_equals_the_long_way() -> None:
    counted, p = np.array([5, 1, 2, 9, 1]), np.array([0.3, 0.1, 0.2, 0.2, 0.2])
    rows = np.repeat(np.arange(5), counted)
    left_out = [float(estimators.relative_entropy(np.bincount(np.delete(rows, i), minlength=5), p)) for i in range(len(rows))]
    n = len(rows)
    expected = np.sqrt((n - 1) / n * ((left_out - np.mean(left_out)) ** 2).sum())
    assert estimators.relative_entropy_stderr(counted, p) == pytest.approx(expected)


def test_text_is_a_stream_of_tokens() -> None:
    tokens = np.array([[0, 1, 1, 1], [0, 2, 2, 2], [0, 1, 2, 2]])
    sample = text(tokens, ("a", "b", "c", "d"))
    found = measure(Support(), Reference(sample, None), sample)
    assert (found.value, found.n) == (3, 12)
    same = states(tokens.ravel(), 4)
    for metric in (Heterozygosity(), Entropy(), KullbackLeibler(), TotalVariation()):
        assert measure(metric, Reference(sample, None), sample).value == measure(metric, Reference(same, None), same).value


def test_one_block_of_text_has_an_unknown_standard_error() -> None:
    sample = text(np.array([[0, 1, 1, 1]]), ("a", "b"))
    assert measure(Entropy(), Reference(sample, None), sample).stderr == np.inf


def test_support_of_counts_is_compared_with_what_as_many_draws_would_show() -> None:
    reference = Reference(None, PoissonLaw(np.array([3.0])))
    p = poisson.pmf(np.arange(60), 3.0)
    found = measure(SupportShare(), reference, counts(np.array([0, 1, 2, 2])))
    assert found.value == pytest.approx(3 / (1 - (1 - p) ** 4).sum())


def test_extinction() -> None:
    reference = Reference(counts(np.array([1, 2])), None)
    alive, dead = measure(Extinct(), reference, counts(np.array([0, 1]))), measure(Extinct(), reference, counts(np.zeros(8, int)))
    assert (alive.value, alive.stderr) == (0.0, None)
    assert (dead.value, dead.stderr) == (1.0, 0.1)


def test_counts_of_counts_need_no_table_up_to_the_largest() -> None:
    histogram = Histogram.of_batch(counts(np.array([3, 10**15, 3])))
    assert (histogram.values.tolist(), histogram.counts.tolist()) == ([3, 10**15], [2, 1])


def test_nothing_to_compare_with_is_refused() -> None:
    for metric in (SupportShare(), KullbackLeibler(), TotalVariation()):
        with pytest.raises(MetricError, match="neither"):
            measure(metric, Reference(None, None), states(np.array([0, 1]), 2))
