"""Numba kernels over bands of MinHash digests: keys, postings of a segment, and look-up.

A digest is ``(k,)`` uint16, a band some of them in a row, its key 32 bits. A segment's table has a line for each band, ``(bands,
2**p + 1 + n)`` uint32: where each bucket begins (a bucket is the p highest bits of the key) and where the last ends, then a posting for
each row, ordered by bucket, then row: in the lowest ``id_bits`` the row, counted from the segment's first, above them the next bits of the
key. Two bands with the same values always have the same key; others share bucket and those bits by chance, and are found out by
comparing the digests.

numba's cache on disk doesn't notice when a file that this one imports changes: remove ``__pycache__`` after editing.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.hamming._bit_vectors import count_word

# Slots for the candidates of one query; a quarter of them may be taken.
_SLOTS = 1 << 14
MAX_CANDIDATES = _SLOTS // 4
MAX_POSTINGS = 1 << 16
_U, _HALVES, _SIGNS = np.uint64, np.uint64(0x7FFF7FFF7FFF7FFF), np.uint64(0x8000800080008000)
_ODD = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(cache=True, nogil=True, inline="always")
def _key(digest: AnyArray, band: int, rows: int) -> np.uint32:
    """32 bits of a band; of two rows or fewer, no two bands share them."""
    value = _U(0)
    for k in range(band * rows, band * rows + rows):
        value = (value << _U(16) | value >> _U(48)) ^ _U(digest[k])
        if rows > 2:
            value *= _ODD
    return np.uint32(value >> _U(32) if rows > 2 else value << _U(16) if rows == 1 else value)


@numba.njit(cache=True, nogil=True)
def band_keys(digests: AnyArray, first_band: int, rows: int, keys: AnyArray) -> None:
    """Keys of some bands of digests ``(n, k)`` uint16, into ``keys (n_bands, n)`` uint32."""
    for i in range(digests.shape[0]):
        for band in range(keys.shape[0]):
            keys[band, i] = _key(digests[i], first_band + band, rows)


@numba.njit(cache=True, nogil=True)
def fill_band(keys: AnyArray, p: int, id_bits: int, line: AnyArray) -> None:
    """One band's line of the table, from the keys ``(n,)`` of all rows."""
    n_buckets, shift, tag_shift = 1 << p, np.uint32(32 - p), np.uint32(id_bits)
    starts, postings = line[: n_buckets + 1], line[n_buckets + 1 :]
    starts[:] = np.uint32(0)
    for i in range(keys.size):
        starts[np.int64(keys[i] >> shift) + 1] += np.uint32(1)
    for b in range(n_buckets):
        starts[b + 1] += starts[b]
    place = starts[:n_buckets].copy()
    for i in range(keys.size):
        bucket = np.int64(keys[i] >> shift)
        tag = np.uint32(np.uint32(keys[i] << np.uint32(p)) >> tag_shift)
        postings[place[bucket]] = np.uint32(tag << tag_shift) | np.uint32(i)
        place[bucket] += np.uint32(1)


@numba.njit(cache=True, nogil=True, inline="always")
def _agreement(one: AnyArray, other: AnyArray) -> Any:
    """In how many of four 16-bit numbers a word the two agree."""
    total = _U(0)
    for k in range(one.size):
        x = one[k] ^ other[k]
        total += count_word(~(((x & _HALVES) + _HALVES) | x) & _SIGNS)
    return np.int64(total)


@numba.njit(cache=True, nogil=True)
def _share_band(one: AnyArray, other: AnyArray, bands: int, rows: int) -> bool:
    for band in range(bands):
        same = True
        for k in range(band * rows, band * rows + rows):
            same = same and one[k] == other[k]
        if same:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _buckets(line: AnyArray, p: int, key: np.uint32, n: int) -> tuple[Any, Any]:
    """Where a key's postings begin and end; nothing beyond the line, whatever a damaged file says."""
    bucket = np.int64(key >> np.uint32(32 - p))
    begin, end = min(np.int64(line[bucket]), n), min(np.int64(line[bucket + 1]), n)
    return begin, max(begin, end)


