"""A verifier of training: it draws steps after the commitment, takes each again by itself, and casts a ballot through the quorum.

All verifiers of a round draw the same steps, as the seed is the round's: where each drew its own, a false step that one of three
finds would be outvoted by the two that looked elsewhere.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from studbook.errors import CalibrationError, ConfigError, EvidenceError, VerifierError
from studbook.fingerprints.challenge import draw_places
from studbook.protocols.exchange import Kind
from studbook.protocols.kept import Ledger, load_committed, load_records, optimiser_digest, task_of, update_name
from studbook.protocols.node import Node
from studbook.protocols.retrace import Retraced, Walk
from studbook.protocols.stores import Store
from studbook.protocols.values import Parameters, digest, encode, mean, squared_distance
from studbook.provenance import PublicKey, Signed
from studbook.records import Ballot, Check, Contact, Environment, ReplayCalibration, StepRecord, TrainingCommitment, digest_of
from studbook.records.training import MAX_STEPS
from studbook.verification.calibration import now
from studbook.verification.verifier import CONTRADICTION

DIFFER, DISTANCE = "replayed steps that differ", "largest relative distance of an update"
Seen: TypeAlias = Callable[[int, Retraced], None]
_FAR = 1e6
_GIVEN: tuple[Kind, Kind] = ("gradient", "parameters")
"""Kinds of what a ``Link`` gave."""
_ROUND = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """What a verifier knows of a node's work, from the run's coordinator and not from the node.

    Attributes:
        node: The node: objective and data, rows, optimiser, seed.
        run: 128 random bits in hex that name the run.
        steps: How many steps it was to take.
        key: Who has to have signed; ``None`` takes anybody's.
        start: Digest of the parameters that it was to begin with; empty: its own first ones.
        optimiser: Digest of the optimiser's state that it was to begin with; empty: that before any step.
        contacts: What it was to take over from others, by step; a step that isn't here must have taken over nothing. Kind and value
            count: a gradient that is adopted as parameters is another step. The peers don't.
        sent: What others have from it, by step: kind and digest. A step that isn't here may have been sent to nobody.
        draw: Digest of all commitments of a run: what the draw is bound to where the same steps of several nodes are drawn, so that
            what they took over from each other can be checked; empty: the node's own commitment.
        every: How often it was to keep a state, as that is what a replay costs; 0: as it likes.
    """

    node: Node
    run: str
    steps: int
    key: PublicKey | None = None
    start: str = ""
    optimiser: str = ""
    contacts: Mapping[int, Contact] = field(default_factory=lambda: MappingProxyType({}))
    sent: Mapping[int, tuple[Kind, str]] = field(default_factory=lambda: MappingProxyType({}))
    draw: str = ""
    every: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What an examination took.

    Attributes:
        drawn: Steps that were drawn.
        taken: Steps that were taken again, those on the way from a kept state among them.
        bytes_read: Bytes of what the node showed.
        cpu_s: CPU seconds.
    """

    drawn: int
    taken: int
    bytes_read: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class ReplayExamination:
    """A ballot, and what isn't part of the vote.

    Attributes:
        ballot: What counts.
        steps: The steps that were drawn.
        cost: What it took.
        contradiction: What can't be, where the node's own words contradict each other, or the first drawn step that isn't what it says.
    """

    ballot: Ballot
    steps: tuple[int, ...]
    cost: Cost
    contradiction: str = ""


def bit_for_bit(node: Node, steps: int, environment: Environment | None = None) -> ReplayCalibration:
    """The limits of a replay in the numerics of the training: every bit, and no honest node is ever rejected.

    Assumes that the same numerics on the same kind of machine give the same bits, which ``studbook training diagnose`` shows.
    """
    place = Environment() if environment is None else environment
    return ReplayCalibration(
        objective=digest_of(dict(node.objective.describe())), committed=place, replayed=place, steps=steps, limit=0.0, false_alarm=0.0,
        confidence=0.95, units=0, made=now(),
    )  # fmt: skip


def drawn_steps(commitment: TrainingCommitment, round_: str, n: int, draw: str = "") -> tuple[int, ...]:
    """The steps of a round: a function of the commitment and of the round's random bits, which nobody knew when it was made.

    Args:
        commitment: The node's.
        round_: The round of votes.
        n: How many steps.
        draw: See ``Assignment``.

    Raises:
        EvidenceError: The round has no 128 random bits: the node could have committed again and again until it liked the draw.
    """
    if not _ROUND.fullmatch(round_):
        raise EvidenceError(f"the round is {round_[:80]!r}, expected 32 hex digits that were drawn after the commitment")
    return draw_places("training.steps", draw or commitment.id, round_, n, commitment.steps)


