"""The score from which on a record is a hit, chosen on some records and measured on others."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from studbook.errors import CalibrationError, ConfigError
from studbook.theory.error_rates import check_confidence, clopper_pearson, trials_for_bound

SPARE_HITS = 4
"""So many false hits in the measuring half must still keep the promise, or more than one calibration in 20 would fail by chance."""


def records_needed(false_alarm: float, confidence: float) -> int:
    """How many human records a calibration takes in each of its two halves.

    Args:
        false_alarm: Largest rate of hits among human records, above 0 and below 1.
        confidence: Of the two-sided interval around the measured rate, above 0 and below 1.

    Returns:
        So many that a few false hits among them still keep the promise.

    Raises:
        ConfigError: An argument out of its range.

    Examples:
        >>> from studbook.theory.thresholds import records_needed
        >>> records_needed(0.05, 0.95), records_needed(0.01, 0.95)
        (202, 1022)
    """
    check_confidence(confidence)
    return trials_for_bound(false_alarm, 1.0 - (1.0 - confidence) / 2.0, SPARE_HITS)


def require_records(n: int, false_alarm: float, confidence: float, what: str) -> None:
    """Refuse to calibrate on too few human records; ``n`` is the number in both halves together.

    Raises:
        CalibrationError: Too few; the message says how many are needed.
    """
    _check_rate(false_alarm)
    needed = 2 * records_needed(false_alarm, confidence)
    if n < needed:
        message = f"{n:,} human {what} can't bound the false alarms by {false_alarm:g} with confidence {confidence:g}"
        raise CalibrationError(message, hint=f"{needed - n:,} more are needed ({needed:,} in all), or a larger false-alarm rate")


def choose_threshold(scores: ArrayLike, n_measured: int, false_alarm: float, confidence: float) -> float:
    """The lowest threshold that other human records will very likely bear out.

    When the threshold is the (e + 1)-th largest of m scores, the number of n further scores above it is beta-binomial with parameters
    e + 1 and m − e, whatever the scores' distribution (fewer where scores tie). The largest e is taken for which the measurement on those
    n keeps the promise with probability ``confidence``; the largest score of all where none does.

    Args:
        scores: ``(m,)`` one for each human record; not-a-number counts as lower than any other.
        n_measured: Human records that the rate will be measured on.
        false_alarm: What is promised: the upper end of the measured rate's interval, above 0 and below 1.
        confidence: Of that interval, and of keeping the promise.

    Returns:
        The threshold: scores from it on are hits.

    Raises:
        CalibrationError: There are no scores, or none is a number.

    References:
        S. S. Wilks, "Statistical prediction with special reference to the problem of tolerance limits", Annals of Mathematical Statistics
        13 (1942).

    Examples:
        >>> from studbook.theory.thresholds import choose_threshold
        >>> scores = range(1000)
        >>> threshold = choose_threshold(scores, 1000, 0.05, 0.95)
        >>> sum(score >= threshold for score in scores)
        23
    """
    from scipy.stats import betabinom

    check_confidence(confidence)
    values = np.asarray(scores, dtype=np.float64)
    values = np.sort(values[~np.isnan(values)])[::-1]
    if not len(values) or not math.isfinite(values[0]):
        raise CalibrationError("no human record has a score", hint="the detector can't tell anything of these records")
    m = np.size(scores)
    spared = np.arange(min(m, len(values)))
    risks = betabinom.sf(_most_hits(n_measured, false_alarm, confidence), n_measured, spared + 1, m - spared)
    # Risks grow with the scores that are spared.
    e = max(int((risks <= 1.0 - confidence).sum()) - 1, 0)
    return float(np.nextafter(values[e], np.inf))


def _most_hits(n: int, false_alarm: float, confidence: float) -> int:
    """The most hits among ``n`` records that keep the promise; −1 where not even none does."""
    hits = -1
    while hits < n and clopper_pearson(hits + 1, n, confidence)[1] <= false_alarm:
        hits += 1
    return hits


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


def _check_rate(false_alarm: float) -> None:
    if not 0.0 < false_alarm < 1.0:
        raise ConfigError(f"false_alarm is {false_alarm}, expected above 0 and below 1", hint="for example 0.01")
