"""Going the way of a node again from a state that it kept: bit for bit, step by step, each compared with its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from studbook.errors import EvidenceError, VerifierError
from studbook.protocols.kept import (
    Recording,
    StateDigests,
    encode_state,
    load_committed,
    load_records,
    load_state,
    received_name,
    state_digests,
    state_name,
    update_name,
)
from studbook.protocols.node import Node, NodeState
from studbook.protocols.stores import Store
from studbook.protocols.values import Parameters, digest, encode
from studbook.records import StepRecord, TrainingCommitment


@dataclass(frozen=True, slots=True, eq=False)
class Retraced:
    """A step that was taken again.

    Attributes:
        update: The gradient.
        after: The state after the node's own step.
        next: The state that the next step begins with.
    """

    update: Parameters
    after: NodeState
    next: NodeState


class Walk:
    """Takes a node's steps again, forward from kept states.

    Args:
        node: The node as it was registered.
        store: What the node shows.
        records: Its steps, checked against the root of its commitment.
        every: It promised to keep a state every so many steps.
        form: A state of the node's, which kept ones have to be alike; by default its first.
    """

    def __init__(self, node: Node, store: Store, records: Sequence[StepRecord], every: int, form: NodeState | None = None) -> None:
        self._node, self._store, self._records, self._every = node, store, records, every
        self._recording = Recording(node)
        self._form = node.begin() if form is None else form
        self._shown = {name for name in store.names() if name.startswith("state-")}
        self._at: NodeState | None = None
        self.taken = 0

    def state_before(self, step: int) -> NodeState:
        """The state before a step: kept, or reached from the nearest one before it.

        Of the steps on the way nothing is digested: they all count in where they lead.

        Raises:
            VerifierError: No state is there to begin with, or one isn't what was committed to.
            EvidenceError: The way leads elsewhere.
        """
        self._at = self._nearest(step)
        if self._at.step < step:
            while self._at.step < step:
                self._at = self._taken(self._at).next
            if state_digests(self._at) != self._committed(step):
                raise EvidenceError(f"the steps up to {step} lead to another state than was committed to", hint="reject it")
        return self._at

    def _nearest(self, step: int) -> NodeState:
        """The nearest state that is known: kept, or where the walk has come to. The promised one has to be there, and sound."""
        promised = step - step % self._every
        for each in range(step, promised, -1):
            if state_name(each) in self._shown:
                try:
                    return self.load(each)
                except VerifierError:  # no promised one: left from before the node was sent back, for instance
                    self._shown.discard(state_name(each))
            if self._at is not None and self._at.step == each:
                return self._at
        # It is looked at even where the walk has come to it: one that is missing or changed must not go unnoticed.
        return self.load(promised)

    def replay(self, step: int) -> Retraced:
        """A step again, and the walk goes on behind it.

        Raises:
            VerifierError: See ``state_before``.
            EvidenceError: It, or one on the way to it, isn't what its record says.
        """
        taken = self.take(self.state_before(step))
        self._at = taken.next
        return taken

    def load(self, step: int) -> NodeState:
        """A kept state, as the records have it.

        Raises:
            VerifierError: It isn't there, or isn't what was committed to.
        """
        found = load_state(self._store, step, self._form)
        if state_digests(found) != self._committed(step):
            raise VerifierError(f"{state_name(step)} isn't the state that was committed to", hint="ask the node for it again")
        return found

    def _committed(self, step: int) -> StateDigests:
        if step < len(self._records):
            return self._records[step].before, self._records[step].optimiser
        return self._records[-1].left, self._records[-1].optimiser_after

    def take(self, state: NodeState) -> Retraced:
        """A step again, equal to its record to the last bit.

        Raises:
            EvidenceError: It isn't; the message says what differs.
            VerifierError: What the node took over from others isn't there.
        """
        record = self._records[state.step]
        self.check_draw(record)
        update = self._update(state)
        if digest(update) != record.update:
            raise EvidenceError(f"step {record.step} gives another update than was committed to", hint="reject it")
        return self.follow(state, update)

    def _update(self, state: NodeState) -> Parameters:
        self.taken += 1
        return self._node.gradient_at(state).parameters

    def _taken(self, state: NodeState) -> Retraced:
        return self._along(state, self._update(state))

    def check_draw(self, record: StepRecord) -> None:
        """Refuse a step on other rows, or with other random numbers, than the node's.

        Raises:
            EvidenceError: It is.
        """
        if record.batch != self._recording.batch(record.step) or record.path != self._recording.path(record.step):
            raise EvidenceError(f"step {record.step} was taken on other rows, or with other random numbers, than the node's")

    def follow(self, state: NodeState, update: Parameters) -> Retraced:
        """The state after a step along a known update: sums and products number by number, the same on every machine.

        Raises:
            EvidenceError: It leads elsewhere than was committed to.
            VerifierError: What the node took over from others isn't there.
        """
        record, found = self._records[state.step], self._along(state, update)
        if state_digests(found.after) != (record.after, record.optimiser_after):
            raise EvidenceError(f"step {record.step} leads to another state than was committed to", hint="reject it")
        return found

    def _along(self, state: NodeState, update: Parameters) -> Retraced:
        contact, received = self._records[state.step].contact, None
        if contact is not None:
            received = load_committed(self._store, received_name(state.step), contact.value, state.parameters)
        agreed = received is not None and contact is not None and contact.kind == "gradient"
        after = self._node.apply(state, received if agreed and received is not None else update)
        left = after if received is None or agreed else self._node.adopt(after, received)
        return Retraced(update, after, left)


def show_steps(node: Node, store: Store, commitment: TrainingCommitment, steps: Sequence[int]) -> int:
    """A node's answer to a challenge: the states before the drawn steps and their updates, so that each can be replayed alone.

    Args:
        node: The node itself, in the numerics in which it trained.
        store: Its store; states and updates are added to it.
        commitment: Its commitment.
        steps: Those that are asked for.

    Returns:
        Steps that had to be taken again.

    Raises:
        VerifierError: What was kept isn't there any more.
        EvidenceError: The way doesn't lead to what was committed to: other numerics, or steps that were never taken.
    """
    walk = Walk(node, store, load_records(store, commitment), commitment.every)
    for step in sorted(set(steps)):
        store.put(state_name(step), encode_state(walk.state_before(step)))
        store.put(update_name(step), encode(walk.replay(step).update))
    return walk.taken
