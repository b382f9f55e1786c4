"""Gossip: after each step nodes average with neighbours, and nobody ever sees all."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from studbook.arrays import Floats
from studbook.errors import ConfigError
from studbook.protocols.checks import require_several
from studbook.protocols.exchange import Exchange, Kind, Shares
from studbook.protocols.graphs import Edge, Graph, metropolis_weights, pair_weights
from studbook.protocols.team import Team, spread_of
from studbook.protocols.values import Parameters, mean
from studbook.rng import stream
from studbook.theory import pair_contraction

_DRAWS = 1000
_MOST_DRAWN = 1 << 24
"""Numbers in the drawn matrices; large graphs get fewer of them."""


@dataclass(frozen=True, slots=True)
class Gossip:
    """Every node takes a step, then averages its parameters with others on a graph. Optimisers keep their own state.

    Attributes:
        graph: Who can talk to whom; on a complete one pairs are random pairs.
        exchange: ``pairs``: a new matching of the graph's edges each step, both ends of an edge push and pull and keep the mean;
            ``neighbours``: each averages with all its neighbours by Metropolis–Hastings weights.
        every: Steps between exchanges, 1 or more.

    Raises:
        ConfigError: Another exchange, or an impossible number of steps.

    References:
        S. Boyd et al., "Randomized gossip algorithms", IEEE Trans. Inf. Theory 52 (2006); X. Lian et al., NeurIPS 2017 (neighbours);
        here the step comes first and the average after it ("adapt then combine").

    Examples:
        >>> from studbook.protocols import Gossip, ring
        >>> from studbook.theory import contraction
        >>> protocol = Gossip(ring(8), "neighbours")
        >>> round(contraction(protocol.mixing(8)[0]), 4)
        0.6476
    """

    graph: Graph
    exchange: Literal["pairs", "neighbours"] = "pairs"
    every: int = 1

    def __post_init__(self) -> None:
        if self.exchange not in ("pairs", "neighbours"):
            raise ConfigError(f"exchange is {self.exchange!r}, expected pairs or neighbours")
        if type(self.every) is not int or not 1 <= self.every <= 1_000_000:
            raise ConfigError(f"every is {self.every!r}, expected 1 to 1,000,000 steps between exchanges")

    @property
    def recovers(self) -> Literal["peer", "alone"]:
        """A node that comes back goes on from a peer's state."""
        return "peer"

    def check(self, n: int) -> None:
        """See ``Protocol``."""
        require_several("gossip", n)
        if n != self.graph.n:
            raise ConfigError(f"the graph has {self.graph.n} nodes, the run {n}", hint="as many of both")

    def step(self, team: Team) -> Mapping[int, float]:
        """See ``Protocol``."""
        if not self._exchanges(team.step):
            return team.advance()
        if len(team.live) < self.graph.n:
            team.note_parts(self.graph.parts(team.live))
        pairs = self._pairs(team.live, team.seed, team.step) if self.exchange == "pairs" else None
        losses = team.advance(sharing=team.live if pairs is None else [i for pair in pairs for i in pair])
        found = team.parameters()
        team.before = spread_of(found.values())
        shares = self._with_neighbours(sorted(found)) if pairs is None else _in_pairs(found, pairs)
        team.adopt(_mixed(found, shares), {i: list(each) for i, each in shares.items()})
        return losses

    @property
    def takes(self) -> Kind:
        """Nodes adopt parameters."""
        return "parameters"

    def shares(self, exchange: Exchange) -> Mapping[int, Shares]:
        """See ``Exchanging``; pairs are drawn again, and where it isn't known among whom, those named have to be edges of the graph."""
        if not self._exchanges(exchange.step):
            return {}
        if self.exchange == "neighbours":
            return self._with_neighbours(exchange.present)
        if exchange.whole:
            return _in_pairs(exchange.present, self._pairs(exchange.present, exchange.seed, exchange.step))
        return _in_pairs(exchange.present, [(each[0], each[1]) for each in exchange.named if each in self.graph.edges])

    def mixing(self, n: int) -> Sequence[Floats]:
        """One matrix for neighbours; for random pairs one of the same second moments; else many matchings, drawn by the run's own law."""
        if self.exchange == "neighbours":
            stack = metropolis_weights(self.graph)
        elif self.graph.is_complete:
            stack = _as_random_pairs(n)
        else:
            rng = stream(0, "matchings")
            stack = np.stack(
                [pair_weights(n, self.graph.matching(range(n), rng=rng)) for _ in range(max(1, min(_DRAWS, _MOST_DRAWN // n**2)))]
            )
        return [*([np.eye(n)] * (self.every - 1)), stack]

    def describe(self) -> Mapping[str, Any]:
        """See ``Protocol``."""
        edges = [list(edge) for edge in self.graph.edges]
        described = {"protocol": "gossip", "graph": self.graph.name, "exchange": self.exchange, "every": self.every, "edges": edges}
        return {**described, "nodes": self.graph.n}

    def _exchanges(self, step: int) -> bool:
        return (step + 1) % self.every == 0

    def _pairs(self, live: Sequence[int], seed: int, step: int) -> list[Edge]:
        return self.graph.matching(live, rng=stream(seed, "matching", step))

    def _with_neighbours(self, nodes: Sequence[int]) -> dict[int, Shares]:
        weights = metropolis_weights(self.graph, nodes)
        return {i: {j: float(share) for j, share in zip(nodes, weights[row], strict=True) if share > 0.0} for row, i in enumerate(nodes)}


def _as_random_pairs(n: int) -> Floats:
    """The fixed matrix with the second moments of uniformly random pairs: nodes are exchangeable, so that only ρ counts."""
    kept = math.sqrt(pair_contraction(n))
    return (kept * np.eye(n) + (1.0 - kept) / n)[None]


def _in_pairs(found: Collection[int], pairs: Iterable[Edge]) -> dict[int, Shares]:
    """The same shares for both of a pair; whose partner was lost meanwhile keeps what it has."""
    return {k: {i: 1.0, j: 1.0} for i, j in pairs if i in found and j in found for k in (i, j)}


def _mixed(found: Mapping[int, Parameters], shares: Mapping[int, Shares]) -> dict[int, Parameters]:
    """Each node's mean by its shares; of those with the same shares the very same."""
    means: dict[tuple[tuple[int, float], ...], Parameters] = {}
    for each in shares.values():
        key = tuple(each.items())
        if key not in means:
            means[key] = mean([found[j] for j in each], list(each.values()))
    return {i: means[tuple(each.items())] for i, each in shares.items()}
