"""NumPy files: ``.npz`` and ``.npy``."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.data._files import MAX_BYTES, checked_file, reading
from studbook.data._npy import read_npy
from studbook.data._records import ArrayKind, Selection, background_of_array, batch_of_array, dataset_of
from studbook.data.dataset import Dataset
from studbook.errors import ConfigError, DataError
from studbook.parameters import nearest

_ARRAY_NAMES = ("images", "x", "data", "x_train", "arr_0")
_LABEL_NAMES = ("labels", "label", "y", "species", "target", "targets", "classes", "class", "y_train")


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """An array of NumPy's: one record a row of its first axis.

    Three and four axes are pictures, two are number vectors. One axis of integers leaves open what they are: ``kind`` says it.

    Args:
        path: A ``.npy`` or ``.npz`` file.
        array: Name of the array in a ``.npz``; empty takes ``images``, ``x`` or ``data``, else the first that isn't labels.
        labels: Name of the array of labels in a ``.npz``; empty takes ``labels``, ``y``, ``species``, ``target``… if it fits.
        kind: What a record is.
        classes: Labels that are kept; empty keeps all.
        limit: Records taken from the start; 0 takes all.
        max_bytes: Most memory that the records may take; declared sizes are checked before anything is read.

    Raises:
        ConfigError: A size out of range.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from studbook.data import ArrayFile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "set.npz")
        ...     np.savez(path, images=np.zeros((4, 2, 2), np.uint8), labels=np.array([0, 0, 1, 1]))
        ...     dataset = ArrayFile(str(path), classes=(1,)).load()
        >>> dataset.space.kind.value, dataset.records.values.shape
        ('images', (2, 2, 2))
    """

    path: str
    array: str = ""
    labels: str = ""
    kind: ArrayKind = "auto"
    classes: tuple[int, ...] = ()
    limit: int = 0
    max_bytes: int = MAX_BYTES

    record_kind: ClassVar[str] = "numbers, images, states or counts"
    origin: ClassVar[str] = "A NumPy file of the user's."

    def __post_init__(self) -> None:
        self._selection()

    def load(self) -> Dataset:
        """The array's records.

        Raises:
            ConfigError: No array of that name, or one that leaves open what a record is.
            DataError: Unreadable, damaged, pickled objects, larger than ``max_bytes``, or NaN and infinities (which rows).
        """
        file, size = checked_file(self.path, self.max_bytes)
        if zipfile.is_zipfile(file) or file.suffix.lower() == ".npz":
            values, labels, where = self._read_npz(file)
        else:
            if self.array or self.labels:
                raise ConfigError(f"{self.path} holds one array without a name", hint="drop data.array and data.labels")
            with reading(self.path), file.open("rb") as stream:
                values, labels, where = read_npy(stream, size, self.max_bytes, self.path), None, self.path
        batch = batch_of_array(values, labels, self.kind, self._selection(), where)
        background = background_of_array(values, labels, batch, self._selection(), where)
        return dataset_of(Path(self.path).name, batch, background, self.origin)

    def _selection(self) -> Selection:
        return Selection(self.classes, self.limit, self.max_bytes)

    def _read_npz(self, file: Path) -> tuple[AnyArray, Ints | None, str]:
        with _zip_errors(self.path), reading(self.path), zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")}
            if not members:
                raise DataError(f"{self.path} holds no arrays", hint="save it with numpy.savez")
            name = self._pick(self.array, _ARRAY_NAMES, members, "array") or _first_data(members)
            label_name = self._pick(self.labels, _LABEL_NAMES, members, "labels")
            where = f"{self.path}[{name!r}]"
            values = self._member(archive, members[name])
            labels = None
            if label_name and label_name != name:
                labels = _labels(self._member(archive, members[label_name]), len(values) if values.ndim else 0)
            if labels is None and self.labels:
                raise DataError(f"{self.path}[{self.labels!r}] doesn't hold one whole number or name a record")
        return values, labels, where

    def _pick(self, asked: str, usual: tuple[str, ...], members: dict[str, zipfile.ZipInfo], parameter: str) -> str:
        if asked and asked not in members:
            raise ConfigError(f"{self.path} has no array {asked!r} (data.{parameter})", hint=nearest(asked, members, noun="array"))
        folded = {name.casefold(): name for name in reversed(members)}
        return asked or next((folded[name] for name in usual if name in folded), "")

    def _member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> AnyArray:
        where = f"{self.path}[{info.filename.removesuffix('.npy')!r}]"
        with archive.open(info) as stream:
            return read_npy(stream, info.file_size, self.max_bytes, where)


def _first_data(members: dict[str, zipfile.ZipInfo]) -> str:
    names = list(members)
    return next((name for name in names if name.casefold() not in _LABEL_NAMES), names[0])


def _labels(values: AnyArray, n: int) -> Ints | None:
    """Labels as integers, or ``None`` where the array isn't one label a record; names become their rank in the alphabet."""
    if values.shape != (n,):
        return None
    if values.dtype.kind == "U":
        return np.unique(values, return_inverse=True)[1].astype(np.int64)
    return values.astype(np.int64) if values.dtype.kind in "bui" else None


@contextmanager
def _zip_errors(path: str) -> Iterator[None]:
    hint = "it is damaged or cut off; copy it again, or save it with numpy.savez"
    try:
        yield
    # zipfile raises RuntimeError for an encrypted member and NotImplementedError for an unknown compression.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{path} can't be read as .npz: {error}", hint=hint) from error
