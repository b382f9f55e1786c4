"""Federated select: each client names keys, and receives, trains and sends back those slices of the model alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError
from studbook.parameters import conform
from studbook.protocols.node import Node
from studbook.protocols.objective import Objective, Sliced
from studbook.protocols.values import Parameters
from studbook.rng import stream

How: TypeAlias = Literal["frequent", "random", "mixed"]
KEY_BYTES = 4


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
            the weight of those that had the entry.

    References:
        Charles et al. 2022, "Federated select: a primitive for communication- and memory-efficient federated learning", arXiv 2208.09432.

    Examples:
        >>> from studbook.protocols.select import Choice, Selection
        >>> Selection({"words": Choice(100), "neurons": Choice(8, "random")}).average
        'clients'
    """

    groups: Mapping[str, Choice] = field(default_factory=dict)
    average: Literal["clients", "coverage"] = "clients"

    def __post_init__(self) -> None:
        if self.average not in ("clients", "coverage"):
            raise ConfigError(f"select.average is {self.average!r}, expected clients or coverage")

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


def combine(
    objective: Objective,
    like: Parameters,
    updates: Sequence[tuple[Parameters, Mapping[str, Ints]]],
    weights: Sequence[float],
    average: Literal["clients", "coverage"] = "clients",
) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """The mean of updates of slices, as a whole update; summed in the order given and in double precision.

    Args:
        objective: Knows where a slice lies.
        like: The whole parameters.
        updates: Each client's update and its keys; none for a whole update.
        weights: Each client's weight, above 0.
        average: See ``Selection``.
    """
    totals: dict[str, Floats] = {name: np.zeros(value.shape) for name, value in like.items()}
    seen: dict[str, Floats] = {name: np.zeros(value.shape) for name, value in like.items()} if average == "coverage" else {}
    for (update, keys), weight in zip(updates, weights, strict=True):
        whole, covered = _sliced(objective).scatter(update, keys, like) if keys else (update, None)
        for name in totals:
            totals[name] += weight * whole[name]
            if seen:
                seen[name] += weight if covered is None else weight * covered[name]
    everyone = float(np.sum(weights))
    shares = {name: np.where(seen[name] > 0, seen[name], 1.0) if seen else everyone for name in totals}
    return {name: (totals[name] / shares[name]).astype(np.float32) for name in sorted(totals)}


def slice_bytes(part: Parameters, keys: Mapping[str, Ints]) -> tuple[int, int]:
    """Bytes of a slice's numbers, and of its keys at four bytes each."""
    return sum(4 * value.size for value in part.values()), sum(KEY_BYTES * len(chosen) for chosen in keys.values())


def _sliced(objective: Objective) -> Sliced:
    if not isinstance(objective, Sliced):
        raise ConfigError(f"the objective {objective.describe().get('objective')} can't be sliced", hint="take mlp, cnn, tags or next_word")
    return objective
