"""A whole run verified: every node's steps replayed by several verifiers, what nodes took over from each other taken again, and votes.

All nodes' steps of a round are the same ones, drawn by the roster over all commitments and 128 random bits that are drawn after it. So
what a node took over in a drawn step can be made again of its peers' own steps, each of which was replayed. Who was to take over what from
whom is the protocol's to say. Nodes see no more than what they are told: what they were told falsely is the coordinator's fault.
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
from studbook.protocols.exchange import Exchanged, Shares
from studbook.protocols.numerics import numerics
from studbook.protocols.protocols import Exchanging
from studbook.protocols.replay import ReplayExamination, ReplayVerifier, bit_for_bit, check_taken_over
from studbook.protocols.retrace import Retraced
from studbook.protocols.values import Parameters, decode, encode, mean
from studbook.provenance import Signed, SigningKey, sign
from studbook.records import Ballot, Check, Contact, Outcome, TrainingCommitment
from studbook.theory.replay import found_false, replays_needed
from studbook.verification.calibration import now
from studbook.verification.quorum import Quorum, make_receipt, new_round

NOT_COMBINED = "contacts that differ from what peers had"
_NONE = Exchanged()


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
        outcome: ``accept``: enough verifiers found all that they looked at to be so, and the commitment covers the whole run.
            ``reject``: enough found what isn't so. Else ``inconclusive``.
        ballots: Verifiers that could vote: none where something that it took over isn't confirmed, and nothing is wrong with its own steps.
        covers: Steps that the commitment covers.
        replayed: Steps that were drawn.
        taken: Steps that a verifier took again, those on the way from kept states among them.
        confirmed: Contacts in drawn steps that were made again of what the peers had.
        contacts: Contacts that there are, or that there were to be, in drawn steps.
        detects: Probability to find false steps, were they as many as the draw is made for.
        cpu_s: CPU seconds of one verifier, the mean.
        reason: Why it isn't accepted, or what of it isn't confirmed.
    """

    node: int
    outcome: Outcome
    ballots: int
    covers: int
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
        fault: What the coordinator had nodes take over against the protocol, the first of it; no node is rejected for that.
    """

    round: str
    nodes: Sequence[Inspected]
    receipts: Mapping[int, bytes]
    fault: str = ""

    @property
    def outcome(self) -> Outcome:
        """``reject`` where a node is rejected, or the coordinator is at fault; ``accept`` where all nodes are accepted."""
        found = {each.outcome for each in self.nodes} | ({Outcome.REJECT} if self.fault else set())
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
    looks, faults = [], []
    for key in voters:
        with TemporaryDirectory(prefix="studbook-replay-") as scratch:
            verifier = _Verifier(run, opened, draw, round_, quorum.electorate, _Shown(Path(scratch)))
            looks.append(verifier.look(key, progress))
            faults.append(verifier.fault)
    nodes, receipts = [], {}
    for i, signed in enumerate(opened):
        several = [each[i] for each in looks]
        found, ballots = _counted(run, draw, i, several), [each.ballot for each in several if each.ballot]
        if isinstance(signed, Signed):
            notes = [found.reason] if found.reason else []
            receipts[i] = make_receipt(signed.data, ballots, quorum, round_, voters[0], notes=notes, made=now())
            outcome = quorum.judge(signed, ballots, round_=round_).outcome
            whole = outcome is not Outcome.ACCEPT or found.covers == run.roster.record.steps
            found = replace(found, outcome=outcome if whole else Outcome.INCONCLUSIVE)
        nodes.append(found)
    return Inspection(round_, nodes, receipts, next((fault for fault in faults if fault), ""))


@dataclass(slots=True, eq=False)
class _Look:
    """What one verifier saw of one node."""

    reason: str = ""
    examined: ReplayExamination | None = None
    confirmed: int = 0
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
        self._due: dict[int, Mapping[int, Shares]] = {}
        self._right: dict[tuple[int, Contact, tuple[float, ...]], str] = {}
        self.fault = ""

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
                if look.examined.contradiction or look.confirmed == look.contacts:
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
            protocol = self._run.protocol
            if isinstance(protocol, Exchanging) and self._shares(step):
                self._shown.put(i, step, taken.update if protocol.takes == "gradient" else taken.after.parameters)

        try:
            verifier = ReplayVerifier(self._run.assignment(i), bit_for_bit(node, self._draw.of(signed.record.steps)))
            found = verifier.examine(signed, self._run.store(i), self._round, self._electorate, seen=seen)
        except StudbookError as error:
            return _Look(error.message, cpu_s=time.process_time() - began)
        return _Look(found.contradiction, found, cpu_s=time.process_time() - began)

    def _shares(self, step: int) -> Mapping[int, Shares]:
        """Who was to take over what from whom in a step; the same for all nodes."""
        if step not in self._due:
            protocol = self._run.protocol
            self._due[step] = protocol.shares(self._run.exchange(step)) if isinstance(protocol, Exchanging) else {}
        return self._due[step]

    def _confirm(self, i: int, look: _Look, steps: Sequence[int]) -> None:
        """What a node took over in drawn steps, made again of what its peers had."""
        for step in steps:
            contact, shares = self._run.exchanges.get(step, _NONE).taken.get(i), self._shares(step).get(i)
            if contact is None and shares is None:
                continue
            look.contacts += 1
            if contact is None or shares is None or not self._is_due(contact, shares):
                fault = f"in step {step} node {i} took over {_told(contact, shares)}"
            elif missing := [peer for peer in shares if (peer, step) not in self._shown.known]:
                look.reason = look.reason or f"what it took over in step {step} can't be made again: node {missing[0]}'s isn't there"
                continue
            else:
                fault = self._combined(step, contact, tuple(shares.values()))
            look.confirmed += not fault
            look.reason = look.reason or fault
            self.fault = self.fault or fault

    def _is_due(self, contact: Contact, shares: Shares) -> bool:
        protocol = self._run.protocol
        return isinstance(protocol, Exchanging) and contact.kind == protocol.takes and contact.peers == tuple(shares)

    def _combined(self, step: int, contact: Contact, shares: tuple[float, ...]) -> str:
        """What is wrong with a mean; the same one is made once for all who took it over."""
        key = step, contact, shares
        if key not in self._right:
            values = {peer: self._shown.get(peer, step) for peer in contact.peers}
            try:
                check_taken_over(step, contact, values, partial(mean, weights=shares))
                self._right[key] = ""
            except EvidenceError as error:
                self._right[key] = error.message
        return self._right[key]


def _told(contact: Contact | None, shares: Shares | None) -> str:
    """What a node took over, beside what it was to take over."""
    found = "nothing" if contact is None else f"{contact.kind} of {_nodes(contact.peers)}"
    return f"{found}; by the protocol it was to take over " + ("nothing" if shares is None else f"the mean of {_nodes(tuple(shares))}")


def _nodes(several: Sequence[int]) -> str:
    return f"nodes {', '.join(map(str, several[:8]))}{' …' if len(several) > 8 else ''}" if several else "nobody"


def _opened(run: CommittedRun, node: int) -> Signed[TrainingCommitment] | str:
    """A node's commitment, or why there is none."""
    try:
        return run.commitment(node)
    except StudbookError as error:
        return error.message


