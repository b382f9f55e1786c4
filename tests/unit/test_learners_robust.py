"""Robust fits: medians against their definitions, what the filter leaves out, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import Kind, Space, images, numbers, states
from studbook.data import Digits
from studbook.errors import ConfigError, FitError
from studbook.learners import Gaussian, RobustGaussian
from studbook.learners._robust_kernels import geometric_median, keep_records, weighted_median
from studbook.learners.robust import locate
from studbook.rng import stream
from studbook.study.catalog import create_learner

LOCATIONS = ["median", "geometric_median", "spectral"]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10])
def test_weighted_median_of_whole_weights_is_that_of_repeated_records(n: int) -> None:
    rng = stream(0, "weights", n)
    values, weights = rng.normal(size=(n, 3)), rng.integers(1, 5, n)
    weights[0] = 5  # not all equal, which would take the short way
    np.testing.assert_allclose(weighted_median(values, weights.astype(float)), np.median(np.repeat(values, weights, axis=0), axis=0))


def test_geometric_median_has_the_smallest_sum_of_distances() -> None:
    from scipy.optimize import minimize

    values = stream(1).standard_t(2, size=(60, 4)) * np.array([1.0, 2.0, 3.0, 4.0])
    weights = stream(2).uniform(0.5, 2.0, 60)
    best = minimize(lambda at: weights @ np.linalg.norm(values - at, axis=1), values.mean(axis=0), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(geometric_median(values, weights), best, atol=1e-5)


def test_geometric_median_on_a_record_and_on_a_line() -> None:
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    np.testing.assert_allclose(geometric_median(corners, np.ones(5)), [0.0, 0.0], atol=1e-12)  # the start and the answer are a record
    heavy = geometric_median(corners, np.array([1.0, 9.0, 1.0, 1.0, 1.0]))  # more weight than all the others pull
    np.testing.assert_allclose(heavy, [1.0, 0.0], atol=1e-9)
    assert geometric_median(np.array([[1.0], [2.0], [9.0]]), np.ones(3)).tolist() == [2.0]
    assert geometric_median(np.full((4, 2), 3.0), np.ones(4)).tolist() == [3.0, 3.0]


def test_a_start_on_a_record_that_is_not_the_answer_is_left() -> None:
    """Weiszfeld's own iteration divides by 0 there."""
    values = np.array([[0.0, 0.0], [10.0, -1.0], [10.0, -1.5], [-1.0, 10.0], [-1.5, 10.0]])
    assert weighted_median(values, np.ones(5)).tolist() == [0.0, 0.0]
    at = geometric_median(values, np.ones(5))
    assert np.linalg.norm(at) > 1.0
    assert np.linalg.norm(((values - at) / np.linalg.norm(values - at, axis=1, keepdims=True)).sum(axis=0)) < 1e-6


