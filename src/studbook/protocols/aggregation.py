"""Combining the updates of several nodes, some of whom may be dishonest.

Each aggregator takes the nodes' updates in the order of their numbers and gives one. An update with a number that isn't finite counts for
nobody. Sums are in double precision and in the order given: the same to the bit wherever they are computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Floats
from studbook.errors import ConfigError, RecordError
from studbook.learners._robust_kernels import geometric_median
from studbook.protocols.values import Parameters, require_alike


class Aggregator(Protocol):
    """How one update comes from several."""

    def combine(self, updates: Sequence[Parameters], covers: Sequence[Parameters] | None = None) -> dict[str, NDArray[np.float32]]:
        """The update that all step along.

        Args:
            updates: One a node, alike.
            covers: Which entries (1 or 0) each node's slice covered, as ``Sliced.scatter`` gives them; an entry that a node didn't cover
                isn't its word. ``None``: all.

        Raises:
            RecordError: No updates that are finite, or not alike.
        """
        ...


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean: best where all are honest, and any single node can move it anywhere."""

    def combine(self, updates: Sequence[Parameters], covers: Sequence[Parameters] | None = None) -> dict[str, NDArray[np.float32]]:
        """See ``Aggregator``."""
        values, known = _stack(updates, covers)
        total = np.zeros(values.shape[1])
        for row in np.where(known, values, 0.0):
            total += row
        return _unstack(total / np.maximum(known.sum(axis=0), 1), updates[0])


@dataclass(frozen=True, slots=True)
class TrimmedMean:
    """Entry by entry, the mean without the largest and smallest values.

    Attributes:
        share: Share of the values that is left out at each end, 0 to below ½: it withstands as many dishonest nodes.

    Raises:
        ConfigError: Out of range.

    References:
        D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-robust distributed learning", ICML 2018, definition 2.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols.aggregation import TrimmedMean
        >>> updates = [{"w": np.array([each], np.float32)} for each in (1.0, 2.0, 3.0, 1e9)]
        >>> TrimmedMean(0.25).combine(updates)["w"].tolist()
        [2.5]
    """

    share: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 0.5:
            raise ConfigError(f"a share of {self.share} is trimmed at each end, expected 0 to below 0.5", hint="nothing would be left")

    def combine(self, updates: Sequence[Parameters], covers: Sequence[Parameters] | None = None) -> dict[str, NDArray[np.float32]]:
        """See ``Aggregator``."""
        values, known = _stack(updates, covers)
        return _unstack(_middle(values, known, np.ceil(self.share * known.sum(axis=0) - 1e-9)), updates[0])


@dataclass(frozen=True, slots=True)
class CoordinateMedian:
    """Entry by entry, the median.

    References:
        Yin et al., ICML 2018, definition 1.
    """

    def combine(self, updates: Sequence[Parameters], covers: Sequence[Parameters] | None = None) -> dict[str, NDArray[np.float32]]:
        """See ``Aggregator``."""
        values, known = _stack(updates, covers)
        return _unstack(_middle(values, known, np.inf), updates[0])


@dataclass(frozen=True, slots=True)
class GeometricMedian:
    """The point with the smallest sum of distances to the updates; entries that a node didn't cover are taken from the others' mean.

    References:
        K. Pillutla, S. Kakade, Z. Harchaoui, "Robust aggregation for federated learning", IEEE Trans. Signal Processing 70 (2022).
    """

    def combine(self, updates: Sequence[Parameters], covers: Sequence[Parameters] | None = None) -> dict[str, NDArray[np.float32]]:
        """See ``Aggregator``."""
        values, known = _stack(updates, covers)
        sound = known.any(axis=1)
        values, known = values[sound], known[sound]
        means = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return _unstack(geometric_median(np.where(known, values, means), np.ones(len(values))), updates[0])


@dataclass(frozen=True, slots=True)
class LeastContributors:
    """Rows (along the first axis of each array) to which too few nodes contribute aren't moved: neither for a backdoor, nor for a leak.

    A node contributes to a row where its slice covers it and one of its values there isn't 0.

    Attributes:
        least: Nodes that have to contribute, 1 or more: one more than are feared to be dishonest.
        inner: How the rows that are left are combined.

    Raises:
        ConfigError: Out of range.
    """

    least: int
    inner: Aggregator = Mean()

    def __post_init__(self) -> None:
        if self.least < 1:
            raise ConfigError(f"at least {self.least} contributors a row, expected 1 or more")

    def combine(self, updates: Sequence[Parameters], covers: Sequence[Parameters] | None = None) -> dict[str, NDArray[np.float32]]:
        """See ``Aggregator``."""
        combined = self.inner.combine(updates, covers)
        found = {}
        for name, value in combined.items():
            given = [_given(each[name], None if covers is None else covers[i][name]) for i, each in enumerate(updates)]
            enough = np.sum(given, axis=0) >= self.least
            found[name] = np.where(enough.reshape(-1, *[1] * (value.ndim - 1)), value, np.float32(0.0))
        return found


def _given(update: NDArray[np.float32], cover: NDArray[np.float32] | None) -> NDArray[np.bool_]:
    """Which rows a node contributes to."""
    moved = np.isfinite(update) & (update != 0)
    moved = moved if cover is None else moved & (cover > 0)
    return np.asarray(moved.reshape(len(moved), -1).any(axis=1) if moved.ndim else moved.reshape(1), bool)


def _stack(updates: Sequence[Parameters], covers: Sequence[Parameters] | None) -> tuple[Floats, NDArray[np.bool_]]:
    """Updates as ``(nodes, entries)``, and which entries count."""
    require_alike(updates)
    values = np.stack([_flat(each) for each in updates]).astype(np.float64)
    known = np.ones(values.shape, bool)
    if covers is not None:
        if len(covers) != len(updates):
            raise RecordError(f"{len(covers)} covers for {len(updates)} updates, expected one each")
        require_alike([updates[0], *covers])
        known = np.stack([_flat(each) for each in covers]) > 0
    sound: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=1))
    if not sound.any():
        raise RecordError("no node's update is finite", hint="the run has diverged: take a smaller rate")
    return values, known & sound.reshape(-1, 1)


def _flat(parameters: Parameters) -> NDArray[np.float32]:
    return np.concatenate([parameters[name].ravel() for name in sorted(parameters)])


def _unstack(flat: Floats, like: Parameters) -> dict[str, NDArray[np.float32]]:
    found, start = {}, 0
    for name in sorted(like):
        size = math.prod(like[name].shape)
        found[name] = flat[start : start + size].reshape(like[name].shape).astype(np.float32)
        start += size
    return found


def _middle(values: Floats, known: NDArray[np.bool_], cut: Floats | float) -> Floats:
    """Column by column, the mean of the known values without ``cut`` at each end; one or two are always left; 0 where none is known."""
    n = known.sum(axis=0)
    cut = np.minimum(cut, np.maximum(n - 1, 0) // 2)
    ordered = np.sort(np.where(known, values, np.inf), axis=0)
    places = np.arange(len(values))[:, None]
    kept = (places >= cut) & (places < n - cut)
    total = np.zeros(values.shape[1])
    for row in np.where(kept, ordered, 0.0):
        total += row
    return np.asarray(total / np.maximum(n - 2 * cut, 1), np.float64)
