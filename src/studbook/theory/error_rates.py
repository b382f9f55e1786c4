"""Exact bounds on the error rate of a check from independent trials, and the collisions of random bits."""

from __future__ import annotations

import math

from studbook.errors import ConfigError
from studbook.theory.dose import smallest_integer


def clopper_pearson(events: float, trials: float, confidence: float) -> tuple[float, float]:
    """The two-sided exact interval of a rate: each side errs with at most half of 1 − ``confidence``.

    Args:
        events: How often it happened, 0 to ``trials``. A fraction is possible where an effective number of trials is meant.
        trials: Independent trials, 0 or more; none leave the interval [0, 1].
        confidence: Above 0 and below 1.

    Returns:
        Lower and upper end.

    Raises:
        ConfigError: Numbers that no experiment can give.

    References:
        C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
        Biometrika 26 (1934).

    Examples:
        >>> from studbook.theory import clopper_pearson
        >>> [round(end, 4) for end in clopper_pearson(4, 20, 0.95)]
        [0.0573, 0.4366]
    """
    check_confidence(confidence)
    side = 1.0 - (1.0 - confidence) / 2.0
    return lower_bound(events, trials, side), upper_bound(events, trials, side)


def upper_bound(events: float, trials: float, confidence: float) -> float:
    """The one-sided upper bound of Clopper and Pearson: the largest rate that the data don't rule out.

    Args:
        events: 0 to ``trials``.
        trials: Independent trials, 0 or more.
        confidence: Above 0 and below 1; the bound lies below the true rate with probability 1 − ``confidence`` at most.

    Returns:
        A rate from 0 to 1; with no event 1 − (1 − confidence)^(1/trials), about 3/trials at 95 %.

    Raises:
        ConfigError: Numbers that no experiment can give.

    References:
        C. J. Clopper, E. S. Pearson, Biometrika 26 (1934), as a quantile of the beta distribution.

    Examples:
        >>> from studbook.theory import upper_bound
        >>> f"{upper_bound(0, 10**9, 0.95):.1e}", round(upper_bound(4, 20, 0.95), 4)
        ('3.0e-09', 0.401)
    """
    _check_counts(events, trials, confidence)
    if events >= trials:
        return 1.0
    if events == 0.0:
        return -math.expm1(math.log1p(-confidence) / trials)
    from scipy.special import betainccinv

    return float(betainccinv(events + 1.0, trials - events, 1.0 - confidence))


def lower_bound(events: float, trials: float, confidence: float) -> float:
    """The one-sided lower bound of Clopper and Pearson: the smallest rate that the data don't rule out.

    Args:
        events: 0 to ``trials``.
        trials: Independent trials, 0 or more.
        confidence: Above 0 and below 1.

    Returns:
        A rate from 0 to 1.

    Raises:
        ConfigError: Numbers that no experiment can give.

    References:
        C. J. Clopper, E. S. Pearson, Biometrika 26 (1934).

    Examples:
        >>> from studbook.theory import lower_bound
        >>> round(lower_bound(4, 20, 0.95), 4), round(lower_bound(100, 100, 0.95), 4)
        (0.0714, 0.9705)
    """
    _check_counts(events, trials, confidence)
    if events == 0.0:
        return 0.0
    if events >= trials:
        return math.exp(math.log1p(-confidence) / trials)
    from scipy.special import betaincinv

    return float(betaincinv(events, trials - events + 1.0, 1.0 - confidence))


def trials_for_bound(rate: float, confidence: float, events: int = 0) -> int:
    """How many independent trials it takes until the upper bound of a rate is no more than ``rate``.

    Args:
        rate: The bound asked for, above 0 and below 1.
        confidence: Above 0 and below 1.
        events: How often it will have happened by then, 0 or more.

    Returns:
        The smallest number of trials, those with an event among them.

    Raises:
        ConfigError: An argument out of its range.

    References:
        J. A. Hanley, A. Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249 (1983): 3/rate without an event.

    Examples:
        >>> from studbook.theory import trials_for_bound
        >>> trials_for_bound(0.01, 0.95), trials_for_bound(0.01, 0.95, events=1), trials_for_bound(1e-6, 0.95)
        (299, 473, 2995731)
    """
    check_confidence(confidence)
    if not 0.0 < rate < 1.0:
        raise ConfigError(f"the rate to bound is {rate}, expected above 0 and below 1", hint="no number of trials bounds a rate at 0")
    if events < 0:
        raise ConfigError(f"{events} events, expected 0 or more")
    high = max(events + 1, 1)
    while upper_bound(events, high, confidence) > rate:
        high *= 2
    return smallest_integer(lambda trials: upper_bound(events, trials, confidence) <= rate, events, high)


def random_collision(n_bits: int, radius_bits: int) -> float:
    """The probability that two bit strings of fair independent bits differ in at most ``radius_bits`` places.

    The share of a Hamming ball, Σ C(n, i)/2ⁿ over i ≤ r, in whole numbers, so that the only rounding is the last one. Digests of real
    outputs are far closer to each other than this: it is what no digest can be better than, not what one achieves.

    Args:
        n_bits: Length, 1 to 65,536.
        radius_bits: Distance that still counts as equal, 0 to ``n_bits``.

    Returns:
        A probability; 0 where it is below 10⁻³²³.

    Raises:
        ConfigError: An impossible length or radius.

    References:
        R. W. Hamming, "Error detecting and error correcting codes", Bell System Technical Journal 29 (1950): the size of a ball.

    Examples:
        >>> from studbook.theory import random_collision
        >>> [f"{random_collision(*digest):.1e}" for digest in ((64, 8), (64, 10), (256, 31))]
        ['2.8e-10', '1.0e-08', '8.3e-38']
    """
    if not 1 <= n_bits <= 65_536:
        raise ConfigError(f"n_bits is {n_bits}, expected 1 to 65,536")
    if not 0 <= radius_bits <= n_bits:
        raise ConfigError(f"radius_bits is {radius_bits}, expected 0 to the {n_bits} bits of the string")
    term = ball = 1
    for i in range(1, radius_bits + 1):
        term = term * (n_bits - i + 1) // i
        ball += term
    return ball / (1 << n_bits)


def check_confidence(confidence: float) -> None:
    """Refuse what is no confidence.

    Raises:
        ConfigError: ``confidence`` isn't above 0 and below 1.

    Examples:
        >>> from studbook.theory.error_rates import check_confidence
        >>> check_confidence(0.95)
    """
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence is {confidence}, expected above 0 and below 1", hint="0.95 for 95 %")


def _check_counts(events: float, trials: float, confidence: float) -> None:
    check_confidence(confidence)
    if not 0.0 <= events <= trials < math.inf:
        raise ConfigError(f"{events} events in {trials} trials, expected 0 to as many events as trials")
