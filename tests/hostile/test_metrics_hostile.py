"""Records that nobody should have sent, and samples that collapse leaves behind."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import Batch, Kind, Space, counts, images, numbers, states
from studbook.errors import ConfigError, MetricError
from studbook.metrics.classifier import ClassShares
from studbook.metrics.distance import Wasserstein
from studbook.metrics.divergence import KullbackLeibler, TotalVariation
from studbook.metrics.diversity import Entropy, Heterozygosity, Support, SupportShare
from studbook.metrics.images import NearestTraining, PrecisionRecall
from studbook.metrics.information import Information
from studbook.metrics.moments import Drift, Mean, Std, Variance
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.tails import TailMass
from studbook.theory.laws import GaussianLaw

ON_NUMBERS = (Mean(), Std(), Variance(), Drift(), Wasserstein(), TailMass(), Information())
ON_STATES = (Support(), SupportShare(), Heterozygosity(), Entropy(), KullbackLeibler(), TotalVariation(), Information())


def measure(metric, reference, sample):
    return metric.measure(reference, Observation(sample, sample, model=None, base=None), rng=np.random.default_rng(0))


def sound(found) -> bool:
    return all(not np.isnan(m.value) and (m.stderr is None or m.stderr >= 0) for m in found)


@pytest.mark.parametrize("metric", ON_NUMBERS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_refused_with_its_row(metric, bad: float) -> None:
    original = numbers(np.arange(10.0))
    values = np.arange(10.0)
    values[7] = bad
    with pytest.raises(MetricError, match="record 7"):
        measure(metric, Reference(original, None), numbers(values))


@pytest.mark.parametrize("metric", [*ON_NUMBERS, *ON_STATES], ids=lambda m: type(m).__name__)
def test_no_records_are_refused(metric) -> None:
    empty = numbers(np.empty(0)) if Kind.NUMBERS in metric.kinds else states(np.empty(0, dtype=int), 3)
    with pytest.raises(MetricError, match="no records"):
        measure(metric, Reference(empty, None), empty)


@pytest.mark.parametrize("metric", ON_NUMBERS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], [0.0, 1e-300], [1e150, -1e150]], ids=str)
def test_tiny_and_huge_samples_have_values(metric, values: list[float]) -> None:
    assert sound(measure(metric, Reference(numbers(np.arange(10.0)), None), numbers(np.array(values))))


@pytest.mark.parametrize("metric", ON_NUMBERS, ids=lambda m: type(m).__name__)
def test_a_constant_original_has_values(metric) -> None:
    reference = Reference(numbers(np.full(20, 2.0)), None)
    assert sound(measure(metric, reference, numbers(np.full(20, 2.0))))
    assert sound(measure(metric, reference, numbers(np.arange(20.0))))


@pytest.mark.parametrize("metric", ON_STATES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("values", [[2], [2, 2], [0, 1, 2]], ids=str)
def test_few_states_have_values(metric, values: list[int]) -> None:
    assert sound(measure(metric, Reference(states(np.array([0, 1, 2, 2]), 5), None), states(np.array(values), 5)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_overflow_is_an_error_and_not_nan() -> None:
    huge = numbers(np.array([1.7e308, -1.7e308, 1.7e308]))
    for metric in (Std(), Variance(), Drift(), Wasserstein()):
        try:
            assert sound(measure(metric, Reference(numbers(np.arange(3.0)), None), huge))
        except MetricError as error:
            assert "overflow" in str(error)


def test_a_far_drifted_collapsed_gaussian_has_values() -> None:
    source = Reference(None, GaussianLaw(np.zeros((1, 1)), np.ones((1, 1, 1))))
    law = GaussianLaw(np.array([[1e8]]), np.array([[[5e-324]]]))
    for metric in (Mean(), Std(), Variance(), Drift(), Wasserstein(), TailMass()):
        assert all(np.isfinite(values).all() for values in metric.of_law(source, law).values())


def test_rounding_below_zero_in_a_covariance_is_zero() -> None:
    source = Reference(None, GaussianLaw(np.zeros((1, 2)), np.eye(2)[None]))
    law = GaussianLaw(np.zeros((1, 2)), np.array([[[1.0, 0.0], [0.0, -1e-18]]]))
    for metric in (Std(), Wasserstein(), TailMass()):
        assert all(np.isfinite(values).all() for values in metric.of_law(source, law).values())


def test_equal_pictures_and_black_pictures() -> None:
    original = images(np.random.default_rng(0).random((40, 5, 5)), (0.0, 1.0), np.arange(40) % 4)
    black = images(np.zeros((40, 5, 5)), (0.0, 1.0))
    for metric in (PrecisionRecall(), NearestTraining(), ClassShares(), Information(), Wasserstein()):
        assert sound(measure(metric, Reference(original, None), black))
    for metric in (PrecisionRecall(), NearestTraining(), Information(), Wasserstein()):
        assert sound(measure(metric, Reference(black, None), black))


def test_colour_pictures_of_no_contrast() -> None:
    pixels = np.full((12, 4, 4, 3), 0.5)
    batch = Batch(pixels, Space(Kind.IMAGES, (4, 4, 3), value_range=(0.5, 0.5)))
    assert measure(Information(), Reference(batch, None), batch)[0].value == 0.0


def test_enormous_counts() -> None:
    sample = counts(np.array([0, 2**62, 2**62, 5]))
    for metric in (Support(), Heterozygosity(), Entropy(), TotalVariation(), Information()):
        assert sound(measure(metric, Reference(sample, None), sample))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Information(levels=1), "levels is 1"),
        (lambda: Information(limit=0), "limit is 0"),
        (lambda: PrecisionRecall(limit=5), "limit is 5"),
        (lambda: NearestTraining(limit=10**9), "limit is 1000000000"),
        (lambda: ClassShares(components=0), "components is 0"),
        (lambda: TailMass(quantile=float("nan")), "quantile is nan"),
        (lambda: Wasserstein(projections=10**9), "projections is 1000000000"),
    ],
)
def test_parameters_out_of_range_are_refused_before_any_work(build, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