class ReplayVerifier:
    """Examines one node's commitment.

    Args:
        assignment: What the node was to do.
        calibration: How many steps are drawn, and how far a replay may be off; see ``bit_for_bit`` and ``calibrate_replay``.

    Raises:
        ConfigError: More steps than can be, or a run without a name.
        CalibrationError: The calibration is of another objective.
    """

    def __init__(self, assignment: Assignment, calibration: ReplayCalibration) -> None:
        if not 1 <= assignment.steps <= MAX_STEPS or not _ROUND.fullmatch(assignment.run):
            raise ConfigError(f"a run of {assignment.steps} steps named {assignment.run[:40]!r}, expected 1 or more, and 32 hex digits")
        self._first = assignment.node.begin()
        self._task = task_of(assignment.node, assignment.start or digest(self._first.parameters))
        if calibration.objective != self._task.objective:
            raise CalibrationError("the calibration is for another objective or other data", hint="calibrate on the one that is trained")
        self.assignment, self.calibration = assignment, calibration

    def examine(
        self, commitment: Signed[TrainingCommitment], store: Store, round_: str, electorate: str = "", *, seen: Seen | None = None
    ) -> ReplayExamination:
        """Replay the steps of a round, and cast a ballot.

        1. The commitment is to the work that was assigned. 2. The records lie under its root. 3. They make one chain. 4. The drawn
        steps are taken again. What the node signed and can't be is a rejecting ballot; what it doesn't show, or what anybody could have
        changed on the way, leaves no ballot.

        Args:
            commitment: The node's, its signature checked.
            store: What the node shows.
            round_: The round of votes, 32 hex digits, drawn after the commitment.
            electorate: Who votes: ``Quorum.electorate``; empty where nobody counts.
            seen: Is shown each drawn step that was taken again bit for bit, by its number.

        Raises:
            VerifierError: A commitment to other work, or files that are missing or damaged.
            CalibrationError: The calibration doesn't cover the numerics of the commitment.
            EvidenceError: A round without random bits.
        """
        began = time.process_time()
        record = commitment.record
        self._require_assigned(commitment)  # 1
        steps = drawn_steps(record, round_, self.calibration.steps, self.assignment.draw)
        shown = _Counting(store)
        records = load_records(shown, record)  # 2
        walk, reason = Walk(self.assignment.node, shown, records, record.every, self._first), ""
        try:
            self._require_chain(record, records)  # 3
            walk.load(record.steps)  # what the training came to
            check, reason = self._exact(walk, steps, seen) if self.calibration.exact else (self._near(walk, shown, records, steps), "")  # 4
            checks = (check,)
        except EvidenceError as error:
            reason, checks = error.message, (Check("execution", CONTRADICTION, 1.0, 0.0, 1),)
        ballot = Ballot(
            claim=commitment.id, claimant=str(commitment.key), task=record.task, round=round_, electorate=electorate,
            calibration=self.calibration.id, checks=checks,
        )  # fmt: skip
        return ReplayExamination(ballot, steps, Cost(len(steps), walk.taken, shown.bytes_read, time.process_time() - began), reason)

    def _require_assigned(self, commitment: Signed[TrainingCommitment]) -> None:
        found, wanted = commitment.record, self.assignment
        if wanted.key is not None and commitment.key != wanted.key:
            raise VerifierError(f"the commitment is signed by {commitment.key}, node {wanted.node.index} has another key")
        if found.run != wanted.run:
            raise VerifierError("the commitment is of another run", hint="ask for that of this one: an old one doesn't count again")
        for name in ("objective", "optimiser", "rows", "batch", "seed", "node", "start"):
            got, expected = getattr(found.training, name), getattr(self._task, name)
            if got != expected:
                message = f"the commitment is to another {name}: {str(got)[:30]}, the node was assigned {str(expected)[:30]}"
                raise VerifierError(message, hint="there is no ballot on work that nobody asked for")
        if wanted.every and found.every != wanted.every:
            raise VerifierError(f"it kept a state every {found.every:,} steps, expected every {wanted.every:,}")
        if found.steps != wanted.steps:
            raise VerifierError(f"the commitment is to {found.steps:,} steps, expected {wanted.steps:,}")
        if found.environment != self.calibration.committed:
            message = f"the calibration covers {self.calibration.committed}, the node committed in {found.environment}"
            raise CalibrationError(message, hint="calibrate for these numerics: see calibrate_replay")

    def _require_chain(self, commitment: TrainingCommitment, records: Ledger) -> None:
        """Every step begins where the last one ended, with the contacts that others confirm, and gave what others have from it.

        Raises:
            EvidenceError: One doesn't.
        """
        before = commitment.training.start, self.assignment.optimiser or optimiser_digest(self._first.optimiser)
        if records[0].optimiser != before[1]:
            raise EvidenceError("the optimiser didn't begin in the state that it was to begin in", hint="reject it")
        for step, link in enumerate(records.links()):
            if link.before != before:
                raise EvidenceError(f"step {step} doesn't begin where the last one ended", hint="reject it")
            if link.contact != _taken_over(self.assignment.contacts.get(step)):
                raise EvidenceError(f"step {step} took over from others what they didn't give", hint="reject it")
            if step in self.assignment.sent and self.assignment.sent[step] not in zip(_GIVEN, link.gave, strict=True):
                raise EvidenceError(f"in step {step} it sent something else than the step gave", hint="reject it")
            before = link.left
        if (commitment.end.parameters, commitment.end.optimiser) != before:
            raise EvidenceError("the last state isn't where the last step ended", hint="reject it")

    @staticmethod
    def _exact(walk: Walk, steps: Sequence[int], seen: Seen | None) -> tuple[Check, str]:
        """The check, and what is wrong with the first step that differs."""
        reasons = []
        for step in steps:
            try:
                taken = walk.replay(step)
            except EvidenceError as error:
                reasons.append(error.message)
                continue
            if seen is not None:
                seen(step, taken)
        return Check("execution", DIFFER, float(len(reasons)), 0.0, len(steps)), reasons[0] if reasons else ""

    def _near(self, walk: Walk, store: Store, records: Sequence[StepRecord], steps: Sequence[int]) -> Check:
        """In other numerics: only from the very state before a step, as a walk would drift, and beside the update that was committed to."""
        farthest = 0.0
        for step in steps:
            state = walk.load(step)
            walk.check_draw(records[step])
            update = load_committed(store, update_name(step), records[step].update, state.parameters)
            farthest = max(farthest, relative_distance(update, self.assignment.node.gradient_at(state).parameters))
            walk.taken += 1
            walk.follow(state, update)
        # A little above, so that a value right at the limit isn't lost to rounding.
        return Check("execution", DISTANCE, farthest, self.calibration.limit * (1.0 + 1e-9), len(steps))


