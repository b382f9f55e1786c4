"""Arrays and batches as ``.npy`` files: written in pieces, then mapped, so that they take none of the process's own memory."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import mkstemp
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from studbook.arrays import AnyArray, Batch, Space
from studbook.files import storage

PIECE_BYTES = 4 << 20


class Torn(Exception):  # noqa: N818 - it is caught where it matters and never shown
    """A file isn't what was written."""


def write_batches(folder: Path, stem: str, batches: Sequence[Batch]) -> tuple[Batch, dict[str, tuple[int, str]]]:
    """Write batches of one space one after another, as ``concatenate`` puts them together.

    Args:
        folder: Where ``STEM.npy`` goes and, where the records have them, ``STEM-labels.npy`` and ``STEM-weights.npy``.
        stem: Name of the files.
        batches: At least one.

    Returns:
        The batch, mapped from the files, and each file's size and SHA-256 (hex) by its name.

    Raises:
        StorageError: The disk refused; no file is half-written.
    """
    space, n = batches[0].space, sum(len(batch) for batch in batches)
    columns: dict[str, tuple[Iterable[AnyArray], DTypeLike, tuple[int, ...]]] = {
        f"{stem}.npy": ((b.values for b in batches), np.result_type(*(b.values.dtype for b in batches)), space.shape)
    }
    if all(batch.labels is not None for batch in batches):
        labels = [batch.labels for batch in batches if batch.labels is not None]
        columns[f"{stem}-labels.npy"] = (labels, np.result_type(*(column.dtype for column in labels)), ())
    if any(batch.weights is not None for batch in batches):
        weights = (np.ones(len(batch)) if batch.weights is None else batch.weights for batch in batches)
        columns[f"{stem}-weights.npy"] = (weights, np.float64, ())
    written = {name: write_array(folder / name, parts, np.dtype(dtype), (n, *shape)) for name, (parts, dtype, shape) in columns.items()}
    return map_batch(folder, stem, space, set(written)), written


def map_batch(folder: Path, stem: str, space: Space, names: set[str]) -> Batch:
    """The batch that ``write_batches`` wrote, mapped into memory; ``names`` are the files that belong to it."""
    columns = {name: map_array(folder / name) if name in names else None for name in (f"{stem}-weights.npy", f"{stem}-labels.npy")}
    return Batch(map_array(folder / f"{stem}.npy"), space, *columns.values())


def write_array(path: Path, parts: Iterable[AnyArray], dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[int, str]:
    """Write arrays ``(n_i, *shape[1:])``, ``shape[0]`` rows in all, one after another as one array in C order.

    Returns:
        Size and SHA-256 (hex) of the file.

    Raises:
        StorageError: The disk refused.
    """
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                digest = _write(file, parts, dtype, shape)
                size = file.tell()
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return size, digest


def map_array(path: Path) -> AnyArray:
    """The array in a file, mapped into memory; what is changed in it stays in this process.

    Raises:
        Torn: It is no array that ``write_array`` wrote.
    """
    try:
        # Not read-only: PyTorch warns of arrays that it can't write to.
        return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise Torn(f"{path}: {error}") from error


def digest_of_file(path: Path) -> tuple[int, str]:
    """Size and SHA-256 (hex) of a file.

    Raises:
        Torn: It can't be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), digest
    except OSError as error:
        raise Torn(f"{path}: {error}") from error


def _write(file: BinaryIO, parts: Iterable[AnyArray], dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    header = BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    digest = hashlib.sha256()
    for piece in itertools.chain([header.getvalue()], itertools.chain.from_iterable(_pieces(part, dtype) for part in parts)):
        digest.update(piece)
        file.write(piece)
    return digest.hexdigest()


def _pieces(array: AnyArray, dtype: np.dtype[Any]) -> Iterator[bytes]:
    """The bytes of an array in C order, a few MiB at a time."""
    row = max(array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)), 1)
    step = max(PIECE_BYTES // row, 1)
    for start in range(0, len(array), step):
        yield np.ascontiguousarray(array[start : start + step], dtype=dtype).tobytes()
