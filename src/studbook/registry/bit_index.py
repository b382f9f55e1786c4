"""Bit strings on the disk, and which of them lie within a radius: an exact scan of memory-mapped rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from studbook.arrays import Ints
from studbook.errors import RegisterError
from studbook.fingerprints.protocols import Packed
from studbook.hamming import within
from studbook.registry._row_file import RowFile, check_rows

MANY_QUERIES = 256
"""From so many queries on, transposing the rows once (``studbook.hamming.within``) is faster than comparing them row by row."""


class BitIndex:
    """Bit strings of one width, numbered from 0 in the order in which they came.

    Every row is compared, so that what is found is exactly what is there. One process extends at a time; others may search meanwhile and
    see the rows of every ``extend`` that has finished. A process that is killed in one leaves the rows before it.

    Args:
        folder: Where the file is, or is to be.
        n_bytes: Width, 1 … 512.

    Raises:
        RegisterError: What lies there is damaged, or of another width; the index is a cache and can be made again.
        StorageError: The disk refused.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from studbook.registry.bit_index import BitIndex
        >>> index = BitIndex(Path(tempfile.mkdtemp()), 1)
        >>> index.extend(np.array([[0b0000], [0b0111], [0b0001]], np.uint8))
        >>> [found.tolist() for found in index.search(np.array([[0b0000]], np.uint8), 2)]
        [[0, 0], [0, 2], [0, 1]]
    """

    def __init__(self, folder: Path, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        if type(n_bytes) is not int or not 1 <= n_bytes <= 512:
            raise RegisterError(f"bit strings have {n_bytes!r} bytes, expected 1 to 512")
        self._file = RowFile(folder / f"bits-{n_bytes}.rows", -(-n_bytes // 8) * 8)

    @property
    def n_rows(self) -> int:
        """Rows of every ``extend`` that has finished."""
        return self._file.n_rows

    def extend(self, packed: Packed) -> None:
        """Append bit strings ``(n, n_bytes)`` uint8; they are on the disk on return.

        Raises:
            RegisterError: Not such rows; or the file was damaged.
            StorageError: The disk refused; nothing was appended.
        """
        rows = check_rows(packed, self.n_bytes, "bit strings")
        if len(rows):
            self._file.publish(self._file.write(self._padded(rows)))

    def search(self, queries: Packed, radius: int, *, threads: int = 1) -> tuple[Ints, Ints, Ints]:
        """All rows at most ``radius`` bits from a query.

        Args:
            queries: ``(q, n_bytes)`` uint8.
            radius: 0 … 8 ``n_bytes``.
            threads: Threads for many queries; the result doesn't depend on it.

        Returns:
            Query, row and distance, ``(n,)`` each, sorted by query, distance, row.

        Raises:
            RegisterError: Not such queries, an impossible radius; or the file was damaged.
            DataError: More pairs than ``studbook.hamming.within`` gives.
        """
        rows = check_rows(queries, self.n_bytes, "queries")
        if not isinstance(radius, int | np.integer) or not 0 <= radius <= 8 * self.n_bytes:
            raise RegisterError(f"the radius is {radius!r} bits, expected 0 to {8 * self.n_bytes}")
        known = self._file.rows(self.n_rows)
        if not len(rows) or not len(known):
            return (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
        mine = self._padded(rows)
        if len(rows) >= MANY_QUERIES:
            pairs = within(mine, known, radius_bits=int(radius), threads=threads)
            query, row, distance = pairs.rows, pairs.columns, pairs.distances.astype(np.int64)
        else:
            query, row, distance = _scan(mine.view(np.uint64), known.view(np.uint64), int(radius))
        order = np.lexsort((row, distance, query))
        return query[order], row[order], distance[order]

    def _padded(self, rows: Packed) -> Packed:
        if self.n_bytes % 8 == 0:
            return rows
        wide = np.zeros((len(rows), self._file.n_bytes), np.uint8)
        wide[:, : self.n_bytes] = rows
        return wide


def _scan(queries: np.ndarray, rows: np.ndarray, radius: int) -> Ints:
    """Query, row and distance of all pairs within the radius ``(3, n)``."""
    from studbook.registry._scan_kernels import scan_rows

    capacity = 1 << 12
    while True:
        found = np.empty((3, capacity), np.int64)
        n = scan_rows(queries, rows, radius, found)
        if n <= capacity:
            return found[:, :n]
        capacity = n
