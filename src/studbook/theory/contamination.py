"""How much of a corpus was generated, from the hits of a test that errs; and how much gets through a screen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from studbook.errors import CalibrationError, ConfigError
from studbook.theory.error_rates import check_confidence, clopper_pearson
from studbook.theory.melding import corpus_draws, ends, lattice, rate_draws

About: TypeAlias = Literal["corpus", "source"]


@dataclass(frozen=True, slots=True)
class HitRates:
    """How often a test hits, counted on records whose origin is known.

    Attributes:
        hits: Generated records that it hit.
        generated: Generated records.
        false_hits: Human records that it hit.
        human: Human records.

    Raises:
        ConfigError: No records of a class, or more hits than records.
    """

    hits: float
    generated: float
    false_hits: float
    human: float

    def __post_init__(self) -> None:
        for events, units, name in ((self.hits, self.generated, "generated"), (self.false_hits, self.human, "human")):
            if not (0.0 <= events <= units < math.inf and units >= 1.0):
                raise ConfigError(f"a calibration has {events} hits among {units} {name} records", hint="calibrate on both classes")

    @property
    def tpr(self) -> float:
        """Hits a generated record."""
        return self.hits / self.generated

    @property
    def fpr(self) -> float:
        """Hits a human record."""
        return self.false_hits / self.human

    def is_informative(self, confidence: float = 0.95) -> bool:
        """Whether it hits generated records oftener than human ones, as far as its calibration can tell."""
        lowest = clopper_pearson(self.hits, self.generated, confidence)[0]
        return lowest > clopper_pearson(self.false_hits, self.human, confidence)[1]

    def require_informative(self, name: str, confidence: float = 0.95) -> None:
        """Refuse a test that hits generated records no oftener than human ones, as far as its calibration can tell.

        Raises:
            CalibrationError: The interval of one rate reaches that of the other.
        """
        if not self.is_informative(confidence):
            raise CalibrationError(
                f"{name} hits {self.tpr:.3g} of generated and {self.fpr:.3g} of human records, which its {self.generated:.0f} and "
                f"{self.human:.0f} calibration records can't tell apart: its hits say nothing of a corpus",
                hint="calibrate it on more records, or take another detector",
            )


@dataclass(frozen=True, slots=True)
class ShareInterval:
    """A share of generated records, with its interval.

    Attributes:
        share: The estimate, 0 … 1.
        lower: Lower end.
        upper: Upper end.
        confidence: Of the interval.
    """

    share: float
    lower: float
    upper: float
    confidence: float

    @property
    def half_width(self) -> float:
        """Half of the distance between the ends."""
        return (self.upper - self.lower) / 2.0


def residual_share(share: float, tpr: float, fpr: float) -> float:
    """Share of generated records among those that a screen lets through: π(1 − TPR) / [π(1 − TPR) + (1 − π)(1 − FPR)].

    Args:
        share: π, generated records in front of the screen, 0 … 1.
        tpr: Share of them that it stops, 0 … 1.
        fpr: Share of human ones that it stops, 0 … 1.

    Returns:
        0 … 1; 0 where nothing gets through.

    Raises:
        ConfigError: A share out of its range.

    Examples:
        >>> from studbook.theory import residual_share
        >>> round(residual_share(0.9, 0.95, 0.01), 3)
        0.313
    """
    for name, value in (("share", share), ("tpr", tpr), ("fpr", fpr)):
        _check_share(name, value)
    generated, human = share * (1.0 - tpr), (1.0 - share) * (1.0 - fpr)
    return generated / (generated + human) if generated + human > 0.0 else 0.0


def rogan_gladen(rate: float, tpr: float, fpr: float) -> float:
    """The share of generated records that explains a rate of hits: (rate − FPR) / (TPR − FPR), cut off at 0 and 1.

    Args:
        rate: Hits a record, 0 … 1.
        tpr: Hits a generated record.
        fpr: Hits a human record, below ``tpr``.

    Raises:
        ConfigError: A rate out of its range, or a test that is no better than chance.

    References:
        W. J. Rogan, B. Gladen, "Estimating prevalence from the results of a screening test", American Journal of Epidemiology 107 (1978).

    Examples:
        >>> from studbook.theory import rogan_gladen
        >>> round(rogan_gladen(0.0575, 0.8, 0.05), 4)
        0.01
    """
    for name, value in (("rate", rate), ("tpr", tpr), ("fpr", fpr)):
        _check_share(name, value)
    if tpr <= fpr:
        raise ConfigError(f"tpr is {tpr} and fpr {fpr}: such a test says nothing", hint="take one with a tpr above its fpr")
    return min(1.0, max(0.0, (rate - fpr) / (tpr - fpr)))


def generated_share(hits: int, records: int, rates: HitRates, confidence: float, *, about: About) -> ShareInterval:
    """Share of generated records from a test's hits, with an interval that carries the uncertainty of its calibration.

    Three rates are uncertain: of hits in the corpus, among generated and among human calibration records. Each has a confidence
    distribution (mid-p: half of Clopper and Pearson's lower ends, half of the upper); (rate − FPR)/(TPR − FPR) of independent draws has
    the interval's ends as quantiles, drawn on a fixed lattice. About a given corpus, false hits and misses are drawn instead of a rate of
    hits. A draw with TPR ≤ FPR leaves the share open and counts against both ends.

    In simulation 95 % cover in 93 to 97 % of cases where the share isn't at an end. At 0 and 1 only one end can fail: 97.5 %. Where a
    calibration expects less than about five errors (a FPR of .001 on 200 records) no interval can do better than jump, and this one errs on
    the safe side, 97 to 100 %.

    Args:
        hits: Records that the test hit, 0 to ``records``.
        records: Records that it looked at, 1 or more.
        rates: Its calibration.
        confidence: Above 0 and below 1.
        about: ``"corpus"``: the share of these very records; ``"source"``: of what they are an independent sample of, three binomials.

    Raises:
        ConfigError: Numbers that no corpus can give.
        CalibrationError: The test says nothing.

    Assumes:
        The calibration's records are like the corpus's: a detector met with other domains, languages or models has other rates.

    References:
        Rogan and Gladen (1978); M. P. Fay, M. A. Proschan, E. Brittain, "Combining one-sample confidence procedures for inference in the
        two-sample case", Biometrics 71 (2015), the melding; Z. Lang, J. Reiczigel, Preventive Veterinary Medicine 113 (2014), which it was
        compared with.

    Examples:
        >>> from studbook.theory import HitRates, generated_share
        >>> for m in (500, 10_000):
        ...     found = generated_share(57_500, 1_000_000, HitRates(0.8 * m, m, 0.05 * m, m), 0.95, about="corpus")
        ...     print(round(found.share, 3), round(found.lower, 3), round(found.upper, 3))
        0.01 0.0 0.032
        0.01 0.004 0.015
    """
    check_confidence(confidence)
    if about not in ("corpus", "source"):
        raise ConfigError(f"about is {about!r}, expected 'corpus' or 'source'")
    if not 0 <= hits <= records or records < 1:
        raise ConfigError(f"{hits} hits among {records} records, expected 0 to as many hits as records")
    rates.require_informative("the test")
    cube = lattice(4 if about == "corpus" else 3)
    tpr, fpr = rate_draws(rates.hits, rates.generated, cube[:, 0]), rate_draws(rates.false_hits, rates.human, cube[:, 1])
    told = tpr > fpr
    if about == "corpus":
        drawn = corpus_draws(hits, records, tpr, fpr, cube[:, 2:]).generated / records
    else:
        drawn = (rate_draws(hits, records, cube[:, 2]) - fpr) / np.where(told, tpr - fpr, 1.0)
    lower, upper = ends(np.where(told, drawn, -np.inf), np.where(told, drawn, np.inf), confidence)
    share = rogan_gladen(hits / records, rates.tpr, rates.fpr)
    return ShareInterval(share, min(share, _cut(lower)), max(share, _cut(upper)), confidence)


@dataclass(frozen=True, slots=True)
class Precision:
    """Where the width of an interval comes from, by the delta method.

    Attributes:
        half_width: In all.
        corpus: Half-width if the rates were known.
        generated: Half-width if all but the rate among generated records were known.
        human: Half-width if all but the rate among human records were known.
    """

    half_width: float
    corpus: float
    generated: float
    human: float

    @property
    def limit(self) -> Literal["corpus", "generated", "human"]:
        """What contributes most: the corpus, or one class of the calibration."""
        parts: dict[Literal["corpus", "generated", "human"], float] = {
            "corpus": self.corpus, "generated": self.generated, "human": self.human
        }  # fmt: skip
        return max(parts, key=lambda name: parts[name])


def precision(share: float, records: int, rates: HitRates, confidence: float, *, about: About) -> Precision:
    """What limits the precision of ``generated_share``: mostly the calibration, not the corpus.

    Args:
        share: Of generated records, 0 … 1.
        records: In the corpus, 1 or more.
        rates: The calibration.
        confidence: Above 0 and below 1.
        about: See there.

    Examples:
        >>> from studbook.theory import HitRates, precision
        >>> found = precision(0.01, 1_000_000, HitRates(400, 500, 25, 500), 0.95, about="corpus")
        >>> round(100 * found.half_width, 2), found.limit, round(100 * found.corpus, 2)
        (2.52, 'human', 0.06)
    """
    from scipy.special import ndtri

    check_confidence(confidence)
    _check_share("share", share)
    told = rates.tpr - rates.fpr
    if told <= 0.0:
        raise CalibrationError("the test hits no more generated records than human ones", hint="take another detector")
    reach = float(ndtri(0.5 + confidence / 2.0)) / told
    generated, human = _variance(rates.hits, rates.generated), _variance(rates.false_hits, rates.human)
    drawn = share * (1.0 - share) * told**2 if about == "source" else 0.0
    corpus = reach * math.sqrt((share * generated + (1.0 - share) * human + drawn) / records)
    by_generated = reach * share * math.sqrt(generated / rates.generated)
    by_human = reach * (1.0 - share) * math.sqrt(human / rates.human)
    return Precision(math.hypot(corpus, by_generated, by_human), corpus, by_generated, by_human)


def calibration_needed(half_width: float, share: float, records: int, rates: HitRates, confidence: float, *, about: About) -> int | None:
    """Calibration records a class until the interval's half-width is at most ``half_width``, if the rates stay what they are.

    Returns:
        How many in all, of each class; ``None`` where the corpus's own part is already wider.

    Raises:
        ConfigError: A half-width that isn't above 0.

    Examples:
        >>> from studbook.theory import HitRates, calibration_needed
        >>> calibration_needed(0.0057, 0.01, 1_000_000, HitRates(400, 500, 25, 500), 0.95, about="corpus")
        9891
    """
    if not half_width > 0.0:
        raise ConfigError(f"half_width is {half_width}, expected above 0", hint="0.005 for half a percentage point")
    now = precision(share, records, rates, confidence, about=about)
    left = half_width**2 - now.corpus**2
    if left <= 0.0:
        return None
    return math.ceil((now.generated**2 * rates.generated + now.human**2 * rates.human) / left)


def _variance(events: float, units: float) -> float:
    """Of one unit, with one event more and one miss more, so that it is never 0."""
    rate = events / units if 0.0 < events < units else (events + 1.0) / (units + 2.0)
    return rate * (1.0 - rate)


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name} is {value}, expected 0 to 1")


def _cut(share: float) -> float:
    return min(1.0, max(0.0, share))
