"""Moments, distances and tails against values worked out another way."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm, poisson

from studbook.arrays import counts, images, numbers
from studbook.errors import ConfigError, MetricError
from studbook.metrics.distance import Wasserstein, WassersteinSquared, poisson_steps
from studbook.metrics.moments import Drift, Mean, Std, Variance
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.tails import TailMass
from studbook.metrics.transport import Normal, Steps, squared_distance
from studbook.theory.laws import CategoricalLaw, GaussianLaw, PoissonLaw


def gaussian(mean: object, covariance: object) -> GaussianLaw:
    return GaussianLaw(np.atleast_2d(mean).astype(float), np.atleast_3d(covariance).astype(float).reshape(1, np.size(mean), -1))


def see(sample, model=None):
    return Observation(sample, sample, model=model, base=None)


def measure(metric, reference, sample, model=None):
    found = metric.measure(reference, see(sample, model), rng=np.random.default_rng(0))
    return {m.metric: m for m in found}


def sorted_steps(values):
    return Steps.of_sorted(np.sort(values)[None])


def normal(mean: float, std: float) -> Normal:
    return Normal(np.array([mean]), np.array([std]))


STANDARD = Reference(None, gaussian([0.0], [[1.0]]))


def test_moments_of_a_small_sample() -> None:
    sample = numbers(np.array([[0.0, 10.0], [2.0, 10.0]]))
    reference = Reference(numbers(np.array([[0.0, 9.0], [0.0, 9.0]])), None)
    assert measure(Mean(), reference, sample)["mean"].value == 5.5
    assert measure(Variance(), reference, sample)["variance"].value == 1.0
    assert measure(Std(), reference, sample)["std"].value == pytest.approx(np.sqrt(2.0) / 2)
    # Shift (1, 1): mean square 1; excess is the mean variance over n, 1/2.
    assert measure(Drift(), reference, sample)["drift"].value == pytest.approx(0.5)


def test_a_model_with_moments_is_exact() -> None:
    model = SimpleNamespace(moments=lambda: (np.array([[1.0, 3.0]]), np.array([[[4.0, 0.0], [0.0, 0.0]]])))
    sample = numbers(np.zeros((3, 2)))
    reference = Reference(numbers(np.zeros((4, 2))), None)
    for metric, name, value in ((Mean(), "mean", 2.0), (Std(), "std", 1.0), (Variance(), "variance", 2.0), (Drift(), "drift", 5.0)):
        found = measure(metric, reference, sample, model)[name]
        assert found.exact
        assert found.n == 0
        assert found.value == pytest.approx(value)


def test_moments_have_no_closed_form_for_states() -> None:
    law = CategoricalLaw(np.array([[0.5, 0.5]]))
    for metric in (Mean(), Std(), Variance(), Drift(), Wasserstein(), TailMass()):
        assert metric.of_law(STANDARD, law) is None


def test_drift_without_an_original_is_refused() -> None:
    with pytest.raises(MetricError, match="neither records nor a law"):
        measure(Drift(), Reference(None, None), numbers(np.zeros(3)))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_gaussian_distance_is_that_of_bures(d: int) -> None:
    rng = np.random.default_rng(d)
    a, b = (rng.normal(size=(d, d)) for _ in range(2))
    first, second = gaussian(rng.normal(size=d), a @ a.T), gaussian(rng.normal(size=d), b @ b.T)
    root = np.real(sqrtm(a @ a.T))
    cross = np.real(sqrtm(root @ b @ b.T @ root))
    expected = ((first.mean - second.mean) ** 2).sum() + np.trace(a @ a.T + b @ b.T - 2 * cross)
    assert WassersteinSquared().of_law(Reference(None, first), second)["w2_squared"][0] == pytest.approx(expected)
    assert Wasserstein().of_law(Reference(None, first), second)["w2"][0] == pytest.approx(np.sqrt(expected))


def test_distance_of_collapsed_gaussians() -> None:
    zero = gaussian([3.0, 4.0], np.zeros((2, 2)))
    source = Reference(None, gaussian([0.0, 0.0], np.eye(2)))
    assert Wasserstein().of_law(source, zero)["w2"][0] == pytest.approx(np.sqrt(27.0))
    assert Wasserstein().of_law(Reference(None, zero), zero)["w2"][0] == 0.0


@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 4), (3, 5), (6, 9), (1, 7)])
def test_records_of_any_two_sizes_against_an_assignment(n: int, m: int) -> None:
    """Repeat both to a common size and solve the assignment problem."""
    rng = np.random.default_rng(n * 100 + m)
    x, y = rng.normal(size=n), rng.normal(size=m) + 1
    size = np.lcm(n, m)
    cost = (np.repeat(x, size // n)[:, None] - np.repeat(y, size // m)) ** 2
    expected = cost[linear_sum_assignment(cost)].mean()
    found = measure(WassersteinSquared(), Reference(numbers(y), None), numbers(x))["w2_squared"].value
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (2.0, 0.3), (-1.0, 0.0)])
def test_records_against_a_normal_law_by_quadrature(mean: float, std: float) -> None:
    values = np.sort(np.random.default_rng(3).normal(size=5))
    expected = sum(
        quad(lambda u, x=x: (mean + std * norm.ppf(u) - x) ** 2, low, high)[0]
        for x, (low, high) in zip(values, pairwise(np.linspace(0, 1, 6)), strict=True)
    )
    assert squared_distance(sorted_steps(values), normal(mean, std)) == pytest.approx(expected, rel=1e-6)
    as_law = WassersteinSquared().of_law(Reference(numbers(values), None), gaussian([mean], [[std**2]]))
    assert as_law["w2_squared"][0] == pytest.approx(expected, rel=1e-6)


def test_distance_is_precise_far_from_the_origin() -> None:
    values = np.random.default_rng(4).normal(size=1000)
    near = squared_distance(sorted_steps(values), normal(0.1, 1.2))
    far = squared_distance(sorted_steps(values + 1e6), normal(1e6 + 0.1, 1.2))
    assert far == pytest.approx(near, rel=1e-6)


def test_sliced_distance_of_a_shift_is_its_length_over_root_d_on_average() -> None:
    original = np.random.default_rng(0).normal(size=(50, 3))
    found = measure(WassersteinSquared(projections=2000), Reference(numbers(original), None), numbers(original + np.array([3.0, 0.0, 0.0])))
    assert found["w2_squared"].value == pytest.approx(9.0 / 3, rel=0.1)


def test_sliced_distance_has_the_same_directions_every_time() -> None:
    rng = np.random.default_rng(0)
    original, sample = numbers(rng.normal(size=(40, 4))), numbers(rng.normal(size=(30, 4)))
    values = {Wasserstein().measure(Reference(original, None), see(sample), rng=np.random.default_rng(seed))[0].value for seed in range(3)}
    assert len(values) == 1


def test_sliced_distance_of_a_gaussian_to_records_is_the_limit_of_its_samples() -> None:
    """20,000 draws, six standard errors: false alarm below 1e-8 for a normal error; the plug-in's bias is a hundredth of one."""
    rng = np.random.default_rng(1)
    law = gaussian([1.0, 0.0], [[2.0, 0.5], [0.5, 1.0]])
    reference = Reference(numbers(rng.normal(size=(100, 2))), None)
    exact = WassersteinSquared().of_law(reference, law)["w2_squared"][0]
    sampled = measure(WassersteinSquared(), reference, numbers(law.sample(20_000, rng=rng)))["w2_squared"]
    assert sampled.value == pytest.approx(exact, abs=6 * sampled.stderr)


