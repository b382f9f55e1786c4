"""What a quorum of verifiers says, and the receipt that shows it to others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from studbook.errors import RecordError
from studbook.records.ballot import FindingName
from studbook.records.claim import require_sha, require_time
from studbook.records.codec import STRICT

_HEX32 = re.compile(r"[0-9a-f]{32}")


class Outcome(StrEnum):
    """What became of a claim."""

    ACCEPT = "accept"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Tally:
    """How the ballots stand on one finding.

    Attributes:
        finding: Which.
        passed: Ballots whose checks of it all pass.
        failed: Ballots with one that doesn't.
        unknown: Ballots without a check of it.
        broken: Names of the checks that fail in any ballot.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    finding: FindingName
    passed: int
    failed: int
    unknown: int
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of one round of votes.

    Attributes:
        outcome: Accepted or rejected where ``k`` of the expected voters say so, else inconclusive.
        claim: The claim's ``id``.
        round: The round's random bits, in hex.
        k: Votes that decide.
        n: Expected voters.
        accepts: Ballots that accept.
        rejects: Ballots that reject.
        missing: Expected voters without a ballot; they count for nobody.
        findings: Identity, execution and behaviour, each by itself.
    """

    SCHEMA: ClassVar[str] = "studbook.verdict/1"
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    outcome: Outcome
    claim: str
    round: str
    k: int
    n: int
    accepts: int
    rejects: int
    missing: int
    findings: tuple[Tally, ...]

    def __post_init__(self) -> None:
        require_sha(self.claim, "verdict.claim")
        if self.accepts + self.rejects + self.missing != self.n or min(self.accepts, self.rejects, self.missing) < 0:
            raise RecordError(f"a verdict counts {self.accepts} + {self.rejects} + {self.missing} of {self.n} voters")
        decided = Outcome.ACCEPT if self.accepts >= self.k else Outcome.REJECT if self.rejects >= self.k else Outcome.INCONCLUSIVE
        if self.outcome is not decided or not self.n / 2 < self.k <= self.n:
            raise RecordError(f"a verdict says {self.outcome} with {self.accepts} and {self.rejects} votes, {self.k} of {self.n} decide")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A verdict with all that it rests on, so that a third party can judge again: no model is needed for that.

    Attributes:
        claim: The signed claim, as it was received (JSON).
        ballots: The signed ballots (JSON).
        voters: Public keys of the expected voters.
        round: The round's random bits, in hex.
        k: Votes that decide.
        verdict: What was decided.
        notes: Why ballots are missing, by voter.
        made: When, in UTC.
    """

    SCHEMA: ClassVar[str] = "studbook.receipt/1"
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    claim: str
    ballots: tuple[str, ...]
    voters: tuple[str, ...]
    round: str
    k: int
    verdict: Verdict
    notes: tuple[str, ...]
    made: str

    def __post_init__(self) -> None:
        require_time(self.made, "receipt.made")
        if not _HEX32.fullmatch(self.round):
            raise RecordError(f"receipt.round is {self.round[:80]!r}, expected 32 hex digits")
        if len(self.ballots) > 1024 or len(self.voters) > 1024 or len(self.notes) > 1024:
            raise RecordError("a receipt has more than 1,024 voters")
