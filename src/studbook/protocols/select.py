"""Federated select: each client names keys, and receives, trains and sends back those slices of the model alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError, RecordError
from studbook.parameters import conform
from studbook.protocols.aggregation import Aggregator
from studbook.protocols.node import Node, Optimiser
from studbook.protocols.objective import Objective, Sliced
from studbook.protocols.values import Parameters
from studbook.rng import stream

How: TypeAlias = Literal["frequent", "random", "mixed"]
Average: TypeAlias = Literal["clients", "coverage"] | Aggregator


@dataclass(frozen=True, slots=True)
class Choice:
    """Which keys of a group a client names.

    Attributes:
        m: Keys a client.
        how: ``frequent``: those that matter most for its rows. ``random``: out of the whole group, new ones each round. ``mixed``: at
            random out of the ``2 m`` that matter most (the paper's "random top").

    Raises:
        ConfigError: A value out of range.
    """

    m: int
    how: How = "frequent"

    def __post_init__(self) -> None:
        conform(self, "select")
        if self.m < 1:
            raise ConfigError(f"select.m is {self.m}, expected 1 or more keys a client")


@dataclass(frozen=True, slots=True)
class Selection:
    """What clients choose, and how their slices are put together.

    Attributes:
        groups: By group: which keys. A group that isn't named is whole at every client.
        average: ``clients``: each entry's updates are divided by the weight of all clients of the round, as in the paper. ``coverage``: by
            the weight of those that had the entry. An ``Aggregator`` in their place, such as ``TrimmedMean``, withstands some dishonest
            clients; all weigh alike in it.

    Raises:
        ConfigError: Another average.

    References:
        Charles et al. 2022, "Federated select: a primitive for communication- and memory-efficient federated learning", arXiv 2208.09432.

    Examples:
        >>> from studbook.protocols.select import Choice, Selection
        >>> Selection({"words": Choice(100), "neurons": Choice(8, "random")}).average
        'clients'
    """

    groups: Mapping[str, Choice] = field(default_factory=dict)
    average: Average = "clients"

    def __post_init__(self) -> None:
        if self.average not in ("clients", "coverage") and not callable(getattr(self.average, "combine", None)):
            raise ConfigError(f"select.average is {self.average!r}, expected clients, coverage or an aggregator")

    def check(self, objective: Objective) -> None:
        """Refuse keys that the objective doesn't have, before anything is trained.

        Raises:
            ConfigError: It can't be sliced, has no such group, or not so many keys.
        """
        if not self.groups:
            return
        if not isinstance(objective, Sliced):
            kind = objective.describe().get("objective")
            raise ConfigError(f"the objective {kind} can't be sliced", hint="take mlp, cnn, tags or next_word")
        known = objective.groups()
        for group, choice in self.groups.items():
            if group not in known:
                raise ConfigError(f"there are no keys {group!r} to select", hint=f"the groups are {', '.join(sorted(known))}")
            if choice.m > known[group]:
                raise ConfigError(f"{choice.m:,} keys of {group} are asked for, expected 1 to {known[group]:,}")

    def require(self, keys: Mapping[str, Ints], objective: Objective) -> None:
        """Refuse keys, named by a client, that aren't so many and there.

        Raises:
            RecordError: They aren't.
        """
        wanted = {group: choice.m for group, choice in self.groups.items()}
        if {group: len(chosen) for group, chosen in keys.items()} != wanted:
            raise RecordError(f"it names {sum(map(len, keys.values())):,} keys of {len(keys):,} groups, expected {wanted}")
        known = _sliced(objective).groups()
        for group, chosen in keys.items():
            if chosen.min() < 0 or chosen.max() >= known[group] or (np.diff(chosen) <= 0).any():
                raise RecordError(f"its keys of {group} aren't different ones from 0 to {known[group] - 1:,}, sorted")

    def as_fields(self) -> dict[str, Any]:
        """As JSON's types."""
        return {group: {"m": choice.m, "how": choice.how} for group, choice in sorted(self.groups.items())}


def choose_keys(node: Node, groups: Mapping[str, Choice], number: int) -> dict[str, Ints]:
    """The keys that a client names in a round: from its own rows, and its own random numbers.

    Raises:
        ConfigError: Groups or keys that aren't there.
    """
    objective = _sliced(node.objective)
    Selection(groups).check(objective)
    found: dict[str, Ints] = {}
    for group, choice in sorted(groups.items()):
        n = objective.groups()[group]
        rng = stream(node.seed, "client", node.index, "round", number, "keys", group)
        if choice.m == n:
            found[group] = np.arange(n, dtype=np.int64)
        elif choice.how == "frequent":
            found[group] = objective.frequent_keys(node.rows, group, choice.m)
        elif choice.how == "mixed":
            near = objective.frequent_keys(node.rows, group, min(2 * choice.m, n))
            found[group] = np.sort(rng.choice(near, size=choice.m, replace=False))
        else:
            found[group] = np.sort(rng.choice(n, size=choice.m, replace=False))
    return found


@dataclass(slots=True, eq=False)
class Gathering:
    """Updates of slices as they come in: put back into place, and summed in that order and in double precision.

    Attributes:
        objective: Knows where a slice lies.
        like: The whole parameters, which all updates begin at.
        average: See ``Selection``; an aggregator is given all updates at once, and they are kept for it.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols import Quadratic
        >>> from studbook.protocols.select import Gathering
        >>> gathering = Gathering(Quadratic(dimension=1), {"w": np.zeros(1, np.float32)})
        >>> for update, weight in ((1.0, 3.0), (5.0, 1.0)):
        ...     gathering.add({"w": np.array([update], np.float32)}, {}, weight)
        >>> gathering.mean()["w"].tolist(), gathering.spread()
        ([2.0], 4.0)
    """

    objective: Objective
    like: Parameters
    average: Average = "clients"
    _totals: dict[str, Floats] = field(init=False)
    _plain: dict[str, Floats] = field(init=False)
    _seen: dict[str, Floats] = field(init=False)
    _kept: list[tuple[Parameters, Parameters | None]] = field(default_factory=list)
    _weight: float = 0.0
    _squares: float = 0.0
    _n: int = 0

    def __post_init__(self) -> None:
        self._totals, self._plain = ({name: np.zeros(value.shape) for name, value in self.like.items()} for _ in range(2))
        self._seen = {name: np.zeros(value.shape) for name, value in self.like.items()} if self.average == "coverage" else {}

    def add(self, update: Parameters, keys: Mapping[str, Ints], weight: float) -> None:
        """Take in a client's update.

        Args:
            update: Of its slice.
            keys: Which; none for a whole update.
            weight: Above 0.
        """
        whole, covered = _sliced(self.objective).scatter(update, keys, self.like) if keys else (update, None)
        for name in self._totals:
            self._totals[name] += weight * whole[name]
            self._plain[name] += whole[name]
            if self._seen:
                self._seen[name] += weight if covered is None else weight * covered[name]
        if not isinstance(self.average, str):
            self._kept.append((whole, covered))
        self._weight, self._n = self._weight + weight, self._n + 1
        self._squares += math.fsum(float(np.square(part, dtype=np.float64).sum()) for part in update.values())

    def mean(self) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """The weighted mean, or what an aggregator takes for it, as a whole update."""
        if not isinstance(self.average, str):
            ones = {name: np.ones_like(value) for name, value in self.like.items()}
            return self.average.combine([whole for whole, _ in self._kept], [ones if each is None else each for _, each in self._kept])
        shares = {name: np.where(seen > 0, seen, 1.0) for name, seen in self._seen.items()}
        return {name: (self._totals[name] / shares.get(name, self._weight)).astype(np.float32) for name in sorted(self._totals)}

    def spread(self) -> float:
        """Mean squared distance of the clients' models to their mean, all weighing alike; they are equal in what their slices leave out."""
        if self._n == 1:
            return 0.0
        middle = math.fsum(float(np.square(total / self._n).sum()) for total in self._plain.values())
        return max(0.0, self._squares / self._n - middle)


def slice_bytes(part: Parameters) -> int:
    """Bytes of a slice's numbers."""
    return sum(4 * value.size for value in part.values())


def client_bytes(part: Parameters, optimiser: Optimiser) -> int:
    """Bytes that a client holds: its slice, the slice as it came, a gradient, its optimiser's state. What a batch takes isn't counted."""
    return (3 + len(optimiser.begin(part))) * slice_bytes(part)


def key_bytes(keys: Mapping[str, Ints]) -> int:
    """Bytes of a slice's keys, at four each."""
    return sum(4 * len(chosen) for chosen in keys.values())


def _sliced(objective: Objective) -> Sliced:
    if not isinstance(objective, Sliced):
        raise ConfigError(f"the objective {objective.describe().get('objective')} can't be sliced", hint="take mlp, cnn, tags or next_word")
    return objective
