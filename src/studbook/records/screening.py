"""What a screen finds of a record, and how often a way of finding errs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from studbook.errors import RecordError
from studbook.records.calibration import Rate
from studbook.records.canonical import digest_of
from studbook.records.claim import require_sha, require_time
from studbook.records.codec import STRICT, to_plain
from studbook.records.digest import Setting
from studbook.records.entry import Kind, Origin

EvidenceKind: TypeAlias = Literal["signature", "register", "watermark", "detector"]

STRENGTH: tuple[EvidenceKind, ...] = ("signature", "register", "watermark", "detector")
"""Kinds of evidence, the strongest first; a weaker one never overrules a stronger."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one witness says of one record.

    Attributes:
        evidence: What kind of evidence it is.
        witness: Which one: ``"c2pa"``, ``"register"``, ``"kgw"``, …
        origin: What it says of the record's origin.
        reason: Why, in one sentence for people.
        p_value: How often as much is found where it isn't so, 0 … 1; ``None`` where there is no such number.
        source: Who is meant: the model, the signer, the key.
        reference: What it rests on: a content in the register, a manifest, a calibration, by digest.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    evidence: EvidenceKind
    witness: str
    origin: Origin
    reason: str
    p_value: float | None = None
    source: str = ""
    reference: str = ""

    def __post_init__(self) -> None:
        if self.p_value is not None and not 0.0 <= self.p_value <= 1.0:
            raise RecordError(f"a finding's p-value is {self.p_value}, expected 0 to 1")


@dataclass(frozen=True, slots=True)
class DetectorCalibration:
    """How often a detector, a watermark's test or a look-up errs, from held-out records whose origin is known.

    Attributes:
        detector: Name of the detector.
        kind: What it reads.
        parameters: What determines its outcome beside the record, sorted by name.
        threshold: Score from which on a record is a hit.
        false_alarm: What was promised of the rate of hits among human records.
        confidence: Of every interval in here.
        hits: True positive rate: hits among generated records as they were made.
        false_hits: False positive rate: hits among human records.
        attacked: True positive rates after changes (``"jpeg 50"``, ``"20 % of words"``), by name.
        generated: Digest of the generated records' contents.
        human: Digest of the human records' contents.
        seed: That everything was drawn from.
        code: That made it.
        made: When, in UTC.
    """

    SCHEMA: ClassVar[str] = "studbook.detector-calibration/1"
    MAX_BYTES: ClassVar[int] = 1 << 20
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    detector: str
    kind: Kind
    parameters: tuple[tuple[str, Setting], ...]
    threshold: float
    false_alarm: float
    confidence: float
    hits: Rate
    false_hits: Rate
    attacked: tuple[Rate, ...]
    generated: str
    human: str
    seed: int
    code: str
    made: str

    def __post_init__(self) -> None:
        require_sha(self.generated, "calibration.generated")
        require_sha(self.human, "calibration.human")
        require_time(self.made, "calibration.made")
        if not math.isfinite(self.threshold) or not (0 < self.false_alarm < 1 and 0 < self.confidence < 1):
            raise RecordError(
                f"a calibration has a threshold of {self.threshold}, a false-alarm rate of {self.false_alarm}, confidence {self.confidence}"
            )
        if list(self.parameters) != sorted(self.parameters, key=lambda each: each[0]):
            raise RecordError("a calibration's parameters aren't sorted by name")

    @property
    def id(self) -> str:
        """Digest of the calibration."""
        return digest_of(to_plain(self))


@dataclass(frozen=True, slots=True)
class OriginCount:
    """Records of one origin, by the strongest evidence for it.

    Attributes:
        origin: Generated, human or unknown.
        evidence: Kind of evidence, or ``"none"``.
        records: How many.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    origin: Origin
    evidence: str
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenReceipt:
    """What a screen was given, how it decided, and what came out; signed, it is what a training set can point to.

    Attributes:
        inputs: SHA-256 of ``inputs.jsonl``: the corpus's files with their sizes and sums.
        outputs: SHA-256 of ``outputs.jsonl``: the written files with their sums.
        settings: How it was decided: canonical JSON of the witnesses, what is rejected, and the limits.
        read: Records that were read.
        kept: Of these kept.
        rejected: Of these rejected.
        skipped: What wasn't read, with its reason in ``skipped/``.
        counts: Records by origin and evidence.
        code: That made it.
        made: When, in UTC.
    """

    SCHEMA: ClassVar[str] = "studbook.screen-receipt/1"
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    inputs: str
    outputs: str
    settings: str
    read: int
    kept: int
    rejected: int
    skipped: int
    counts: tuple[OriginCount, ...]
    code: str
    made: str

    def __post_init__(self) -> None:
        require_sha(self.inputs, "receipt.inputs")
        require_sha(self.outputs, "receipt.outputs")
        require_time(self.made, "receipt.made")
        if self.kept + self.rejected != self.read or self.read != sum(each.records for each in self.counts):
            raise RecordError(f"a screen's receipt counts {self.kept} kept and {self.rejected} rejected of {self.read} records")
