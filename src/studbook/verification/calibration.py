"""From what honest runs and cheats measure to limits with error bounds."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studbook.arrays import AnyArray, Floats
from studbook.errors import CalibrationError, ConfigError
from studbook.records import Calibration, Feature, Level, Rate, Sequential, Spread
from studbook.theory.error_rates import clopper_pearson

if TYPE_CHECKING:
    from studbook.verification.measure import Measured, TextTrace

SCALE_SHARE = 0.2
LEAST_SCALE_UNITS = 8
NEVER = 1 << 30
"""Tokens that a test needs which can't tell."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
# No unit of score is smaller than this: honest runs that agree to the last bit must not make a single bit of difference a crime.
_FLOORS = {"disagreement": 0.01, "bits": 0.5, "margin": 0.01, "distance": 1e-3}


@dataclass(frozen=True, slots=True)
class Observation:
    """What was measured on one output.

    Attributes:
        unit: Number of the prompt or picture: what is independent.
        setting: Name of the environment or cheat.
        honest: Whether the environment is one of the honest ones.
        features: What was measured.
    """

    unit: int
    setting: str
    honest: bool
    features: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """What a calibration promises.

    Attributes:
        false_alarm: Largest probability that an honest output is beyond the limit, in (0, 1).
        confidence: That this holds, in (0, 1).

    Raises:
        ConfigError: Out of range.

    Examples:
        >>> from studbook.verification.calibration import Target
        >>> Target(0.01, 0.95).units_needed(), Target(0.05, 0.95).units_needed()
        (299, 59)
    """

    false_alarm: float
    confidence: float

    def __post_init__(self) -> None:
        for name in ("false_alarm", "confidence"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected above 0 and below 1", hint="for example 0.01 and 0.95")

    def units_needed(self) -> int:
        """Honest units without which no limit keeps the promise: the largest of them all must be a tolerance limit (Wilks 1941)."""
        return math.ceil(math.log1p(-self.confidence) / math.log1p(-self.false_alarm))

    def limit(self, scores: Floats) -> float:
        """The smallest of the scores ``(n,)``, one a unit, that keeps the promise.

        A distribution-free tolerance limit: of n scores the (e + 1)-th largest, with the largest e for which at most 1 - confidence of all
        samples would have it below the quantile, P(Binomial(n, false_alarm) ≤ e) ≤ 1 - confidence.

        Raises:
            CalibrationError: There are too few; the message says how many more are needed.
        """
        from scipy.stats import binom

        needed = self.units_needed()
        if len(scores) < needed:
            raise CalibrationError(
                f"{len(scores)} honest units can't bound the false alarms by {self.false_alarm:g} with confidence {self.confidence:g}",
                hint=f"{needed - len(scores)} more are needed, or a larger false-alarm rate",
            )
        ordered = np.sort(scores)[::-1]
        most = int(binom.ppf(1.0 - self.confidence, len(scores), self.false_alarm))
        beyond = max(e for e in range(most + 1) if e == 0 or binom.cdf(e, len(scores), self.false_alarm) <= 1.0 - self.confidence)
        return float(ordered[beyond])


def split_units(n_units: int) -> int:
    """How many of the first units the scales rest on; the limits rest on the others."""
    return max(LEAST_SCALE_UNITS, math.ceil(SCALE_SHARE * n_units))


def total_units(target: Target) -> int:
    """The smallest number of units with which a calibration can keep its promise."""
    n = target.units_needed() + LEAST_SCALE_UNITS
    while n - split_units(n) < target.units_needed():
        n += 1
    return n


def calibrate_level(size: int, observations: Sequence[Observation], target: Target) -> Level:
    """Scales, limit and rates from what was measured on outputs of one size.

    The first units give each feature's centre and spread; of the others, each unit's score is the largest over its features and over the
    honest environments, so that the limit holds in whichever of them is worst.

    Raises:
        CalibrationError: Too few honest units.
    """
    units = sorted({each.unit for each in observations})
    for_scale = set(units[: split_units(len(units))])
    honest = [each for each in observations if each.honest]
    features = _scales([each for each in honest if each.unit in for_scale])
    scored = [(each, score_of(features, each.features)) for each in observations if each.unit not in for_scale]
    worst: dict[int, float] = {}
    for each, score in scored:
        if each.honest:
            worst[each.unit] = max(worst.get(each.unit, 0.0), score)
    limit = target.limit(np.array(list(worst.values())))
    rates = {kind: _rates(scored, limit, target.confidence, honest=kind) for kind in (True, False)}
    return Level(size, limit, features, rates[True], rates[False], _spreads(observations))


def score_of(features: Iterable[Feature], measured: Iterable[Measured]) -> float:
    """The largest score of what was measured."""
    values = {each.name: each.value for each in measured}
    return max(feature.score(values[feature.name]) for feature in features)


def _scales(observations: Sequence[Observation]) -> tuple[Feature, ...]:
    """Centre and spread of each unit's worst honest environment: median, and from there to the nine-tenths quantile."""
    if not observations:
        raise CalibrationError("there are no honest outputs to take the scales from", hint="declare an honest environment")
    units = sorted({each.unit for each in observations})
    found = []
    for place, like in enumerate(observations[0].features):
        worst = np.array([max(each.features[place].value for each in observations if each.unit == unit) for unit in units])
        centre = float(np.median(worst))
        floor = next((size for word, size in _FLOORS.items() if word in like.name), 1e-6)
        found.append(Feature(like.finding, like.name, centre, max(float(np.quantile(worst, 0.9)) - centre, floor)))
    return tuple(found)


def _spreads(observations: Sequence[Observation]) -> tuple[Spread, ...]:
    values: dict[tuple[str, str], list[float]] = {}
    for each in observations:
        for measured in each.features:
            values.setdefault((each.setting, measured.name), []).append(measured.value)
    found = []
    for (setting, name), numbers in values.items():
        least, low, quarter, middle, three, high, most = (float(x) for x in np.quantile(numbers, QUANTILES))
        found.append(Spread(setting, name, (least, low, quarter, middle, three, high, most)))
    return tuple(found)


def _rates(scored: Sequence[tuple[Observation, float]], limit: float, confidence: float, *, honest: bool) -> tuple[Rate, ...]:
    flags: dict[str, list[bool]] = {}
    for each, score in scored:
        if each.honest == honest:
            flags.setdefault(each.setting, []).append(score > limit)
    return tuple(rate_of(name, sum(found), len(found), confidence) for name, found in flags.items())


def rate_of(name: str, events: int, units: int, confidence: float) -> Rate:
    """A rate with its Clopper–Pearson interval."""
    lower, upper = clopper_pearson(events, units, confidence)
    return Rate(name, int(events), int(units), float(lower), float(upper))


def sizes_up_to(largest: int) -> tuple[int, ...]:
    """The sizes that limits are given for: 8, 16, 32, … and the largest."""
    sizes = [8 << i for i in range(20) if 8 << i < largest]
    return (*sizes, largest)


def calibrate_tokens(
    traces: Mapping[str, Sequence[TextTrace]], honest: Sequence[str], *, target: Target, error: float
) -> tuple[Sequential, ...]:
    """A sequential test by activation distance for each cheat, with the error rates that it really has, counted by text.

    Args:
        traces: By environment or cheat, a trace for each of the same texts, all of one length.
        honest: Names of the honest environments.
        target: Its confidence is that of the rates' intervals.
        error: Of either kind, for Wald's limits.
    """
    logs = {name: np.log(np.maximum([trace.distances for trace in each], 1e-4)) for name, each in traces.items()}
    n_scale = split_units(len(next(iter(logs.values()))))
    furthest = max(honest, key=lambda name: float(logs[name][:n_scale].mean()))
    return tuple(_sequential(name, logs[furthest], logs[name], n_scale, (target, error)) for name in logs if name not in honest)


def _sequential(name: str, honest: Floats, cheat: Floats, n_scale: int, how: tuple[Target, float]) -> Sequential:
    target, error = how
    fit_honest, fit_cheat = honest[:n_scale], cheat[:n_scale]
    deviation = max(math.sqrt(0.5 * (float(fit_honest.var()) + float(fit_cheat.var()))), 1e-3)
    inflation = max(_inflation(fit_honest), _inflation(fit_cheat), 1.0)
    test = Sequential(
        name, float(fit_honest.mean()), float(fit_cheat.mean()), deviation, inflation, error, Rate("", 0, 1, 0.0, 1.0),
        Rate("", 0, 1, 0.0, 1.0), 0,
    )  # fmt: skip
    wrong = [decide(test, np.exp(row))[0] == "cheat" for row in honest[n_scale:]]
    found = [decide(test, np.exp(row)) for row in cheat[n_scale:]]
    after = [n for verdict, n in found if verdict == "cheat"]
    missed = len(found) - len(after)
    median = sorted(after)[(len(found) - 1) // 2] if 2 * len(after) > len(found) else 0
    rates = (
        rate_of("honest taken for it", sum(wrong), len(wrong), target.confidence),
        rate_of("missed", missed, len(found), target.confidence),
    )
    return Sequential(name, test.honest_mean, test.cheat_mean, deviation, inflation, error, *rates, median)


def _inflation(logs: Floats) -> float:
    """How much more the mean over a text varies than if its tokens were independent."""
    expected = float(logs.var()) / logs.shape[1]
    return float(logs.mean(axis=1).var(ddof=1)) / expected if expected > 0 and len(logs) > 1 else 1.0


def decide(test: Sequential, distances: AnyArray) -> tuple[str, int]:
    """Wald's test on tokens one after another: ``"honest"``, ``"cheat"`` or ``"undecided"``, and after how many tokens.

    References:
        Wald 1945, "Sequential tests of statistical hypotheses".
    """
    if test.cheat_mean <= test.honest_mean:  # the cheat is nearer than the honest environments: nothing can be told from this
        return "undecided", len(distances)
    total = _evidence(test, distances)
    bound = math.log((1.0 - test.error) / test.error)
    crossed = np.flatnonzero(np.abs(total) >= bound)
    if not len(crossed):
        return "undecided", len(distances)
    at = int(crossed[0])
    return ("cheat" if total[at] > 0 else "honest"), at + 1


def more_tokens(test: Sequential, distances: AnyArray) -> int:
    """How many more tokens an undecided test is expected to need, whichever is true, after what it has seen; 0 where it is decided."""
    verdict, _ = decide(test, distances)
    if verdict != "undecided":
        return 0
    gap = test.cheat_mean - test.honest_mean
    if gap <= 0:
        return NEVER
    drift = 0.5 * gap**2 / test.deviation**2 / test.inflation
    bound = math.log((1.0 - test.error) / test.error)
    return max(1, math.ceil((bound + abs(float(_evidence(test, distances)[-1]))) / drift))


def _evidence(test: Sequential, distances: AnyArray) -> Floats:
    """The logarithm of the likelihood ratio of cheat to honest after each token."""
    logs = np.log(np.maximum(np.asarray(distances, np.float64), 1e-4))
    gap = test.cheat_mean - test.honest_mean
    ratios = gap * (logs - 0.5 * (test.cheat_mean + test.honest_mean)) / test.deviation**2 / test.inflation
    return np.asarray(np.cumsum(ratios))


def level_for(calibration: Calibration, size: int) -> Level:
    """The level of the largest calibrated size that an output has.

    Raises:
        CalibrationError: It is shorter than all of them (the message says how many more tokens are needed), or longer.
    """
    longest = calibration.levels[-1].size
    if calibration.kind == "text" and size > longest:
        message = f"the text has {size} tokens, the calibration ends at {longest}"
        raise CalibrationError(message, hint=f"calibrate longer texts: --max-new {size}")
    fitting = [level for level in calibration.levels if level.size <= size]
    if not fitting:
        least = calibration.levels[0].size
        message = f"the text has {size} tokens, the calibration begins at {least}"
        raise CalibrationError(message, hint=f"{least - size} more are needed for a verdict at this false-alarm rate")
    return fitting[-1]


def now() -> str:
    """The time in UTC, as records have it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
