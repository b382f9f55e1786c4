"""What a node keeps of its run: names and forms of the files, and reading them back without trust."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from studbook.errors import EvidenceError, RecordError, StudbookError, VerifierError
from studbook.protocols.node import Node, NodeState
from studbook.protocols.stores import Store
from studbook.protocols.values import Parameters, decode, digest, encode, encoded_size
from studbook.records import Contact, StepRecord, TrainingCommitment, TrainingTask, digest_of, merkle_root
from studbook.records.step_lines import Link, read_link, read_step

COMMITMENT = "commitment.json"
MAX_SEGMENT = 256 << 20
MOST_EVERY = MAX_SEGMENT // (StepRecord.MAX_BYTES + 1)
"""Most steps between kept states: their records have to fit one file, however long each is."""
_STATELESS = f"sha256:{hashlib.sha256(b'{}').hexdigest()}"

StateDigests: TypeAlias = tuple[str, str]
"""Of a state's parameters, and of its optimiser's state."""


def task_of(node: Node, start: str | None = None) -> TrainingTask:
    """What determines a node's steps.

    Args:
        node: Which.
        start: Digest of the parameters that it begins with; by default those of ``node.begin()``.
    """
    return TrainingTask(
        objective=digest_of(dict(node.objective.describe())), optimiser=digest_of(asdict(node.optimiser)), rows=rows_digest(node.rows),
        batch=node.batch, seed=node.seed, node=node.index, start=digest(node.begin().parameters) if start is None else start,
    )  # fmt: skip


def optimiser_digest(state: Mapping[str, Parameters]) -> str:
    """Digest of an optimiser's state; that of one that has none costs nothing."""
    if not state:
        return _STATELESS
    return digest_of({name: digest(part) for name, part in state.items()})


def state_digests(state: NodeState) -> StateDigests:
    """Digests of a state's parameters and of its optimiser's state."""
    return digest(state.parameters), optimiser_digest(state.optimiser)


class Recording:
    """What a node needs to know of itself to record steps; made once a run.

    Args:
        node: Which.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self._data = digest_of(dict(node.objective.describe()))
        self._known: tuple[NodeState | None, StateDigests] = (None, ("", ""))

    def batch(self, step: int) -> str:
        """The commitment to a step's rows and to the data that they are rows of."""
        # As digest_of has it, and ten times faster: a digest needs no JSON library.
        named = f'{{"data":"{self._data}","rows":"{rows_digest(self.node.rows_at(step))}"}}'
        return f"sha256:{hashlib.sha256(named.encode()).hexdigest()}"

    def path(self, step: int) -> str:
        """The path of a step's random streams."""
        return f"{self.node.seed}/node/{self.node.index}/step/{step}"

    def digests(self, state: NodeState) -> StateDigests:
        """A state's digests. No state is digested twice in turn: where one step ends the next begins, and is kept."""
        if self._known[0] is not state:
            self.know(state, state_digests(state))
        return self._known[1]

    def know(self, state: NodeState, digests: StateDigests) -> None:
        """Take a state's digests as known."""
        self._known = (state, digests)

    def record(self, before: NodeState, update: Parameters, after: NodeState, contact: Contact | None = None) -> StepRecord:
        """The record of a step: from which state, by which gradient, to which state."""
        began, ended = self.digests(before), self.digests(after)
        return StepRecord(
            step=before.step, before=began[0], optimiser=began[1], batch=self.batch(before.step), path=self.path(before.step),
            update=digest(update), after=ended[0], optimiser_after=ended[1], contact=contact,
        )  # fmt: skip


def rows_digest(rows: NDArray[np.int64]) -> str:
    """Digest of row numbers, in their order."""
    return "sha256:" + hashlib.sha256(np.ascontiguousarray(rows, "<i8").tobytes()).hexdigest()


def state_name(step: int) -> str:
    """File of the state before a step."""
    return f"state-{step:08d}.bin"


def steps_name(step: int) -> str:
    """File of the records from a step on."""
    return f"steps-{step:08d}.jsonl"


def received_name(step: int) -> str:
    """File of what a node took over in a step."""
    return f"received-{step:08d}.bin"


def encode_state(state: NodeState) -> bytes:
    """A state's bytes: parameters and optimiser's state side by side."""
    return encode(_parts_of(state))


def _parts_of(state: NodeState) -> Parameters:
    parts = {f"parameters/{key}": value for key, value in state.parameters.items()}
    for name, held in state.optimiser.items():
        parts.update({f"optimiser/{name}/{key}": value for key, value in held.items()})
    return parts


