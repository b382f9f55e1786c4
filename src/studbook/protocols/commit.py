"""A node commits to its training: it records each step by its digests, keeps a state every so often, and signs the root over all steps.

What lies in the folder, each file whole or not at all:

- ``state-00000010.bin``: parameters and optimiser's state before step 10;
- ``steps-00000010.jsonl``: the records of the steps from 10 up to the next kept state, canonical JSON, one a line;
- ``received-00000012.bin``: what the node took over from others in step 12;
- ``commitment.json``: the signed commitment, written last.

A run that was killed goes on from the last state that is whole, and comes to the same commitment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from studbook.errors import ConfigError, RunFolderError, StudbookError
from studbook.protocols.kept import (
    COMMITMENT,
    MOST_EVERY,
    Recording,
    encode_state,
    load_state,
    load_steps,
    received_name,
    state_digests,
    state_name,
    steps_name,
    task_of,
)
from studbook.protocols.node import Node, NodeState
from studbook.protocols.stores import Store
from studbook.protocols.values import Parameters, digest, encode
from studbook.provenance import PublicKey, Signed, SigningKey, open_signed, sign
from studbook.records import Checkpoint, Contact, Environment, StepRecord, TrainingCommitment, merkle_root
from studbook.records.step_lines import write_step


class Committer:
    """Follows a node's run and keeps what the commitment rests on.

    Args:
        node: Whose run.
        store: Where it is kept; one run's alone.
        every: A state is kept every so many steps: 1 makes replays short, more saves room.
        run: 128 random bits in hex that name the run; whoever starts the run draws them.
        environment: The numerics that the node steps in.

    Raises:
        ConfigError: An impossible ``every``.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols.commit import Committer
        >>> from studbook.protocols.node import Node, Optimiser
        >>> from studbook.protocols.quadratic import Quadratic
        >>> from studbook.protocols.stores import MemoryStore
        >>> from studbook.provenance import SigningKey
        >>> node = Node(0, Quadratic(dimension=2), np.arange(100), 10, Optimiser(), 0)
        >>> committer = Committer(node, MemoryStore(), every=5, run=32 * "0")
        >>> signed = committer.train(20, SigningKey.generate())
        >>> signed.record.steps, signed.record.end.step, len(committer.records)
        (20, 20, 20)
    """

    def __init__(self, node: Node, store: Store, *, every: int, run: str, environment: Environment | None = None) -> None:
        if not 1 <= every <= MOST_EVERY:
            raise ConfigError(f"a state is kept every {every} steps, expected 1 to {MOST_EVERY:,}")
        self.node, self.every, self.run = node, every, run
        self.environment = Environment() if environment is None else environment
        self._store, self._recording = store, Recording(node)
        self._records: list[StepRecord] = []
        self._lines: list[bytes] = []
        self._kept: set[int] = set()
        self._written = 0

    @property
    def records(self) -> Sequence[StepRecord]:
        """The steps so far."""
        return tuple(self._records)

    def begin(self, start: NodeState | None = None) -> NodeState:
        """The state to go on from: the last one kept of this run, else the first.

        Args:
            start: The first state; by default ``node.begin()``.

        Raises:
            RunFolderError: What is kept there are the steps of another node or run.
        """
        first = self.node.begin() if start is None else start
        found = self._resume(first)
        if found is None:
            self._records, self._lines, self._kept, self._written = [], [], set(), 0
            self._keep(first)
            return first
        for each in self._records:  # alike in their first state, as all nodes of a run are, and yet another's
            if (each.path, each.batch) != (self._recording.path(each.step), self._recording.batch(each.step)):
                raise _another()
        self._lines = [write_step(each) for each in self._records]
        return found

    def step(self, state: NodeState) -> NodeState:
        """One step of the node's own, recorded."""
        gradient = self.node.gradient_at(state).parameters
        after = self.node.apply(state, gradient)
        return self.record(state, gradient, after)

    def record(
        self, before: NodeState, update: Parameters, after: NodeState, *, agreed: Parameters | None = None,
        adopted: Parameters | None = None, peers: Sequence[int] = (),
    ) -> NodeState:  # fmt: skip
        """Record a step that was taken, and what was taken over from others in it.

        Args:
            before: The state before it.
            update: The gradient that the node computed.
            after: The state after its step, before it adopts anything.
            agreed: The gradient that it stepped along, where several nodes agreed on one.
            adopted: The parameters that it adopted after its step.
            peers: Whose values went into what it took over, in the order of summation.

        Returns:
            The state that the next step begins with.

        Raises:
            ConfigError: A step out of its turn, or both kinds of contact in one.
        """
        if before.step != len(self._records) or after.step != before.step + 1:
            raise ConfigError(f"step {before.step} to {after.step} was recorded after {len(self._records)} steps")
        if agreed is not None and adopted is not None:
            raise ConfigError("a step took over a gradient and parameters, expected one of them")
        received = agreed if adopted is None else adopted
        contact = None
        if received is not None:
            contact = Contact(kind="gradient" if adopted is None else "parameters", value=digest(received), peers=tuple(peers))
            self._store.put(received_name(before.step), encode(received))
        record = self._recording.record(before, update, after, contact)
        self._records.append(record)
        self._lines.append(write_step(record))
        state = after
        if adopted is not None:
            state = self.node.adopt(after, adopted)
            self._recording.know(state, (record.left, record.optimiser_after))
        if state.step % self.every == 0:
            self._keep(state)
        return state

    def train(self, steps: int, key: SigningKey, *, start: NodeState | None = None) -> Signed[TrainingCommitment]:
        """Go on alone up to a number of steps, and commit to all of them.

        Raises:
            ConfigError: Fewer steps than were already taken.
            StorageError: The disk refused; what was kept stays, and the run can go on.
        """
        state = self.begin(start)
        if state.step > steps:
            raise ConfigError(f"{state.step} steps were taken already, {steps} are wanted", hint="more steps, or another folder")
        while state.step < steps:
            state = self.step(state)
        return self.finish(state, key)

    def finish(self, state: NodeState, key: SigningKey) -> Signed[TrainingCommitment]:
        """Sign the commitment to all steps so far; it is what verifiers are sent. One to the same that was signed before stays.

        Raises:
            RecordError: No step was taken: a commitment to nothing proves nothing.
        """
        from studbook.verification.calibration import now

        if state.step not in self._kept:
            self._keep(state)
        root = merkle_root(self._lines)
        commitment = TrainingCommitment(
            training=task_of(self.node, self._records[0].before), steps=len(self._records), root=root, every=self.every,
            end=Checkpoint(state.step, *self._recording.digests(state)), environment=self.environment, run=self.run, made=now(),
        )  # fmt: skip
        before = self._signed(key.public)
        if before is not None and replace(before.record, made=commitment.made) == commitment:
            return before
        data = sign(commitment, key)
        self._store.put(COMMITMENT, data)
        return open_signed(data, TrainingCommitment, COMMITMENT)

    def _signed(self, key: PublicKey) -> Signed[TrainingCommitment] | None:
        """The commitment that is kept, if this key signed one."""
        try:
            data = self._store.get(COMMITMENT, max_bytes=TrainingCommitment.MAX_BYTES)
            return open_signed(data, TrainingCommitment, COMMITMENT, keys=[key])
        except StudbookError:
            return None

    def rewind(self, step: int) -> None:
        """Forget the steps from a kept state on: all do them again, without a node that was excluded.

        Raises:
            ConfigError: No state was kept before that step.
        """
        if step not in self._kept:
            raise ConfigError(f"no state before step {step} was kept", hint=f"go back to one of every {self.every}th")
        self._records, self._lines = self._records[:step], self._lines[:step]
        self._kept = {each for each in self._kept if each <= step}
        self._written = step
        self._store.put(steps_name(step), b"")  # whoever resumes must not go the old way

    def _keep(self, state: NodeState) -> None:
        """First the steps up to here, then the state: whoever finds the state finds what led to it."""
        segment = self._lines[self._written :]
        if segment:
            self._store.put(steps_name(self._written), b"".join(line + b"\n" for line in segment))
            self._written = len(self._records)
        self._store.put(state_name(state.step), encode_state(state))
        self._kept.add(state.step)

    def _resume(self, first: NodeState) -> NodeState | None:
        """The last state that is whole, and fits the records before it; ``None`` where there is nothing to go on from."""
        self._records, self._kept, state = [], set(), None
        try:
            while True:
                step = len(self._records)
                read = load_state(self._store, step, first)
                found, last = state_digests(read), self._records[-1] if step else None
                if found != ((digest(first.parameters), found[1]) if last is None else (last.left, last.optimiser_after)):
                    if not step:
                        raise _another()
                    break
                state = read
                self._kept.add(step)
                segment = load_steps(self._store, step, self.every)
                self._records += segment
                if len(segment) < self.every:
                    break  # a run that had ended in between: its last stretch is done again
        except RunFolderError:
            raise
        except StudbookError:
            pass  # what isn't whole wasn't finished
        self._written = 0 if state is None else state.step
        del self._records[self._written :]
        return state


def _another() -> RunFolderError:
    return RunFolderError("the steps that are kept there are another node's or run's", hint="choose another folder")
