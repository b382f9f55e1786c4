"""Exact tests of counts: how often as many green tokens come by chance, and how many tokens a test needs."""

from __future__ import annotations

import math

import numpy as np

from studbook.arrays import AnyArray, Floats
from studbook.errors import ConfigError

_MOST = 1 << 40


def p_values(hits: AnyArray, trials: AnyArray, rate: float) -> Floats:
    """How often a binomial count is ``hits`` or more: exactly, by the incomplete beta function; 1 where nothing was tried.

    Args:
        hits: Counts, any shape.
        trials: Of the same shape.
        rate: Of a hit, above 0 and below 1.

    Examples:
        >>> from studbook.marks.binomial import p_values
        >>> import numpy as np
        >>> p_values(np.array([2, 0, 3]), np.array([2, 5, 3]), 0.5).tolist()
        [0.25, 1.0, 0.125]
    """
    from scipy.special import betainc

    counts, total = np.asarray(hits, np.float64), np.asarray(trials, np.float64)
    some = counts > 0
    return np.asarray(np.where(some, betainc(np.where(some, counts, 1.0), np.where(some, total - counts + 1.0, 1.0), rate), 1.0))


def low_p_values(hits: AnyArray, trials: AnyArray, rate: float) -> Floats:
    """How often a binomial count is ``hits`` or fewer."""
    return p_values(np.asarray(trials) - np.asarray(hits), trials, 1.0 - rate)


def tokens_needed(gamma: float, green_rate: float, *, false_alarm: float, power: float) -> int:
    """Tokens after which a mark is found with probability ``power``, by the exact test: the fewest.

    The normal approximation (``tokens_needed_normal``) gives up to an eighth less, since the binomial law has the longer tail.

    Args:
        gamma: Green share where there is no mark.
        green_rate: Green share of marked tokens, above ``gamma``.
        false_alarm: Of the test, above 0 and below 1.
        power: Above 0 and below 1.

    Raises:
        ConfigError: An argument out of its range.

    References:
        Kirchenbauer et al. 2023, section 3; the binomial law in place of their normal one.

    Examples:
        >>> from studbook.marks import tokens_needed
        >>> tokens_needed(0.25, 0.45, false_alarm=1e-5, power=0.95)
        191
    """
    _check(gamma, green_rate, false_alarm, power)
    upper = 16
    while not _suffices(upper, gamma, green_rate, false_alarm, power):
        upper *= 2
        if upper > _MOST:
            raise ConfigError(f"a green rate of {green_rate} isn't found beside {gamma} in {_MOST:,} tokens")
    return _first_from(upper, gamma, green_rate, false_alarm, power)


def tokens_needed_normal(gamma: float, green_rate: float, *, false_alarm: float, power: float) -> float:
    """As ``tokens_needed``, with normal laws in place of the binomial ones; a fraction.

    Raises:
        ConfigError: An argument out of its range.

    Examples:
        >>> from studbook.marks import tokens_needed_normal
        >>> round(tokens_needed_normal(0.25, 0.45, false_alarm=1e-5, power=0.95), 1)
        177.6
    """
    _check(gamma, green_rate, false_alarm, power)
    from scipy.special import ndtri

    spread = -ndtri(false_alarm) * math.sqrt(gamma * (1.0 - gamma)) + ndtri(power) * math.sqrt(green_rate * (1.0 - green_rate))
    return float((spread / (green_rate - gamma)) ** 2)


def _check(gamma: float, green_rate: float, false_alarm: float, power: float) -> None:
    if not 0.0 < gamma < green_rate < 1.0:
        raise ConfigError(f"gamma is {gamma} and green_rate {green_rate}, expected 0 < gamma < green_rate < 1")
    if not (0.0 < false_alarm < 1.0 and 0.0 < power < 1.0):
        raise ConfigError(f"false_alarm is {false_alarm} and power {power}, expected above 0 and below 1")


def _suffices(n: int, gamma: float, green_rate: float, false_alarm: float, power: float) -> bool:
    from scipy.stats import binom

    needed = int(binom.isf(false_alarm, n, gamma)) + 1
    while needed > 0 and p_values(np.array(needed - 1), np.array(n), gamma) <= false_alarm:
        needed -= 1
    while p_values(np.array(needed), np.array(n), gamma) > false_alarm:
        needed += 1
        if needed > n:
            return False
    return float(p_values(np.array(needed), np.array(n), green_rate)) >= power


def _first_from(upper: int, *test: float) -> int:
    """The first number of tokens that suffices; the power rises in saw teeth, so that a bisection alone may miss it."""
    low, high = 0, upper
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _suffices(middle, *test) else (middle, high)
    tooth = 4 * math.ceil(1.0 / test[0]) + 4
    return next(n for n in range(max(1, high - tooth), high + 1) if _suffices(n, *test))
