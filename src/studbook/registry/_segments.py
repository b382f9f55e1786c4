"""Immutable tables of postings on the disk, each for a run of rows; ``_band_kernels`` says how one is laid out."""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studbook.errors import RegisterError
from studbook.files import storage
from studbook.registry._row_file import HEADER_BYTES, RowFile

MAX_ROWS = 1 << 24
BUCKET_ROWS = 16
GROWTH = 3
_MAGIC = b"studbook bands1\n"
_NAME = re.compile(r"bands-(\d{1,15})-(\d{1,8})\.table")
_READ_ROWS, _READ_BANDS = 1 << 16, 8
_ADVICE = getattr(mmap, "MADV_RANDOM", None)


@dataclass(frozen=True, slots=True)
class Run:
    """Rows ``first`` to ``first + n`` of an index, at most ``MAX_ROWS``."""

    first: int
    n: int

    @property
    def stop(self) -> int:
        """The row behind the last."""
        return self.first + self.n

    @property
    def name(self) -> str:
        """Of the file."""
        return f"bands-{self.first}-{self.n}.table"

    @property
    def bucket_bits(self) -> int:
        """Bits of the key that choose the bucket: ``BUCKET_ROWS`` rows a bucket, or up to twice as many."""
        return max((self.n // BUCKET_ROWS).bit_length() - 1, 1)

    @property
    def id_bits(self) -> int:
        """Bits of a posting that say which row it is."""
        return max((self.n - 1).bit_length(), 1)

    @property
    def width(self) -> int:
        """Numbers a band."""
        return (1 << self.bucket_bits) + 1 + self.n


class Segment:
    """One table, mapped.

    Raises:
        RegisterError: The file isn't one, or has another length than it must have.
        OSError: It can't be read.
    """

    def __init__(self, folder: Path, run: Run, bands: int, rows: int) -> None:
        self.run = run
        path = folder / run.name
        with path.open("rb") as file:
            size = HEADER_BYTES + 4 * bands * run.width
            if file.read(len(_MAGIC) + 32) != _header(run, bands, rows) or os.fstat(file.fileno()).st_size != size:
                raise RegisterError(f"{path} isn't a table of {bands} bands", hint="delete the folder: it is made again from the register")
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        if _ADVICE is not None:
            self._map.madvise(_ADVICE)
        self.table = np.frombuffer(self._map, np.uint32, bands * run.width, HEADER_BYTES).reshape(bands, run.width)
        self.shape = (run.bucket_bits, run.id_bits, run.n, rows)

    def release(self) -> None:
        """Give the mapped pages back."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def _header(run: Run, bands: int, rows: int) -> bytes:
    return _MAGIC + b"".join(value.to_bytes(8, "little") for value in (run.first, run.n, bands, rows))


def runs_in(folder: Path) -> list[Run]:
    """Every table that lies in a folder."""
    found = [_NAME.fullmatch(path.name) for path in folder.iterdir()]
    return [Run(int(each[1]), int(each[2])) for each in found if each]


def chain(runs: list[Run], stop: int) -> list[Run]:
    """Tables that lie one behind the other from row 0 on, none beyond ``stop``; the longest where several begin together."""
    longest: dict[int, Run] = {}
    for run in runs:
        if 0 < run.n <= MAX_ROWS and run.stop <= stop and run.n > longest.get(run.first, Run(0, 0)).n:
            longest[run.first] = run
    found: list[Run] = []
    while (at := found[-1].stop if found else 0) in longest:
        found.append(longest[at])
    return found


def plan_runs(runs: list[Run], stop: int) -> tuple[list[Run], list[Run]]:
    """Which tables to keep and which to make so that all rows to ``stop`` have one.

    Each is at least ``GROWTH`` times as large as the next younger one. With a thousand rows an ``extend``, three million rows lie in four
    tables on the average, and each was put into a table nine times.
    """
    kept, first = list(runs), runs[-1].stop if runs else 0
    while kept and kept[-1].n < GROWTH * (stop - first) and stop - kept[-1].first <= MAX_ROWS:
        first = kept.pop().first
    return kept, [Run(start, min(MAX_ROWS, stop - start)) for start in range(first, stop, MAX_ROWS)]


def build_segment(folder: Path, file: RowFile, run: Run, bands: int, rows: int) -> None:
    """Make the table of some rows that are in the file, under its name once it is whole and on the disk.

    Memory: the keys of eight bands and one band of the table, 40 bytes a row.

    Raises:
        StorageError: The disk refused.
    """
    from studbook.registry._band_kernels import fill_band

    with storage(folder):
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(_header(run, bands, rows).ljust(HEADER_BYTES, b"\0"))
                for keys in _keys(file, run, bands, rows):
                    line = np.empty(run.width, np.uint32)
                    fill_band(keys, run.bucket_bits, run.id_bits, line)
                    out.write(line.data)
                out.flush()
                os.fdatasync(out.fileno())
            Path(temporary).replace(folder / run.name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _keys(file: RowFile, run: Run, bands: int, rows: int) -> Iterator[NDArray[np.uint32]]:
    """Each band's keys of all rows, ``(n,)``."""
    from studbook.registry._band_kernels import band_keys

    for band in range(0, bands, _READ_BANDS):
        keys = np.empty((min(_READ_BANDS, bands - band), run.n), np.uint32)
        for start in range(0, run.n, _READ_ROWS):
            stop = min(start + _READ_ROWS, run.n)
            part = np.empty((len(keys), stop - start), np.uint32)
            band_keys(file.read(run.first + start, run.first + stop).view(np.uint16), band, rows, part)
            keys[:, start:stop] = part
        yield from keys
