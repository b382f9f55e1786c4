"""The vote: k of n expected voters decide; a missing ballot counts for nobody, and a ballot that doesn't belong is an error.

What is voted on is a signed record with a task: a claim of an output, or a node's commitment to its training.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from studbook.errors import BallotError, ConfigError, RecordError, SchemaVersionError, SignatureError
from studbook.provenance import PublicKey, Signed, SigningKey, open_signed, payload_schema, sign
from studbook.records import FINDINGS, Ballot, Claim, Outcome, Receipt, Tally, TrainingCommitment, Verdict
from studbook.records.canonical import canonical_bytes, digest_of


class Voted(Protocol):
    """A record that a quorum votes on."""

    @property
    def task(self) -> str: ...


VotedT = TypeVar("VotedT", bound=Voted)


def new_round() -> str:
    """128 random bits in hex: one round of votes."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Quorum:
    """Who votes, and how many votes decide.

    Attributes:
        k: Votes that decide, more than half of the voters.
        voters: Keys of the expected voters.

    Raises:
        ConfigError: No voters, one of them twice, or a ``k`` that both sides could reach.

    Examples:
        >>> from studbook.provenance import SigningKey
        >>> from studbook.verification.quorum import Quorum
        >>> keys = [SigningKey.generate() for _ in range(3)]
        >>> Quorum(2, tuple(key.public for key in keys)).n
        3
    """

    k: int
    voters: tuple[PublicKey, ...]

    def __post_init__(self) -> None:
        if not self.voters or len(set(self.voters)) < len(self.voters):
            raise ConfigError(
                f"a quorum has {len(self.voters)} voters, {len(set(self.voters))} of them different", hint="name each voter once"
            )
        if not self.n / 2 < self.k <= self.n:
            message = f"a quorum of {self.k} of {self.n} voters can't decide"
            raise ConfigError(message, hint=f"more than half and not more than all: {self.n // 2 + 1} to {self.n}")

    @property
    def n(self) -> int:
        """Expected voters."""
        return len(self.voters)

    @property
    def electorate(self) -> str:
        """Digest of voters and ``k``: a ballot says in which company it was cast, so that nobody can leave others out."""
        return digest_of({"k": self.k, "voters": sorted(map(str, self.voters))})

    def judge(self, claim: Signed[VotedT], ballots: Sequence[bytes], *, round_: str) -> Verdict:
        """Count signed ballots.

        Args:
            claim: What is voted on, its signature checked.
            ballots: Signed ballots, at most one of each expected voter.
            round_: The round that they were cast in.

        Raises:
            BallotError: One is from a stranger, unsigned or changed, cast twice, or for another claim, claimant, task, round or electorate.
        """
        opened = [self.open_ballot(claim, data, round_=round_) for data in ballots]
        seen: set[PublicKey] = set()
        for each in opened:
            if each.key in seen:
                raise BallotError(f"{each.key} voted twice", hint="each voter has one vote")
            seen.add(each.key)
        votes = [each.record for each in opened]
        accepts = sum(ballot.accepts for ballot in votes)
        rejects = len(votes) - accepts
        outcome = Outcome.ACCEPT if accepts >= self.k else Outcome.REJECT if rejects >= self.k else Outcome.INCONCLUSIVE
        return Verdict(
            outcome=outcome, claim=claim.id, round=round_, k=self.k, n=self.n, accepts=accepts, rejects=rejects,
            missing=self.n - len(votes), findings=_tallies(votes),
        )  # fmt: skip

    def open_ballot(self, claim: Signed[VotedT], data: bytes, *, round_: str) -> Signed[Ballot]:
        """A signed ballot, once it belongs here.

        Raises:
            BallotError: It doesn't; the message says why.
        """
        try:
            signed = open_signed(data, Ballot, "a ballot", keys=self.voters)
        except (SignatureError, RecordError, SchemaVersionError) as error:
            raise BallotError(f"a ballot doesn't count: {error.message}", hint=error.hint) from error
        ballot = signed.record
        expected_parts = {
            "claim": claim.id, "claimant": str(claim.key), "task": claim.record.task, "round": round_, "electorate": self.electorate,
        }  # fmt: skip
        for what, expected in expected_parts.items():
            got = getattr(ballot, what)
            if got != expected:
                raise BallotError(
                    f"the ballot of {signed.key} is for the {what} {got[:20]}…, expected {expected[:20]}…", hint="it counts for nobody"
                )
        return signed


def _tallies(votes: Sequence[Ballot]) -> tuple[Tally, ...]:
    found = []
    for name in FINDINGS:
        says = [ballot.finding(name) for ballot in votes]
        broken = sorted({check.name for ballot in votes for check in ballot.checks if check.finding == name and not check.passes})
        found.append(Tally(name, says.count(True), says.count(False), says.count(None), tuple(broken)))
    return tuple(found)


