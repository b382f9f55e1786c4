"""Which axes of a model's arrays belong to a group of keys, so that a client can hold a slice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.errors import ConfigError
from studbook.protocols.values import Parameters


@dataclass(frozen=True, slots=True)
class Layout:
    """Groups of keys, and where they lie.

    Attributes:
        sizes: Keys of each group.
        axes: By array: the group of each of its axes, ``None`` for an axis that is always whole.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols.objectives._layout import Layout
        >>> layout = Layout({"words": 3}, {"w": ("words", None)})
        >>> layout.take({"w": np.arange(6, dtype=np.float32).reshape(3, 2)}, {"words": np.array([0, 2])})["w"].tolist()
        [[0.0, 1.0], [4.0, 5.0]]
    """

    sizes: Mapping[str, int]
    axes: Mapping[str, tuple[str | None, ...]]

    def check(self, keys: Mapping[str, Ints]) -> None:
        """Refuse keys that aren't there.

        Raises:
            ConfigError: A group that isn't there, keys out of range, or not sorted and different.
        """
        for group, given in keys.items():
            if group not in self.sizes:
                raise ConfigError(f"there are no keys {group!r}", hint=f"the groups are {', '.join(sorted(self.sizes)) or 'none'}")
            chosen = np.asarray(given)
            if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
                raise ConfigError(
                    f"the keys of {group} have shape {chosen.shape} and type {chosen.dtype}, expected one or more whole numbers"
                )
            if chosen.min() < 0 or chosen.max() >= self.sizes[group]:
                message = f"the keys of {group} go from {chosen.min()} to {chosen.max()}, expected 0 to {self.sizes[group] - 1:,}"
                raise ConfigError(message, hint="ask for fewer keys, or for a larger model")
            if (np.diff(chosen) <= 0).any():
                raise ConfigError(f"the keys of {group} aren't sorted, or one comes twice", hint="pass numpy.unique(keys)")

    def take(self, parameters: Parameters, keys: Mapping[str, Ints]) -> Parameters:
        """The slice of these keys."""
        self.check(keys)
        return {name: np.ascontiguousarray(value[self._index(name, value.shape, keys)]) for name, value in parameters.items()}

    def scatter(self, update: Parameters, keys: Mapping[str, Ints], like: Parameters) -> tuple[Parameters, Parameters]:
        """The whole update, 0 outside the slice, and what the slice covered, as 0 and 1.

        Raises:
            ConfigError: Keys that aren't there, or an update of another shape than the slice.
        """
        self.check(keys)
        whole: dict[str, AnyArray] = {}
        covered: dict[str, AnyArray] = {}
        for name, target in like.items():
            index = self._index(name, target.shape, keys)
            whole[name], covered[name] = np.zeros(target.shape, np.float32), np.zeros(target.shape, np.float32)
            if name not in update or update[name].shape != whole[name][index].shape:
                got = update[name].shape if name in update else "nothing"
                raise ConfigError(f"the update of {name!r} has shape {got}, the slice has {whole[name][index].shape}")
            whole[name][index], covered[name][index] = update[name], 1.0
        return whole, covered

    def first(self, group: str, m: int) -> Ints:
        """The first ``m`` keys of a group.

        Raises:
            ConfigError: No such group, or not so many keys.
        """
        keys = np.arange(max(m, 0), dtype=np.int64)
        self.check({group: keys})
        return keys

    def _index(self, name: str, shape: tuple[int, ...], keys: Mapping[str, Ints]) -> tuple[AnyArray, ...] | tuple[slice, ...]:
        groups = self.axes.get(name, (None,) * len(shape))
        chosen = [keys.get(group) if group is not None else None for group in groups]
        if all(each is None for each in chosen):
            return (slice(None),) * len(shape)
        if chosen[0] is not None and all(each is None for each in chosen[1:]):
            return (np.asarray(chosen[0]),)  # whole rows are copied faster than single numbers
        return np.ix_(*(np.arange(side) if each is None else each for each, side in zip(chosen, shape, strict=True)))