class _Counting:
    """A store that counts what is read from it."""

    def __init__(self, store: Store) -> None:
        self._store, self.bytes_read = store, 0

    def put(self, name: str, data: bytes) -> None:
        self._store.put(name, data)

    def get(self, name: str, *, max_bytes: int) -> bytes:
        data = self._store.get(name, max_bytes=max_bytes)
        self.bytes_read += len(data)
        return data

    def names(self) -> list[str]:
        return self._store.names()


def relative_distance(committed: Parameters, replayed: Parameters) -> float:
    """‖u − u'‖/‖u'‖ with the verifier's own update below the line, which no node can inflate; at most 10⁶, also for what isn't finite.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols.replay import relative_distance
        >>> ours = {"w": np.array([3.0, 4.0], np.float32)}
        >>> relative_distance(ours, ours), relative_distance({"w": np.zeros(2, np.float32)}, ours)
        (0.0, 1.0)
    """
    if encode(committed) == encode(replayed):
        return 0.0
    zero = {name: value * 0.0 for name, value in replayed.items()}
    apart, own = squared_distance(committed, replayed), squared_distance(replayed, zero)
    found = math.sqrt(apart / own) if own > 0 and math.isfinite(apart) and math.isfinite(own) else _FAR
    return min(found, _FAR)


def _taken_over(contact: Contact | None) -> tuple[str, str]:
    return ("", "") if contact is None else (contact.kind, contact.value)


def check_taken_over(
    step: int, contact: Contact, values: Mapping[int, Parameters], combine: Callable[[Sequence[Parameters]], Parameters] = mean
) -> None:
    """Return nothing where what a node took over is the combination of what its peers had.

    Args:
        step: Its number.
        contact: What it took over.
        values: By node: the gradients (or the parameters) that the peers' own steps gave, each replayed or checked by its digest.
        combine: How they are combined.

    Raises:
        EvidenceError: It isn't what its peers had, combined, or names no peers.
        VerifierError: The value of a peer is missing.
    """
    if not contact.peers:
        raise EvidenceError(f"step {step} names nobody that it took anything over from")
    missing = [peer for peer in contact.peers if peer not in values]
    if missing:
        raise VerifierError(f"what node {missing[0]} had in step {step} isn't there", hint="ask it: without it there is no ballot")
    if digest(combine([values[peer] for peer in contact.peers])) != contact.value:
        raise EvidenceError(f"what was taken over in step {step} isn't what its peers had, combined", hint="reject it")