def seal_ballot(ballot: bytes, salt: str, voter: PublicKey) -> str:
    """The commitment (SHA-256, hex) to a signed ballot, bound to its voter: nobody can copy it as their own."""
    body = {"ballot": hashlib.sha256(ballot).hexdigest(), "salt": salt, "voter": str(voter)}
    return hashlib.sha256(canonical_bytes({"schema": "studbook.sealed/1", **body})).hexdigest()


@dataclass(frozen=True, slots=True)
class Revealed:
    """A ballot with the salt that it was sealed with."""

    ballot: bytes
    salt: str


def unseal(seals: Mapping[PublicKey, str], revealed: Mapping[PublicKey, Revealed]) -> list[bytes]:
    """The ballots that were revealed, each checked against its seal.

    All seals are in before the first ballot is revealed, so that nobody can vote by copying.

    Args:
        seals: By voter; a voter without one has no vote.
        revealed: By voter.

    Raises:
        BallotError: A ballot that wasn't sealed, or isn't what was sealed; or two voters with the same seal.
    """
    if len(set(seals.values())) < len(seals):
        raise BallotError("two voters sent the same seal", hint="one of them copied it: neither counts")
    ballots = []
    for voter, each in revealed.items():
        if voter not in seals:
            raise BallotError(f"{voter} revealed a ballot that it hadn't sealed", hint="it counts for nobody")
        if seal_ballot(each.ballot, each.salt, voter) != seals[voter]:
            raise BallotError(f"{voter} revealed another ballot than it had sealed", hint="it counts for nobody")
        try:
            open_signed(each.ballot, Ballot, "the ballot", keys=[voter])
        except (SignatureError, RecordError, SchemaVersionError) as error:
            raise BallotError(f"{voter} revealed a ballot that isn't its own: {error.message}", hint="it counts for nobody") from error
        ballots.append(each.ballot)
    return ballots


def make_receipt(
    signed_claim: bytes, ballots: Sequence[bytes], quorum: Quorum, round_: str, key: SigningKey, *, notes: Sequence[str] = (), made: str
) -> bytes:
    """Judge, and sign the verdict with all that it rests on. The claim may be a commitment to training, too.

    Raises:
        BallotError: See ``Quorum.judge``.
        SignatureError: The claim was changed.
    """
    training = payload_schema(signed_claim, "the claim") == TrainingCommitment.SCHEMA
    cls: type[Any] = TrainingCommitment if training else Claim
    claim = open_signed(signed_claim, cls, "the claim")
    verdict = quorum.judge(claim, ballots, round_=round_)
    receipt = Receipt(
        claim=signed_claim.decode(), ballots=tuple(each.decode() for each in ballots), voters=tuple(map(str, quorum.voters)), round=round_,
        k=quorum.k, verdict=verdict, notes=tuple(notes), made=made,
    )  # fmt: skip
    return sign(receipt, key)


def check_receipt(
    data: bytes, what: str = "the receipt", *, coordinators: Collection[PublicKey] | None = None, quorum: Quorum | None = None
) -> tuple[Signed[Receipt], Signed[Claim]]:
    """Judge again from the signed ballots in a receipt; needs no model and no network.

    Args:
        data: The receipt.
        what: What it should be called in messages.
        coordinators: Who may have signed it; ``None``: anybody, and who it was is for the reader to look at.
        quorum: The expected voters and the number that decides; ``None``: those that the receipt names.

    Raises:
        RecordError: Not a receipt, or one whose verdict isn't what its ballots say.
        SignatureError: Changed after it was signed.
        BallotError: A ballot in it doesn't count.
    """
    return check_receipt_of(Claim, data, what, coordinators=coordinators, quorum=quorum)


def check_receipt_of(
    cls: type[VotedT],
    data: bytes,
    what: str = "the receipt",
    *,
    coordinators: Collection[PublicKey] | None = None,
    quorum: Quorum | None = None,
) -> tuple[Signed[Receipt], Signed[VotedT]]:
    """``check_receipt`` for another kind of record that was voted on.

    Raises:
        RecordError: See ``check_receipt``; also where something of another kind was voted on.
        SignatureError: Changed after it was signed.
        BallotError: A ballot in it doesn't count.
    """
    signed = open_signed(data, Receipt, what, keys=coordinators)
    receipt = signed.record
    claim = open_signed(receipt.claim.encode(), cls, f"the claim in {what}")
    named = Quorum(receipt.k, tuple(PublicKey(voter) for voter in receipt.voters))
    if quorum is not None and quorum.electorate != named.electorate:
        raise RecordError(f"{what} is of another quorum than the expected one", hint="reject it, or look at whose votes it counts")
    quorum = named
    again = quorum.judge(claim, [ballot.encode() for ballot in receipt.ballots], round_=receipt.round)
    if again != receipt.verdict:
        raise RecordError(f"{what} says {receipt.verdict.outcome}, its ballots say {again.outcome}", hint="reject it")
    return signed, claim
