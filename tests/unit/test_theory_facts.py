"""The published figures, and what they say about the closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from studbook.arrays import Floats
from studbook.errors import ConfigError
from studbook.theory import (
    Composition,
    Renewal,
    absorption_time,
    absorption_time_exact,
    accumulated_error,
    accumulated_variance,
    coalescence,
    composition_of,
    effective_sample_size,
    equilibrium_share,
    expected_moments,
    expected_support,
    extinction_probability,
    fresh_equilibrium,
    golden_weight,
    kde_variance,
    kept_share,
    log_variance,
    median_half_life,
    rate_moments,
    replaced_heterozygosity,
    replaced_median_std,
    replaced_std,
    replaced_variance,
    replaced_w2_squared,
    single_fit_error,
    smallest_fresh,
    std_shrinkage,
    survival_probability,
)


def at(generation: int) -> np.ndarray:
    return np.array([generation])


@pytest.mark.parametrize(
    ("ddof", "generations", "figure"), [(0, 1000, 0.4721), (0, 10_000, 5.5e-4), (1, 1000, 0.7786), (1, 10_000, 0.0819)]
)
def test_mean_std_of_the_oreilly_experiment(ddof: int, generations: int, figure: float) -> None:
    assert replaced_std(1000, at(generations), ddof=ddof)[0] == pytest.approx(figure, rel=2e-3)


@pytest.mark.parametrize(("ddof", "figure"), [(0, 0.6289), (1, 0.7372)])
def test_mean_squared_distance(ddof: int, figure: float) -> None:
    assert replaced_w2_squared(100, at(50), ddof=ddof)[0] == pytest.approx(figure, abs=5e-5)


# The third figure is .94975 before rounding.
@pytest.mark.parametrize(("fresh", "figure"), [(5, 0.9065), (10, 0.9498), (50, 0.9868)])
def test_a_few_fresh_records_keep_the_variance(fresh: int, figure: float) -> None:
    assert fresh_equilibrium(100, fresh)[0] == pytest.approx(figure, abs=6e-5)
    assert kept_share(fresh, 100) == pytest.approx(figure, abs=6e-5)
    path = expected_moments(Composition(100 - fresh, fresh=fresh), 100, 3000)
    assert (path.variance[-1], path.drift[-1]) == pytest.approx(fresh_equilibrium(100, fresh), rel=1e-9)


@pytest.mark.parametrize("ddof", [0, 1])
def test_fixed_point_of_the_recursion(ddof: int) -> None:
    from studbook.theory import divisor_fit

    path = expected_moments(Composition(7, fresh=3), 10, 500, fit=divisor_fit(ddof))
    assert (path.variance[-1], path.drift[-1]) == pytest.approx(fresh_equilibrium(10, 3, ddof=ddof), rel=1e-12)


def test_surviving_states_of_a_zipf_law() -> None:
    zipf = 1.0 / np.arange(1, 51)
    # Generation 99 is the hundredth fit.
    assert expected_support(zipf / zipf.sum(), Renewal(100), 100, at(99))[0] == pytest.approx(2.18, abs=5e-3)


def test_absorption_times() -> None:
    assert absorption_time(0.5, 100) == pytest.approx(138.6, abs=0.05)
    assert absorption_time_exact(100)[50] == pytest.approx(136.6, abs=0.05)
    assert absorption_time(0.0, 100) == 0.0
    with pytest.raises(ConfigError):
        absorption_time_exact(10**6)


def test_golden_ratio() -> None:
    assert golden_weight(1.0) == pytest.approx((np.sqrt(5) - 1) / 2, rel=1e-15)
    assert effective_sample_size(50, 50) == pytest.approx(50 / 0.6180339887, rel=1e-9)
    assert golden_weight(1e-12) == pytest.approx(1e-6, rel=1e-5)
    assert golden_weight(1e18) == pytest.approx(1.0)
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError):
            golden_weight(bad)
    with pytest.raises(ConfigError):
        effective_sample_size(0, 10)


def test_accumulation_keeps_a_product() -> None:
    path = expected_moments(Composition(100, pool=0), 100, 500)
    assert path.variance == pytest.approx(accumulated_variance(100, np.arange(501)), rel=1e-12)
    limit = np.sin(np.pi / 10) / (np.pi / 10)
    assert accumulated_variance(100, at(200_000))[0] == pytest.approx(limit, rel=1e-6)


def test_kernel_variance_grows_to_its_limit() -> None:
    assert kde_variance(0.2, 100, at(5000))[0] == pytest.approx(100 * 0.04, rel=1e-9)
    step = kde_variance(0.5, 10, np.array([0, 1, 2]))
    assert step[1:] == pytest.approx(0.9 * step[:-1] + 0.25, rel=1e-12)


def test_regression_errors() -> None:
    single = single_fit_error(1.0, 9, 100)
    assert accumulated_error(1.0, 9, 100, at(10**6))[0] / single == pytest.approx(np.pi**2 / 6, rel=1e-5)
    assert accumulated_error(1.0, 9, 100, at(1000), same_features=False)[0] < accumulated_error(1.0, 9, 100, at(1000))[0]
    with pytest.raises(ConfigError):
        single_fit_error(1.0, 9, 10)


def test_medians_and_half_life() -> None:
    assert replaced_median_std(1000, at(1000))[0] == pytest.approx(np.exp(-1.0), rel=2e-3)
    assert replaced_median_std(1000, at(1000), ddof=1)[0] == pytest.approx(np.exp(-0.5), rel=2e-3)
    assert median_half_life(10_000) / 10_000 == pytest.approx(np.log(2), rel=1e-3)
    assert median_half_life(100, ddof=5) == float("inf")
    half = round(median_half_life(1000))
    assert replaced_median_std(1000, at(half))[0] == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(("n", "error"), [(10, 4e-3), (50, 2e-4), (100, 3e-5)])
def test_quantiles_of_one_chi_square(n: int, error: float) -> None:
    """The stated error bound, where the exact quantile is a chi-square's."""
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        exact = np.log(stats.chi2.ppf(level, n - 1) / n)
        assert abs(np.log(log_variance(n, at(1)).quantile(level)[0]) - exact) < error


