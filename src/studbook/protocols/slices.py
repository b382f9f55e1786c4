"""A node that holds a slice of a model and nothing else: its states, its steps and their replays are as small as the slice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from studbook.arrays import Ints
from studbook.protocols.kept import rows_digest
from studbook.protocols.objective import Gradient, Sliced
from studbook.protocols.values import Parameters, digest


@dataclass(frozen=True, slots=True, eq=False)
class OnSlice:
    """An objective on the slice of some keys: the node's parameters are the slice, its commitment is to the slice's digests.

    Attributes:
        objective: The whole.
        keys: Sorted, different keys by group; groups that aren't named are whole.
        whole: The parameters that the rest of the model has when the slice is evaluated, and that the slice is cut from.

    Raises:
        ConfigError: Keys that aren't there.
    """

    objective: Sliced
    keys: Mapping[str, Ints]
    whole: Parameters
    _part: Parameters = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_part", self.objective.take(self.whole, self.keys))

    @property
    def n_rows(self) -> int:
        """See ``Objective``."""
        return self.objective.n_rows

    def initial(self, *, rng: np.random.Generator) -> Parameters:
        """The slice of ``whole``; nothing is drawn."""
        return self._part

    def gradient(self, parameters: Parameters, rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """The gradient of the slice's parameters."""
        return self.objective.slice_gradient(parameters, self.keys, rows, rng=rng)

    def put_back(self, parameters: Parameters) -> Parameters:
        """The whole with the slice in its place."""
        change = {name: parameters[name] - value for name, value in self._part.items()}
        moved, _ = self.objective.scatter(change, self.keys, self.whole)
        return {name: value + moved[name] for name, value in self.whole.items()}

    def evaluate(self, parameters: Parameters) -> Mapping[str, float]:
        """Of the whole with the slice in its place."""
        return self.objective.evaluate(self.put_back(parameters))

    def describe(self) -> Mapping[str, Any]:
        """The objective's, with the keys and what they were cut from."""
        keys = {group: rows_digest(np.asarray(chosen, np.int64)) for group, chosen in sorted(self.keys.items())}
        return {**self.objective.describe(), "slice": keys, "whole": digest(self.whole)}
