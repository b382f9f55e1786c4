"""Drawing sufficient statistics agrees in law with drawing every record; kernels agree with SciPy's distributions.

Tests with KS or chi-square pass at p > 1e-6, tests on means at |z| < 5 (6e-7 each): the file raises a false alarm in fewer than one in
a thousand choices of the seed, and never twice with the same one.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from studbook.arrays import Kind, Space, numbers, states
from studbook.learners import _count_kernels as kernels
from studbook.learners.bernoulli import Bernoulli
from studbook.learners.categorical import Categorical
from studbook.learners.gaussian import Gaussian
from studbook.learners.kde import KernelDensity
from studbook.learners.ols import LeastSquares
from studbook.learners.poisson import Poisson
from studbook.learners.statistics import BinaryCounts, CategoricalCounts
from studbook.rng import stream
from studbook.theory.laws import CategoricalLaw, GaussianLaw, PoissonLaw

P = 1e-6
Z = 5.0


def z_scores(draws: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Of the mean over the first axis, which counts independent draws."""
    return (draws.mean(axis=0) - expected) / (draws.std(axis=0) / np.sqrt(len(draws)))


@pytest.mark.parametrize("n", [2, 3, 10])
def test_wishart_in_three_dimensions(n: int) -> None:
    """Scatter of n records, singular below 4: every entry's mean and variance at |z| < 5; determinant and trace by KS (1e-5 in all)."""
    root = np.array([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-1.0, 0.3, 2.0]])
    covariance, replicates = root @ root.T, 20_000
    law = GaussianLaw(np.tile([1.0, 2.0, 3.0], (replicates, 1)), np.tile(covariance, (replicates, 1, 1)))
    drawn = Gaussian().draw(Gaussian().from_law(law, Space(Kind.NUMBERS, (3,))), n, rng=stream(0, "wishart", n))
    scatter, degrees = drawn.scatter, n - 1
    assert np.abs(z_scores(scatter, degrees * covariance)).max() < Z
    variance = degrees * (covariance**2 + np.outer(np.diag(covariance), np.diag(covariance)))
    assert np.abs(z_scores((scatter - degrees * covariance) ** 2, variance)).max() < Z
    assert np.abs(z_scores(drawn.mean, np.array([1.0, 2.0, 3.0]))).max() < Z
    records = np.array([1.0, 2.0, 3.0]) + stream(1, n).standard_normal((replicates, n, 3)) @ root.T
    deviations = records - records.mean(axis=1, keepdims=True)
    long = deviations.swapaxes(1, 2) @ deviations
    for view in (lambda s: np.trace(s, axis1=1, axis2=2), lambda s: np.linalg.det(s[:, :2, :2]), lambda s: s[:, 0, 2]):
        if n > 2 or view(long).max() > 1e-9:
            assert stats.ks_2samp(view(scatter), view(long)).pvalue > P
    if n > 3:
        assert stats.ks_2samp(np.linalg.det(scatter), np.linalg.det(long)).pvalue > P
    else:
        assert np.abs(np.linalg.det(scatter)).max() < 1e-9


@pytest.mark.parametrize("n", [2, 10, 1000])
def test_gaussian_in_one_dimension(n: int) -> None:
    """Mean and variance by KS against their exact laws, and uncorrelated (2e-6)."""
    replicates = 20_000
    model = Gaussian().from_law(GaussianLaw(np.full((replicates, 1), 3.0), np.full((replicates, 1, 1), 4.0)), Space(Kind.NUMBERS, (1,)))
    law = Gaussian(ddof=1).refit(model, n, rng=stream(2, n)).law
    mean, variance = law.mean[:, 0], law.covariance[:, 0, 0]
    assert stats.kstest(mean, stats.norm(3.0, 2.0 / np.sqrt(n)).cdf).pvalue > P
    assert stats.kstest(variance * (n - 1) / 4.0, stats.chi2(n - 1).cdf).pvalue > P
    assert abs(np.corrcoef(mean, variance)[0, 1]) * np.sqrt(replicates) < Z


def test_the_published_experiment() -> None:
    """Gaussian, 1,000 draws, 1,000 generations, ddof 0: E σ = 0.4721 exactly; |z| < 5."""
    model = Gaussian().from_law(GaussianLaw(np.zeros((1000, 1)), np.ones((1000, 1, 1))), Space(Kind.NUMBERS, (1,)))
    rng = stream(3)
    for _ in range(1000):
        model = Gaussian().refit(model, 1000, rng=rng)
    assert abs(z_scores(np.sqrt(model.law.covariance[:, 0, 0]), np.array(0.4721))) < Z


