"""What nodes train: a loss over the rows of a data set, as a function of plain arrays. Objectives conform by shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from studbook.arrays import Ints
from studbook.protocols.values import Parameters


@dataclass(frozen=True, slots=True, eq=False)
class Gradient:
    """The gradient of the mean loss over some rows.

    Attributes:
        parameters: Alike the parameters.
        loss: The mean loss.
        n: Rows.
    """

    parameters: Parameters
    loss: float
    n: int


class Objective(Protocol):
    """A model family on a data set: the same parameters and rows give the same gradient to the bit, on one thread of one kind of machine.

    Attributes:
        n_rows: Training rows, numbered from 0; nodes hold some of them each.
    """

    @property
    def n_rows(self) -> int: ...

    def initial(self, *, rng: np.random.Generator) -> Parameters:
        """Parameters to begin with."""
        ...

    def gradient(self, parameters: Parameters, rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """The gradient over rows; ``rng`` is for what is random in the loss (noise, dropout)."""
        ...

    def evaluate(self, parameters: Parameters) -> Mapping[str, float]:
        """Measures on held-out data: ``loss``, ``accuracy``, …"""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What determines it, the data's digest among it, as JSON's types; it goes into commitments."""
        ...


@runtime_checkable
class Sliced(Objective, Protocol):
    """An objective of which a node may hold a slice: rows of some arrays, chosen by key (a word, a filter, a neuron).

    ``gradient`` of a slice's parameters needs nothing else. A group of keys is named, for example ``"words"``; key k of a group stands for
    the k-th row, column or filter of the arrays that belong to it.
    """

    def groups(self) -> Mapping[str, int]:
        """Keys of each group."""
        ...

    def take(self, parameters: Parameters, keys: Mapping[str, Ints]) -> Parameters:
        """The slice of sorted, different keys; groups that aren't named are whole.

        Raises:
            ConfigError: A key out of range, or a group that isn't there.
        """
        ...

    def scatter(self, update: Parameters, keys: Mapping[str, Ints], like: Parameters) -> tuple[Parameters, Parameters]:
        """A slice's update put back into place: the whole update, zero elsewhere, and how often (0 or 1) each entry was covered."""
        ...

    def slice_gradient(self, part: Parameters, keys: Mapping[str, Ints], rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """The gradient of a slice's parameters over rows."""
        ...

    def frequent_keys(self, rows: Ints, group: str, m: int) -> Ints:
        """The ``m`` keys of a group that matter most for these rows, sorted; the first by number where they are equal."""
        ...
