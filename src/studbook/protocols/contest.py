"""Attack against defence: a synchronised run with some dishonest nodes, on real data; its final quality, and who is caught.

All step along one combined gradient. With replay, every node commits to its steps so far every so often; a verifier draws some of them by
a seed fixed after the commitment. A node whose replay fails, or that has nothing to show, is out from then on, and the others go back to
the state of the last inspection: what it did to the model must not stay there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from studbook.errors import ConfigError, StudbookError
from studbook.protocols.aggregation import Aggregator
from studbook.protocols.attacks import Attack, View
from studbook.protocols.commit import Committer
from studbook.protocols.node import Node, NodeState, Optimiser
from studbook.protocols.objective import Objective
from studbook.protocols.replay import Assignment, ReplayVerifier, bit_for_bit
from studbook.protocols.stores import MemoryStore
from studbook.protocols.values import Parameters, digest
from studbook.provenance import SigningKey
from studbook.records import Contact
from studbook.rng import stream

_PAST = 64


@dataclass(frozen=True, slots=True)
class Audit:
    """How nodes are replayed during the run.

    Attributes:
        block: After so many steps each, every node commits to all of its steps so far.
        drawn: Steps of each node that are replayed then.

    Raises:
        ConfigError: None, or more than there are.
    """

    block: int = 25
    drawn: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.drawn <= self.block:
            raise ConfigError(f"{self.drawn} of {self.block} steps are replayed, expected 1 or more of them")


@dataclass(frozen=True, slots=True)
class Defence:
    """How updates are combined, and whether steps are replayed.

    Attributes:
        aggregator: Combines them.
        audit: Replays, or ``None``.
    """

    aggregator: Aggregator
    audit: Audit | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """Who takes part.

    Attributes:
        objective: What is trained.
        n_honest: Honest nodes; each holds an equal part of the rows.
        attacks: What each dishonest node does. They hold parts, too.
        sybils: Of the dishonest ones, how many are one client under several names: all hold the rows of the first of them.
        steps: Of the run.
        batch: Rows a step of each node.
        optimiser: How all step.
        judge: Measures on the final parameters.
    """

    objective: Objective
    n_honest: int
    attacks: Sequence[Attack]
    sybils: int = 0
    steps: int = 150
    batch: int = 32
    optimiser: Optimiser = field(default_factory=lambda: Optimiser(rate=0.5))
    judge: Callable[[Parameters], Mapping[str, float]] | None = None

    def nodes(self, seed: int) -> list[Node]:
        """The nodes, the honest first."""
        n = self.n_honest + len(self.attacks)
        parts = np.array_split(stream(seed, "parts").permutation(self.objective.n_rows), n)
        first = self.n_honest
        held = [parts[first] if first <= i < first + self.sybils else part for i, part in enumerate(parts)]
        return [Node(i, self.objective, np.sort(rows), self.batch, self.optimiser, seed) for i, rows in enumerate(held)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one run.

    Attributes:
        measures: Of the final parameters.
        caught: Dishonest nodes that were excluded.
        dishonest: Dishonest nodes.
        wronged: Honest nodes that were excluded.
        honest: Honest nodes.
        first: Step after which the first dishonest node was excluded; -1: none was.
        replayed: Steps that were replayed, as a share of those that were taken.
    """

    measures: Mapping[str, float]
    caught: int
    dishonest: int
    wronged: int
    honest: int
    first: int
    replayed: float


def play(cast: Cast, defence: Defence, seed: int) -> Outcome:
    """One run: all that happens in it is a function of its arguments.

    Raises:
        ConfigError: No honest node, or no steps.
    """
    if cast.n_honest < 1 or cast.steps < 1:
        raise ConfigError(f"{cast.n_honest} honest nodes and {cast.steps} steps, expected 1 or more")
    run = _Run(cast, defence, seed)
    while run.inside and run.state.step < cast.steps:
        run.step()
        if defence.audit is not None and (run.state.step % defence.audit.block == 0 or run.state.step == cast.steps):
            run.inspect(defence.audit)
    return run.outcome()


