"""A training run's nodes as plain settings, from which every process builds the same ones: names and numbers, never code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np

from studbook.arrays import Ints
from studbook.errors import ConfigError
from studbook.parameters import build
from studbook.protocols.node import Node, Optimiser
from studbook.protocols.objective import Objective
from studbook.protocols.partition import By, Partition
from studbook.protocols.quadratic import Quadratic
from studbook.rng import stream

MOST_NODES = 1024
Split: TypeAlias = Literal["shuffled", "contiguous", "shared", "label", "document", "size"]


def create_objective(name: str, settings: Mapping[str, Any]) -> Objective:
    """An objective by name: ``quadratic``, or one of ``studbook.protocols.objectives``; ``digits-softmax`` is ``softmax`` on ``digits``.

    Raises:
        ConfigError: No such objective, or impossible settings.
        DataError: Its data can't be had.
        MissingExtraError: It needs a package that isn't installed.

    Examples:
        >>> from studbook.protocols.spec import create_objective
        >>> create_objective("digits-softmax", {}).n_rows
        1438
    """
    if name == "quadratic":
        return build(Quadratic, settings, "objective")
    from studbook.protocols.objectives.catalog import OBJECTIVES, open_objective

    data, _, kind = name.partition("-")
    if name not in OBJECTIVES and kind in OBJECTIVES and "data" not in settings:
        return open_objective(kind, {"data": data, **settings})
    return open_objective(name, settings)


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """Nodes that share an objective's rows.

    Attributes:
        objective: Its name; see ``create_objective``.
        settings: The objective's.
        nodes: How many, 1 to 1,024.
        batch: Rows a step and node.
        optimiser: How each steps.
        seed: Root of every random number of the run.
        split: Which rows a node holds: ``shuffled`` deals all rows out at random, ``contiguous`` in the order in which they lie (by class,
            where the data is sorted), ``shared`` gives every node all rows. ``label``, ``document`` and ``size``: see ``Partition``.
        skew: Of ``label`` its alpha, of ``size`` its exponent; above 0.

    Raises:
        ConfigError: A value out of range.

    Examples:
        >>> from studbook.protocols import TrainingSpec
        >>> [len(node.rows) for node in TrainingSpec("quadratic", {"rows": 10}, nodes=3, batch=2).build()]
        [4, 3, 3]
    """

    objective: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    nodes: int = 8
    batch: int = 32
    optimiser: Optimiser = field(default_factory=Optimiser)
    seed: int = 0
    split: Split = "shuffled"
    skew: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= MOST_NODES:
            raise ConfigError(f"nodes is {self.nodes}, expected 1 to {MOST_NODES:,}")
        if self.batch < 1 or self.seed < 0:
            raise ConfigError(f"the batch is {self.batch} and the seed {self.seed}, expected 1 or more rows, and 0 or more")
        if self.split not in get_args(Split):
            raise ConfigError(f"split is {self.split!r}, expected {', '.join(get_args(Split))}")
        if not 0.0 < self.skew <= 100.0:
            raise ConfigError(f"skew is {self.skew}, expected above 0 and at most 100")

    def build(self) -> list[Node]:
        """All nodes; they share one objective.

        Raises:
            ConfigError: More nodes than rows, or an impossible objective.
        """
        objective = create_objective(self.objective, self.settings)
        rows = self._rows(objective)
        return [Node(index, objective, rows[index], self.batch, self.optimiser, self.seed) for index in range(self.nodes)]

    def _rows(self, objective: Objective) -> Sequence[Ints]:
        if self.split in ("label", "document", "size"):
            return Partition(cast("By", self.split), alpha=self.skew, exponent=self.skew).split(objective, self.nodes, seed=self.seed)
        return split_rows(objective.n_rows, self.nodes, self.split, seed=self.seed)

    def node(self, index: int) -> Node:
        """One of the nodes.

        Raises:
            ConfigError: There is none of that number, or as ``build``.
        """
        if not 0 <= index < self.nodes:
            raise ConfigError(f"there is no node {index}, expected 0 to {self.nodes - 1}")
        return self.build()[index]

    def plain(self) -> dict[str, Any]:
        """As JSON's types."""
        return {**dataclasses.asdict(self), "settings": dict(self.settings)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> TrainingSpec:
        """From JSON's types, strictly.

        Raises:
            ConfigError: Unknown keys, missing or impossible values.
        """
        rest = {name: value for name, value in plain.items() if name not in ("settings", "optimiser")}
        settings = plain.get("settings", {})
        if not isinstance(settings, Mapping):
            raise ConfigError(f"settings is {settings!r}, expected a table")
        known = build(_Plain, rest, "training")
        optimiser = build(Optimiser, plain.get("optimiser", {}), "optimiser")
        return cls(known.objective, settings, known.nodes, known.batch, optimiser, known.seed, known.split, known.skew)


@dataclass(frozen=True, slots=True)
class _Plain:
    """What of a spec is no table."""

    objective: str
    nodes: int = 8
    batch: int = 32
    seed: int = 0
    split: Split = "shuffled"
    skew: float = 1.0


def split_rows(n_rows: int, n: int, how: str, *, seed: int) -> list[Ints]:
    """The rows of each node, sorted; parts differ by one row at most.

    Raises:
        ConfigError: More nodes than rows.

    Examples:
        >>> from studbook.protocols.spec import split_rows
        >>> [part.tolist() for part in split_rows(5, 2, "contiguous", seed=0)]
        [[0, 1, 2], [3, 4]]
    """
    if n > n_rows:
        raise ConfigError(f"{n} nodes share {n_rows} rows, expected one row each at least", hint="fewer nodes, or more data")
    if how == "shared":
        return [np.arange(n_rows) for _ in range(n)]
    order = stream(seed, "split").permutation(n_rows) if how == "shuffled" else np.arange(n_rows)
    return [np.sort(part) for part in np.array_split(order, n)]
