"""How many fresh real records a generation keep a wanted share of variance or heterozygosity: the closed forms.

With r fresh among n records F_t = 1/n + (s(s−1)/n²)·F_{t−1}, s = n − r. The share kept is 1 − F; in equilibrium about 2r/(1 + 2r)
whatever n: "one migrant per generation" keeps two thirds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from studbook.errors import ConfigError
from studbook.theory.gaussian import fresh_equilibrium

_TOLERANCE = 1e-12
"""A share this close below the wanted one counts as kept: rounding must not cost a record."""


def kept_share(fresh: int, n: int, generation: int | None = None, *, ddof: int = 0) -> float:
    """Expected share of the law's variance or heterozygosity in the model of a generation, 1 − F_t.

    Time and memory don't depend on any argument: the recursion is affine, so that a power of it does.

    Args:
        fresh: New real records among the ``n`` of each generation after generation 0.
        n: Records a generation, and behind generation 0.
        generation: t, 0 or more; ``None``: in equilibrium.
        ddof: Divisor ``n - ddof`` of the fitted variance, 0 or 1.

    Returns:
        A share from 0 to 1 − 1/n; with ``ddof = 1`` from 1 on, as the expected variance then never falls.

    References:
        S. Wright, "Evolution in Mendelian populations", Genetics 16 (1931).

    Examples:
        >>> from studbook.theory import kept_share
        >>> round(kept_share(5, 100), 4), round(kept_share(0, 100, 69), 3)
        (0.9065, 0.495)
    """
    _check(fresh, n, ddof)
    if ddof:
        return _kept_unbiased(fresh, n, generation)
    loss = _decay(fresh, n)
    if generation is None:
        return 1.0 - 1.0 / (n * loss) if loss > 0.0 and fresh else 0.0
    if loss >= 1.0:
        return 1.0 - 1.0 / n
    memory = math.exp((generation + 1) * math.log1p(-loss)) if fresh == 0 else math.exp(generation * math.log1p(-loss))
    if fresh == 0:
        return memory
    limit = 1.0 / (n * loss)
    return 1.0 - limit - (1.0 / n - limit) * memory


def equilibrium_share(fresh: float) -> float:
    """The share kept in equilibrium for a large n, 2r/(1 + 2r), nearly whatever n is.

    References:
        S. Wright, Genetics 16 (1931): 1 − 1/(1 + 2Nm) for N haploid copies and migration m.

    Examples:
        >>> from studbook.theory import equilibrium_share
        >>> [round(equilibrium_share(r), 3) for r in (1, 5, 50)]
        [0.667, 0.909, 0.99]
    """
    return 2.0 * fresh / (1.0 + 2.0 * fresh)


def smallest_fresh(keep: float, n: int, generation: int | None = None, *, ddof: int = 0) -> int:
    """The smallest number of fresh real records a generation that keeps the share ``keep`` of variance or heterozygosity.

    By bisection over the closed form of F_t.

    Args:
        keep: Wanted expected share, above 0 and at most 1 − 1/n, which only fresh records keep (at most 1 with ``ddof = 1``).
        n: Records a generation, and behind generation 0.
        generation: When it is kept; ``None``: for ever.
        ddof: Divisor ``n - ddof`` of the fitted variance, 0 or 1.

    Raises:
        ConfigError: A share that can't be kept.

    References:
        S. Wright, Genetics 16 (1931).

    Examples:
        >>> from studbook.theory import smallest_fresh
        >>> smallest_fresh(0.9, 100), smallest_fresh(0.9, 100_000), smallest_fresh(0.9, 100, 10)
        (5, 5, 1)
    """
    _check(0, n, ddof)
    wanted, most = keep * (1.0 - _TOLERANCE), kept_share(n, n, generation, ddof=ddof)
    if not (keep > 0.0 and wanted <= most):
        raise ConfigError(
            f"keep is {keep:.12g}, expected above 0 and at most {most:.12g}, which {n} fresh records a generation and nothing else keep",
            hint="ask for less, or take more records a generation",
        )
    return smallest_integer(lambda fresh: kept_share(fresh, n, generation, ddof=ddof) >= wanted, 0, n)


def smallest_integer(enough: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest integer in ``[low, high]`` with ``enough``, which is monotone; ``high`` if none below it has it.

    Examples:
        >>> from studbook.theory.dose import smallest_integer
        >>> smallest_integer(lambda k: k * k >= 50, 0, 100)
        8
    """
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _kept_unbiased(fresh: int, n: int, generation: int | None) -> float:
    """With the n − 1 divisor the variance of the generated records feels the scatter of their means: two coupled affine equations.

    ``studbook.theory.expected_moments`` with ``divisor_fit(1)``, as a power of a matrix for any number of generations. A pair of
    training records is real with real, real with generated or generated with generated; its half mean squared distance is 1,
    (1 + v + m)/2 or v. The mean of the training set adds its own share of each record's second moment to m.
    """
    if generation is None:
        return fresh_equilibrium(n, fresh, ddof=1)[0] if fresh else 1.0
    size, real, own = float(n), float(fresh), float(n - fresh)
    pairs = size * (size - 1.0)
    step = np.array(
        [
            [(real * own + own * (own - 1.0)) / pairs, real * own / pairs, (real * (real - 1.0) + real * own) / pairs],
            [own / size**2, (own / size) ** 2, real / size**2],
            [0.0, 0.0, 1.0],
        ]
    )
    return float((np.linalg.matrix_power(step, generation) @ np.array([1.0, 1.0 / size, 1.0]))[0])


def _decay(fresh: int, n: int) -> float:
    """1 − s(s − 1)/n², without the difference of two nearly equal numbers."""
    generated = n - fresh
    return (fresh * (n + generated) + generated) / n**2


def _check(fresh: int, n: int, ddof: int) -> None:
    if not 0 <= fresh <= n or n < 1 + ddof:
        raise ConfigError(f"{fresh} fresh records among {n}, expected 0 to n of at least {1 + ddof}")
    if ddof not in (0, 1):
        raise ConfigError(f"ddof is {ddof!r}, expected 0 or 1")