def test_images_are_compared_as_flat_vectors() -> None:
    pixels = np.random.default_rng(2).random((20, 3, 3))
    flat = measure(Wasserstein(), Reference(numbers(pixels.reshape(20, 9)), None), numbers(pixels.reshape(20, 9) * 0.5))["w2"]
    assert measure(Wasserstein(), Reference(images(pixels, (0, 1)), None), images(pixels * 0.5, (0, 1)))["w2"] == flat


@pytest.mark.parametrize("rate", [0.0, 0.3, 7.0, 2500.0])
def test_poisson_steps_hold_the_law(rate: float) -> None:
    steps = poisson_steps(rate)
    weights = np.diff(steps.cumulative, prepend=0.0)
    assert steps.values[0] @ weights == pytest.approx(rate)
    np.testing.assert_allclose(weights, poisson.pmf(steps.values[0], rate), atol=1e-12)


def test_poisson_distance_to_extinction_is_the_second_moment() -> None:
    reference = Reference(None, PoissonLaw(np.array([4.0])))
    assert WassersteinSquared().of_law(reference, PoissonLaw(np.array([0.0, 4.0])))["w2_squared"] == pytest.approx([20.0, 0.0])


def test_tail_mass_starts_at_twice_the_quantile() -> None:
    values = TailMass(quantile=0.05).of_law(STANDARD, gaussian([0.0], [[1.0]]))
    assert {name: value[0] for name, value in values.items()} == pytest.approx(
        {"tail_mass": 0.1, "tail_mass.low": 0.05, "tail_mass.high": 0.05}
    )


