"""A whole run verified: every node's steps replayed by several verifiers, what nodes took over from each other taken again, and votes.

All nodes' steps of a round are the same ones, drawn by the roster over all commitments and 128 random bits that are drawn after it. So
what a node took over in a drawn step can be made again of its peers' own steps, each of which was replayed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from studbook.errors import ConfigError, EvidenceError, StudbookError
from studbook.protocols.committed_run import CommittedRun
from studbook.protocols.numerics import numerics
from studbook.protocols.protocols import Exchanging, Served
from studbook.protocols.replay import ReplayExamination, ReplayVerifier, bit_for_bit, check_taken_over
from studbook.protocols.retrace import Retraced
from studbook.protocols.values import Parameters, decode, encode, mean
from studbook.provenance import Signed, SigningKey, sign
from studbook.records import Ballot, Check, Contact, Outcome, TrainingCommitment
from studbook.theory.replay import found_false, replays_needed
from studbook.verification.calibration import now
from studbook.verification.quorum import Quorum, make_receipt, new_round

NOT_COMBINED = "contacts that differ from what peers had"


@dataclass(frozen=True, slots=True)
class Draw:
    """How many steps of each node are replayed.

    Attributes:
        replays: So many; ``None``: as many as find the share of false steps with the wanted probability.
        detection: That probability, above 0 and below 1.
        share: That share, above 0 and at most 1.

    Raises:
        ConfigError: Out of range.

    Examples:
        >>> from studbook.protocols.inspection import Draw
        >>> Draw(None, 0.99, 0.05).of(1800), Draw(None, 0.99, 0.05).of(300), round(Draw(90, 0.99, 0.05).detects(1800), 4)
        (88, 78, 0.9912)
    """

    replays: int | None
    detection: float
    share: float

    def __post_init__(self) -> None:
        replays_needed(self.share, self.detection)
        if self.replays is not None and self.replays < 1:
            raise ConfigError(f"{self.replays} steps are replayed, expected 1 or more")

    def of(self, steps: int) -> int:
        """Steps of a run that are replayed; all, where there are no more."""
        return replays_needed(self.share, self.detection, steps) if self.replays is None else min(self.replays, steps)

    def detects(self, steps: int) -> float:
        """Probability that one false step at least is among them: see ``found_false``."""
        return found_false(self.of(steps), math.ceil(self.share * steps - 1e-9), steps)


@dataclass(frozen=True, slots=True)
class Inspected:
    """What became of a node's commitment.

    Attributes:
        node: Which.
        outcome: ``accept``: enough verifiers found all that they looked at to be so, and the commitment covers all that it owes.
            ``reject``: enough found what isn't so. Else ``inconclusive``.
        ballots: Verifiers that could vote.
        covers: Steps that the commitment covers.
        owed: Steps that it had to cover: the run's, or a client's turns.
        replayed: Steps that were drawn.
        taken: Steps that a verifier took again, those on the way from kept states among them.
        confirmed: Contacts in drawn steps that were made again of what the peers had.
        contacts: Contacts in drawn steps.
        detects: Probability to find false steps, were they as many as the draw is made for.
        cpu_s: CPU seconds of one verifier, the mean.
        reason: Why it isn't accepted, or what of it isn't confirmed.
    """

    node: int
    outcome: Outcome
    ballots: int
    covers: int
    owed: int
    replayed: int
    taken: int
    confirmed: int
    contacts: int
    detects: float
    cpu_s: float
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """A round of votes on a run.

    Attributes:
        round: Its 128 random bits in hex.
        nodes: What became of each node's commitment.
        receipts: By node: the signed verdict with the ballots that it rests on. Nodes without a commitment have none.
    """

    round: str
    nodes: Sequence[Inspected]
    receipts: Mapping[int, bytes]

    @property
    def outcome(self) -> Outcome:
        """``reject`` where a node is rejected, ``accept`` where all are accepted; a client that was never drawn owes nothing."""
        found = {each.outcome for each in self.nodes if each.owed}
        if not found:
            return Outcome.INCONCLUSIVE
        return next((each for each in (Outcome.REJECT, Outcome.INCONCLUSIVE) if each in found), Outcome.ACCEPT)


def inspect_run(run: CommittedRun, draw: Draw, voters: Sequence[SigningKey], *, progress: Callable[[], None] | None = None) -> Inspection:
    """Let verifiers replay steps of all nodes, and count their votes. There is no ballot on a node that computed with something else.

    Args:
        run: The run.
        draw: How many steps of each node.
        voters: A key for each verifier; more than half of them decide. The first signs the receipts.
        progress: Is told after every node that a verifier has looked at.

    Raises:
        ConfigError: No verifier, or one twice.
    """
    quorum = Quorum(len(voters) // 2 + 1, tuple(key.public for key in voters))
    opened = [_opened(run, i) for i in range(len(run.nodes))]
    round_ = new_round()  # after the commitments
    looks = []
    for key in voters:
        with TemporaryDirectory(prefix="studbook-replay-") as scratch:
            looks.append(_Verifier(run, opened, draw, round_, quorum.electorate, _Shown(Path(scratch))).look(key, progress))
    nodes, receipts = [], {}
    for i, signed in enumerate(opened):
        several = [each[i] for each in looks]
        found, ballots = _counted(run, draw, i, several), [each.ballot for each in several if each.ballot]
        if isinstance(signed, Signed):
            notes = [found.reason] if found.reason else []
            receipts[i] = make_receipt(signed.data, ballots, quorum, round_, voters[0], notes=notes, made=now())
            outcome = quorum.judge(signed, ballots, round_=round_).outcome
            whole = outcome is not Outcome.ACCEPT or found.covers == found.owed
            found = replace(found, outcome=outcome if whole else Outcome.INCONCLUSIVE)
        nodes.append(found)
    return Inspection(round_, nodes, receipts)


@dataclass(slots=True, eq=False)
class _Look:
    """What one verifier saw of one node."""

    reason: str = ""
    examined: ReplayExamination | None = None
    confirmed: int = 0
    wrong: int = 0
    contacts: int = 0
    cpu_s: float = 0.0
    ballot: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """What nodes came to in drawn steps, on the disk: there may be more of it than memory."""

    folder: Path
    known: set[tuple[int, int]] = field(default_factory=set)

    def put(self, node: int, step: int, value: Parameters) -> None:
        (self.folder / f"{node}-{step}").write_bytes(encode(value))
        self.known.add((node, step))

    def get(self, node: int, step: int) -> Parameters:
        return decode((self.folder / f"{node}-{step}").read_bytes(), f"step {step} of node {node}")


class _Verifier:
    """One verifier: it examines every node by itself, then what they took over from each other."""

    def __init__(
        self, run: CommittedRun, opened: Sequence[Signed[TrainingCommitment] | str], draw: Draw, round_: str, electorate: str, shown: _Shown
    ) -> None:
        self._run, self._opened, self._draw, self._round, self._electorate, self._shown = run, opened, draw, round_, electorate, shown
        self._right: dict[tuple[int, Contact, tuple[float, ...]], str] = {}

    def look(self, key: SigningKey, progress: Callable[[], None] | None) -> list[_Look]:
        """All nodes, each with a ballot where one could be cast."""
        looks = []
        for i in range(len(self._opened)):
            looks.append(self._examine(i))
            if progress is not None:
                progress()
        for i, look in enumerate(looks):
            if look.examined is not None:
                began = time.process_time()
                self._confirm(i, look, look.examined.steps)
                look.cpu_s += time.process_time() - began
                look.ballot = sign(_ballot(look, look.examined.ballot), key)
        return looks

    def _examine(self, i: int) -> _Look:
        signed, began = self._opened[i], time.process_time()
        if isinstance(signed, str):
            return _Look(signed)
        node, computed = self._run.nodes[i], self._run.roster.record.nodes[i].numerics
        if computed != numerics():
            return _Look(f"it computed with {computed or 'nobody knows what'}, here is {numerics()}: other bits would be nobody's fault")

        def seen(step: int, taken: Retraced) -> None:
            kinds = {each.kind for each in self._run.contacts.get(step, {}).values()}
            if kinds:
                self._shown.put(i, step, taken.update if "gradient" in kinds else taken.after.parameters)

        try:
            verifier = ReplayVerifier(self._run.assignment(i), bit_for_bit(node, self._draw.of(signed.record.steps)))
            shown = None if isinstance(self._run.protocol, Served) else seen
            found = verifier.examine(signed, self._run.store(i), self._round, self._electorate, seen=shown)
        except StudbookError as error:
            return _Look(error.message, cpu_s=time.process_time() - began)
        return _Look(found.contradiction, found, cpu_s=time.process_time() - began)

    def _confirm(self, i: int, look: _Look, steps: Sequence[int]) -> None:
        """What a node took over in drawn steps, made again of what its peers had; a server is no peer, it is taken at its signed word."""
        if isinstance(self._run.protocol, Served):
            return
        for step in steps:
            taken = self._run.contacts.get(step, {})
            if i not in taken:
                continue
            look.contacts += 1
            missing = [peer for peer in taken[i].peers if (peer, step) not in self._shown.known]
            if missing:
                look.reason = look.reason or f"what it took over in step {step} can't be made again: node {missing[0]}'s isn't there"
                continue
            problem = self._problem(i, step, taken)
            look.confirmed += not problem
            look.wrong += bool(problem)
            look.reason = look.reason or problem

    def _problem(self, i: int, step: int, taken: Mapping[int, Contact]) -> str:
        """What is wrong with what a node took over in a step; the same mean is made once for all who took it over."""
        contact, protocol = taken[i], self._run.protocol
        try:
            if not isinstance(protocol, Exchanging):
                raise EvidenceError(f"in step {step} it took over what the protocol has nobody take over")
            present = sorted({peer for each in taken.values() for peer in each.peers})
            shares = tuple(protocol.shares(i, contact, present, self._run.nodes))
        except EvidenceError as error:
            return error.message
        key = step, contact, shares
        if key not in self._right:
            self._right[key] = self._combined(*key)
        return self._right[key]

    def _combined(self, step: int, contact: Contact, shares: tuple[float, ...]) -> str:
        values = {peer: self._shown.get(peer, step) for peer in contact.peers}
        try:
            check_taken_over(step, contact, values, partial(mean, weights=shares))
        except EvidenceError as error:
            return error.message
        return ""


def _opened(run: CommittedRun, node: int) -> Signed[TrainingCommitment] | str:
    """A node's commitment, or why there is none."""
    try:
        return run.commitment(node)
    except StudbookError as error:
        return error.message


