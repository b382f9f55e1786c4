"""The score from which on a record is a hit, chosen on some records and measured on others."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from studbook.errors import CalibrationError, ConfigError
from studbook.theory.error_rates import check_confidence, clopper_pearson, trials_for_bound

SPARE_HITS = 2
"""So many false hits in the measuring half must still keep the promise, or too many calibrations would fail by chance."""


def records_needed(false_alarm: float, confidence: float) -> int:
    """How many human records a calibration takes in each of its two halves.

    Args:
        false_alarm: Largest rate of hits among human records, above 0 and below 1.
        confidence: Of the two-sided interval around the measured rate, above 0 and below 1.

    Returns:
        So many that two false hits among them still keep the promise.

    Raises:
        ConfigError: An argument out of its range.

    Examples:
        >>> from studbook.theory.thresholds import records_needed
        >>> records_needed(0.05, 0.95), records_needed(0.01, 0.95)
        (142, 720)
    """
    check_confidence(confidence)
    return trials_for_bound(false_alarm, 1.0 - (1.0 - confidence) / 2.0, SPARE_HITS)


def require_records(n: int, false_alarm: float, confidence: float, what: str) -> None:
    """Refuse to calibrate on too few human records; ``n`` is the number in both halves together.

    Raises:
        CalibrationError: Too few; the message says how many are needed.
    """
    needed = 2 * records_needed(false_alarm, confidence)
    if n < needed:
        message = f"{n:,} human {what} can't bound the false alarms by {false_alarm:g} with confidence {confidence:g}"
        raise CalibrationError(message, hint=f"{needed - n:,} more are needed ({needed:,} in all), or a larger false-alarm rate")


def choose_threshold(scores: ArrayLike, false_alarm: float, confidence: float) -> float:
    """The lowest score that is above all but a few of the human records' scores.

    Of n scores the (e + 1)-th largest is a distribution-free tolerance limit: at most 1 − ``confidence`` of all samples would have it
    below the true quantile when P(Binomial(n, q) ≤ e) ≤ 1 − ``confidence``. It is taken for half the promised rate, so that the
    measurement on other records keeps the promise too; where the scores are too few for that, the largest of them decides.

    Args:
        scores: ``(n,)`` one for each human record; not-a-number counts as lower than any other.
        false_alarm: What is promised, above 0 and below 1.
        confidence: Above 0 and below 1.

    Returns:
        The threshold: scores from it on are hits.

    Raises:
        CalibrationError: There are no scores, or none is a number.

    References:
        S. S. Wilks, "Determination of sample sizes for setting tolerance limits", Annals of Mathematical Statistics 12 (1941).

    Examples:
        >>> from studbook.theory.thresholds import choose_threshold
        >>> scores = range(1000)
        >>> threshold = choose_threshold(scores, 0.05, 0.95)
        >>> sum(score >= threshold for score in scores)
        16
    """
    from scipy.stats import binom

    if not 0.0 < false_alarm < 1.0:
        raise ConfigError(f"false_alarm is {false_alarm}, expected above 0 and below 1", hint="for example 0.01")
    check_confidence(confidence)
    values = np.asarray(scores, dtype=np.float64)
    values = np.sort(np.where(np.isnan(values), -np.inf, values))[::-1]
    if not len(values) or not math.isfinite(values[0]):
        raise CalibrationError("no human record has a score", hint="the detector can't tell anything of these records")
    spared = int(binom.ppf(1.0 - confidence, len(values), false_alarm / 2.0))
    while spared > 0 and binom.cdf(spared, len(values), false_alarm / 2.0) > 1.0 - confidence:
        spared -= 1
    limit = float(values[min(spared, len(values) - 1)])
    # With fewer scores than spared ones there is nothing to choose from.
    return float(np.nextafter(limit if math.isfinite(limit) else values[np.isfinite(values)][-1], np.inf))


def require_promise(hits: int, n: int, false_alarm: float, confidence: float, what: str) -> None:
    """Refuse a calibration whose measuring half doesn't bear out what was promised.

    Args:
        hits: Hits among ``n`` human records that had no part in choosing the threshold.
        n: Those records.
        false_alarm: What was promised.
        confidence: Of the two-sided interval.
        what: ``"texts"``, ``"pictures"``.

    Raises:
        CalibrationError: The interval's upper end is above the promise; the message says how many records would do at this rate.
    """
    _, upper = clopper_pearson(hits, n, confidence)
    if upper <= false_alarm:
        return
    message = f"{hits:,} of {n:,} untouched human {what} are hits: the rate is up to {upper:.2g}, and {false_alarm:g} was promised"
    if hits / n >= false_alarm:
        raise CalibrationError(message, hint="the halves differ: shuffle them, look for near-duplicates, or promise less")
    needed = n
    while clopper_pearson(hits / n * needed, needed, confidence)[1] > false_alarm:
        needed *= 2
    raise CalibrationError(message, hint=f"at this rate about {2 * needed:,} human {what} would do, or promise less")
