"""Estimators of diversity from counts, and their standard errors. Pure functions; counts have shape ``(..., K)``."""

from __future__ import annotations

import numpy as np

from studbook.arrays import AnyArray, Floats, Ints


def heterozygosity(counts: Ints) -> Floats:
    """Unbiased estimate of 1 − Σp², the share of pairs that differ; 0 for a single record.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.estimators import heterozygosity
        >>> round(float(heterozygosity(np.array([2, 2]))), 4)
        0.6667
    """
    c: AnyArray = counts.astype(np.float64)
    n = c.sum(axis=-1)
    return np.asarray((n * n - (c * c).sum(axis=-1)) / np.maximum(n * (n - 1), 1))


def heterozygosity_stderr(counts: Ints) -> float:
    """Standard error of ``heterozygosity``: U-statistic of order 2 with ζ₁ = Σp³ − (Σp²)², ζ₂ = Σp²(1 − Σp²) (Hoeffding 1948)."""
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


def relative_entropy(counts: Ints, p: Floats) -> Floats:
    """Plug-in Σ q̂ ln(q̂/p) in nats for p ``(K,)``, less Miller and Madow's (K̂ − 1)/(2n)."""
    from scipy.special import rel_entr

    n = counts.sum(axis=-1)
    seen = np.count_nonzero(counts, axis=-1)
    return np.asarray(rel_entr(counts / n[..., None], p).sum(axis=-1) - (seen - 1) / (2 * n))


def entropy_stderr(counts: Ints) -> float:
    """Standard error of ``entropy`` for independent records: the delete-one jackknife, see ``relative_entropy_stderr``."""
    alive = counts[counts > 0]
    return relative_entropy_stderr(alive, np.ones(len(alive)))


def relative_entropy_stderr(counts: Ints, p: Floats) -> float:
    """Standard error of ``relative_entropy`` for independent records: the delete-one jackknife in closed form.

    All records of one state have the same value without them, so that K of these values serve all n. It errs upwards (Efron and Stein
    1981): by √2 at most where all ln(q/p) are equal, hardly elsewhere.

    Args:
        counts: ``(K,)``, each 1 or more.
        p: ``(K,)``, above 0; all ones gives the entropy's.
    """
    n = float(counts.sum())
    if n < 2:
        return float("inf")
    # Without a record of state i, the sum of c ln(c/p) loses its old term and gains one with c − 1, and a state dies where c was 1.
    left = counts - 1.0
    old = counts * np.log(counts / p)
    new = left * np.log(np.maximum(left, 1.0) / p)
    without = (new - old + 0.5 * (counts == 1)) / (n - 1)
    deviations = without - float(counts @ without) / n
    return float(np.sqrt((n - 1) / n * float(counts @ deviations**2)))


def support_stderr(counts: Ints) -> float:
    """Standard error of the number K(n) of distinct states in n independent records.

    Its variance is E K(2n) − E K(n) if n is Poisson, and (E f₁)²/n less at fixed n, where f₁ and f₂ count the states seen once and twice.
    The growth is extrapolated as f₀(1 − e^{−f₁/f₀}) with Chao's f₀ = f₁(f₁ − 1)/(2(f₂ + 1)) unseen states (Chao 1984; Colwell et al. 2012).
    0 where every state was seen twice.
    """
    n = int(counts.sum())
    once, twice = int(np.count_nonzero(counts == 1)), int(np.count_nonzero(counts == 2))
    unseen = once * (once - 1) / (2 * (twice + 1))
    growth = -unseen * float(np.expm1(-once / unseen)) if unseen else float(once)
    return float(np.sqrt(max(growth - once**2 / n, 0.0)))


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