class _Run:
    """One run on its way."""

    def __init__(self, cast: Cast, defence: Defence, seed: int) -> None:
        self._cast, self._defence, self._seed = cast, defence, seed
        self._nodes = cast.nodes(seed)
        self.inside = set(range(len(self._nodes)))
        self.state = self._nodes[0].begin()
        self._past: deque[NodeState] = deque(maxlen=_PAST)
        self._sent: dict[int, Parameters] = {}
        self._contacts: dict[int, Contact] = {}
        self._key, self._name = SigningKey.generate(), stream(seed, "run").bytes(16).hex()
        self._stores = [MemoryStore() for _ in self._nodes]
        self._committers = [Committer(node, store, every=1, run=self._name) for node, store in zip(self._nodes, self._stores, strict=True)]
        for committer in self._committers:
            committer.begin(self.state)
        self._first, self._taken, self._again = -1, 0, 0
        self._sound = self.state

    def step(self) -> None:
        """All send their updates, the dishonest last; all step along the combined one."""
        state, honest = self.state, range(self._cast.n_honest)
        updates = {i: self._nodes[i].gradient_at(state).parameters for i in honest if i in self.inside}
        neighbours, past = list(updates.values()), tuple(self._past)
        for i, attack in enumerate(self._cast.attacks, start=self._cast.n_honest):
            if i in self.inside:
                updates[i] = attack.update(View(self._nodes[i], state, neighbours, past, self._sent.get(i)))
        self._sent = updates
        self._taken += len(updates)
        agreed = self._defence.aggregator.combine([updates[i] for i in sorted(updates)])
        self._past.append(state)
        self.state = self._nodes[0].apply(state, agreed)
        if self._defence.audit is not None:
            self._contacts[state.step] = Contact(kind="gradient", value=digest(agreed), peers=tuple(sorted(updates)))
            for i, update in updates.items():
                self._committers[i].record(state, update, self.state, agreed=agreed, peers=sorted(updates))

    def inspect(self, audit: Audit) -> None:
        """Each node commits to its steps so far; then the round is drawn, and the drawn steps are replayed."""
        out = [i for i in sorted(self.inside) if not self._holds(i, audit.drawn)]
        self.inside -= set(out)
        if self._first < 0 and any(i >= self._cast.n_honest for i in out):
            self._first = self.state.step
        if not out or not self.inside:
            self._sound = self.state
            return
        self.state = self._sound
        self._past.clear()
        for i in self.inside:
            self._committers[i].rewind(self.state.step)
        self._contacts = {step: contact for step, contact in self._contacts.items() if step < self.state.step}

    def _holds(self, i: int, drawn: int) -> bool:
        """Whether the replay of a node's steps comes to what it committed to."""
        signed = self._committers[i].finish(self.state, self._key)
        round_ = stream(self._seed, "round", i, self.state.step).bytes(16).hex()
        assigned = Assignment(self._nodes[i], self._name, self.state.step, self._key.public, contacts=self._contacts)
        try:
            found = ReplayVerifier(assigned, bit_for_bit(self._nodes[i], drawn)).examine(signed, self._stores[i], round_)
        except StudbookError:
            return False  # nothing to show is no excuse
        self._again += found.cost.taken
        return found.ballot.accepts

    def outcome(self) -> Outcome:
        """What became of it."""
        n, dishonest = self._cast.n_honest, len(self._cast.attacks)
        judge = self._cast.judge or self._cast.objective.evaluate
        out = set(range(len(self._nodes))) - self.inside
        caught = sum(i >= n for i in out)
        return Outcome(
            dict(judge(self.state.parameters)), caught, dishonest, len(out) - caught, n, self._first, self._again / self._taken,
        )  # fmt: skip