def test_collapsed_variance_keeps_its_digits() -> None:
    path = expected_moments(Composition(10), 10, 1000)
    assert path.variance[-1] == pytest.approx(replaced_variance(10, at(1001))[0], rel=1e-10)
    assert path.variance[-1] < 1e-40


def test_sizes_beyond_memory() -> None:
    path = expected_moments(Composition(10**9 - 1, fresh=1), 10**9, 100)
    assert path.drift[-1] == pytest.approx(101e-9, rel=1e-5)
    assert replaced_std(10**9, at(10**9))[0] == pytest.approx(np.exp(-0.75), rel=1e-6)


def test_shrinkage_of_two_draws() -> None:
    assert std_shrinkage(2) == pytest.approx(np.sqrt(2 / np.pi), rel=1e-14)
    assert std_shrinkage(10**9) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("generation", [0, 1, 7, 100, None])
def test_closed_form_of_the_dose_is_the_recursion(generation: int | None) -> None:
    for fresh in (0, 1, 5, 30, 50):
        if generation is None:
            if fresh:
                assert kept_share(fresh, 50) == pytest.approx(fresh_equilibrium(50, fresh)[0], rel=1e-12)
            continue
        loss = coalescence(Composition(50 - fresh, fresh=fresh), 50, generation)[-1]
        assert kept_share(fresh, 50, generation) == pytest.approx(1.0 - loss, rel=1e-12)


def test_one_migrant_per_generation() -> None:
    for fresh in (1, 5, 50):
        assert kept_share(fresh, 10**7) == pytest.approx(equilibrium_share(fresh), rel=1e-5)
    assert kept_share(0, 100) == 0.0


