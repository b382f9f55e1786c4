"""What a node of a training run commits to: every step by its digests, under one root, and the states that it keeps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from studbook.errors import RecordError
from studbook.records.canonical import digest_of
from studbook.records.claim import MAX_SEED, Environment, require_sha, require_time
from studbook.records.codec import STRICT, to_plain

MAX_STEPS = 1 << 24
MAX_PEERS = 4096
_HEX32 = re.compile(r"[0-9a-f]{32}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_ARRAYS = re.compile(r"blake3:[0-9a-f]{64}")
_PATH = re.compile(r"[0-9]{1,16}(?:/[a-z0-9-]{1,32}){1,15}")


def _require_arrays(value: str, name: str) -> None:
    _require(_ARRAYS.fullmatch(value) is not None, name, value, "blake3: and 64 hex digits")


def _require(condition: bool, name: str, got: object, expected: str) -> None:
    if not condition:
        raise RecordError(f"{name} is {str(got)[:80]!r}, expected {expected}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """What a node took over from others in a step.

    Attributes:
        kind: ``gradient``: it stepped along one that several nodes agreed on; ``parameters``: it adopted these after its own step; a
            client of federated training those that it was sent in its next turn.
        value: Digest of what it took over.
        peers: Nodes whose values went into it, in the order of summation; empty where it doesn't know them.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    kind: Literal["gradient", "parameters"]
    value: str
    peers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _require_arrays(self.value, "contact.value")
        sound = len(self.peers) <= MAX_PEERS and len(set(self.peers)) == len(self.peers) and all(0 <= peer < 1 << 32 for peer in self.peers)
        _require(sound, "contact.peers", self.peers, f"at most {MAX_PEERS:,} different nodes, from 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of one node, by its digests: a leaf of the tree that a commitment is the root of.

    Attributes:
        step: Its number, from 0.
        before: Digest of the parameters, or of the slice that the node holds, before the step.
        optimiser: Digest of the optimiser's state before it.
        batch: Digest of the rows, of the data that they are rows of, and of the keys of a client's slice.
        path: Path of the random streams, beginning with the root seed: ``7/node/0/step/12``.
        update: Digest of the gradient that the node computed, or of the update that a client sent.
        after: Digest of the parameters after its step, before it adopts anybody's.
        optimiser_after: Digest of the optimiser's state after it.
        contact: What it took over from others, or ``None``.

    Raises:
        RecordError: A field that is out of its form.
    """

    SCHEMA: ClassVar[str] = "studbook.training-step/2"
    MAX_BYTES: ClassVar[int] = 64 << 10
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    step: int
    before: str
    optimiser: str
    batch: str
    path: str
    update: str
    after: str
    optimiser_after: str
    contact: Contact | None = None

    def __post_init__(self) -> None:
        _require(0 <= self.step < MAX_STEPS, "step.step", self.step, f"0 to {MAX_STEPS - 1:,}")
        for name in ("before", "update", "after"):
            _require_arrays(getattr(self, name), f"step.{name}")
        for name in ("optimiser", "batch", "optimiser_after"):
            require_sha(getattr(self, name), f"step.{name}")
        _require(_PATH.fullmatch(self.path) is not None, "step.path", self.path, "a seed and names, such as 7/node/0/step/12")

    @property
    def left(self) -> str:
        """Digest of the parameters that the next step begins with."""
        adopted = self.contact is not None and self.contact.kind == "parameters"
        return self.contact.value if adopted and self.contact is not None else self.after


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state on a node's way.

    Attributes:
        step: The step before which it is the state.
        parameters: Digest of the parameters.
        optimiser: Digest of the optimiser's state.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    step: int
    parameters: str
    optimiser: str

    def __post_init__(self) -> None:
        _require(0 <= self.step <= MAX_STEPS, "checkpoint.step", self.step, f"0 to {MAX_STEPS:,}")
        _require_arrays(self.parameters, "checkpoint.parameters")
        require_sha(self.optimiser, "checkpoint.optimiser")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """All that determines a node's steps, but for what it takes over from others.

    Attributes:
        objective: Digest of the objective's description, that of the data in it.
        optimiser: Digest of the optimiser's settings.
        rows: Digest of the rows that the node holds.
        batch: Rows a step.
        seed: The run's root seed.
        node: The node's number.
        start: Digest of the parameters that it began with.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    objective: str
    optimiser: str
    rows: str
    batch: int
    seed: int
    node: int
    start: str

    def __post_init__(self) -> None:
        for name in ("objective", "optimiser", "rows"):
            require_sha(getattr(self, name), f"task.{name}")
        _require_arrays(self.start, "task.start")
        _require(1 <= self.batch <= MAX_SEED, "task.batch", self.batch, "1 or more")
        _require(0 <= self.seed <= MAX_SEED, "task.seed", self.seed, "0 to 2^53 - 1")
        _require(0 <= self.node < 1 << 32, "task.node", self.node, "0 or more")

    @property
    def digest(self) -> str:
        """Digest of the task: two nodes with one task promise the same steps."""
        return digest_of(to_plain(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCommitment:
    """That a node trained in these steps; made, and signed, before anyone knows which of them will be replayed.

    Attributes:
        training: What determines the steps.
        steps: How many there were.
        root: Merkle root (hex) over the records of the steps.
        every: A state was kept every so many steps, and the last; their digests are in the records of the steps.
        end: The state after the last step: what the training came to.
        environment: In which numerics.
        run: 128 random bits in hex, the run's name: the commitments of an earlier run of the same task don't count in it.
        made: When, in UTC. The node's word.

    Raises:
        RecordError: An empty commitment, or one whose parts don't belong together.
    """

    SCHEMA: ClassVar[str] = "studbook.training/2"
    MAX_BYTES: ClassVar[int] = 64 << 10
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    training: TrainingTask
    steps: int
    root: str
    every: int
    end: Checkpoint
    environment: Environment
    run: str
    made: str

    def __post_init__(self) -> None:
        _require(1 <= self.steps <= MAX_STEPS, "training.steps", self.steps, f"1 to {MAX_STEPS:,}")
        _require(_HEX64.fullmatch(self.root) is not None, "training.root", self.root, "64 hex digits")
        _require(_HEX32.fullmatch(self.run) is not None, "training.run", self.run, "32 hex digits")
        _require(1 <= self.every <= MAX_STEPS, "training.every", self.every, f"1 to {MAX_STEPS:,}")
        _require(self.end.step == self.steps, "training.end", self.end.step, f"the state after all {self.steps:,} steps")
        require_time(self.made, "training.made")

    @property
    def task(self) -> str:
        """Digest of what determines the steps: what a quorum votes on."""
        return self.training.digest

    @property
    def id(self) -> str:
        """Digest of the commitment itself."""
        return digest_of(to_plain(self))


def checkpoint_steps(steps: int, every: int) -> list[int]:
    """Before which steps a state is kept: every ``every``-th, and after the last.

    Examples:
        >>> from studbook.records.training import checkpoint_steps
        >>> checkpoint_steps(25, 10)
        [0, 10, 20, 25]
    """
    return [*range(0, steps, every), steps]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCalibration:
    """How far an honest step may be from its replay.

    Attributes:
        objective: Digest of the objective's description.
        committed: The numerics in which steps are committed to.
        replayed: Those in which they are replayed.
        steps: Steps that one examination replays; what is limited is the largest distance among them.
        limit: Largest relative distance ‖u' − u‖/‖u‖ between replayed and committed update; 0: bit for bit.
        false_alarm: Largest probability that an honest node is beyond it; 0 where it is bit for bit.
        confidence: That this holds.
        units: Honest examinations that it rests on.
        made: When, in UTC.
    """

    SCHEMA: ClassVar[str] = "studbook.replay-calibration/1"
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    objective: str
    committed: Environment
    replayed: Environment
    steps: int
    limit: float
    false_alarm: float
    confidence: float
    units: int
    made: str

    def __post_init__(self) -> None:
        require_sha(self.objective, "replay.objective")
        require_time(self.made, "replay.made")
        _require(1 <= self.steps <= MAX_STEPS, "replay.steps", self.steps, f"1 to {MAX_STEPS:,}")
        if self.exact:
            alike = self.committed == self.replayed and self.false_alarm == 0 and self.units == 0
            _require(alike, "replay.limit", self.limit, "above 0 in other numerics: 0 is bit for bit, in the same ones")
        else:
            sound = 0 < self.limit < 1 and 0 < self.false_alarm < 1 and self.units >= 1
            _require(sound, "replay.limit", self.limit, "above 0 and below 1, from honest examinations")
        _require(0 < self.confidence < 1, "replay.confidence", self.confidence, "above 0 and below 1")

    @property
    def exact(self) -> bool:
        """Whether updates must agree to the last bit."""
        return self.limit == 0

    @property
    def id(self) -> str:
        """Digest of the calibration."""
        return digest_of(to_plain(self))