@pytest.mark.parametrize("mean", [0.01, 0.6, 1.0, 7.3, 63.99, 64.0, 200.7, 1999.0, 2048.0, 5e4, 1e8])
def test_poisson_kernel(mean: float) -> None:
    """Chi-square on quantile cells against SciPy's Poisson law (1e-6)."""
    state = stream(4, str(mean)).integers(0, 2**64, 4, dtype=np.uint64)
    drawn = np.empty(40_000)
    kernels._poisson_round(np.ones(40_000), mean, drawn, state)
    chi_square(drawn, stats.poisson(mean))


@pytest.mark.parametrize(
    ("good", "bad", "n"),
    [
        (5, 9, 6),
        (40, 60, 30),
        (60, 40, 70),
        (10**6, 300, 5000),
        (300, 10**6, 5000),
        (10**5, 10**6, 10**6),
        (10**7, 10**8, 10**6),
        (30, 10**9, 10**6),
    ],
)
def test_hypergeometric_kernel(good: int, bad: int, n: int) -> None:
    """Chi-square on quantile cells against SciPy's hypergeometric law (1e-6)."""
    drawn = kernels.hypergeometric(np.full(40_000, good), np.full(40_000, bad), n, stream(5, good, bad))
    chi_square(drawn.astype(float), stats.hypergeom(good + bad, good, n))


def test_hypergeometric_kernel_of_huge_urns() -> None:
    """10¹² balls, half of them drawn: mean and variance at |z| < 5, and normal by KS."""
    total, good, n = 10**12, 3 * 10**11, 5 * 10**11
    drawn = kernels.hypergeometric(np.full(40_000, good), np.full(40_000, total - good), n, stream(6)).astype(float)
    mean, variance = n * 0.3, n * 0.3 * 0.7 * 0.5
    assert abs(z_scores(drawn, np.array(mean))) < Z
    assert abs(z_scores((drawn - mean) ** 2, np.array(variance))) < Z
    assert stats.kstest((drawn - mean) / np.sqrt(variance), stats.norm.cdf).pvalue > P


def chi_square(drawn: np.ndarray, law: object) -> None:
    edges = np.unique(law.ppf(np.linspace(0.01, 0.99, 40)))
    edges = edges[np.append(True, np.diff(law.cdf(edges)) * len(drawn) > 5)]
    expected = np.diff(np.concatenate([[0.0], law.cdf(edges), [1.0]])) * len(drawn)
    observed = np.bincount(np.searchsorted(edges, drawn), minlength=len(expected))
    keep = expected > 5
    observed = np.append(observed[keep], observed[~keep].sum())
    expected = np.append(expected[keep], expected[~keep].sum())
    if expected[-1] < 5:
        observed, expected = np.append(observed[:-2], observed[-2:].sum()), np.append(expected[:-2], expected[-2:].sum())
    if len(expected) > 1:
        assert stats.chisquare(observed, expected).pvalue > P


@pytest.mark.parametrize("n", [3, 100, 5000, 10**6, 10**12])
def test_categorical_is_multinomial(n: int) -> None:
    """Every state's marginal mean and variance and every covariance at |z| < 5 (8 states: 2e-5)."""
    p = np.array([0.4, 0.3, 0.15, 0.1, 0.04, 0.009, 0.0009, 0.0001])
    replicates = 20_000
    drawn = Categorical().draw(
        Categorical().from_law(CategoricalLaw(np.tile(p, (replicates, 1))), Space(Kind.STATES, (), 8)), n, rng=stream(7, str(n))
    )
    table = drawn.dense()
    assert (table.sum(axis=1) == n).all()
    common = n * p > 2
    deviations = (table - n * p)[:, common]
    assert np.abs(z_scores(deviations, np.zeros(common.sum()))).max(initial=0.0) < Z
    products = deviations[:, :, None] * deviations[:, None, :]
    expected = n * (np.diag(p) - np.outer(p, p))[np.ix_(common, common)]
    assert np.abs(z_scores(products, expected)).max(initial=0.0) < Z


@pytest.mark.parametrize("n", [50, 400, 20_000])
def test_categorical_marginals_are_binomial(n: int) -> None:
    """Chi-square of four states' counts against SciPy's binomial law (4e-6)."""
    weights = 1.0 / np.arange(1, 51)
    p = weights / weights.sum()
    model = Categorical().from_law(CategoricalLaw(np.tile(p, (20_000, 1))), Space(Kind.STATES, (), 50))
    table = Categorical().draw(model, n, rng=stream(8, n)).dense()
    for state in (0, 1, 10, 49):
        chi_square(table[:, state], stats.binom(n, p[state]))