def _ballot(look: _Look, ballot: Ballot) -> Ballot:
    if not look.confirmed:
        return ballot
    return replace(ballot, checks=(*ballot.checks, Check("execution", NOT_COMBINED, 0.0, 0.0, look.confirmed)))


def _counted(run: CommittedRun, draw: Draw, node: int, looks: Sequence[_Look]) -> Inspected:
    """What the verifiers saw of a node, beside each other."""
    enrolled, first = run.roster.record.nodes[node], looks[0]
    examined = [each.examined for each in looks if each.examined is not None]
    reason = next((each.reason for each in looks if each.reason), "")
    if enrolled.commitment and enrolled.steps < run.roster.record.steps:
        short = f"it committed to {enrolled.steps:,} of {run.roster.record.steps:,} steps; {enrolled.why}"
        reason = f"{reason}; {short}" if reason else short
    return Inspected(
        node=node, outcome=Outcome.INCONCLUSIVE, ballots=sum(bool(each.ballot) for each in looks), covers=enrolled.steps,
        replayed=max((each.cost.drawn for each in examined), default=0), taken=max((each.cost.taken for each in examined), default=0),
        confirmed=min(each.confirmed for each in looks), contacts=first.contacts,
        detects=draw.detects(enrolled.steps) if examined else 0.0, cpu_s=sum(each.cpu_s for each in looks) / len(looks), reason=reason,
    )  # fmt: skip
