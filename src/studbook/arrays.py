"""Records as arrays: what kind they are, and a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from studbook.errors import DataError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
AnyArray: TypeAlias = NDArray[Any]
Joined: TypeAlias = Literal["words", "plain", "bytes"]


class Kind(StrEnum):
    """What one record is."""

    NUMBERS = "numbers"
    """A vector of real numbers: ``(d,)`` float64."""
    COUNTS = "counts"
    """A non-negative integer without an upper bound: ``()`` int64."""
    STATES = "states"
    """One of ``n_states`` unordered states: ``()`` int64."""
    TEXT = "text"
    """A block of ``length`` token ids: ``(length,)`` int32, with a vocabulary."""
    IMAGES = "images"
    """A picture: ``(height, width)`` or ``(height, width, channels)``, float64."""


@dataclass(frozen=True, slots=True)
class Space:
    """The set that records are drawn from.

    Attributes:
        kind: What one record is.
        shape: Shape of one record: ``(d,)``, ``()``, ``(length,)``, ``(h, w)`` or ``(h, w, c)``.
        n_states: Number of states (``STATES``) or size of the vocabulary (``TEXT``), else 0.
        vocabulary: The word behind each token id (``TEXT``), else empty.
        value_range: Smallest and largest pixel value (``IMAGES``); for display only, samples aren't clipped.
        columns: Names of the columns (``NUMBERS``), where they are known.
        joined: How the vocabulary becomes running text (``TEXT``): ``words`` with English spacing; ``plain``, put end to end; or
            ``bytes``, where each character stands for one byte of UTF-8.
    """

    kind: Kind
    shape: tuple[int, ...] = ()
    n_states: int = 0
    vocabulary: tuple[str, ...] = field(default=(), repr=False)
    value_range: tuple[float, float] = (0.0, 1.0)
    columns: tuple[str, ...] = ()
    joined: Joined = "words"

    @property
    def dimension(self) -> int:
        """Numbers per record, ``prod(shape)``."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some records of one space.

    Attributes:
        values: ``(n, *space.shape)``; the first axis counts the records.
        space: What a record is.
        weights: ``(n,)`` positive weights of the records in a fit, or ``None`` for all equal.
        labels: ``(n,)`` class of each record, where it is known. Learners don't look at it.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import Batch, numbers
        >>> batch = numbers(np.array([[1.0], [2.0], [4.0]]))
        >>> len(batch), batch.space.kind.value, batch.take(np.array([2, 0])).values[:, 0].tolist()
        (3, 'numbers', [4.0, 1.0])
    """

    values: AnyArray
    space: Space
    weights: Floats | None = None
    labels: Ints | None = None

    def __post_init__(self) -> None:
        if self.values.shape[1:] != self.space.shape:
            raise DataError(
                f"records have shape {self.values.shape[1:]}, the space expects {self.space.shape}",
                hint="pass values of shape (n, *space.shape)",
            )
        for name, column in (("weights", self.weights), ("labels", self.labels)):
            if column is not None and column.shape != self.values.shape[:1]:
                raise DataError(f"{name} have shape {column.shape}, expected ({len(self.values)},)")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def flat(self) -> AnyArray:
        """The values as ``(n, dimension)``."""
        return self.values.reshape(len(self.values), -1)

    def take(self, rows: Ints) -> Batch:
        """The records at ``rows``, in that order."""
        return Batch(
            self.values[rows],
            self.space,
            None if self.weights is None else self.weights[rows],
            None if self.labels is None else self.labels[rows],
        )

    def with_weight(self, weight: float) -> Batch:
        """The same records, each with the weight ``weight``."""
        return replace(self, weights=np.full(len(self), float(weight)))


def concatenate(batches: Sequence[Batch]) -> Batch:
    """All records of ``batches`` (of one space), in order.

    Weights default to 1 where only some batches have them; labels are dropped unless all have them.
    """
    if not batches:
        raise DataError("nothing to concatenate", hint="pass at least one batch")
    if len(batches) == 1:
        return batches[0]
    weights = labels = None
    if any(b.weights is not None for b in batches):
        weights = np.concatenate([np.ones(len(b)) if b.weights is None else b.weights for b in batches])
    known = [b.labels for b in batches if b.labels is not None]
    if len(known) == len(batches):
        labels = np.concatenate(known)
    return Batch(np.concatenate([b.values for b in batches]), batches[0].space, weights, labels)


def numbers(values: AnyArray, columns: tuple[str, ...] = ()) -> Batch:
    """A batch of number vectors from an array of shape ``(n,)`` or ``(n, d)``."""
    table = np.ascontiguousarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    return Batch(table, Space(Kind.NUMBERS, table.shape[1:], columns=columns))


def states(values: AnyArray, n_states: int) -> Batch:
    """A batch of states, integers in ``[0, n_states)``, from an array of shape ``(n,)``."""
    return Batch(np.ascontiguousarray(values, dtype=np.int64), Space(Kind.STATES, (), n_states))


def counts(values: AnyArray) -> Batch:
    """A batch of non-negative integers from an array of shape ``(n,)``."""
    return Batch(np.ascontiguousarray(values, dtype=np.int64), Space(Kind.COUNTS))


def text(tokens: AnyArray, vocabulary: tuple[str, ...], joined: Joined = "words") -> Batch:
    """A batch of text blocks from token ids of shape ``(n, length)``."""
    blocks = np.ascontiguousarray(tokens, dtype=np.int32)
    return Batch(blocks, Space(Kind.TEXT, blocks.shape[1:], len(vocabulary), vocabulary, joined=joined))


def images(pixels: AnyArray, value_range: tuple[float, float], labels: Ints | None = None) -> Batch:
    """A batch of pictures from pixels of shape ``(n, h, w)`` or ``(n, h, w, c)``."""
    values = np.ascontiguousarray(pixels, dtype=np.float64)
    return Batch(values, Space(Kind.IMAGES, values.shape[1:], value_range=value_range), labels=labels)
