"""The exact laws of a Gaussian that is refitted to its own draws.

In one dimension, and for each coordinate's variance in any dimension, the fitted variance is the last one times χ²_{N−1}/(N − ddof); the
factors of the generations are independent. Generation 0 is fitted to ``n_original`` draws, each later one to ``n``.

Throughout, ``n`` and ``n_original`` are sizes of at least 2, ``ddof`` is below both, and σ₀ = 1: multiply by σ₀ or σ₀².
``n_original = None`` starts from a generation 0 with exactly the law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError
from studbook.theory.coalescence import Fit, expected_moments
from studbook.theory.composition import Composition

_LogFactor: TypeAlias = Callable[[int], float]
_SERIES = 100.0
"""From this half sample size on, differences of nearly equal logarithms come from their asymptotic series, to rounding."""


def divisor_fit(ddof: float) -> Fit:
    """The fit that divides by N − ddof: v = V·N/(N − ddof), for ``studbook.theory.expected_moments``.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import divisor_fit
        >>> divisor_fit(1)(np.array([10.0]))[0].round(4).tolist()
        [1.1111]
    """

    def fit(sizes: Floats) -> tuple[Floats, Floats]:
        if np.any(sizes <= ddof):
            raise ConfigError(f"ddof is {ddof}, expected less than the {sizes.min():g} records of a training set")
        return sizes / (sizes - ddof), np.zeros_like(sizes)

    return fit


def std_shrinkage(n: int) -> float:
    """c₄(N) = √(2/(N−1))·Γ(N/2)/Γ((N−1)/2): the expected sample standard deviation (divisor N − 1) of normal draws, over the true one.

    Args:
        n: Sample size, 2 or more.

    References:
        B. Holtzman, "The unbiased estimate of the population variance and standard deviation", Am. J. Psychology 63 (1950).

    Examples:
        >>> from studbook.theory import std_shrinkage
        >>> round(std_shrinkage(10), 4)
        0.9727
    """
    return float(np.exp(_log_std_shrinkage(n)))


def replaced_std(n: int, generations: Ints, *, ddof: float = 0.0, n_original: int | None = None) -> Floats:
    """E σ_t under replacement, (q·c₄)^t with q² = (N−1)/(N−ddof).

    Args:
        n: Records a generation.
        generations: ``(G,)`` generations t, 0 or more.
        ddof: Divisor of the variance, N − ddof.
        n_original: Draws behind generation 0; ``None``: exactly the law.

    Returns:
        ``(G,)`` in units of σ₀.

    References:
        I. Shumailov et al., "AI models collapse when trained on recursively generated data", Nature 631 (2024); the moments of χ.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import replaced_std
        >>> replaced_std(1000, np.array([1000])).round(4).tolist()
        [0.4721]
    """
    return _product(lambda size: _log_std_factor(size, ddof), n, generations, n_original)


def replaced_variance(n: int, generations: Ints, *, ddof: float = 0.0, n_original: int | None = None) -> Floats:
    """E σ_t² under replacement, ((N−1)/(N−ddof))^t; arguments and units as in ``replaced_std``.

    References:
        S. Wright, Genetics 16 (1931); I. Shumailov et al., Nature 631 (2024).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import replaced_variance
        >>> replaced_variance(100, np.array([0, 1, 100])).round(4).tolist()
        [1.0, 0.99, 0.366]
    """
    return _product(lambda size: _log_variance_factor(size, ddof), n, generations, n_original)


def accumulated_variance(n: int, generations: Ints) -> Floats:
    """E σ_t² when all data are kept (ddof 0, generation 0 fitted to ``n`` draws): Π_{i ≤ t+1} (1 − 1/(N i²)).

    It never falls below sin(π/√N)/(π/√N), about 1 − π²/(6N).

    Args:
        n: Size of the original data and of each generation's new data.
        generations: ``(G,)``.

    Returns:
        ``(G,)`` in units of σ₀².

    References:
        M. Gerstgrasser et al., "Is Model Collapse Inevitable?" (2024); J. Kazdan et al., "Collapse or Thrive?" (2025).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import accumulated_variance
        >>> accumulated_variance(100, np.array([0, 10_000])).round(4).tolist()
        [0.99, 0.9836]
    """
    steps = np.arange(1, int(generations.max(initial=0)) + 2, dtype=np.float64)
    kept: Floats = np.cumprod(1.0 - 1.0 / (n * steps**2), dtype=np.float64)
    return kept[generations]


def fresh_equilibrium(n: int, fresh: int, *, ddof: float = 0.0) -> tuple[float, float]:
    """Fixed point of the expected variance and squared drift with ``fresh`` new real records among ``n``.

    With γ = r/n, r fresh and s = n − r generated records it solves, for ddof 0, v = γ(1−1/r) + (1−γ)(1−1/s)v + γ(1−γ)(1/r + v/s + m) and
    m = γ²/r + (1−γ)²(v/s + m).

    Args:
        n: Records a generation.
        fresh: New real records among them, 1 to ``n``.
        ddof: Divisor of the variance, N − ddof.

    Returns:
        E σ² and E (μ − μ₀)², in units of σ₀².

    References:
        S. Wright, Genetics 16 (1931), island model; Q. Bertrand et al., "On the Stability of Iterative Retraining" (2024).

    Examples:
        >>> from studbook.theory import fresh_equilibrium
        >>> [round(fresh_equilibrium(100, r)[0], 4) for r in (5, 10, 50)]
        [0.9065, 0.9497, 0.9868]
    """
    if not 1 <= fresh <= n:
        raise ConfigError(f"fresh is {fresh}, expected 1 to {n} of the records of a generation")
    share, inflation = fresh / n, n / (n - ddof)
    generated = n - fresh
    if not generated:
        return inflation * (1 - 1 / n), 1 / n
    own = 1 - share
    # v = inflation·(a + b·v + c·m), m = d + e·v + f·m
    a, b, c = share - share / n, own * (1 - 1 / generated) + share / n, share * own
    d, e, f = share / n, own / n, own * own
    v, m = np.linalg.solve([[1 - inflation * b, -inflation * c], [-e, 1 - f]], [inflation * a, d])
    return float(v), float(m)


def replaced_w2_squared(n: int, generations: Ints, *, ddof: float = 0.0, n_original: int | None = None) -> Floats:
    """E W₂² to the original law under replacement, in one dimension: E μ² + E σ² + 1 − 2·E σ.

    Arguments and units as in ``replaced_std``.

    References:
        I. Shumailov et al., Nature 631 (2024), which approximates it for large N; C. Givens and R. Shortt, "A class of Wasserstein metrics
        for probability distributions" (1984), for W₂ of normal laws.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import replaced_w2_squared
        >>> [replaced_w2_squared(100, np.array([50]), ddof=ddof).round(4).tolist() for ddof in (0, 1)]
        [[0.6289], [0.7372]]
    """
    last = int(generations.max(initial=0))
    path = expected_moments(Composition(n), n_original or n, last, sampled=n_original is not None, fit=_started(ddof, n_original))
    variance = replaced_variance(n, generations, ddof=ddof, n_original=n_original)
    std = replaced_std(n, generations, ddof=ddof, n_original=n_original)
    distance: Floats = path.drift[generations] + variance + 1.0 - 2.0 * std
    return distance


@dataclass(frozen=True, slots=True, eq=False)
class LogVariance:
    """Exact cumulants of log σ_t² under replacement, σ₀ = 1.

    Attributes:
        cumulants: ``(4, G)``: mean, variance, third and fourth cumulant.
    """

    cumulants: Floats

    def quantile(self, level: float) -> Floats:
        """The quantile of σ_t² at ``level`` in (0, 1): ``(G,)``.

        Cornish–Fisher to second order around the log-normal law with the exact cumulants. The error in log σ² of quantiles from .05 to
        .95 is below 4e-3 for N ≥ 10, 2e-4 for N ≥ 50 and 3e-5 for N ≥ 100 at t = 1 without a sampled original, and falls with t.
        """
        from scipy.special import ndtri

        mean, variance, third, fourth = self.cumulants
        spread = np.sqrt(variance)
        skewness = np.divide(third, spread**3, out=np.zeros_like(third), where=spread > 0)
        excess = np.divide(fourth, variance**2, out=np.zeros_like(fourth), where=variance > 0)
        z = float(ndtri(level))
        score = z + (z**2 - 1) * skewness / 6 + (z**3 - 3 * z) * excess / 24 - (2 * z**3 - 5 * z) * skewness**2 / 36
        quantile: Floats = np.exp(mean + spread * score)
        return quantile


def log_variance(n: int, generations: Ints, *, ddof: float = 0.0, n_original: int | None = None) -> LogVariance:
    """The law of log σ_t² under replacement: a sum of independent log χ², whose cumulants are polygamma functions.

    Arguments as in ``replaced_std``.

    References:
        M. Bartlett and D. Kendall, "The statistical analysis of variance-heterogeneity and the logarithmic transformation" (1946).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import log_variance
        >>> log_variance(1000, np.array([1000])).cumulants[0].round(3).tolist()
        [-2.002]
    """
    steps = np.asarray(generations, dtype=np.float64)
    total: Floats = np.multiply.outer(_log_cumulants(n, ddof), steps)
    if n_original is not None:
        total = total + _log_cumulants(n_original, ddof)[:, None]
    return LogVariance(total)


def replaced_median_std(n: int, generations: Ints, *, ddof: float = 0.0, n_original: int | None = None) -> Floats:
    """Median of σ_t under replacement: about e^{−t/N} for ddof 0, e^{−t/(2N)} for ddof 1.

    Arguments and units as in ``replaced_std``. Relative error as in ``LogVariance.quantile`` (half of it; below 1e-5 for N ≥ 100).

    References:
        M. Bartlett and D. Kendall (1946); E. Cornish and R. Fisher, "Moments and cumulants in the specification of distributions" (1938).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import replaced_median_std
        >>> replaced_median_std(1000, np.array([693])).round(3).tolist()
        [0.5]
    """
    median: Floats = np.sqrt(log_variance(n, generations, ddof=ddof, n_original=n_original).quantile(0.5))
    return median


def median_half_life(n: int, *, ddof: float = 0.0) -> float:
    """Generations in which the median of σ_t falls to one half: −2·ln 2 / E log(χ²_{N−1}/(N−ddof)), ≈ .69·N for ddof 0.

    Returns:
        Infinity where the median doesn't fall (ddof of about 2 or more).

    References:
        I. Shumailov et al., Nature 631 (2024); M. Bartlett and D. Kendall (1946).

    Examples:
        >>> from studbook.theory import median_half_life
        >>> round(median_half_life(1000)), round(median_half_life(1000, ddof=1))
        (693, 1384)
    """
    fall = float(_log_cumulants(n, ddof)[0])
    return -2.0 * np.log(2.0) / fall if fall < 0.0 else float("inf")


def _log_variance_factor(size: int, ddof: float) -> float:
    """Logarithm of (N−1)/(N−ddof), with all digits for any N."""
    return float(np.log1p((ddof - 1.0) / (size - ddof)))


def _log_std_factor(size: int, ddof: float) -> float:
    return _log_variance_factor(size, ddof) / 2.0 + _log_std_shrinkage(size)


def _log_std_shrinkage(size: int) -> float:
    """Logarithm of c₄(N), x = (N−1)/2: log Γ(x+½) − log Γ(x) − ½·log x = −1/(8x) + 1/(192x³) − 1/(640x⁵) + ….

    Γ's recurrence leads from a small x up to where the series holds.
    """
    half = (size - 1) / 2
    below = np.arange(half, _SERIES)
    x = half + len(below)
    series = -1.0 / (8.0 * x) + 1.0 / (192.0 * x**3) - 1.0 / (640.0 * x**5) + 17.0 / (14336.0 * x**7)
    return series - float(np.sum(np.log1p(0.5 / below) - np.log1p(1.0 / below) / 2.0))


def _digamma_excess(half: float) -> float:
    """ψ(x) − log x = −1/(2x) − 1/(12x²) + 1/(120x⁴) − 1/(252x⁶) + …."""
    from scipy.special import psi

    if half < _SERIES:
        return float(psi(half) - np.log(half))
    return -1.0 / (2.0 * half) - 1.0 / (12.0 * half**2) + 1.0 / (120.0 * half**4) - 1.0 / (252.0 * half**6)


def _log_cumulants(size: int, ddof: float) -> Floats:
    """First four cumulants of log(χ²_{N−1}/(N−ddof)): ``(4,)``."""
    from scipy.special import polygamma

    half = (size - 1) / 2
    mean = _digamma_excess(half) + _log_variance_factor(size, ddof)
    return np.array([mean, *(float(polygamma(order, half)) for order in (1, 2, 3))])


def _product(log_factor: _LogFactor, n: int, generations: Ints, n_original: int | None) -> Floats:
    start = 0.0 if n_original is None else log_factor(n_original)
    product: Floats = np.exp(start + np.asarray(generations, dtype=np.float64) * log_factor(n))
    return product


def _started(ddof: float, n_original: int | None) -> Fit:
    """The divisor's fit, without an inflation of generation 0 where that has exactly the law."""
    base = divisor_fit(ddof)

    def fit(sizes: Floats) -> tuple[Floats, Floats]:
        slopes, offsets = base(sizes)
        if n_original is None:
            slopes[0] = 1.0
        return slopes, offsets

    return fit
