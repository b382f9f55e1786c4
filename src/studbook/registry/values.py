"""What the register answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from studbook.errors import RegisterError
from studbook.records import DetectorCalibration, Entry
from studbook.records.codec import STRICT

Relation: TypeAlias = Literal["generated-by", "derived-from", "trained-on"]
RELATIONS: tuple[Relation, ...] = ("generated-by", "derived-from", "trained-on")
MAX_NODE = 512
"""Most characters of a name in the lineage."""


@dataclass(frozen=True, slots=True)
class Added:
    """What became of entries that were added; all of them are in the register, on the disk.

    Attributes:
        new: Entries that weren't there.
        known: Entries that were, in the register or earlier among those added.
    """

    new: int
    known: int

    def __add__(self, other: Added) -> Added:
        return Added(self.new + other.new, self.known + other.known)


@dataclass(frozen=True, slots=True)
class Match:
    """An entry that is the output asked about, or near it.

    Attributes:
        entry: The entry, without its fingerprints; ``Register.get`` gives it whole.
        how: ``"exact"`` for the same bytes, ``"near"`` for a fingerprint within its limit.
        scheme: The fingerprint; ``"sha256"`` for an exact match.
        distance: By the fingerprint's measure: bits that differ, or for ``minhash`` 1 less the estimated share of shingles in common.
        limit: Largest distance that counts as near.
    """

    entry: Entry
    how: Literal["exact", "near"]
    scheme: str
    distance: float
    limit: float


@dataclass(frozen=True, slots=True)
class FalseMatches:
    """How often an output that has nothing to do with any of those registered is near one all the same.

    Attributes:
        events: Unrelated outputs that were near one.
        trials: Unrelated outputs that were looked up.
        registered: Outputs among which they were. Among n times as many, at least as many are near one, and at most n times as many.
    """

    events: int
    trials: int
    registered: int


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest distance that counts as near.

    Attributes:
        scheme: The fingerprint's name.
        value: The distance, by the fingerprint's measure.
        basis: What it rests on, in words.
        calibration: The calibration that it comes from, or ``None`` for the default, or a stated number.
        false_matches: How often it errs; ``None`` where nobody measured that.
    """

    scheme: str
    value: float
    basis: str
    calibration: DetectorCalibration | None = None
    false_matches: FalseMatches | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """One step of descent.

    Attributes:
        child: What came of it: a content, a model, by digest or name.
        parent: What it came from.
        relation: How: ``"generated-by"`` a model, ``"derived-from"`` another output, ``"trained-on"`` data.
    """

    SCHEMA: ClassVar[str] = "studbook.edge/1"
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    child: str
    parent: str
    relation: Relation

    def __post_init__(self) -> None:
        for name in (self.child, self.parent):
            if not isinstance(name, str) or not 0 < len(name) <= MAX_NODE or not name.isprintable():
                expected = f"a digest, or up to {MAX_NODE} printable characters"
                raise RegisterError(f"a node of the lineage is {str(name)[:80]!r}, expected {expected}")
        if self.relation not in RELATIONS:
            raise RegisterError(f"a relation is {str(self.relation)[:80]!r}, expected {', '.join(RELATIONS)}")


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where something comes from, and what came of it.

    Attributes:
        id: The content, model or data set asked about.
        ancestors: Steps back, nearest first.
        descendants: Steps forward, nearest first.
        complete: Whether these are all; what has more than 10,000 steps is cut off.
    """

    id: str
    ancestors: tuple[Edge, ...]
    descendants: tuple[Edge, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """How much there is.

    Attributes:
        location: Where the register is, without a password.
        id: The register's own random name.
        version: Of its tables.
        entries: Entries.
        by_origin: Entries by kind and origin, ``"text, generated"``.
        by_model: Entries of the twenty models with most.
        fingerprints: Fingerprints by scheme.
        edges: Explicit steps of descent.
        claims: Signed claims.
        verdicts: Signed receipts.
        manifests: Content credentials.
    """

    location: str
    id: str
    version: str
    entries: int
    by_origin: tuple[tuple[str, int], ...]
    by_model: tuple[tuple[str, int], ...]
    fingerprints: tuple[tuple[str, int], ...]
    edges: int
    claims: int
    verdicts: int
    manifests: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a register that isn't as it should be.

    Attributes:
        part: Which part: ``"database"``, ``"entries"``, ``"fingerprints"``, ``"index"``, ``"lineage"``, ``"claims"``, ``"verdicts"``,
            ``"manifests"``, ``"limits"``.
        subject: Which record.
        text: What is wrong, in one sentence.
    """

    part: str
    subject: str
    text: str
