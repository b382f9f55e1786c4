"""Compressed files as streams, with a guard against those that unpack to thousands of times their size."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from studbook.screening.reading import open_plain

MAX_RATIO = 200
FREE_BYTES = 1 << 28
"""What may be unpacked whatever the ratio."""


class BombError(Exception):
    """A file that unpacks to far more than a text of its size does."""


class _Counted(io.RawIOBase):
    """A stream of unpacked bytes that stops where these are too many for the packed ones that were read."""

    def __init__(self, unpacked: Any, packed: Any) -> None:
        self._unpacked, self._packed, self._n = unpacked, packed, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._unpacked.read1(len(buffer))  # what there is: a file that is cut off gives all that comes before
        self._n += len(data)
        if self._n > FREE_BYTES and self._n > MAX_RATIO * max(self._packed.tell(), 1):
            raise BombError(f"unpacks to more than {MAX_RATIO} times its size")
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_unpacked(path: Path, position: int = 0) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked by what its name says, from a position on.

    Raises:
        BombError: While reading, where it unpacks to more than 200 times its size beyond 256 MiB.
        OSError: It can't be read, or isn't what its name says.
    """
    with open_plain(path) as packed:
        unpacked = _unpacked(path.name.lower(), packed)
        if unpacked is packed:
            packed.seek(position)
            yield packed
            return
        stream = io.BufferedReader(_Counted(unpacked, packed), 1 << 20)
        _pass_over(stream, position)
        yield cast("BinaryIO", stream)


def _unpacked(name: str, packed: BinaryIO) -> Any:
    if name.endswith((".gz", ".tgz")):
        return gzip.GzipFile(fileobj=packed)
    if name.endswith(".bz2"):
        return bz2.BZ2File(packed)
    if name.endswith(".xz"):
        return _checked_lzma(packed)
    if name.endswith(".zst"):
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd")
    return packed


def _checked_lzma(packed: BinaryIO) -> Any:
    class _File(lzma.LZMAFile):
        def read1(self, size: int = -1) -> bytes:
            try:
                return super().read1(size)
            except lzma.LZMAError as error:
                raise OSError(str(error)) from error

    return _File(packed)


def _pass_over(stream: Any, n: int) -> None:
    while n > 0 and (data := stream.read(min(n, 1 << 20))):
        n -= len(data)
