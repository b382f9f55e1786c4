"""How several nodes, each with a model of its own, share what they generate: which node's records train which node."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError
from studbook.mixing import Mix, Origin, Part
from studbook.parameters import conform
from studbook.recursion.schedule import Phased
from studbook.theory import neighbour_weights

MAX_NODES = 256
MAX_EVERY = 10_000
_WHERE = "learner.protocol"


@dataclass(frozen=True, slots=True)
class Network:
    """Nodes that train on each other's records.

    Every generation each node's model generates records, and each record goes into one node's training set, but for ``published``.
    ``study.samples`` and the mix speak of one node; so do the original data: each node has its own part of them.

    Attributes:
        kind: ``independent``: islands, each trains on its own records. ``pool``: on as many of every node's. ``published``: each draws on
            its own from what all have published, so that a record may train several. ``ring``: on its own and on some of its two
            neighbours'. ``graph``: likewise with the neighbours that ``edges`` names. Or no records are shared, but parameters.
            ``averaged``: every node fits its model to its own records, then takes the mean of all models' parameters, or ``rounds``
            times the mean with its neighbours on a ring, or on ``edges``. The other kinds train by gradients, from one start:
            ``synchronised``: along the mean gradient of all. ``local``: apart, with the mean of all weights every ``every`` steps.
            ``gossip``: with the mean of the weights of pairs on a ring, or on ``edges``. ``federated``: in rounds, in which ``clients``
            nodes train what a server sends them, and the server steps along the mean of what they changed; all end with its model.
            ``apart``: without any contact, the control.
        nodes: Nodes, 2 or more.
        migration: Share of a node's generated records that come from its neighbours, above 0 and up to 1; of ``ring`` and ``graph``.
        edges: Pairs of nodes, numbered from 0; of ``graph``, ``gossip`` and ``averaged``. Every node must be reached from every other.
        every: Steps between averages of weights; of ``local`` and ``gossip``.
        rounds: Averages with the neighbours that follow a fit; of ``averaged``. By default all nodes' mean at once.
        clients: Nodes that are drawn for a round, at most all; of ``federated``, which needs it.
        epochs: Passes through its records that a client takes in a round, by default 1; of ``federated``.
        server: How the server steps, by default ``sgd``; of ``federated``. With a rate of 1 that is federated averaging.
        server_rate: Its rate, above 0; ``adagrad`` and ``adam`` need one, that of ``sgd`` is 1 by default.

    Raises:
        ConfigError: A value out of range, one that the kind doesn't have, or a graph that falls into parts.

    Examples:
        >>> from studbook.recursion import Network
        >>> Network("ring", 4, migration=0.1).counts(100).tolist()
        [[90, 5, 0, 5], [5, 90, 5, 0], [0, 5, 90, 5], [5, 0, 5, 90]]
    """

    kind: Literal["independent", "pool", "published", "ring", "graph", "averaged", "synchronised", "local", "gossip", "federated", "apart"]
    nodes: int
    migration: float | None = None
    edges: tuple[tuple[int, int], ...] = ()
    every: int | None = None
    rounds: int | None = None
    clients: int | None = None
    epochs: int | None = None
    server: Literal["sgd", "adagrad", "adam"] | None = None
    server_rate: float | None = None

    def __post_init__(self) -> None:
        conform(self, _WHERE)
        if not 2 <= self.nodes <= MAX_NODES:
            hint = "leave learner.protocol out for a single model" if self.nodes == 1 else None
            raise ConfigError(f"{_WHERE}.nodes is {self.nodes}, expected 2 to {MAX_NODES}", hint=hint)
        migrates = self.kind in {"ring", "graph"}
        if migrates != (self.migration is not None):
            wanted = "needs migration, the share of records from neighbours" if migrates else "has no migration"
            raise ConfigError(
                f"a network of the kind {self.kind} {wanted}", hint=f"{'set' if migrates else 'leave out'} {_WHERE}.migration"
            )
        if self.migration is not None and not 0.0 < self.migration <= 1.0:
            raise ConfigError(
                f"{_WHERE}.migration is {self.migration:g}, expected a share above 0, at most 1", hint='islands are "independent"'
            )
        if (self.kind == "graph" and not self.edges) or (self.edges and self.kind not in {"graph", "gossip", "averaged"}):
            raise ConfigError(f"a network of the kind {self.kind} {'has no' if self.edges else 'needs'} edges")
        self._check_rounds()
        if (self.kind == "local") > (self.every is not None) or (self.every is not None and self.kind not in {"local", "gossip"}):
            raise ConfigError(f"a network of the kind {self.kind} {'needs' if self.every is None else 'has no'} every")
        if self.every is not None and not 1 <= self.every <= MAX_EVERY:
            raise ConfigError(f"{_WHERE}.every is {self.every}, expected 1 to {MAX_EVERY:,} steps between averages")
        self._check_edges()
        self._check_rounds_of_clients()

    @property
    def trains_together(self) -> bool:
        """Whether the nodes train by gradients from one start, and exchange no records."""
        return self.kind in {"synchronised", "local", "gossip", "federated", "apart"}

    @property
    def averages(self) -> bool:
        """Whether the nodes take the mean of the parameters of models that each has fitted."""
        return self.kind == "averaged"

    def weights(self) -> Floats:
        """Share of node j's fitted parameters in node i's model: ``(nodes, nodes)``, rows and columns sum to 1.

        Examples:
            >>> from studbook.recursion import Network
            >>> Network("averaged", 4, rounds=1).weights().round(2).tolist()[0]
            [0.33, 0.33, 0.0, 0.33]
        """
        n = self.nodes
        if not self.averages:
            return np.eye(n)
        if self.rounds is None:
            return np.full((n, n), 1.0 / n)
        mixed: Floats = np.linalg.matrix_power(neighbour_weights(n, sorted(self._pairs())), self.rounds)
        return mixed

    def _check_rounds(self) -> None:
        if self.rounds is not None and not self.averages:
            raise ConfigError(f"a network of the kind {self.kind} has no rounds", hint=f"leave out {_WHERE}.rounds")
        if self.rounds is not None and not 1 <= self.rounds <= MAX_EVERY:
            raise ConfigError(f"{_WHERE}.rounds is {self.rounds}, expected 1 to {MAX_EVERY:,} averages with neighbours")
        if self.averages and self.edges and self.rounds is None:
            raise ConfigError("a network that averages along edges needs rounds", hint=f"set {_WHERE}.rounds = 1")

    def _check_rounds_of_clients(self) -> None:
        given = [name for name in ("clients", "epochs", "server", "server_rate") if getattr(self, name) is not None]
        if self.kind != "federated":
            if given:
                raise ConfigError(f"a network of the kind {self.kind} has no {given[0]}", hint=f"leave out {_WHERE}.{given[0]}")
            return
        if self.clients is None:
            raise ConfigError("a federated network needs clients, the nodes of a round", hint=f"set {_WHERE}.clients")
        if not 1 <= self.clients <= self.nodes:
            message = f"{_WHERE}.clients is {self.clients:,}, expected 1 to {self.nodes}: there are no more nodes"
            raise ConfigError(message, hint="fewer clients, or more nodes")
        if self.epochs is not None and not 1 <= self.epochs <= MAX_EVERY:
            raise ConfigError(f"{_WHERE}.epochs is {self.epochs}, expected 1 to {MAX_EVERY:,} passes of a client in a round")
        if self.server_rate is None and self.server in {"adagrad", "adam"}:
            raise ConfigError(f"a server that steps by {self.server} needs a rate", hint=f"set {_WHERE}.server_rate, for example to 0.01")
        if self.server_rate is not None and not 0.0 < self.server_rate < math.inf:
            raise ConfigError(f"{_WHERE}.server_rate is {self.server_rate:g}, expected a rate above 0")

    def _pairs(self) -> set[tuple[int, int]]:
        """The edges, or those of a ring, each once with the lower node first."""
        pairs = self.edges or tuple((i, (i + 1) % self.nodes) for i in range(self.nodes))
        return {(min(pair), max(pair)) for pair in pairs}

    def _check_edges(self) -> None:
        for edge in self.edges:
            if min(edge) < 0 or max(edge) >= self.nodes or edge[0] == edge[1]:
                raise ConfigError(f"{_WHERE}.edges holds {list(edge)}, expected two different nodes from 0 to {self.nodes - 1}")
        lonely = _unreached(_adjacent(self.edges, self.nodes)) if self.edges else []
        if lonely:
            raise ConfigError(
                f"the graph falls into parts: node {lonely[0]} can't be reached from node 0", hint="add edges, or run the parts as studies"
            )

    def neighbours(self) -> list[list[int]]:
        """Each node's neighbours, ascending: whose records it trains on beside its own."""
        n = self.nodes
        if self.kind in {"pool", "published"}:
            return [[j for j in range(n) if j != i] for i in range(n)]
        return _adjacent(tuple(self._pairs()), n) if self.kind in {"ring", "graph"} else [[] for _ in range(n)]

    def counts(self, n: int) -> Ints:
        """How many of node i's ``n`` generated records are node j's: ``(nodes, nodes)``, rows sum to ``n``.

        Raises:
            ConfigError: A node would get no record of one that it is to hear.
        """
        if self.kind in {"pool", "published"}:
            return self._pooled(n)
        table: Ints = np.zeros((self.nodes, self.nodes), dtype=np.int64)
        for node, others in enumerate(self.neighbours()):
            each = round((self.migration or 0.0) * n / len(others)) if others else 0
            if others and (each < 1 or each * len(others) > n):
                raise ConfigError(
                    f"{_WHERE}.migration is {self.migration:g} of {n} generated records, for {len(others)} neighbours of node {node}: "
                    f"{'less than one record each' if each < 1 else 'more than there are'}",
                    hint="raise learner.protocol.migration or study.samples" if each < 1 else "lower learner.protocol.migration",
                )
            table[node, others] = each
            table[node, node] = n - each * len(others)
        return table

    def _pooled(self, n: int) -> Ints:
        """As many of every node's as can be; what is left over goes round, so that every node also gives ``n``."""
        if n < self.nodes:
            raise ConfigError(
                f"a pool of {self.nodes} nodes shares {n} generated records a node, less than one of each node", hint="raise study.samples"
            )
        whole, rest = divmod(n, self.nodes)
        steps = (np.arange(self.nodes) - np.arange(self.nodes)[:, None]) % self.nodes
        table: Ints = whole + (steps < rest).astype(np.int64)
        return table


