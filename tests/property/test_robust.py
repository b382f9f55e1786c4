"""Robust fits under permutation, shifts and scales, whatever the records."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from studbook.arrays import numbers
from studbook.learners import RobustGaussian
from studbook.learners._robust_kernels import geometric_median, keep_records, weighted_median
from studbook.rng import stream

TABLES = st.tuples(st.integers(1, 25), st.integers(1, 4)).flatmap(lambda shape: arrays(np.float64, shape, elements=st.integers(-9, 9)))
LOCATIONS = st.sampled_from(["median", "geometric_median", "spectral"])


@given(values=TABLES, location=LOCATIONS, contamination=st.floats(0, 0.49))
def test_any_records_give_a_law_within_their_range(values: np.ndarray, location: str, contamination: float) -> None:
    """With ties, equal records and fewer records than dimensions."""
    law = RobustGaussian(location, contamination).fit(numbers(values), rng=stream(0)).law  # type: ignore[arg-type]
    assert (law.mean[0] >= values.min(axis=0) - 1e-9).all()
    assert (law.mean[0] <= values.max(axis=0) + 1e-9).all()
    assert np.linalg.eigvalsh(law.covariance[0])[0] >= -1e-9 * max(1.0, np.trace(law.covariance[0]))


@given(values=TABLES, contamination=st.floats(0, 0.49))
def test_never_more_leaves_than_may(values: np.ndarray, contamination: float) -> None:
    kept = keep_records(values, np.ones(len(values)), contamination)
    assert (~kept.rows).sum() <= (contamination + 0.01) * len(values) + 1e-9
    assert kept.correction >= 1.0


@given(values=TABLES, seed=st.integers(0, 9))
def test_medians_do_not_depend_on_the_order(values: np.ndarray, seed: int) -> None:
    order, weights = stream(seed).permutation(len(values)), np.ones(len(values))
    assert np.array_equal(weighted_median(values, weights), weighted_median(values[order], weights))
    sums = [np.linalg.norm(values - geometric_median(v, weights), axis=1).sum() for v in (values, values[order])]
    assert abs(sums[0] - sums[1]) <= 1e-6 * (1 + sums[0])


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), location=LOCATIONS, unit=st.sampled_from([1e-8, 1.0, 1e6]), shift=st.sampled_from([0.0, -3.0, 100.0]))
def test_shifted_and_scaled_records_give_the_shifted_and_scaled_law(seed: int, location: str, unit: float, shift: float) -> None:
    values = stream(seed).standard_t(3, size=(60, 3))
    learner = RobustGaussian(location)  # type: ignore[arg-type]
    one, two = (learner.fit(numbers(v), rng=stream(0)).law for v in (values, (values + shift) * unit))
    np.testing.assert_allclose(two.mean / unit, one.mean + shift, atol=1e-5)
    np.testing.assert_allclose(two.covariance / unit**2, one.covariance, atol=1e-6 * np.abs(one.covariance).max())
