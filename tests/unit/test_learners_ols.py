"""Regression on regenerated labels: the fit, the design it carries on, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import Batch, concatenate, numbers
from studbook.errors import ConfigError, FitError
from studbook.learners.ols import LeastSquares
from studbook.rng import stream

X = stream(0, "x").normal(size=(30, 3))
DATA = numbers(np.column_stack([X, X @ [1.0, 2.0, 3.0] + 0.5 * stream(0, "e").normal(size=30)]))


def test_fit_agrees_with_lstsq() -> None:
    model = LeastSquares().fit(DATA, rng=stream(0))
    solution, residual, *_ = np.linalg.lstsq(X, DATA.values[:, -1])
    np.testing.assert_allclose(model.weights, solution)
    assert model.noise == pytest.approx(np.sqrt(residual.item() / 27))
    assert model.intercept == 0.0


def test_weights_count_records() -> None:
    weights = np.where(np.arange(30) < 10, 2.0, 1.0)
    weighted = LeastSquares(noise=1.0, intercept=True).fit(Batch(DATA.values, DATA.space, weights=weights), rng=stream(0))
    doubled = LeastSquares(noise=1.0, intercept=True).fit(concatenate([DATA, DATA.take(np.arange(10))]), rng=stream(0))
    np.testing.assert_allclose(weighted.coefficients, doubled.coefficients)
    assert weighted.intercept == pytest.approx(doubled.intercept)


@pytest.mark.parametrize("intercept", [False, True])
def test_weighted_residual_noise_is_unbiased(intercept: bool) -> None:
    """E σ̂² = 1 within 5 standard errors over 4,000 fits (false alarm: 6e-7)."""
    weights, rng = np.where(np.arange(30) < 10, 0.2, 1.4), stream(5)
    space, learner = DATA.space, LeastSquares(intercept=intercept)
    tables = (np.column_stack([X, X @ [1.0, 2.0, 3.0] + rng.standard_normal(30)]) for _ in range(4000))
    squares = [learner.fit(Batch(table, space, weights=weights), rng=rng).noise ** 2 for table in tables]
    assert abs(np.mean(squares) - 1.0) < 5 * np.std(squares, ddof=1) / np.sqrt(len(squares))


def test_residual_noise_divides_by_the_trace() -> None:
    weights = stream(6).uniform(0.1, 3.0, size=30)
    model = LeastSquares().fit(Batch(DATA.values, DATA.space, weights=weights), rng=stream(0))
    residuals = DATA.values[:, -1] - model.predict(X)
    freedom = weights.sum() - np.trace(np.linalg.solve(X.T * weights @ X, X.T * weights**2 @ X))
    assert model.noise == pytest.approx(np.sqrt(weights @ residuals**2 / freedom))
    scaled = LeastSquares().fit(Batch(DATA.values, DATA.space, weights=7 * weights), rng=stream(0))
    assert scaled.noise == pytest.approx(model.noise)
    equal = LeastSquares().fit(Batch(DATA.values, DATA.space, weights=np.full(30, 0.3)), rng=stream(0))
    assert equal.noise == pytest.approx(LeastSquares().fit(DATA, rng=stream(0)).noise)


def test_intercept_is_found() -> None:
    shifted = np.add(DATA.values, [0.0, 0.0, 0.0, 7.0])
    model = LeastSquares(intercept=True).fit(numbers(shifted), rng=stream(0))
    plain = LeastSquares(intercept=True).fit(DATA, rng=stream(0))
    assert model.intercept == pytest.approx(plain.intercept + 7.0)
    np.testing.assert_allclose(model.coefficients, plain.coefficients)


def test_as_many_records_hold_the_same_design_in_order() -> None:
    model = LeastSquares(noise=1.0).fit(DATA, rng=stream(0))
    np.testing.assert_array_equal(model.sample(30, rng=stream(1)).values[:, :-1], X)
    np.testing.assert_array_equal(model.sample(60, rng=stream(1)).values[:, :-1], np.tile(X, (2, 1)))


def test_an_accumulated_pool_keeps_the_design() -> None:
    learner, pool = LeastSquares(noise=1.0), DATA
    for generation in range(4):
        model = learner.fit(pool, rng=stream(0))
        sample = model.sample(30, rng=stream(2, generation))
        np.testing.assert_array_equal(sample.values[:, :-1], X)
        pool = concatenate([pool, sample])


@pytest.mark.parametrize("n", [0, 1, 7, 29, 31, 45])
def test_other_sizes_hold_rows_as_equally_often_as_can_be(n: int) -> None:
    sample = LeastSquares(noise=0.0).fit(DATA, rng=stream(0)).sample(n, rng=stream(n)).values[:, :-1]
    occurrences = (sample[:, None] == X).all(axis=2).sum(axis=0)
    assert occurrences.sum() == n
    assert set(occurrences.tolist()) <= {n // 30, n // 30 + 1}


def test_rows_of_a_subset_are_drawn_alike() -> None:
    """Each row's inclusion count in 2,000 subsets of 7 within 5 standard deviations (30 rows; false alarms: 2e-5)."""
    model, rng = LeastSquares(noise=0.0).fit(DATA, rng=stream(0)), stream(3)
    hits = sum((model.sample(7, rng=rng).values[:, None, 0] == X[:, 0]).sum(axis=0) for _ in range(2000))
    p = 7 / 30
    assert np.abs(hits - 2000 * p).max() < 5 * np.sqrt(2000 * p * (1 - p))


