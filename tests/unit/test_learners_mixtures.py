"""Mixtures and kernel density estimates against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from studbook.arrays import Batch, images, numbers
from studbook.errors import ConfigError, FitError
from studbook.learners.gmm import GaussianMixture
from studbook.learners.kde import KernelDensity
from studbook.rng import stream

TWO = numbers(stream(0, "two").permutation(np.concatenate([stream(1).normal(-4, 1, 300), stream(2).normal(4, 0.5, 100)])))


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_mixture_log_prob_agrees_with_scikit_learn(covariance: str) -> None:
    from sklearn import mixture

    data = numbers(stream(3).normal(size=(200, 3)) @ np.array([[1.0, 0.4, 0.0], [0.0, 2.0, 0.3], [0.0, 0.0, 0.5]]))
    model = GaussianMixture(components=3, covariance=covariance).fit(data, rng=stream(4))
    peer = mixture.GaussianMixture(3, covariance_type=covariance, random_state=int(stream(4).integers(2**31 - 1))).fit(data.values)
    np.testing.assert_allclose(model.log_prob(data), peer.score_samples(data.values), rtol=1e-8)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_mixture_moments_are_those_of_its_samples(covariance: str) -> None:
    """Each of 2 means and 3 covariances within 5 standard errors (false alarms: 3e-6)."""
    data = numbers(np.column_stack([TWO.values, TWO.values[::-1] * 0.5]))
    model = GaussianMixture(components=3, covariance=covariance).fit(data, rng=stream(5))
    mean, covariance_matrix = model.moments()
    sample = model.sample(40_000, rng=stream(6)).values - mean[0]
    products = np.column_stack([sample, sample[:, 0] ** 2, sample[:, 0] * sample[:, 1], sample[:, 1] ** 2])
    expected = np.array([0.0, 0.0, *covariance_matrix[0][np.triu_indices(2)]])
    z = (products.mean(axis=0) - expected) / (products.std(axis=0) / np.sqrt(len(products)))
    assert np.abs(z).max() < 5


def test_mixture_samples_differ_from_call_to_call() -> None:
    model, rng = GaussianMixture().fit(TWO, rng=stream(7)), stream(8)
    assert not np.intersect1d(model.sample(500, rng=rng).values, model.sample(500, rng=rng).values).size


def test_mixture_samples_are_in_random_order() -> None:
    """The number of runs of the two components within 5 standard deviations of that of a random order (false alarms: 6e-7)."""
    right = GaussianMixture().fit(TWO, rng=stream(9)).sample(2000, rng=stream(10)).values[:, 0] > 1.0
    n1, n0 = right.sum(), (~right).sum()
    runs, mean = 1 + (right[1:] != right[:-1]).sum(), 1 + 2 * n1 * n0 / 2000
    assert abs(runs - mean) < 5 * np.sqrt((mean - 1) * (mean - 2) / 1999)


def test_mixture_of_equal_records_stays_alive_by_regularisation() -> None:
    model = GaussianMixture(components=2, regularisation=1e-4).fit(numbers(np.full(50, 3.0)), rng=stream(11))
    mean, covariance = model.moments()
    assert (mean.item(), covariance.item()) == (pytest.approx(3.0), pytest.approx(1e-4))
    again = GaussianMixture(components=2).fit(model.sample(50, rng=stream(12)), rng=stream(13))
    assert again.moments()[0].item() == pytest.approx(3.0, abs=0.05)


def test_mixture_without_regularisation_names_the_cause() -> None:
    with pytest.raises(FitError, match="lost all its variance with regularisation 0"):
        GaussianMixture(regularisation=0.0).fit(numbers(np.full(50, 3.0)), rng=stream(14))


def test_mixture_reports_that_it_did_not_converge() -> None:
    data = numbers(stream(15).uniform(size=(500, 2)))
    model = GaussianMixture(components=10, max_iterations=1).fit(data, rng=stream(16))
    assert (model.converged, model.n_iterations) == (False, 1)
    assert GaussianMixture(components=1).fit(data, rng=stream(16)).converged


def test_mixture_refuses_different_weights() -> None:
    GaussianMixture().fit(TWO.with_weight(0.3), rng=stream(17))
    with pytest.raises(FitError, match="gmm can't weight records"):
        GaussianMixture().fit(Batch(TWO.values, TWO.space, weights=np.arange(1.0, 401.0)), rng=stream(17))


def test_mixture_needs_a_record_for_each_component() -> None:
    with pytest.raises(FitError, match="gmm got 2 records for 3 components"):
        GaussianMixture(components=3).fit(numbers(np.array([1.0, 2.0])), rng=stream(18))


@pytest.mark.slow
def test_mixture_learns_digits() -> None:
    """Samples of digits are nearer to real digits than pixel-shuffled ones are."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import NearestNeighbors

    pixels = load_digits().images / 16.0
    model = GaussianMixture(components=30, covariance="diag", regularisation=1e-3).fit(images(pixels, (0.0, 1.0)), rng=stream(19))
    sample = model.sample(300, rng=stream(20)).flat
    near = NearestNeighbors(n_neighbors=1).fit(pixels.reshape(len(pixels), -1))
    shuffled = stream(21).permuted(sample, axis=1)
    assert np.median(near.kneighbors(sample)[0]) < 0.6 * np.median(near.kneighbors(shuffled)[0])


