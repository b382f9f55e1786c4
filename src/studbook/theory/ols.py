"""Least squares on labels that the last fit gave: the error of the weights adds up.

Each generation draws new Gaussian inputs, labels them with the last weights and noise of variance σ², and fits; the excess risk is
E‖ŵ − w₀‖²_Σ. It doesn't depend on the inputs' covariance Σ.
"""

from __future__ import annotations

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError


def single_fit_error(noise: float, n_features: int, n: int) -> float:
    """Expected excess risk of one fit: σ²·d/(T − d − 1).

    Args:
        noise: σ², the variance of the labels' noise.
        n_features: d.
        n: T, records in the fit, at least d + 2 (the expectation is infinite below).

    Raises:
        ConfigError: Fewer records.

    References:
        E. Dohmatob, Y. Feng, J. Kempe, "Model Collapse Demystified: The Case of Regression" (2024); mean of the inverse Wishart law.

    Example:
        >>> from studbook.theory import single_fit_error
        >>> single_fit_error(1.0, 9, 100)
        0.1
    """
    if n < n_features + 2:
        raise ConfigError(f"{n} records for {n_features} features, expected at least {n_features + 2}: the mean error is infinite below")
    return noise * n_features / (n - n_features - 1)


def replaced_error(noise: float, n_features: int, n: int, generations: Ints, *, n_original: int | None = None) -> Floats:
    """Expected excess risk under replacement: σ²d/(n₀−d−1) + t·σ²d/(n−d−1); it grows linearly without bound.

    Args:
        noise: σ².
        n_features: d.
        n: Records a generation, at least d + 2.
        generations: ``(G,)``.
        n_original: Records behind generation 0; ``None``: as many as ``n``.

    Returns:
        ``(G,)``.

    References:
        E. Dohmatob, Y. Feng, J. Kempe (2024); M. Gerstgrasser et al. (2024), theorem 1 (replace).

    Example:
        >>> import numpy as np
        >>> from studbook.theory import replaced_error
        >>> replaced_error(1.0, 9, 100, np.array([0, 4])).round(3).tolist()
        [0.1, 0.5]
    """
    start = single_fit_error(noise, n_features, n_original or n)
    error: Floats = start + np.asarray(generations) * single_fit_error(noise, n_features, n)
    return error


def accumulated_error(noise: float, n_features: int, n: int, generations: Ints, *, n_original: int | None = None) -> Floats:
    """Expected excess risk when all data are kept: Σ_i (n/N_i)·σ²d/(N_i − d − 1), with N_i = n₀ + i·n records at generation i.

    It stays below π²/6 of one generation's error where n₀ = n. Exact: the fit moves by (X'X)⁻¹ times the newest batch's X'ε only, and the
    batches are exchangeable.

    Args:
        noise: σ².
        n_features: d.
        n: New records a generation.
        generations: ``(G,)``.
        n_original: Records behind generation 0, at least d + 2; ``None``: as many as ``n``.

    Returns:
        ``(G,)``.

    References:
        M. Gerstgrasser et al., "Is Model Collapse Inevitable? Breaking the Curse of Recursion by Accumulating Real and Synthetic
        Data" (2024), theorem 2, whose bound this sum refines.

    Example:
        >>> import numpy as np
        >>> from studbook.theory import accumulated_error
        >>> accumulated_error(1.0, 9, 100, np.array([0, 10_000])).round(4).tolist()
        [0.1, 0.1592]
    """
    start = n_original or n
    total = start + n * np.arange(int(np.max(generations, initial=0)) + 1, dtype=np.float64)
    steps = (n / total) * noise * n_features / (total - n_features - 1)
    steps[0] = single_fit_error(noise, n_features, start)
    error: Floats = np.cumsum(steps)[generations]
    return error