def load_state(store: Store, step: int, like: NodeState) -> NodeState:
    """A kept state, of the form of another.

    Args:
        store: Where it lies.
        step: The step before which it is the state.
        like: A state of the same node: names and shapes have to be alike.

    Raises:
        VerifierError: It isn't there, is damaged, or has another form: there can be no ballot.
    """
    name = state_name(step)
    data = store.get(name, max_bytes=encoded_size(_parts_of(like)))
    try:
        parts = decode(data, name)
    except RecordError as error:
        raise VerifierError(error.message, hint="ask the node for it again: without it there is no ballot") from error
    parameters = _part(parts, "parameters/", like.parameters, name)
    optimiser = {part: _part(parts, f"optimiser/{part}/", held, name) for part, held in like.optimiser.items()}
    return NodeState(step, parameters, optimiser)


def _part(parts: Parameters, prefix: str, like: Parameters, what: str) -> dict[str, NDArray[np.float32]]:
    found = {key: parts[prefix + key] for key in like if prefix + key in parts and parts[prefix + key].shape == like[key].shape}
    if len(found) < len(like):
        raise VerifierError(f"{what} holds a state of another form", hint="ask the node for it again: without it there is no ballot")
    return found


def update_name(step: int) -> str:
    """File of the gradient that a node computed in a step."""
    return f"update-{step:08d}.bin"


def load_committed(store: Store, name: str, expected: str, like: Parameters) -> Parameters:
    """Parameters or a gradient that a step's record names by their digest.

    Args:
        store: Where they lie.
        name: Of the file.
        expected: Their digest in the record.
        like: Parameters of the same node.

    Raises:
        VerifierError: They aren't there, or aren't what the record names.
    """
    data = store.get(name, max_bytes=encoded_size(like))
    try:
        found = decode(data, name)
    except RecordError as error:
        raise VerifierError(error.message, hint="ask the node for it again") from error
    shapes = [{key: value.shape for key, value in each.items()} for each in (found, like)]
    if digest(found) != expected or shapes[0] != shapes[1]:
        raise VerifierError(f"{name} isn't what the node committed to", hint="it was changed or cut off: ask the node for it again")
    return found


def load_lines(store: Store, start: int, every: int) -> list[bytes]:
    """The records from a kept state up to the next one, as they were written.

    Raises:
        VerifierError: They aren't there, are cut off, or are too many.
    """
    name = steps_name(start)
    data = store.get(name, max_bytes=min(every, MOST_EVERY) * (StepRecord.MAX_BYTES + 1))
    lines = data.split(b"\n")
    if lines[-1] or not 1 <= len(lines) - 1 <= every:
        raise VerifierError(f"{name} is cut off, or has {len(lines) - 1} steps, expected 1 to {every}", hint="ask the node for it again")
    return lines[:-1]


def load_steps(store: Store, start: int, every: int) -> list[StepRecord]:
    """The records from a kept state up to the next one.

    Raises:
        VerifierError: See ``load_lines``.
        EvidenceError: One is no such record, or of another step.
    """
    return [_record(line, start + i) for i, line in enumerate(load_lines(store, start, every))]


def _record(line: bytes, step: int) -> StepRecord:
    try:
        found = read_step(line, f"step {step}")
    except StudbookError as error:
        raise EvidenceError(f"the node committed to what is no step: {error.message}", hint="reject it") from error
    if found.step != step:
        raise EvidenceError(f"the node committed to step {found.step} as its step {step}", hint="reject it")
    return found


class Ledger(Sequence[StepRecord]):
    """All steps of a commitment, as they lie under its root; a record is read where it is looked at.

    Args:
        lines: Canonical bytes of the records, already checked against the root.
    """

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines
        self._read: dict[int, StepRecord] = {}

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, place: int) -> StepRecord: ...

    @overload
    def __getitem__(self, place: slice) -> list[StepRecord]: ...

    def __getitem__(self, place: int | slice) -> StepRecord | list[StepRecord]:
        """The record of a step.

        Raises:
            EvidenceError: The node committed to something that is no such record.
        """
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        step = range(len(self))[place]
        if step not in self._read:
            self._read[step] = _record(self._lines[step], step)
        return self._read[step]

    def links(self) -> Iterator[Link]:
        """Where each step begins and ends; many times faster than reading the records, which are read where they are looked at.

        Raises:
            EvidenceError: The node committed to something that has no such ends.
        """
        for step, line in enumerate(self._lines):
            try:
                yield read_link(line, f"step {step}")
            except RecordError as error:
                raise EvidenceError(f"the node committed to what is no step: {error.message}", hint="reject it") from error


def load_records(store: Store, commitment: TrainingCommitment) -> Ledger:
    """All records of a commitment, checked against its root.

    Raises:
        VerifierError: They aren't there, or aren't those that were committed to.
    """
    lines: list[bytes] = []
    while len(lines) < commitment.steps:
        lines += load_lines(store, len(lines), min(commitment.every, commitment.steps - len(lines)))
    if merkle_root(lines) != commitment.root:
        raise VerifierError("the steps don't lie under the commitment's root", hint="they were changed: ask the node for them again")
    return Ledger(lines)
