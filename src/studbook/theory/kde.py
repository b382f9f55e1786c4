"""Kernel density estimates refitted to their own draws: each generation adds the kernel's variance.

A Gaussian KDE with bandwidth h on N records has the variance V + h², where V is the records' (divisor N). With a fixed h the records'
variance grows to (N − 1)h² and the model's to N·h²; a bandwidth that follows the data
(Scott, Silverman) makes the growth geometric: tails don't vanish, they blow up.
"""

from __future__ import annotations

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError
from studbook.theory.coalescence import Fit, expected_moments
from studbook.theory.composition import Composition


def scott_factor(n: Floats, dimension: int = 1) -> Floats:
    """N^(−1/(d+4)): bandwidth over sample standard deviation.

    References:
        D. Scott, "Multivariate Density Estimation" (1992), equation 6.42.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import scott_factor
        >>> scott_factor(np.array([100.0])).round(4).tolist()
        [0.3981]
    """
    factor: Floats = np.asarray(n, dtype=np.float64) ** (-1.0 / (dimension + 4))
    return factor


def silverman_factor(n: Floats, dimension: int = 1) -> Floats:
    """(N(d+2)/4)^(−1/(d+4)): bandwidth over sample standard deviation.

    References:
        B. Silverman, "Density Estimation for Statistics and Data Analysis" (1986), equation 4.14.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import silverman_factor
        >>> silverman_factor(np.array([100.0])).round(4).tolist()
        [0.4217]
    """
    factor: Floats = (np.asarray(n, dtype=np.float64) * (dimension + 2) / 4) ** (-1.0 / (dimension + 4))
    return factor


def kernel_fit(bandwidth: float | str, dimension: int = 1) -> Fit:
    """How a KDE's variance follows from the records': V + h², or V + factor²·V·N/(N−1), for ``studbook.theory.expected_moments``.

    Args:
        bandwidth: Fixed h (standard deviation of the kernel in each coordinate, 0 or more), or the rule, ``"scott"`` or
            ``"silverman"``, whose factor scales the whole sample covariance (divisor N − 1).
        dimension: d of the rules.

    Raises:
        ConfigError: Another rule, or a negative bandwidth.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import kernel_fit
        >>> [column.tolist() for column in kernel_fit(0.5)(np.array([10.0]))]
        [[1.0], [0.25]]
    """
    factors = {"scott": scott_factor, "silverman": silverman_factor}
    if isinstance(bandwidth, str):
        if bandwidth not in factors:
            raise ConfigError(f"bandwidth is {bandwidth!r}, expected a number, 'scott' or 'silverman'")
        rule = factors[bandwidth]

        def follow(sizes: Floats) -> tuple[Floats, Floats]:
            return 1.0 + rule(sizes, dimension) ** 2 * sizes / np.maximum(sizes - 1.0, 1.0), np.zeros_like(sizes)

        return follow
    if not bandwidth >= 0.0:
        raise ConfigError(f"bandwidth is {bandwidth}, expected 0 or more")
    square = float(bandwidth) ** 2

    def fixed(sizes: Floats) -> tuple[Floats, Floats]:
        return np.ones_like(sizes), np.full_like(sizes, square)

    return fixed


def kde_variance(bandwidth: float | str, n: int, generations: Ints, *, dimension: int = 1, variance: float = 1.0) -> Floats:
    """E of a KDE's variance under replacement; with a fixed h it solves v′ = (1 − 1/N)·v + h².

    The variance of its records solves v′ = (1 − 1/N)(v + h²) accordingly.

    Args:
        bandwidth: As in ``kernel_fit``.
        n: Size of the original and of each generation, 2 or more.
        generations: ``(G,)``.
        dimension: d.
        variance: Variance of the law that the original is drawn from.

    Returns:
        ``(G,)`` expected variance of the model (records' variance plus the kernel's).

    References:
        B. Silverman (1986), section 6.4.1 (the smoothed bootstrap's variance); the recursion follows with E V = (1 − 1/N)v.

    Examples:
        >>> from studbook.theory import kde_variance
        >>> import numpy as np
        >>> kde_variance(0.2, 100, np.array([0, 5_000])).round(4).tolist()
        [1.03, 4.0]
    """
    path = expected_moments(Composition(n), n, int(np.max(generations, initial=0)), variance=variance, fit=kernel_fit(bandwidth, dimension))
    chosen: Floats = path.variance[generations]
    return chosen
