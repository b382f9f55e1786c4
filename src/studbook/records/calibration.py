"""What honest runs and cheats measure, and the limits that follow, as a record that a verifier loads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from studbook.errors import RecordError
from studbook.records.ballot import FindingName
from studbook.records.canonical import digest_of
from studbook.records.claim import Environment, ImageSampling, TextSampling, require_sha, require_time
from studbook.records.codec import STRICT, to_plain


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something happened among independent units (prompts, pictures), with a Clopper–Pearson interval.

    Attributes:
        name: Of the environment or cheat.
        events: Units that were flagged.
        units: Units.
        lower: Lower end of the interval at the calibration's confidence.
        upper: Its upper end.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    name: str
    events: int
    units: int
    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not (self.units >= 1 and 0 <= self.events <= self.units and 0 <= self.lower <= self.events / self.units <= self.upper <= 1):
            raise RecordError(f"a rate is {self.events} of {self.units}, between {self.lower} and {self.upper}")

    @property
    def rate(self) -> float:
        """Events a unit."""
        return self.events / self.units


@dataclass(frozen=True, slots=True)
class Feature:
    """A measured number, and how honest runs spread.

    Attributes:
        finding: What it bears on.
        name: What was measured.
        centre: Median of honest runs.
        spread: What one unit of score is.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    finding: FindingName
    name: str
    centre: float
    spread: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.centre) and math.isfinite(self.spread) and self.spread > 0):
            raise RecordError(f"a feature's centre and spread are {self.centre} and {self.spread}, expected finite numbers and above 0")

    def score(self, value: float) -> float:
        """How many spreads a value is above the centre; 0 below it."""
        return max(0.0, (value - self.centre) / self.spread)


@dataclass(frozen=True, slots=True)
class Spread:
    """How a measured number was distributed over the units in one setting.

    Attributes:
        setting: The environment or cheat.
        name: What was measured.
        quantiles: At 0, 5, 25, 50, 75, 95 and 100 %.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    setting: str
    name: str
    quantiles: tuple[float, float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Level:
    """The limit for outputs of one size.

    Attributes:
        size: Tokens of a text, 1 for a picture.
        limit: Largest score of an honest output: of all its features the largest.
        features: What is measured.
        honest: How often each honest environment is beyond the limit.
        cheats: How often each cheat is.
        spreads: Distributions of what was measured.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    size: int
    limit: float
    features: tuple[Feature, ...]
    honest: tuple[Rate, ...]
    cheats: tuple[Rate, ...]
    spreads: tuple[Spread, ...]

    def __post_init__(self) -> None:
        if self.size < 1 or not math.isfinite(self.limit) or self.limit < 0:
            raise RecordError(f"a calibration's limit is {self.limit} for size {self.size}, expected finite numbers above 0")
        names = [(feature.finding, feature.name) for feature in self.features]
        if not any(finding == "execution" for finding, _ in names) or len(set(names)) < len(names):
            raise RecordError("a calibration has no feature of the execution, or one of them twice")


@dataclass(frozen=True, slots=True)
class Sequential:
    """A sequential test, token by token, of an honest run against one cheat.

    The logarithm of a token's activation distance is taken to be normal, and neighbouring tokens' evidence is divided by ``inflation``.

    Attributes:
        cheat: The cheat's name.
        honest_mean: Mean logarithm in the honest environment that is furthest from the verifier's.
        cheat_mean: Mean logarithm under the cheat.
        deviation: Standard deviation of both, pooled.
        inflation: Variance of a text's mean over what independent tokens would have, 1 or more.
        error: Of either kind, for each decision.
        honest_wrong: How often honest texts are taken for the cheat.
        cheat_missed: How often the cheat isn't found within a text of the calibration's length.
        median_tokens: Tokens after which half of the cheats are found; 0 where fewer are.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    cheat: str
    honest_mean: float
    cheat_mean: float
    deviation: float
    inflation: float
    error: float
    honest_wrong: Rate
    cheat_missed: Rate
    median_tokens: int

    def __post_init__(self) -> None:
        finite = all(math.isfinite(x) for x in (self.honest_mean, self.cheat_mean, self.deviation, self.inflation))
        if not (finite and self.deviation > 0 and self.inflation >= 1 and 0 < self.error < 0.5):
            raise RecordError(f"a sequential test has deviation {self.deviation}, inflation {self.inflation} and error {self.error}")


@dataclass(frozen=True, slots=True)
class Radius:
    """How far a fingerprint of the same recipe may be, and how often other pictures are nearer: for people who compare fingerprints alone.

    Attributes:
        scheme: Of the fingerprint.
        radius_bits: Largest Hamming distance of an honest run, at the calibration's false-alarm rate.
        same_class: Upper bound on the share of pairs of one class and other seeds that are within the radius, bootstrapped by picture.
        other_class: The same of pairs of other classes.
        pairs: How many pairs were compared.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    scheme: str
    radius_bits: int
    same_class: float
    other_class: float
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Limits of one model's outputs, and what they rest on.

    Attributes:
        kind: Of the outputs.
        model: Digest of the model.
        false_alarm: An honest output, in whichever of the declared environments it does worst, is beyond the limit with at most this
            probability …
        confidence: … with this confidence (Wilks 1941): the statement is about the limit, before the data were seen.
        sampling: How the outputs were drawn; a claim's must be alike, but for the number of tokens.
        requests: Digest of the prompts or classes: the promise holds for claims like these.
        units: Prompts or pictures that the limits rest on.
        scale_units: Further ones that the scales rest on.
        verifier: The verifier's environment.
        environments: The honest ones.
        levels: By size, rising.
        sequential: Tests by token, for texts.
        radii: Of fingerprints, for pictures.
        seed: That everything was drawn from.
        code: That made it.
        made: When, in UTC.
    """

    SCHEMA: ClassVar[str] = "studbook.calibration/1"
    MAX_BYTES: ClassVar[int] = 1 << 20
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    kind: Literal["text", "image"]
    model: str
    false_alarm: float
    confidence: float
    sampling: TextSampling | ImageSampling
    requests: str
    units: int
    scale_units: int
    verifier: Environment
    environments: tuple[Environment, ...]
    levels: tuple[Level, ...]
    sequential: tuple[Sequential, ...]
    radii: tuple[Radius, ...]
    seed: int
    code: str
    made: str

    def __post_init__(self) -> None:
        require_sha(self.model, "calibration.model")
        require_sha(self.requests, "calibration.requests")
        require_time(self.made, "calibration.made")
        if not (0 < self.false_alarm < 1 and 0 < self.confidence < 1):
            raise RecordError(f"a calibration has a false-alarm rate of {self.false_alarm} at a confidence of {self.confidence}")
        sizes = [level.size for level in self.levels]
        if isinstance(self.sampling, TextSampling) != (self.kind == "text"):
            raise RecordError(f"a calibration of {self.kind}s has the sampling of another kind")
        if not sizes or sizes != sorted(set(sizes)):
            raise RecordError("a calibration has no levels, or not in the order of their sizes")

    @property
    def id(self) -> str:
        """Digest of the calibration."""
        return digest_of(to_plain(self))
