"""Least squares on labels that the last fit gave: the error of the weights adds up.

Generation 0 is fitted to ``n`` centred Gaussian feature rows with labels of noise variance σ²; each later one to labels that the last
weights and new noise give. The excess risk E‖ŵ − w₀‖²_Σ doesn't depend on the features' covariance Σ.
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

    Examples:
        >>> from studbook.theory import single_fit_error
        >>> single_fit_error(1.0, 9, 100)
        0.1
    """
    if n < n_features + 2:
        raise ConfigError(f"{n} records for {n_features} features, expected at least {n_features + 2}: the mean error is infinite below")
    return noise * n_features / (n - n_features - 1)


def replaced_error(noise: float, n_features: int, n: int, generations: Ints, *, start: float | None = None) -> Floats:
    """Expected excess risk under replacement, (t + 1)·σ²d/(T − d − 1): it grows linearly without bound.

    The same whether generations share their features or draw new ones.

    Args:
        noise: σ² of regenerated labels.
        n_features: d.
        n: T, records a generation, at least d + 2.
        generations: ``(G,)`` generations t, 0 or more.
        start: Excess risk of generation 0; ``None``: that of one fit.

    Returns:
        ``(G,)``.

    References:
        E. Dohmatob, Y. Feng, J. Kempe (2024); M. Gerstgrasser et al. (2024), theorem 1.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import replaced_error
        >>> replaced_error(1.0, 9, 100, np.array([0, 4])).round(3).tolist()
        [0.1, 0.5]
    """
    single = single_fit_error(noise, n_features, n)
    error: Floats = (single if start is None else start) + np.asarray(generations, dtype=np.float64) * single
    return error


def accumulated_error(
    noise: float, n_features: int, n: int, generations: Ints, *, start: float | None = None, same_features: bool = True
) -> Floats:
    """Expected excess risk when all data are kept: with the same features Σ_{i ≤ t+1} 1/i² times that of one fit, below π²/6 of it.

    The fit moves by (X'X)⁻¹ times the newest batch's X'ε only. With new features in each generation the batches are exchangeable, and
    the terms are σ²d/(i(iT − d − 1)), smaller still.

    Args:
        noise: σ² of regenerated labels.
        n_features: d.
        n: T, new records a generation, at least d + 2.
        generations: ``(G,)``.
        start: Excess risk of generation 0; ``None``: that of one fit.
        same_features: Whether all generations have the original's feature rows; else new ones.

    Returns:
        ``(G,)``, exact.

    References:
        M. Gerstgrasser et al., "Is Model Collapse Inevitable? Breaking the Curse of Recursion by Accumulating Real and Synthetic
        Data" (2024), theorem 2.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import accumulated_error
        >>> accumulated_error(1.0, 9, 100, np.array([0, 1, 100_000])).round(4).tolist()
        [0.1, 0.125, 0.1645]
    """
    batches = np.arange(1, int(np.max(generations, initial=0)) + 2, dtype=np.float64)
    single = single_fit_error(noise, n_features, n)
    steps = single / batches**2 if same_features else noise * n_features / (batches * (batches * n - n_features - 1))
    steps[0] = single if start is None else start
    error: Floats = np.cumsum(steps)[generations]
    return error