def test_generation_zero_may_be_the_law() -> None:
    """With fresh records from the law and F₀ = 0: F′ = 1/n + s(s−1)/n²·F."""
    loss = coalescence(Composition(8, fresh=2), 10, 5, sampled=False)
    assert loss[0] == 0.0
    assert loss[1:] == pytest.approx(0.1 + 0.56 * loss[:-1], rel=1e-12)


def test_heterozygosity_and_rates() -> None:
    assert replaced_heterozygosity(100, at(10), n_original=50)[0] == pytest.approx(0.98 * 0.99**10, rel=1e-12)
    assert replaced_heterozygosity(1, np.array([0, 3])).tolist() == [1.0, 0.0]
    assert rate_moments(2.0, 10, at(5))[1][0] == pytest.approx(1.0)
    assert extinction_probability(0.5, 10, at(10**5))[0] > 0.9999
    assert extinction_probability(0.0, 10, np.array([0, 1])).tolist() == [1.0, 1.0]


def full_chain(probability: float, n: int, last: int) -> Floats:
    counts = np.arange(n + 1)
    step = stats.binom.pmf(counts[None, :], n, counts[:, None] / n)
    law = stats.binom.pmf(counts, n, probability)
    out = []
    for _ in range(last + 1):
        out.append(1.0 - law[0])
        law = law @ step
    return np.array(out)


def test_grid_agrees_with_the_full_chain() -> None:
    """Above 300 records the chain runs on a grid: 700 states against the full transition matrix."""
    for probability in (1e-4, 0.003, 0.3):
        grid = survival_probability(np.array([probability]), Renewal(700), 700, np.arange(61))[:, 0]
        assert grid == pytest.approx(full_chain(probability, 700, 60), abs=1e-9)


def test_many_probabilities_agree_with_each_alone() -> None:
    zipf = 1.0 / np.arange(1, 301)
    zipf /= zipf.sum()
    renewal, generations = Renewal(95, fresh=5), np.array([0, 1, 5, 40])
    together = survival_probability(np.concatenate([zipf, [0.0, 1.0]]), renewal, 100, generations)
    alone = np.hstack([survival_probability(zipf[i : i + 1], renewal, 100, generations) for i in (0, 17, 299)])
    assert together[:, [0, 17, 299]] == pytest.approx(alone, abs=1e-10)
    assert together[:, -2:].tolist() == [[0.0, 1.0]] * 4


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Composition(-1),
        lambda: Composition(0),
        lambda: Composition(5, fresh=1, pool=0),
        lambda: Composition(5, real_share=1.5),
        lambda: Composition(5, real_share=0.5).shares,
        lambda: composition_of("keep", {}, 10, 10),
        lambda: Renewal(5, fresh=1, original=1),
        lambda: fresh_equilibrium(10, 0),
        lambda: kept_share(11, 10),
        lambda: smallest_fresh(0.95, 10),
        lambda: kde_variance("wide", 10, np.array([1])),
        lambda: kde_variance(-1.0, 10, np.array([1])),
    ],
)
def test_what_cannot_be_meant_is_refused(bad: object) -> None:
    with pytest.raises(ConfigError):
        bad()  # type: ignore[operator]


def test_compositions_of_all_mixes() -> None:
    assert composition_of("blend", {"alpha": 0.5, "beta": 0.3, "gamma": 0.2}, 10, 10) == Composition(5, previous=3, original=2)
    assert composition_of("weighted", {"weight": "golden", "fresh": 10}, 10, 99) == Composition(10, fresh=10, real_share=golden_weight(1.0))
    assert composition_of("subsample", {}, 10, 99) == Composition(10, pool=10)
    assert composition_of("something new", {}, 10, 10) is None
    assert Composition(10, fresh=30, real_share=0.75).effective_size == pytest.approx(40.0)
