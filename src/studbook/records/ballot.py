"""What one verifier measured on one claim."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from studbook.errors import RecordError
from studbook.records.canonical import digest_of
from studbook.records.claim import require_sha
from studbook.records.codec import STRICT, to_plain

FindingName: TypeAlias = Literal["identity", "execution", "behaviour"]
FINDINGS: tuple[FindingName, ...] = ("identity", "execution", "behaviour")
_HEX32 = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[a-z][a-z0-9_. -]{0,63}")


@dataclass(frozen=True, slots=True)
class Check:
    """One measured number beside its limit.

    Attributes:
        finding: What it bears on: ``identity`` (are these the model's weights?), ``execution`` (was this request run as stated?) or
            ``behaviour`` (is the output what the model gives?).
        name: What was measured, for example ``"phash distance in bits"``.
        value: The measured number, 0 or more; the larger, the further from an honest run.
        limit: The largest that is honest at the calibrated false-alarm rate.
        n: Tokens, bits or steps that it rests on, 1 or more.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    finding: FindingName
    name: str
    value: float
    limit: float
    n: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and math.isfinite(self.limit) and self.value >= 0 and self.n >= 1):
            raise RecordError(f"a check measured {self.value} of {self.n} against {self.limit}, expected finite numbers and 1 or more")
        if not _NAME.fullmatch(self.name):
            raise RecordError(f"a check is named {self.name[:80]!r}, expected a short lower-case name")

    @property
    def passes(self) -> bool:
        """Whether the measured number is within its limit."""
        return self.value <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """A verifier's measurements on one claim, in one round of votes. What they mean is derived, never stated.

    Attributes:
        claim: The claim's ``id``.
        claimant: Public key of whoever signed it: nobody else inherits its votes.
        task: The recipe's ``task``.
        round: 128 random bits in hex that the round's coordinator drew: a ballot counts in no other round.
        electorate: Digest of who votes and how many votes decide (``Quorum.electorate``): a ballot counts in no other company. Empty for
            an examination that isn't a vote.
        calibration: Digest of the calibration that the limits are from.
        checks: One or more for each finding that was looked at, execution among them.

    Raises:
        RecordError: Nothing was measured.
    """

    SCHEMA: ClassVar[str] = "studbook.ballot/1"
    MAX_BYTES: ClassVar[int] = 64 << 10
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    claim: str
    claimant: str
    task: str
    round: str
    electorate: str
    calibration: str
    checks: tuple[Check, ...]

    def __post_init__(self) -> None:
        for name in ("claim", "task", "calibration", *(["electorate"] if self.electorate else [])):
            require_sha(getattr(self, name), f"ballot.{name}")
        if not 1 <= len(self.claimant) <= 100:
            raise RecordError(f"ballot.claimant is {self.claimant[:80]!r}, expected a public key")
        if not _HEX32.fullmatch(self.round):
            raise RecordError(f"ballot.round is {self.round[:80]!r}, expected 32 hex digits")
        if not any(check.finding == "execution" for check in self.checks):
            raise RecordError("a ballot measures nothing of the execution", hint="an empty ballot counts for nobody")
        if len(self.checks) > 64 or len({(check.finding, check.name) for check in self.checks}) < len(self.checks):
            raise RecordError("a ballot has more than 64 checks, or one of them twice")

    def finding(self, name: FindingName) -> bool | None:
        """Whether all checks of a finding pass; ``None`` where none was made."""
        made = [check.passes for check in self.checks if check.finding == name]
        return all(made) if made else None

    @property
    def accepts(self) -> bool:
        """Whether every check passes."""
        return all(check.passes for check in self.checks)

    @property
    def id(self) -> str:
        """Digest of the ballot itself."""
        return digest_of(to_plain(self))
