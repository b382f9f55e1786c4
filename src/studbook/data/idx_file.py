"""The idx format of MNIST, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar, cast

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.data._files import MAX_BYTES, checked_file, read_exactly, reading, require_bytes
from studbook.data._records import ArrayKind, Selection, background_of_array, batch_of_array, dataset_of
from studbook.data.dataset import Dataset
from studbook.errors import DataError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_WHOLE = "the file is damaged or cut off; copy it again"


@dataclass(frozen=True, slots=True)
class IdxFile:
    """A file in the idx format, in which MNIST and its relatives are published (LeCun, Cortes and Burges).

    Args:
        path: For example ``train-images-idx3-ubyte.gz``.
        labels: Path of the labels; empty takes the usual name beside it (``train-labels-idx1-ubyte.gz``) if it is there.
        kind: What a record is; three axes are pictures, two are number vectors.
        classes: Labels that are kept; empty keeps all.
        limit: Records taken from the start; 0 takes all.
        max_bytes: Most memory that the records may take; the header is checked before anything is read.

    Raises:
        ConfigError: A size out of range.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from studbook.data import IdxFile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "two-images-idx3-ubyte")
        ...     _ = path.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 10, 20, 30, 40]))
        ...     dataset = IdxFile(str(path)).load()
        >>> dataset.records.values.tolist()
        [[[10.0, 20.0]], [[30.0, 40.0]]]
    """

    path: str
    labels: str = ""
    kind: ArrayKind = "auto"
    classes: tuple[int, ...] = ()
    limit: int = 0
    max_bytes: int = MAX_BYTES

    record_kind: ClassVar[str] = "images, numbers, states or counts"
    origin: ClassVar[str] = "An idx file of the user's (the format of MNIST)."

    def __post_init__(self) -> None:
        self._selection()

    def load(self) -> Dataset:
        """The records, with their labels where they are found.

        Raises:
            DataError: Unreadable, truncated, a header that doesn't match the length, or labels that don't match the records.
        """
        values, labels = self._read(self.path), self._read_labels()
        batch = batch_of_array(values, labels, self.kind, self._selection(), self.path)
        background = background_of_array(values, labels, batch, self._selection(), self.path)
        return dataset_of(Path(self.path).name, batch, background, self.origin)

    def _selection(self) -> Selection:
        return Selection(self.classes, self.limit, self.max_bytes)

    def _read_labels(self) -> Ints | None:
        path = self.labels or _labels_beside(self.path)
        if not path:
            return None
        labels = self._read(path)
        if labels.dtype.kind not in "ui":
            raise DataError(f"{path} holds {labels.dtype}, expected whole numbers as labels", hint="set data.labels")
        return labels.astype(np.int64)

    def _read(self, path: str) -> AnyArray:
        file, size = checked_file(path, self.max_bytes)
        with reading(path), file.open("rb") as plain:
            packed = plain.read(2) == _GZIP_MAGIC
            plain.seek(0)
            if not packed:
                return _read_idx(plain, self.max_bytes, path, longest=size)
            try:
                with gzip.open(plain) as stream:
                    # Deflate can't do better than 1,032 to 1, so a header can't promise more.
                    return _read_idx(cast("IO[bytes]", stream), self.max_bytes, path, longest=1_032 * size)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError(f"{path} can't be unpacked: {error}", hint=_WHOLE) from error


def _read_idx(stream: IO[bytes], max_bytes: int, where: str, longest: int) -> AnyArray:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= 4:
        raise DataError(f"{where} isn't an idx file: it begins with {magic.hex(' ')}", hint="expected 00 00, a type, and 1 to 4 axes")
    dtype = np.dtype(_TYPES[magic[2]])
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise DataError(f"{where} ends within its header", hint=_WHOLE)
    shape = struct.unpack(f">{magic[3]}I", header)
    needed = math.prod(shape) * dtype.itemsize
    if needed > longest:
        raise DataError(f"{where} declares shape {shape}, more than the file can hold", hint=_WHOLE)
    require_bytes(where, needed, max_bytes)
    # One byte more than promised, to notice a header that promises too little.
    content = read_exactly(stream, needed + 1)
    if len(content) != needed:
        got = f"{len(content):,}" if len(content) < needed else "more"
        raise DataError(f"{where} declares shape {shape}, {needed:,} bytes, and holds {got}", hint=_WHOLE)
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _labels_beside(path: str) -> str:
    """The path of the labels that belong to a file of images, if it is there: packed like the images, or not."""
    file = Path(path).expanduser()
    stem = re.sub(r"\.gz$", "", re.sub(r"idx\d", "idx1", file.name.replace("images", "labels")))
    if "images" not in file.name:
        return ""
    candidates = (file.with_name(stem + ".gz"), file.with_name(stem))
    packed_first = candidates if file.suffix == ".gz" else candidates[::-1]
    return next((str(candidate) for candidate in packed_first if candidate.is_file()), "")
