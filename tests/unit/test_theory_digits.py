"""Closed forms of the Gaussian keep their digits for sizes where 1 - 1/N is nearly 1."""

from __future__ import annotations

import math

import numpy as np
import pytest

from studbook.theory import log_variance, median_half_life, replaced_median_std, replaced_std, replaced_variance, std_shrinkage
from studbook.theory.gaussian import _SERIES, _digamma_excess, _log_std_shrinkage


@pytest.mark.parametrize("n", [10**12, 10**15])
def test_a_generation_for_each_record(n):
    # E σ shrinks by 1 - 3/(4N) (ddof 0) or 1 - 1/(4N) (ddof 1), the variance by 1 - 1/N, up to terms in 1/N².
    generations = np.array([n])
    assert replaced_std(n, generations)[0] == pytest.approx(np.exp(-0.75), rel=1e-11)
    assert replaced_std(n, generations, ddof=1)[0] == pytest.approx(np.exp(-0.25), rel=1e-11)
    assert replaced_variance(n, generations)[0] == pytest.approx(np.exp(-1.0), rel=1e-11)
    assert replaced_variance(n, generations, ddof=1)[0] == 1.0
    assert replaced_median_std(n, generations)[0] == pytest.approx(np.exp(-1.0), rel=1e-11)


@pytest.mark.parametrize("n", [10**6, 10**12, 10**15])
def test_the_half_life_of_the_median_is_finite_at_any_size(n):
    assert median_half_life(n) / n == pytest.approx(np.log(2.0), rel=2.0 / n + 1e-12)
    assert median_half_life(n, ddof=1) / n == pytest.approx(2.0 * np.log(2.0), rel=2.0 / n + 1e-12)


def test_series_and_special_functions_meet():
    # ψ(x + 1) = ψ(x) + 1/x links the two sides of the switch.
    half = _SERIES - 0.5
    step = _digamma_excess(half + 1.0) - _digamma_excess(half)
    assert step == pytest.approx(1.0 / half - np.log1p(1.0 / half), abs=2e-15)
    for n in (2, 3, 10, 200, 202):
        exact = math.lgamma(n / 2) - math.lgamma((n - 1) / 2) - np.log((n - 1) / 2) / 2
        assert _log_std_shrinkage(n) == pytest.approx(exact, abs=2e-13)
    assert std_shrinkage(2) == pytest.approx(np.sqrt(2.0 / np.pi), rel=1e-14)


def test_a_sampled_original_counts_once():
    whole = replaced_std(50, np.array([3]), n_original=70)[0]
    assert whole == pytest.approx(replaced_std(50, np.array([3]))[0] * replaced_std(70, np.array([1]))[0], rel=1e-14)
    assert np.isfinite(log_variance(2, np.array([1])).cumulants).all()
