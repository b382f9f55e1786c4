"""Numba kernel that compares bit strings with every row of a file.

numba's cache on disk doesn't notice when a file that this one imports changes: remove ``__pycache__`` after editing.
"""

from __future__ import annotations

import numba
import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.hamming._bit_vectors import count_word

TILE_ROWS, GROUP = 4096, 512


@numba.njit(cache=True, nogil=True, inline="always")
def _distance(a: AnyArray, b: AnyArray) -> np.uint64:
    total = np.uint64(0)
    for k in range(a.size):
        total += count_word(a[k] ^ b[k])
    return total


@numba.njit(cache=True, nogil=True)
def _least_of_words(rows: AnyArray, query: np.uint64) -> np.uint64:
    """Smallest distance of one word to many; a plain loop without an exit, which the compiler turns into vectors."""
    least = np.uint64(64)
    for i in range(rows.size):
        least = min(least, count_word(rows[i] ^ query))
    return least


@numba.njit(cache=True, nogil=True)
def _least_of_rows(rows: AnyArray, query: AnyArray) -> np.uint64:
    least = np.uint64(64 * query.size)
    for i in range(rows.shape[0]):
        least = min(least, _distance(rows[i], query))
    return least


@numba.njit(cache=True, nogil=True)
def scan_rows(queries: AnyArray, rows: AnyArray, radius: int, found: Ints) -> int:
    """All pairs of a query and a row within the radius.

    Args:
        queries: ``(q, w)`` uint64.
        rows: ``(n, w)`` uint64.
        radius: In bits.
        found: ``(3, capacity)`` query, row and distance, written.

    Returns:
        How many pairs there are, written or not.
    """
    n, flat = 0, rows.reshape(-1)
    for tile in range(0, rows.shape[0], TILE_ROWS):
        for q in range(queries.shape[0]):
            for start in range(tile, min(tile + TILE_ROWS, rows.shape[0]), GROUP):
                stop = min(start + GROUP, rows.shape[0])
                part = rows[start:stop]
                least = _least_of_words(flat[start:stop], queries[q, 0]) if rows.shape[1] == 1 else _least_of_rows(part, queries[q])
                if least > np.uint64(radius):
                    continue
                for i in range(part.shape[0]):
                    distance = _distance(part[i], queries[q])
                    if distance <= np.uint64(radius):
                        if n < found.shape[1]:
                            found[0, n], found[1, n], found[2, n] = q, start + i, np.int64(distance)
                        n += 1
    return n
