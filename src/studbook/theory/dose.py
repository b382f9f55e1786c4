"""How many fresh real records a generation keep a wanted share of variance or heterozygosity: the closed forms.

With r fresh among n records F_t = 1/n + (s(s−1)/n²)·F_{t−1}, s = n − r. The share kept is 1 − F; in equilibrium about 2r/(1 + 2r)
whatever n: "one migrant per generation" keeps two thirds.
"""

from __future__ import annotations

import math

from studbook.errors import ConfigError


def kept_share(fresh: int, n: int, generation: int | None = None) -> float:
    """Expected share of the law's variance or heterozygosity in the model of a generation, 1 − F_t.

    Args:
        fresh: New real records among the ``n`` of each generation after generation 0.
        n: Records a generation, and behind generation 0.
        generation: t, 0 or more; ``None``: in equilibrium.

    Returns:
        A share from 0 to 1 − 1/n.

    References:
        S. Wright, "Evolution in Mendelian populations", Genetics 16 (1931).

    Example:
        >>> from studbook.theory import kept_share
        >>> round(kept_share(5, 100), 4), round(kept_share(0, 100, 69), 3)
        (0.9065, 0.495)
    """
    _check(fresh, n)
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

    Example:
        >>> from studbook.theory import equilibrium_share
        >>> [round(equilibrium_share(r), 3) for r in (1, 5, 50)]
        [0.667, 0.909, 0.99]
    """
    return 2.0 * fresh / (1.0 + 2.0 * fresh)


def smallest_fresh(keep: float, n: int, generation: int | None = None) -> int:
    """The smallest number of fresh real records a generation that keeps the share ``keep`` of variance or heterozygosity.

    In equilibrium in closed form (s² − s ≤ n² − n/(1 − keep)), else by bisection over the closed form of F_t.

    Args:
        keep: Wanted expected share, above 0 and at most 1 − 1/n, which only fresh records keep.
        n: Records a generation, and behind generation 0.
        generation: When it is kept; ``None``: for ever.

    Raises:
        ConfigError: A share that can't be kept.

    References:
        S. Wright, Genetics 16 (1931).

    Example:
        >>> from studbook.theory import smallest_fresh
        >>> smallest_fresh(0.9, 100), smallest_fresh(0.9, 100_000), smallest_fresh(0.9, 100, 10)
        (5, 5, 1)
    """
    _check(0, n)
    if not 0.0 < keep <= 1.0 - 1.0 / n:
        raise ConfigError(
            f"keep is {keep}, expected a share above 0 and at most {1.0 - 1.0 / n:g} (1 − 1/n)", hint="take more records a generation"
        )
    low, high = -1, n
    if generation is None:
        room = max(n * (n - 1.0 / (1.0 - keep)), 0.0)
        guess = n - int((1.0 + math.sqrt(1.0 + 4.0 * room)) / 2.0)
        # The closed form, give or take one for rounding.
        low, high = max(guess - 2, -1), min(guess + 1, n)
    while high - low > 1:
        middle = (low + high) // 2
        if kept_share(middle, n, generation) >= keep * (1.0 - 1e-12):
            high = middle
        else:
            low = middle
    return high


def _decay(fresh: int, n: int) -> float:
    """1 − s(s − 1)/n², without the difference of two nearly equal numbers."""
    generated = n - fresh
    return (fresh * (n + generated) + generated) / n**2


def _check(fresh: int, n: int) -> None:
    if not 0 <= fresh <= n or n < 1:
        raise ConfigError(f"{fresh} fresh records among {n}, expected 0 to n of at least 1")