def test_labels_follow_the_model() -> None:
    """The noise's mean and standard deviation within 5 standard errors (false alarms: 1e-6)."""
    model = LeastSquares(noise=2.0).fit(DATA, rng=stream(0))
    sample = model.sample(30_000, rng=stream(4)).values
    residuals = sample[:, -1] - model.predict(sample[:, :-1])
    assert abs(residuals.mean()) < 5 * 2.0 / np.sqrt(30_000)
    assert abs(residuals.std() - 2.0) < 5 * 2.0 / np.sqrt(60_000)


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        (np.column_stack([X, X[:, 0] + X[:, 1], X[:, 0]]), (), "column [013] can't be told from the other columns"),
        (np.column_stack([X, 2 * X[:, 2], X[:, 0]]), ("a", "b", "c", "d", "y"), "column '[cd]'"),
        (np.column_stack([np.zeros(30), X]), (), "column 0 can't"),
        (DATA.values[:2], (), "in 2 records \\(rank 2 of 3\\)"),
    ],
)
def test_dependent_columns_are_named(table: np.ndarray, columns: tuple[str, ...], message: str) -> None:
    with pytest.raises(FitError, match=message):
        LeastSquares().fit(numbers(table, columns), rng=stream(0))


def test_a_constant_feature_collides_with_the_intercept() -> None:
    table = np.column_stack([X, np.full(30, 4.0), X[:, 0]])
    LeastSquares().fit(numbers(table), rng=stream(0))
    with pytest.raises(FitError, match=r"column 3|the intercept"):
        LeastSquares(intercept=True).fit(numbers(table), rng=stream(0))


def test_noise_needs_spare_records() -> None:
    with pytest.raises(FitError, match="can't estimate the noise of 3 records with 3 parameters"):
        LeastSquares().fit(DATA.take(np.arange(3)), rng=stream(0))
    LeastSquares(noise=1.0).fit(DATA.take(np.arange(3)), rng=stream(0))
    heavy = Batch(DATA.values, DATA.space, weights=np.where(np.arange(30) < 3, 1e20, 1.0))
    with pytest.raises(FitError, match="can't estimate the noise"):
        LeastSquares().fit(heavy, rng=stream(0))


def test_impossible_parameters_are_refused() -> None:
    for noise in (-1.0, float("nan"), "loud"):
        with pytest.raises(ConfigError, match="noise is"):
            LeastSquares(noise=noise)
    with pytest.raises(FitError, match="ols got 1 column"):
        LeastSquares().fit(numbers(np.arange(5.0)), rng=stream(0))
