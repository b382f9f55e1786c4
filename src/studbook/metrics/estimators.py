"""Estimators of diversity from counts, and their standard errors. Pure functions; counts have shape ``(..., K)``."""

from __future__ import annotations

import numpy as np

from studbook.arrays import AnyArray, Floats, Ints


def heterozygosity(counts: Ints) -> Floats:
    """Unbiased estimate of 1 − Σp², the share of pairs that differ; 0 for a single record.

    Example:
        >>> import numpy as np
        >>> from studbook.metrics.estimators import heterozygosity
        >>> round(float(heterozygosity(np.array([2, 2]))), 4)
        0.6667
    """
    c: AnyArray = counts.astype(np.float64)
    n = c.sum(axis=-1)
    return np.asarray((n * n - (c * c).sum(axis=-1)) / np.maximum(n * (n - 1), 1))


def heterozygosity_stderr(counts: Ints) -> float:
    """Standard error of :func:`heterozygosity`: U-statistic of order 2 with ζ₁ = Σp³ − (Σp²)², ζ₂ = Σp²(1 − Σp²) (Hoeffding 1948)."""
    c: AnyArray = counts.astype(np.float64)
    n = float(c.sum())
    if n < 3:
        return float("inf")
    pairs = float((c * (c - 1)).sum()) / (n * (n - 1))
    triples = float((c * (c - 1) * (c - 2)).sum()) / (n * (n - 1) * (n - 2))
    first, second = max(triples - pairs**2, 0.0), pairs * (1 - pairs)
    return float(np.sqrt(2 * (2 * (n - 2) * first + second) / (n * (n - 1))))


def entropy(counts: Ints) -> Floats:
    """Plug-in entropy in nats with Miller and Madow's correction (K̂ − 1)/(2n)."""
    from scipy.special import entr

    n = counts.sum(axis=-1)
    seen = np.count_nonzero(counts, axis=-1)
    return np.asarray(entr(counts / n[..., None]).sum(axis=-1) + (seen - 1) / (2 * n))


def entropy_stderr(counts: Ints) -> float:
    """Standard error of :func:`entropy` for independent records: √((Σp̂ ln²p̂ − Ĥ²)/n + (K̂ − 1)/(2n²))."""
    n = float(counts.sum())
    shares = counts[counts > 0] / n
    logs = np.log(shares)
    spread = max(float(shares @ logs**2) - float(shares @ logs) ** 2, 0.0)
    return float(np.sqrt(spread / n + (len(shares) - 1) / (2 * n * n)))


def support_stderr(counts: Ints) -> float:
    """Standard error of the number of distinct states in n independent records.

    The variance of the number K(n) seen is E K(2n) − E K(n) if n is Poisson, and (E f₁)²/n less at fixed n, where f₁ counts the states
    seen once. K(2n) − K(n) is estimated by Good and Toulmin's alternating sum of the f's, each weighted with the upper tail of a
    binomial (Efron and Thisted 1976).
    """
    n = int(counts.sum())
    length = max(int(np.log2(max(n, 2))), 2)
    multiplicity = np.bincount(np.minimum(counts[counts > 0], length + 1), minlength=length + 2)[1 : length + 1]
    growth = float(multiplicity @ _good_toulmin_weights(length))
    variance = growth - float(multiplicity[0]) ** 2 / n
    return float(np.sqrt(max(variance, 0.0)))


def _good_toulmin_weights(length: int) -> Floats:
    """(−1)^{k+1} P(Binomial(L, ½) ≥ k) for k = 1 … L."""
    from scipy.special import bdtrc

    k = np.arange(1, length + 1)
    weights: Floats = np.where(k % 2 == 1, 1.0, -1.0) * bdtrc(k - 1.0, length, 0.5)
    return weights


def relative_entropy_stderr(counts: Ints, log_ratios: Floats) -> float:
    """Standard error of Σ q̂ ln(q̂/p) for independent records: the spread of ln(q̂/p) over n, and (K̂ − 1)/(2n²) for the curvature.

    Args:
        counts: ``(K,)``, each 1 or more.
        log_ratios: ``(K,)`` ln(q̂/p), finite.
    """
    n = float(counts.sum())
    shares = counts / n
    spread = max(float(shares @ log_ratios**2) - float(shares @ log_ratios) ** 2, 0.0)
    return float(np.sqrt(spread / n + (len(counts) - 1) / (2 * n * n)))


def total_variation_stderr(counts: Ints, differences: Floats) -> float:
    """Standard error of ½ Σ|q̂ − p| for independent records.

    Each q̂ᵢ − pᵢ is taken as normal with the multinomial's variance and covariances, and |·| as folded normal: away from p the error is
    that of the mass of {q̂ > p}, at q = p it stays finite.

    Args:
        counts: ``(K,)``, each 1 or more.
        differences: ``(K,)`` q̂ − p of these states.
    """
    from scipy.special import ndtr

    n = float(counts.sum())
    shares = counts / n
    spreads = np.sqrt(shares * (1 - shares) / n)
    z = np.divide(differences, spreads, out=np.full_like(spreads, np.inf), where=spreads > 0)
    signs = 2 * np.asarray(ndtr(z)) - 1
    absolute = spreads * np.sqrt(2 / np.pi) * np.exp(-0.5 * np.minimum(z**2, 1e3)) + differences * signs
    own = np.maximum(differences**2 + spreads**2 - absolute**2, 0.0).sum()
    shared = (float(signs @ shares) ** 2 - float(signs**2 @ shares**2)) / n
    return float(np.sqrt(max(own - shared, 0.0)) / 2)
