"""Rows of one width in a file that only grows: one process appends, any number read."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import AnyArray
from studbook.errors import RegisterError
from studbook.files import storage, write_file

HEADER_BYTES = 4096
MAX_ROW_BYTES = 1 << 16
_MAGIC = b"studbook rows 1\n"
_COUNT_AT = 24
_SLACK_BYTES, _WRITE_BYTES = 1 << 20, 1 << 26
_WHOLE = (1 << 64) - 1
_DAMAGED = "it is a cache: delete the folder and it is made again from the register"


class RowFile:
    """A header of one page, then the rows.

    The header ends with the number of rows and that number's complement. Rows are written behind the last one and flushed to the disk
    before the number is raised by one write of 16 bytes: whatever happens in between, the rows that are counted are whole. What lies
    behind them is overwritten by the next ``write``. The file is made longer than it must be, without taking room on the disk, so that a
    mapping holds for long.

    Args:
        path: The file; made where it isn't there.
        n_bytes: Width of a row.

    Raises:
        RegisterError: The file isn't one of these rows, or is shorter than it says.
        StorageError: The disk refused.
    """

    def __init__(self, path: Path, n_bytes: int) -> None:
        if type(n_bytes) is not int or not 1 <= n_bytes <= MAX_ROW_BYTES:
            raise RegisterError(f"rows of an index have {n_bytes!r} bytes, expected 1 to {MAX_ROW_BYTES:,}")
        self.path, self.n_bytes = path, n_bytes
        if not path.exists():
            header = _MAGIC + n_bytes.to_bytes(8, "little") + bytes(8) + b"\xff" * 8
            write_file(path, header.ljust(HEADER_BYTES, b"\0"))
        with storage(path):
            self._file: BinaryIO = path.open("rb", buffering=0)
        self._map: mmap.mmap | None = None
        found = os.pread(self._file.fileno(), 24, 0)
        if found != _MAGIC + n_bytes.to_bytes(8, "little"):
            raise RegisterError(f"{path} isn't an index of rows of {n_bytes} bytes", hint=_DAMAGED)
        self._mapped_rows = 0
        self.n_rows  # noqa: B018  a damaged count is to be noticed here

    @property
    def n_rows(self) -> int:
        """Rows that are whole.

        Raises:
            RegisterError: The count is damaged, or the file shorter than it says.
        """
        for _ in range(8):  # a count may be read in the very moment in which it is written
            found = os.pread(self._file.fileno(), 16, _COUNT_AT)
            n, check = int.from_bytes(found[:8], "little"), int.from_bytes(found[8:], "little")
            if len(found) == 16 and n == check ^ _WHOLE:
                break
        else:
            raise RegisterError(f"the count of rows in {self.path} is damaged", hint=_DAMAGED)
        if HEADER_BYTES + n * self.n_bytes > os.fstat(self._file.fileno()).st_size:
            raise RegisterError(f"{self.path} is shorter than its {n:,} rows", hint=_DAMAGED)
        return n

    def rows(self, n: int) -> NDArray[np.uint8]:
        """The first ``n`` rows ``(n, n_bytes)``, at most ``n_rows``, mapped and read-only."""
        if n == 0:
            return np.empty((0, self.n_bytes), np.uint8)
        if self._map is None or self._mapped_rows < n:
            self._map = mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ)
            self._mapped_rows = (len(self._map) - HEADER_BYTES) // self.n_bytes
        return np.frombuffer(self._map, np.uint8, n * self.n_bytes, HEADER_BYTES).reshape(n, self.n_bytes)

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Some rows, counted or just written, into memory: a pass over all of them doesn't stay mapped."""
        want = (stop - start) * self.n_bytes
        found = np.fromfile(self.path, np.uint8, want, offset=HEADER_BYTES + start * self.n_bytes)
        if len(found) != want:
            raise RegisterError(f"{self.path} ends before row {stop:,}", hint=_DAMAGED)
        return found.reshape(-1, self.n_bytes)

    def write(self, packed: NDArray[np.uint8]) -> int:
        """Write rows behind the last one and flush them; they count once ``publish`` is called with the number returned."""
        n, end = self.n_rows, self.n_rows + len(packed)
        data = packed.reshape(-1).data
        with storage(self.path), self.path.open("r+b", buffering=0) as file:
            needed = HEADER_BYTES + end * self.n_bytes
            if needed > os.fstat(file.fileno()).st_size:
                size = needed + max(needed // 8, _SLACK_BYTES)
                file.truncate(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
            at = HEADER_BYTES + n * self.n_bytes
            for start in range(0, len(data), _WRITE_BYTES):
                _write_all(file.fileno(), data[start : start + _WRITE_BYTES], at + start)
            os.fdatasync(file.fileno())
        return end

    def publish(self, n: int) -> None:
        """Raise the number of rows."""
        with storage(self.path), self.path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), n.to_bytes(8, "little") + (n ^ _WHOLE).to_bytes(8, "little"), _COUNT_AT)

    def release(self) -> None:
        """Give the mapped pages back; they are read again when they are needed."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def _write_all(handle: int, data: memoryview, at: int) -> None:
    while len(data):
        n = os.pwrite(handle, data, at)
        data, at = data[n:], at + n


def check_rows(packed: AnyArray, n_bytes: int, name: str) -> NDArray[np.uint8]:
    """Rows ``(n, n_bytes)`` uint8, C-contiguous.

    Raises:
        RegisterError: Anything else.
    """
    if not isinstance(packed, np.ndarray) or packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != n_bytes:
        got = f"{packed.dtype} {packed.shape}" if isinstance(packed, np.ndarray) else type(packed).__name__
        raise RegisterError(f"{name} are {got}, expected uint8 (n, {n_bytes})", hint="pack outputs by the scheme of this index")
    return np.ascontiguousarray(packed)
