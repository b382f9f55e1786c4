"""Arrays of any shape to records of one kind; shared by the sources that read arrays and pictures."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Batch, Ints, Kind, counts, images, numbers, states
from studbook.data._digest import digest_of_batch
from studbook.data._files import MAX_BYTES, require_bytes, require_size
from studbook.data.dataset import Dataset
from studbook.data.distributions import MAX_STATES
from studbook.errors import ConfigError, DataError

ArrayKind: TypeAlias = Literal["auto", "numbers", "images", "states", "counts"]

MAX_BACKGROUND = 20_000
"""Most records of a background, evenly spread over the source."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records of an array are taken.

    Args:
        classes: Labels that are kept; empty keeps all.
        limit: Records taken from the start of what is kept; 0 takes all.
        max_bytes: Most memory that the records may take as 8-byte numbers.

    Raises:
        ConfigError: A negative limit, or a class named twice.
    """

    classes: tuple[int, ...] = ()
    limit: int = 0
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        require_size("limit", self.limit, 0)
        require_size("max_bytes", self.max_bytes, 1)
        if len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"classes names a label twice: {list(self.classes)}", hint="name each label once")

    def of(self, values: AnyArray, labels: Ints | None, where: str) -> tuple[AnyArray, Ints | None]:
        """The records, and their labels, that are kept."""
        if len(values) == 0:
            raise DataError(f"{where} holds no records")
        if labels is not None and labels.shape != values.shape[:1]:
            raise DataError(f"{where} has {len(values):,} records and labels of shape {labels.shape}", hint="give one label a record")
        if self.classes:
            values, labels = self._of_classes(values, labels, where)
        if self.limit:
            values, labels = values[: self.limit], None if labels is None else labels[: self.limit]
        require_bytes(where, 8 * values.size, self.max_bytes)
        return values, labels

    def background_of(self, values: AnyArray, labels: Ints | None) -> tuple[AnyArray, Ints] | None:
        """Labelled records of all classes, at most ``MAX_BACKGROUND``; ``None`` where no class is left out."""
        if not self.classes or labels is None or np.isin(labels, self.classes).all():
            return None
        bytes_a_record = 8 * max(values[0].size, 1)
        n = min(len(values), MAX_BACKGROUND, max(self.max_bytes // bytes_a_record, 1))
        # Evenly spread and not the first ones: MNIST's usual packagings are sorted by class.
        rows = np.arange(n) * len(values) // n
        return values[rows], labels[rows]

    def _of_classes(self, values: AnyArray, labels: Ints | None, where: str) -> tuple[AnyArray, Ints]:
        if labels is None:
            raise DataError(f"{where} has no labels, so data.classes can't choose among them", hint="drop data.classes")
        present = np.unique(labels).tolist()
        for label in self.classes:
            if label not in present:
                shown = ", ".join(map(str, present[:20])) + (", …" if len(present) > 20 else "")
                raise DataError(f"{where} has no class {label}", hint=f"its classes are {shown}")
        rows = np.flatnonzero(np.isin(labels, self.classes))
        return values[rows], labels[rows]


def dataset_of(name: str, batch: Batch, background: tuple[AnyArray, Ints] | None, origin: str) -> Dataset:
    """The data set of ``batch``, with a background of the same shape and value range where there is one."""
    digest = digest_of_batch(batch)
    if background is None:
        return Dataset(name, batch.space, digest, records=batch, origin=origin)
    values, labels = background
    around = Batch(np.ascontiguousarray(values, np.float64).reshape(len(values), *batch.space.shape), batch.space, labels=labels)
    digest = hashlib.sha256(f"{digest} {digest_of_batch(around)}".encode()).hexdigest()
    return Dataset(name, batch.space, digest, records=batch, origin=origin, background=around)


def background_of_array(
    values: AnyArray, labels: Ints | None, batch: Batch, selection: Selection, where: str
) -> tuple[AnyArray, Ints] | None:
    """The background of ``batch_of_array``: only pictures and number vectors have one.

    Raises:
        DataError: Values that aren't finite numbers.
    """
    found = selection.background_of(values, labels) if batch.space.kind in (Kind.IMAGES, Kind.NUMBERS) else None
    if found is not None:
        require_finite(found[0], where)
    return found


def batch_of_array(values: AnyArray, labels: Ints | None, kind: ArrayKind, selection: Selection, where: str) -> Batch:
    """The records of an array, one a row of its first axis.

    Raises:
        ConfigError: The array leaves open what a record is, or doesn't fit ``kind``.
        DataError: No records, values that aren't finite numbers, or too many of them.
    """
    _require_numeric(values, where)
    chosen = _kind_of(values, where) if kind == "auto" else kind
    values, labels = selection.of(values, labels, where)
    if chosen == "images":
        return images_of_array(values, labels, where)
    if chosen == "numbers":
        return _numbers(values, labels, where)
    whole = whole_numbers(values, chosen, where)
    batch = counts(whole) if chosen == "counts" else states(whole, int(whole.max()) + 1)
    return Batch(batch.values, batch.space, labels=labels)


def images_of_array(values: AnyArray, labels: Ints | None, where: str, value_range: tuple[float, float] | None = None) -> Batch:
    """Pictures from ``(n, h, w)``, ``(n, h, w, 1 or 3)``, or squares unrolled as ``(n, h * h)``."""
    if values.ndim == 2:
        side = math.isqrt(values.shape[1])
        if side * side != values.shape[1] or side == 0:
            raise ConfigError(f"{where}: rows of {values.shape[1]} values are no square pictures", hint='set data.kind = "numbers"')
        values = values.reshape(-1, side, side)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim not in (3, 4) or (values.ndim == 4 and values.shape[3] != 3):
        message = f"{where} has shape {values.shape}, expected pictures (n, height, width) or (n, height, width, 3)"
        raise ConfigError(message, hint="store one grey or red-green-blue picture a row")
    if 0 in values.shape[1:]:
        raise DataError(f"{where} has shape {values.shape}: pictures without pixels")
    require_finite(values, where)
    if value_range is None:
        value_range = (0.0, 255.0) if values.dtype == np.uint8 else (float(values.min()), float(values.max()))
    return images(values, value_range, labels)


def whole_numbers(values: AnyArray, kind: str, where: str) -> Ints:
    """A column of counts or states as int64.

    Raises:
        ConfigError: More than one column.
        DataError: A value that isn't whole, is negative, or is beyond the largest state.
    """
    column = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if column.ndim != 1:
        raise ConfigError(f"{where} has shape {values.shape}, expected one column of {kind}", hint="choose one column")
    require_finite(column, where)
    most = MAX_STATES - 1 if kind == "states" else 2**53
    bad = np.flatnonzero((column < 0) | (column > most) | (column != np.floor(column)))
    if bad.size:
        row = int(bad[0])
        raise DataError(
            f"{where}: row {row} is {column[row]}, expected a whole number from 0 to {most:,}", hint=f"{kind} are whole numbers"
        )
    return column.astype(np.int64)


def require_finite(values: AnyArray, where: str, columns: tuple[str, ...] = ()) -> None:
    """Refuses NaN and infinities; the message names the rows (0-based) and the first column."""
    if values.dtype.kind != "f":
        return
    table = values.reshape(len(values), -1)
    bad = ~np.isfinite(table)
    rows = np.flatnonzero(bad.any(axis=1))
    if rows.size == 0:
        return
    first = int(np.flatnonzero(bad[rows[0]])[0])
    column = f", first in column {columns[first]!r}" if columns else ""
    shown = ", ".join(map(str, rows[:5])) + (", …" if rows.size > 5 else "")
    message = f"{where} holds NaN or infinities in {rows.size:,} of {len(values):,} rows (row {shown}{column})"
    raise DataError(message, hint="remove or replace these rows; they are counted from 0")


def _numbers(values: AnyArray, labels: Ints | None, where: str) -> Batch:
    if values.ndim > 2:
        values = values.reshape(len(values), -1)
    if values.ndim == 2 and values.shape[1] == 0:
        raise DataError(f"{where} has shape {values.shape}: records without numbers")
    require_finite(values, where)
    batch = numbers(values)
    return Batch(batch.values, batch.space, labels=labels)


def _kind_of(values: AnyArray, where: str) -> ArrayKind:
    if values.ndim >= 3:
        return "images"
    if values.ndim == 2 or values.dtype.kind == "f":
        return "numbers"
    message = f"{where} is one row of integers: they may be states, counts or numbers"
    raise ConfigError(message, hint='set data.kind = "states", "counts" or "numbers"')


def _require_numeric(values: AnyArray, where: str) -> None:
    if values.ndim == 0:
        raise DataError(f"{where} is a single number, expected one row a record")
    if values.dtype.kind not in "buif":
        raise DataError(f"{where} holds values of type {values.dtype}, expected numbers")
