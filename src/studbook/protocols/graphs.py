"""Who can talk to whom: graphs of nodes, the weights by which they average, and how well those mix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studbook.arrays import Floats
from studbook.errors import ConfigError
from studbook.theory import neighbour_weights

MOST_NODES = 1024
_MAX_FILE = 8 << 20

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes from 0, joined by edges that work both ways.

    Attributes:
        n: Nodes, 2 to 1,024.
        edges: Pairs (i, j) with i < j, sorted, each once.
        name: What it is called in tables.

    Raises:
        ConfigError: One node, a name that is no text, an edge that can't be, or nodes that no path joins.

    Examples:
        >>> from studbook.protocols import Graph
        >>> Graph.of([(0, 1), (2, 1)]).edges
        ((0, 1), (1, 2))
    """

    n: int
    edges: tuple[Edge, ...]
    name: str = "given"

    def __post_init__(self) -> None:
        if not 2 <= self.n <= MOST_NODES:
            raise ConfigError(
                f"a graph has {self.n} node{'s' * (self.n != 1)}, expected 2 to {MOST_NODES:,}", hint="one node alone has nobody to talk to"
            )
        if not isinstance(self.name, str):
            raise ConfigError(f"a graph is called {str(self.name)[:40]!r}, expected a text")
        for i, j in self.edges:
            if not 0 <= i < j < self.n:
                raise ConfigError(f"the edge {i}–{j} can't be: expected two different nodes from 0 to {self.n - 1}, the lower one first")
        if list(self.edges) != sorted(set(self.edges)):
            raise ConfigError("the graph's edges aren't sorted, or one is there twice", hint="Graph.of sorts them")
        parts = self.parts(range(self.n))
        if len(parts) > 1:
            shown = ", ".join(map(str, parts[1][:8]))
            raise ConfigError(
                f"the graph is disconnected: no path joins node 0 and nodes {shown} ({len(parts)} parts)",
                hint="add an edge between the parts; nodes that nobody reaches never agree",
            )

    @classmethod
    def of(cls, edges: Iterable[Sequence[int]], n: int | None = None, name: str = "given") -> Graph:
        """From edges in any order, given once or from both ends; without ``n``, as many nodes as the edges name.

        Raises:
            ConfigError: See ``Graph``.
        """
        pairs = set()
        for edge in edges:
            if len(edge) != 2 or not all(isinstance(each, int | np.integer) for each in edge):
                raise ConfigError(f"{list(edge)!r} is no edge, expected two numbers of nodes")
            pairs.add((int(min(edge)), int(max(edge))))
        known = max((j for _, j in pairs), default=-1) + 1
        return cls(known if n is None else n, tuple(sorted(pairs)), name)

    @classmethod
    def read(cls, path: Path, n: int | None = None) -> Graph:
        """From a text file with one edge a line, two numbers each; what follows a # is a remark.

        Raises:
            ConfigError: It can't be read, or isn't such a file; the message names the line.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE + 1)
            text = data.decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the graph {path} can't be read: {error}", hint="one edge a line: 0 1") from error
        if len(data) > _MAX_FILE:
            raise ConfigError(f"the graph {path} is longer than {_MAX_FILE:,} bytes", hint="one edge a line: 0 1")
        edges = []
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].replace(",", " ").split()
            if not words:
                continue
            if len(words) != 2 or not all(word.isdigit() and len(word) < 8 for word in words):
                raise ConfigError(f"{path}, line {number}: {line[:60]!r} is no edge", hint="one edge a line: 0 1")
            edges.append((int(words[0]), int(words[1])))
        return cls.of(edges, n)

    def parts(self, nodes: Iterable[int]) -> list[list[int]]:
        """The connected parts among some of the nodes, each sorted."""
        left = set(nodes)
        near: dict[int, list[int]] = {node: [] for node in left}
        for i, j in self.edges:
            if i in left and j in left:
                near[i].append(j)
                near[j].append(i)
        found = []
        while left:
            reached = {min(left)}
            open_ = list(reached)
            while open_:
                fresh = [node for node in near[open_.pop()] if node not in reached]
                reached.update(fresh)
                open_ += fresh
            found.append(sorted(reached))
            left -= reached
        return found

    def among(self, nodes: Iterable[int]) -> list[Edge]:
        """The edges between some of the nodes."""
        kept = set(nodes)
        return [(i, j) for i, j in self.edges if i in kept and j in kept]

    @property
    def is_complete(self) -> bool:
        """Whether everybody can talk to everybody."""
        return len(self.edges) == self.n * (self.n - 1) // 2

    def matching(self, nodes: Sequence[int], *, rng: np.random.Generator) -> list[Edge]:
        """Pairs that average at a step: edges in random order, each taken where both ends are free. Nobody is in two pairs.

        Args:
            nodes: Who takes part.
            rng: Where the order comes from.
        """
        if self.is_complete:  # the same law as below, without looking at n² edges
            order = rng.permutation(np.sort(np.asarray(nodes, np.int64))).tolist()
            return sorted((min(pair), max(pair)) for pair in zip(order[::2], order[1::2], strict=False))
        edges, free, pairs = self.among(nodes), set(nodes), []
        for k in rng.permutation(len(edges)):
            i, j = edges[k]
            if i in free and j in free:
                pairs.append((i, j))
                free -= {i, j}
        return sorted(pairs)


def ring(n: int) -> Graph:
    """Everybody talks to two neighbours.

    Examples:
        >>> from studbook.protocols import ring
        >>> ring(4).edges
        ((0, 1), (0, 3), (1, 2), (2, 3))
    """
    return Graph.of(((i, (i + 1) % n) for i in range(n) if n > 1), n, "ring")


def complete(n: int) -> Graph:
    """Everybody can talk to everybody; pairs drawn from it are random pairs.

    Examples:
        >>> from studbook.protocols import complete
        >>> len(complete(8).edges)
        28
    """
    return Graph.of(((i, j) for i in range(n) for j in range(i + 1, n)), n, "complete")


def star(n: int) -> Graph:
    """Everybody talks to node 0 alone.

    Examples:
        >>> from studbook.protocols import star
        >>> star(4).edges
        ((0, 1), (0, 2), (0, 3))
    """
    return Graph.of(((0, i) for i in range(1, n)), n, "star")


GRAPHS = {"ring": ring, "complete": complete, "pairs": complete, "star": star}


def create_graph(name: str, n: int) -> Graph:
    """A graph by name (``ring``, ``complete``, ``pairs``: random pairs of everybody, ``star``), or from a file of edges.

    Raises:
        ConfigError: No such name or file, or an impossible graph.

    Examples:
        >>> from studbook.protocols import create_graph
        >>> create_graph("ring", 8).n
        8
    """
    if name in GRAPHS:
        return GRAPHS[name](n)
    if not Path(name).is_file():
        raise ConfigError(f"there is no graph {name!r}", hint=f"one of {', '.join(GRAPHS)}, or a file with one edge a line: 0 1")
    return Graph.read(Path(name), n)


def metropolis_weights(graph: Graph, nodes: Sequence[int] | None = None) -> Floats:
    """Weights by which each node averages with all its neighbours: W_ij = 1/(1 + max(d_i, d_j)) for an edge, the rest on the diagonal.

    Args:
        graph: Who talks to whom.
        nodes: Who takes part, sorted; by default everybody. Rows and columns stand for them in order.

    Returns:
        A symmetric matrix whose rows and columns sum to 1, none of it below 0.

    References:
        L. Xiao, S. Boyd, S.-J. Kim, "Distributed average consensus with least-mean-square deviation", J. Parallel Distrib. Comput. 67
        (2007), eq. 3, after Metropolis and Hastings.

    Examples:
        >>> from studbook.protocols import metropolis_weights, star
        >>> metropolis_weights(star(3)).round(3).tolist()
        [[0.333, 0.333, 0.333], [0.333, 0.667, 0.0], [0.333, 0.0, 0.667]]
    """
    who = list(range(graph.n)) if nodes is None else sorted(nodes)
    place = {node: k for k, node in enumerate(who)}
    return neighbour_weights(len(who), [(place[i], place[j]) for i, j in graph.among(who)])


def pair_weights(n: int, pairs: Iterable[Edge]) -> Floats:
    """The matrix by which pairs take their mean, and the others stay as they are: a projection.

    Examples:
        >>> from studbook.protocols import pair_weights
        >>> pair_weights(3, [(0, 2)]).tolist()
        [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]
    """
    weights = np.eye(n)
    for i, j in pairs:
        weights[i, i] = weights[j, j] = weights[i, j] = weights[j, i] = 0.5
    return weights