@pytest.mark.parametrize("location", ["median", "geometric_median"])
def test_locations_follow_units_and_origin_of_each_column(location: str) -> None:
    values, units = stream(3).normal(size=(80, 3)), np.array([1e-3, 1.0, 1e5])
    weights = np.ones(80)
    moved = locate(values * units + 7.0, weights, location)  # type: ignore[arg-type]
    np.testing.assert_allclose(moved, locate(values, weights, location) * units + 7.0, rtol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("location", LOCATIONS)
def test_far_records_change_little_however_far(location: str) -> None:
    real = stream(4).normal(size=(450, 5))
    learner = RobustGaussian(location=location, contamination=0.2)  # type: ignore[arg-type]
    clean = learner.fit(numbers(real), rng=stream(0)).law
    for distance in (50.0, 1e6, 1e200):
        law = learner.fit(numbers(np.concatenate([real, np.full((50, 5), distance)])), rng=stream(0)).law
        assert np.linalg.norm(law.mean - clean.mean) < 0.5
        assert np.abs(np.linalg.eigvalsh(law.covariance[0]) - 1.0).max() < 0.5


def test_a_cluster_that_no_distance_shows_is_found_by_its_direction() -> None:
    """At six standard deviations in 64 dimensions the squared distances, about 64 + 36, hardly stand out; the direction does."""
    real, outside = stream(5).normal(size=(1800, 64)), stream(6).normal(size=(200, 64)) + 6.0 / 8.0
    values = np.concatenate([real, outside])
    kept = keep_records(values, np.ones(2000), 0.2).rows
    assert kept[:1800].mean() > 0.95
    assert kept[1800:].mean() < 0.05


def test_no_more_goes_than_may_go() -> None:
    values = np.concatenate([stream(7).normal(size=(70, 2)), stream(8).normal(size=(30, 2)) + 40.0])
    for contamination in (0.0, 0.1, 0.2):
        kept = keep_records(values, np.ones(100), contamination).rows
        assert 100 - kept.sum() == round(100 * (contamination + 0.01))
    assert not keep_records(values, np.ones(100), 0.35).rows[70:].any()


def test_weights_count_like_repeated_records() -> None:
    rng = stream(9)
    values, weights = rng.normal(size=(200, 3)), rng.integers(1, 4, 200)
    values[:10] += 30.0
    once = keep_records(values, weights.astype(float), 0.3).rows
    again = keep_records(np.repeat(values, weights, axis=0), np.ones(weights.sum()), 0.3).rows
    assert np.array_equal(np.repeat(once, weights), again)


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_collapsed_training_set_gives_a_collapsed_model(location: str) -> None:
    learner = RobustGaussian(location=location)  # type: ignore[arg-type]
    law = learner.fit(numbers(np.full((20, 2), 0.1)), rng=stream(0)).law
    assert law.mean.tolist() == [[0.1, 0.1]]
    assert not law.covariance.any()
    line = numbers(np.outer(stream(10).normal(size=50), [1.0, 2.0]))
    assert np.linalg.matrix_rank(learner.fit(line, rng=stream(0)).law.covariance[0], tol=1e-9) == 1
    assert learner.fit(line.take(np.array([3])), rng=stream(0)).law.mean[0].tolist() == line.values[3].tolist()


@pytest.mark.parametrize("location", ["geometric_median", "spectral"])
def test_handwriting_with_blank_pixels(location: str) -> None:
    """64 pixels, some of them blank in every picture: bright outside ones move the mean at least five times as far."""
    real = Digits().load().records
    outside = np.full((200, 8, 8), 48.0)
    mixed = images(np.concatenate([real.values, outside]), (0.0, 16.0))
    learner = RobustGaussian(location=location)  # type: ignore[arg-type]
    clean, fitted = (learner.fit(batch, rng=stream(0)).law.mean for batch in (real, mixed))
    plain = Gaussian().fit(mixed, rng=stream(0)).law.mean - real.flat.mean(axis=0)
    assert np.linalg.norm(fitted - clean) < 0.2 * np.linalg.norm(plain)


def test_the_catalog_knows_it() -> None:
    assert create_learner({"kind": "robust_gaussian", "location": "median"}) == RobustGaussian("median")
    assert create_learner({"kind": "gaussian"}) == Gaussian()


@pytest.mark.parametrize("contamination", [-0.1, 0.5, 0.9, float("nan")])
def test_half_or_more_from_outside_is_refused(contamination: float) -> None:
    with pytest.raises(ConfigError, match=r"expected a share from 0 up to \(not including\) 0.5"):
        RobustGaussian(contamination=contamination)


def test_other_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="expected median, geometric_median, spectral"):
        RobustGaussian(location="mode")  # type: ignore[arg-type]
    with pytest.raises(FitError, match="robust_gaussian models numbers or images"):
        RobustGaussian().fit(states(np.array([0, 1]), 2), rng=stream(0))
    with pytest.raises(FitError, match="column 1 is constant"):
        RobustGaussian().check_original(numbers(np.array([[0.0, 1.0], [1.0, 1.0]])))
    assert RobustGaussian().fit(numbers(np.arange(5.0)), rng=stream(0)).space == Space(Kind.NUMBERS, (1,))