@pytest.mark.parametrize("rule", ["scott", "silverman"])
@pytest.mark.parametrize("weighted", [False, True])
def test_kernel_density_agrees_with_scipy(rule: str, weighted: bool) -> None:
    values = stream(22).normal(size=(60, 2)) @ np.array([[1.0, 3.0], [0.0, 0.1]])
    weights = stream(23).uniform(0.1, 2.0, 60) if weighted else None
    model = KernelDensity(bandwidth=rule).fit(Batch(values, numbers(values).space, weights=weights), rng=stream(0))
    peer = stats.gaussian_kde(values.T, rule, weights)
    np.testing.assert_allclose(model.kernel, peer.covariance, rtol=1e-10)
    points = values[::-1] * 1.1
    np.testing.assert_allclose(model.log_prob(numbers(points)), peer.logpdf(points.T), rtol=1e-9)


def test_kernel_density_with_a_fixed_bandwidth_in_one_dimension() -> None:
    model = KernelDensity(bandwidth=0.2).fit(numbers(np.array([0.0, 1.0])), rng=stream(0))
    at = np.array([0.5, -30.0])
    expected = np.logaddexp(stats.norm(0, 0.2).logpdf(at), stats.norm(1, 0.2).logpdf(at)) - np.log(2)
    np.testing.assert_allclose(model.log_prob(numbers(at)), expected)


def test_kernel_density_works_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    model = KernelDensity().fit(TWO, rng=stream(0))
    whole = model.log_prob(TWO)
    monkeypatch.setattr("studbook.learners.kde._BLOCK_CELLS", 1000)
    np.testing.assert_array_equal(model.log_prob(TWO), whole)


def test_kernel_density_moments() -> None:
    data = Batch(TWO.values, TWO.space, weights=np.arange(1.0, 401.0))
    mean, covariance = KernelDensity(bandwidth=0.7).fit(data, rng=stream(0)).moments()
    assert mean.item() == pytest.approx(np.average(TWO.values[:, 0], weights=data.weights))
    assert covariance.item() == pytest.approx(np.cov(TWO.values[:, 0], aweights=data.weights, ddof=0) + 0.49)


def test_kernel_density_of_equal_records_is_collapsed() -> None:
    model = KernelDensity().fit(numbers(np.full(20, 0.1)), rng=stream(0))
    assert model.kernel.item() == 0.0
    assert model.sample(3, rng=stream(1)).values.tolist() == [[0.1]] * 3
    assert model.log_prob(numbers(np.array([0.1, 0.2]))).tolist() == [0.0, -np.inf]


def test_kernel_density_of_flat_pictures_gives_other_pictures_no_density() -> None:
    pixels = stream(24).uniform(size=(30, 2, 2))
    pixels[:, 0, 0] = 0.0
    model = KernelDensity().fit(images(pixels, (0.0, 1.0)), rng=stream(0))
    other = pixels.copy()
    other[0, 0, 0] = 0.5
    scores = model.log_prob(images(other, (0.0, 1.0)))
    assert scores[0] == -np.inf
    assert np.isfinite(scores[1:]).all()


def test_kernel_density_of_one_record_needs_a_bandwidth() -> None:
    with pytest.raises(FitError, match="'scott' got 1 record"):
        KernelDensity().fit(numbers(np.array([1.0])), rng=stream(0))
    KernelDensity(bandwidth=1.0).fit(numbers(np.array([1.0])), rng=stream(0))


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("nan"), float("inf"), "wide"])
def test_kernel_density_refuses_impossible_bandwidths(bandwidth: float) -> None:
    with pytest.raises(ConfigError, match="bandwidth is"):
        KernelDensity(bandwidth=bandwidth)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"components": 0}, "components is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"max_iterations": -1}, "max_iterations is -1"),
        ({"covariance": "round"}, "covariance is 'round'"),
        ({"regularisation": -1.0}, "regularisation is -1"),
    ],
)
def test_mixture_refuses_impossible_parameters(keys: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GaussianMixture(**keys)