def test_tail_mass_of_a_collapsed_gaussian_is_a_step() -> None:
    low, high = STANDARD.law.mean[0, 0] + norm.ppf([0.01, 0.99])
    for mean, expected in ((0.0, (0.0, 0.0)), (-5.0, (1.0, 0.0)), (5.0, (0.0, 1.0)), (low, (0.0, 0.0)), (high, (0.0, 0.0))):
        found = TailMass().of_law(STANDARD, gaussian([mean], [[0.0]]))
        assert (found["tail_mass.low"][0], found["tail_mass.high"][0]) == expected


def test_tail_mass_of_poisson_laws_is_a_sum_of_probabilities() -> None:
    reference = Reference(None, PoissonLaw(np.array([10.0])))
    low, high = poisson.ppf([0.01, 0.99], 10.0)
    grid = np.arange(200)
    for rate in (0.0, 3.0, 10.0, 30.0):
        found = TailMass().of_law(reference, PoissonLaw(np.array([rate])))
        assert found["tail_mass.low"][0] == pytest.approx(poisson.pmf(grid[grid < low], rate).sum(), abs=1e-12)
        assert found["tail_mass.high"][0] == pytest.approx(poisson.pmf(grid[grid > high], rate).sum(), abs=1e-12)


def test_tail_mass_of_records_counts_strictly_beyond() -> None:
    reference = Reference(numbers(np.arange(101.0)), None)
    found = measure(TailMass(), reference, numbers(np.array([0.0, 1.0, 50.0, 99.0, 100.0])))
    assert [found[name].value for name in ("tail_mass.low", "tail_mass.high", "tail_mass")] == pytest.approx([0.2, 0.2, 0.4])


def test_none_beyond_does_not_claim_certainty() -> None:
    found = measure(TailMass(), STANDARD, numbers(np.zeros(100)))["tail_mass.low"]
    assert found.value == 0
    assert found.stderr == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("dimension", [1, 4])
def test_all_beyond_claims_no_more_certainty_than_none(dimension: int) -> None:
    reference = Reference(numbers(np.random.default_rng(0).normal(size=(300, dimension))), None)
    inside, below, above = (measure(TailMass(), reference, numbers(np.full((500, dimension), x))) for x in (0.0, -9.0, 9.0))
    assert [found["tail_mass"].value for found in (inside, below, above)] == [0.0, 1.0, 1.0]
    assert (below["tail_mass.low"].value, below["tail_mass.high"].value) == (1.0, 0.0)
    errors = [m.stderr for found in (inside, below, above) for m in found.values()]
    assert errors == pytest.approx([1 / (501 * dimension)] * 9, rel=0.01)


def test_tail_mass_never_passes_one() -> None:
    """Laws so wide that nothing is within: the two rounded shares of seven coordinates add up to one, or a rounding error more."""
    reference = Reference(None, GaussianLaw(np.zeros((1, 7)), np.eye(7)[None]))
    means = 1e30 * np.random.default_rng(0).normal(size=(2000, 7))
    values = TailMass().of_law(reference, GaussianLaw(means, np.tile(1e60 * np.eye(7), (2000, 1, 1))))["tail_mass"]
    assert values.max() <= 1.0
    np.testing.assert_allclose(values, 1.0)


def test_a_quantile_outside_its_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="quantile is 0"):
        TailMass(quantile=0.5)
    with pytest.raises(ConfigError, match="projections is 0"):
        Wasserstein(projections=0)


def test_counts_are_one_number_each() -> None:
    reference = Reference(counts(np.array([0, 1, 2])), None)
    assert measure(Wasserstein(), reference, counts(np.array([1, 2, 3])))["w2"].value == pytest.approx(1.0)
    assert measure(Mean(), reference, counts(np.array([1, 2, 3])))["mean"].value == 2.0