def _ballot(look: _Look, ballot: Ballot) -> Ballot:
    checked = look.confirmed + look.wrong
    if not checked:
        return ballot
    return replace(ballot, checks=(*ballot.checks, Check("execution", NOT_COMBINED, float(look.wrong), 0.0, checked)))


def _counted(run: CommittedRun, draw: Draw, node: int, looks: Sequence[_Look]) -> Inspected:
    """What the verifiers saw of a node, beside each other."""
    enrolled, first = run.roster.record.nodes[node], looks[0]
    examined = [each.examined for each in looks if each.examined is not None]
    reason = next((each.reason for each in looks if each.reason), "")
    owed = run.owed(node)
    if enrolled.commitment and enrolled.steps < owed:
        short = f"it committed to {enrolled.steps:,} of {owed:,} steps; {enrolled.why}"
        reason = f"{reason}; {short}" if reason else short
    return Inspected(
        node=node, outcome=Outcome.INCONCLUSIVE, ballots=len(examined), covers=enrolled.steps, owed=owed,
        replayed=max((each.cost.drawn for each in examined), default=0), taken=max((each.cost.taken for each in examined), default=0),
        confirmed=min(each.confirmed for each in looks), contacts=first.contacts,
        detects=draw.detects(enrolled.steps) if examined else 0.0, cpu_s=sum(each.cpu_s for each in looks) / len(looks), reason=reason,
    )  # fmt: skip