@pytest.mark.parametrize("n", [10, 1000, 10**12])
def test_bernoulli_and_poisson_fits(n: int) -> None:
    """Mean and variance of the fitted parameter at |z| < 5 (2e-6)."""
    coin = Bernoulli().from_law(CategoricalLaw(np.tile([0.7, 0.3], (20_000, 1))), Space(Kind.STATES, (), 2))
    rate = Poisson().from_law(PoissonLaw(np.full(20_000, 2.5)), Space(Kind.COUNTS))
    share = Bernoulli().refit(coin, n, rng=stream(9, str(n))).law.probabilities[:, 1]
    rates = Poisson().refit(rate, n, rng=stream(10, str(n))).law.rate
    for drawn, mean, variance in ((share, 0.3, 0.21 / n), (rates, 2.5, 2.5 / n)):
        assert abs(z_scores(drawn, np.array(mean))) < Z
        assert abs(z_scores((drawn - mean) ** 2, np.array(variance))) < Z


def test_subsampled_counts_agree_with_sampled_records() -> None:
    """Means and covariances of a multivariate hypergeometric law at |z| < 5 (1e-5), for counts and for pairs."""
    counts = np.array([500.0, 0.0, 300.0, 150.0, 40.0, 10.0])
    total, n, replicates = 1000.0, 200, 20_000
    share = counts / total
    whole = CategoricalCounts.from_dense(counts[None]).repeat(replicates)
    deviations = whole.subsample(n, rng=stream(11)).dense() - n * share
    alive = counts > 0
    expected = n * (total - n) / (total - 1) * (np.diag(share) - np.outer(share, share))
    products = deviations[:, :, None] * deviations[:, None, :]
    assert np.abs(z_scores(deviations[:, alive], np.zeros(alive.sum()))).max() < Z
    cells = np.ix_(alive, alive)
    assert np.abs(z_scores(products[:, alive][:, :, alive], expected[cells])).max() < Z
    pairs = BinaryCounts(np.tile([700.0, 300.0], (replicates, 1))).subsample(n, rng=stream(12)).counts
    chi_square(pairs[:, 1], stats.hypergeom(1000, 300, n))


def test_a_summary_of_a_subsample_of_records_has_the_same_law() -> None:
    """Alive states after drawing 60 of 300 records: statistics against records, by Welch's z (6e-7)."""
    records = stream(13).zipf(1.5, 300) % 100
    whole = Categorical().summarise(states(records, 100))
    short = np.diff(whole.repeat(3000).subsample(60, rng=stream(14)).starts)
    rng = stream(15)
    long = np.array([len(np.unique(rng.choice(records, 60, replace=False))) for _ in range(3000)])
    gap = (short.mean() - long.mean()) / np.sqrt(short.var() / 3000 + long.var() / 3000)
    assert abs(gap) < Z


def test_categorical_samples_follow_the_law() -> None:
    """Chi-square of 50,000 records (1e-6)."""
    p = np.array([0.5, 0.0, 0.3, 0.2])
    sample = Categorical().from_law(CategoricalLaw(p[None]), Space(Kind.STATES, (), 4)).sample(50_000, rng=stream(16)).values
    observed = np.bincount(sample, minlength=4)
    assert observed[1] == 0
    assert stats.chisquare(observed[p > 0], 50_000 * p[p > 0]).pvalue > P


def test_kernel_density_variance_grows_as_published() -> None:
    """v ← (1 − 1/N)(v + h²) for 20 generations, N = 20, 600 runs; |z| < 5."""
    n, h, rng, final = 20, 0.3, stream(17), []
    expected = 1.0 - 1.0 / n
    for _ in range(20):
        expected = (1 - 1 / n) * (expected + h**2)
    for _ in range(600):
        batch = numbers(rng.standard_normal(n))
        for _ in range(20):
            batch = KernelDensity(bandwidth=h).fit(batch, rng=rng).sample(n, rng=rng)
        final.append(batch.values.var())
    assert abs(z_scores(np.array(final), np.array(expected))) < Z


@pytest.mark.parametrize("accumulate", [False, True])
def test_regression_error_grows_or_stays_bounded_as_published(accumulate: bool) -> None:
    """E‖ŵ − w‖² after n generations on one normal design: σ²d/(T−d−1) times n under replace, Σ 1/i² ≤ π²/6 under accumulate; |z| < 5."""
    T, d, generations, sigma = 30, 4, 8, 0.7
    learner, errors = LeastSquares(noise=sigma), []
    for run in range(400):
        rng = stream(18, run)
        x = rng.standard_normal((T, d))
        pool = numbers(np.column_stack([x, sigma * rng.standard_normal(T)]))
        for generation in range(generations):
            model = learner.fit(pool, rng=rng)
            if generation < generations - 1:
                sample = model.sample(T, rng=rng)
                pool = type(pool)(np.concatenate([pool.values, sample.values]), pool.space) if accumulate else sample
        errors.append(float(model.weights @ model.weights))
    times = sum(1 / i**2 for i in range(1, generations + 1)) if accumulate else generations
    assert abs(z_scores(np.array(errors), np.array(times * sigma**2 * d / (T - d - 1)))) < Z