@numba.njit(cache=True, nogil=True)
def _candidates(table: AnyArray, p: int, id_bits: int, n: int, keys: AnyArray, seen: AnyArray, stamp: int, chosen: Ints) -> int:
    """Rows of the segment that share bucket and further bits with a query in some band, each once, into ``chosen``.

    Where there are more than ``MAX_POSTINGS`` to read, the shortest buckets come first, and what is beyond is left out; so are candidates
    beyond ``MAX_CANDIDATES``.
    """
    bands, behind = keys.size, (1 << p) + 1
    spans, total = np.empty((2, bands), np.int64), 0
    for band in range(bands):
        spans[0, band], spans[1, band] = _buckets(table[band], p, keys[band], n)
        total += spans[1, band] - spans[0, band]
    order = np.arange(bands)
    if total > MAX_POSTINGS:
        order = np.argsort(spans[1] - spans[0])
    found, low = 0, np.uint32((1 << id_bits) - 1)
    left = np.int64(MAX_POSTINGS)
    for i in range(bands):
        band = int(order[i])
        tag = np.uint32(np.uint32(keys[band] << np.uint32(p)) >> np.uint32(id_bits))
        end = min(spans[1, band], spans[0, band] + left)
        left -= end - spans[0, band]
        for at in range(spans[0, band], end):
            posting = table[band, behind + at]
            if posting >> np.uint32(id_bits) != tag or np.int64(posting & low) >= n:
                continue
            row = np.int64(posting & low)
            slot = (row * 0x9E3779B1) & (_SLOTS - 1)
            while seen[0, slot] == stamp and seen[1, slot] != row:
                slot = (slot + 1) & (_SLOTS - 1)
            if seen[0, slot] == stamp:
                continue
            if found == MAX_CANDIDATES:
                return found
            seen[0, slot], seen[1, slot] = stamp, row
            chosen[found] = row
            found += 1
    return found


@numba.njit(cache=True, nogil=True)
def search_segment(
    table: AnyArray,
    shape: tuple[int, int, int, int],
    digests: AnyArray,
    first: int,
    queries: AnyArray,
    least: int,
    found: Ints,
) -> int:
    """Rows of a segment that share a band with a query and agree in ``least`` permutations or more.

    Args:
        table: ``(bands, 2**p + 1 + n)`` uint32.
        shape: p, ``id_bits``, rows of the segment, rows a band.
        digests: ``(n, k / 4)`` uint64, those of the segment.
        first: Number of the segment's first row.
        queries: ``(q, k / 4)`` uint64.
        least: Least agreement.
        found: ``(3, capacity)`` query, row and agreement, written.

    Returns:
        How many there are, written or not.
    """
    p, id_bits, n, rows = shape
    bands, n_found = table.shape[0], 0
    keys, chosen = np.empty(bands, np.uint32), np.empty(MAX_CANDIDATES, np.int64)
    seen = np.full((2, _SLOTS), -1, np.int64)
    numbers, asked = digests.view(np.uint16), queries.view(np.uint16)
    for q in range(queries.shape[0]):
        for band in range(bands):
            keys[band] = _key(asked[q], band, rows)
        for i in range(_candidates(table, p, id_bits, n, keys, seen, q, chosen)):
            row = chosen[i]
            agreement = _agreement(digests[row], queries[q])
            if agreement >= least and _share_band(numbers[row], asked[q], bands, rows):
                if n_found < found.shape[1]:
                    found[0, n_found], found[1, n_found], found[2, n_found] = q, first + row, agreement
                n_found += 1
    return n_found


@numba.njit(cache=True, nogil=True)
def search_tail(digests: AnyArray, first: int, queries: AnyArray, bands: int, rows: int, least: int, found: Ints) -> int:
    """As ``search_segment``, of rows without a table: each is compared."""
    n_found = 0
    numbers, asked = digests.view(np.uint16), queries.view(np.uint16)
    for q in range(queries.shape[0]):
        for row in range(digests.shape[0]):
            agreement = _agreement(digests[row], queries[q])
            if agreement >= least and _share_band(numbers[row], asked[q], bands, rows):
                if n_found < found.shape[1]:
                    found[0, n_found], found[1, n_found], found[2, n_found] = q, first + row, agreement
                n_found += 1
    return n_found