def _adjacent(pairs: tuple[tuple[int, int], ...], n: int) -> list[list[int]]:
    return [sorted({b if a == i else a for a, b in pairs if i in (a, b)}) for i in range(n)]


def _unreached(neighbours: list[list[int]]) -> list[int]:
    """Nodes that can't be reached from node 0."""
    reached, frontier = {0}, [0]
    while frontier:
        frontier = sorted({other for node in frontier for other in neighbours[node]} - reached)
        reached.update(frontier)
    return [node for node in range(len(neighbours)) if node not in reached]


def network_parts(mix: Mix, n: int, n_original: int) -> tuple[Part, ...]:
    """The parts of each node's training set.

    Args:
        mix: What each node trains on.
        n: Records a node.
        n_original: Each node's own original records.

    Raises:
        ConfigError: A mix that a network can't have: one that changes on the way, or draws on all generations before.
    """
    known = {Origin.GENERATED, Origin.FRESH, Origin.ORIGINAL}
    parts = () if isinstance(mix, Phased) else mix.parts(n, n_original)
    if not parts or any(part.origin not in known for part in parts):
        odd = sorted({part.origin.value for part in parts if part.origin not in known})
        raise ConfigError(
            f"the nodes of a network train on generated, fresh and original records, this mix {f'on {odd[0]} ones' if odd else 'changes'}",
            hint="use replace, keep, fresh, contaminated or weighted",
        )
    if sum(part.origin is Origin.GENERATED for part in parts) != 1:
        raise ConfigError("the nodes of a network need a mix with generated records", hint="leave learner.protocol out")
    return parts


def n_generated(parts: tuple[Part, ...]) -> int:
    """Generated records in each node's training set."""
    return sum(part.n or 0 for part in parts if part.origin is Origin.GENERATED)


def share_of(counts: Ints) -> list[int]:
    """Records that each node gives away and keeps in a generation."""
    return [int(total) for total in counts.sum(axis=0)]


def split_evenly(total: int, nodes: int) -> int:
    """Records of each node, of ``total`` that are divided among them.

    Raises:
        ConfigError: More nodes than records.
    """
    each = math.floor(total / nodes)
    if each < 1:
        raise ConfigError(f"{nodes} nodes can't share {total:,} records: less than one each", hint="fewer nodes, or more data")
    return each
