"""Numba kernels over planned rows and blocks of planes: counting, searching, nearest. ``_plane_kernels`` says what those are.

Each row has the same number of segments ``[low, high)`` of columns that count. Loops go tile by tile of blocks, so that a tile stays in
the first cache while all rows of the task pass.

numba's cache on disk doesn't notice when a file that this one imports changes: remove ``__pycache__`` after editing.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from studbook.arrays import AnyArray
from studbook.hamming._bit_vectors import add, both, carry, count, count_word, load, lowest, some, splat, store, without
from studbook.hamming._plane_kernels import BLOCK, FULL, U, measure_block

TILE_BYTES = 1 << 15


@numba.njit(cache=True, nogil=True)
def _scratch(n_vectors: int) -> AnyArray:
    """Room for vectors, zeros, none of them across two lines of the cache."""
    words = np.zeros(8 * n_vectors + 8, np.uint64)
    skipped = (U(64) - (U(words.ctypes.data) & U(63))) >> U(3)
    return words[int(skipped & U(7)) :][: 8 * n_vectors]


@numba.njit(cache=True, nogil=True)
def _tile(planes: AnyArray) -> int:
    """Blocks that the first cache holds."""
    return max(1, TILE_BYTES // (int(planes.shape[1]) * 64))


@numba.njit(cache=True, nogil=True)
def _window(low: int, high: int, first: int, mask: AnyArray) -> None:
    """Add to ``mask (8,)`` those of the 512 columns from ``first`` on that lie in ``[low, high)``."""
    begin, end = max(low - first, 0), min(high - first, BLOCK)
    if begin >= end:
        return
    for lane in range(8):
        skipped, kept = min(max(begin - 64 * lane, 0), 64), min(max(end - 64 * lane, 0), 64)
        below = FULL if kept == 64 else (U(1) << U(kept)) - U(1)
        mask[lane] |= below & ~(FULL if skipped == 64 else (U(1) << U(skipped)) - U(1))


@numba.njit(cache=True, nogil=True, inline="always")
def _at_most(found: AnyArray, n_levels: int, limits: AnyArray) -> Any:
    """Columns whose distance isn't above the limit, given as the complement of its bits, a word each."""
    above = splat(U(0))
    for level in range(U(n_levels)):
        above = carry(load(found, level), splat(limits[level]), above)
    return without(splat(FULL), above)


@numba.njit(cache=True, nogil=True)
def _set_limit(limits: AnyArray, n_levels: int, limit: int) -> None:
    for level in range(n_levels):
        limits[level] = FULL if (limit >> level) & 1 == 0 else U(0)


@numba.njit(cache=True, nogil=True)
def _distance(found: AnyArray, n_levels: int, lane: int, bit: Any) -> int:
    """One column's distance out of the planes."""
    value = 0
    for level in range(n_levels):
        value |= int((found[level * 8 + lane] >> bit) & U(1)) << level
    return value


@numba.njit(cache=True, nogil=True, inline="always")
def _split(mask: Any, found: AnyArray, level: int) -> Any:
    """The eight parts of ``mask`` by the three bits from ``level`` on."""
    first, second, third = load(found, U(level)), load(found, U(level + 1)), load(found, U(level + 2))
    odd, even = both(mask, first), without(mask, first)
    zero, two, one, three = without(even, second), both(even, second), without(odd, second), both(odd, second)
    without_third = without(zero, third), without(one, third), without(two, third), without(three, third)
    return (*without_third, both(zero, third), both(one, third), both(two, third), both(three, third))


@numba.njit(cache=True, nogil=True, inline="always")
def _count_octet(here: Any, lows: Any, counts: AnyArray, place: Any) -> None:
    """Eight distances from ``place`` on; written out, for a loop would pass the vectors through memory."""
    if some(here):
        store(counts, place, add(load(counts, place), count(both(here, lows[0]))))
        store(counts, place + U(1), add(load(counts, place + U(1)), count(both(here, lows[1]))))
        store(counts, place + U(2), add(load(counts, place + U(2)), count(both(here, lows[2]))))
        store(counts, place + U(3), add(load(counts, place + U(3)), count(both(here, lows[3]))))
        store(counts, place + U(4), add(load(counts, place + U(4)), count(both(here, lows[4]))))
        store(counts, place + U(5), add(load(counts, place + U(5)), count(both(here, lows[5]))))
        store(counts, place + U(6), add(load(counts, place + U(6)), count(both(here, lows[6]))))
        store(counts, place + U(7), add(load(counts, place + U(7)), count(both(here, lows[7]))))


@numba.njit(cache=True, nogil=True, inline="always")
def _tally(found: AnyArray, n_levels: int, mask: Any, table: AnyArray, counts: AnyArray) -> None:
    """Add the columns in ``mask`` to ``counts``: flat, a vector of eight partial counts for each distance, 64 distances a part.

    The high bits choose the part, and in it eight octets: most parts and octets are empty for all 512 columns and are skipped.
    """
    lows = _split(mask, found, 0)
    n_parts = U(counts.shape[0] // 64)
    store(table, U(0), splat(FULL))
    n, level = U(1), U(n_levels)
    while level > U(6):
        level -= U(1)
        bit = load(found, level)
        i = n
        while i > U(0):
            i -= U(1)
            above = load(table, i)
            store(table, U(2) * i, without(above, bit))
            store(table, U(2) * i + U(1), both(above, bit))
        n = min(n * U(2), ((n_parts - U(1)) >> (level - U(6))) + U(1))
    for part in range(n_parts):
        chosen = load(table, part)
        if some(chosen):
            place = part * U(64)
            octets = _split(chosen, found, 3)
            _count_octet(octets[0], lows, counts, place)
            _count_octet(octets[1], lows, counts, place + U(8))
            _count_octet(octets[2], lows, counts, place + U(16))
            _count_octet(octets[3], lows, counts, place + U(24))
            _count_octet(octets[4], lows, counts, place + U(32))
            _count_octet(octets[5], lows, counts, place + U(40))
            _count_octet(octets[6], lows, counts, place + U(48))
            _count_octet(octets[7], lows, counts, place + U(56))


@numba.njit(cache=True, nogil=True)
def _note_closest(
    found: AnyArray, n_levels: int, near: AnyArray, first: int, best: AnyArray, row: int, group: int, row_best: AnyArray
) -> None:
    """Keep each row's first closest column; ``best[group]`` is the distance that none of the rows undercuts so far."""
    for lane in range(8):
        word = near[lane]
        while word != U(0):
            bit = lowest(word)
            word &= word - U(1)
            distance = _distance(found, n_levels, lane, bit)
            if distance < row_best[row, group, 0]:
                row_best[row, group, 0] = distance
                row_best[row, group, 1] = first + 64 * lane + int(bit)
                best[group] = min(best[group], distance)


@numba.njit(cache=True, nogil=True)
def count_rows(
    planes: AnyArray,
    first_column: int,
    n_bits: int,
    plan: tuple[AnyArray, AnyArray],
    segments: tuple[AnyArray, AnyArray, AnyArray],
    counts: AnyArray,
    row_best: AnyArray,
) -> None:
    """Histograms of planned rows against all blocks, added to ``counts (n_groups, 64 n_parts, 8)``.

    ``segments`` are lows ``(n, s)``, highs ``(n, s)`` and the group ``(s,)`` of each. ``row_best (n, n_groups, 2)`` keeps each row's
    smallest distance in each group and its first column; of no rows, it isn't kept.
    """
    places, start = plan
    lows, highs, groups = segments
    n_levels = start.shape[1] - 2
    found, mask, limits = _scratch(max(n_levels, 6)), _scratch(1), np.zeros(n_levels, np.uint64)
    near, table = _scratch(1), _scratch(counts.shape[1] // 32 + 2)
    best = np.full(counts.shape[0], n_bits)
    tile, keep = _tile(planes), row_best.shape[0] > 0
    for corner in range(0, planes.shape[0], tile):
        for i in range(places.shape[0]):
            for block in range(corner, min(corner + tile, planes.shape[0])):
                first = first_column + block * BLOCK
                measured = False
                for s in range(groups.shape[0]):
                    if highs[i, s] <= first or lows[i, s] >= first + BLOCK or lows[i, s] >= highs[i, s]:
                        continue
                    if not measured:
                        measure_block(planes[block], n_bits, n_levels, places[i], start[i], found)
                        measured = True
                    chosen, group = splat(FULL), groups[s]
                    if lows[i, s] > first or highs[i, s] < first + BLOCK:
                        mask[:] = U(0)
                        _window(lows[i, s], highs[i, s], first, mask)
                        chosen = load(mask, U(0))
                    _tally(found, n_levels, chosen, table, counts[group])
                    limit = min(best[group], row_best[i, group, 0] - 1) if keep else -1
                    if limit >= 0:
                        _set_limit(limits, n_levels, limit)
                        close = both(chosen, _at_most(found, n_levels, limits))
                        if some(close):
                            store(near, U(0), close)
                            _note_closest(found, n_levels, near, first, best, i, group, row_best)


@numba.njit(cache=True, nogil=True)
def find_rows(
    planes: AnyArray,
    first_column: int,
    n_bits: int,
    plan: tuple[AnyArray, AnyArray],
    segments: tuple[AnyArray, AnyArray],
    radius: int,
    pairs: AnyArray,
) -> int:
    """Pairs within the radius, as rows, columns and distances into ``pairs (3, capacity)``; returns how many there are, written or not."""
    places, start = plan
    lows, highs = segments
    n_levels, n, capacity = start.shape[1] - 2, 0, pairs.shape[1]
    found, mask, limits = _scratch(max(n_levels, 6)), _scratch(1), np.zeros(n_levels, np.uint64)
    _set_limit(limits, n_levels, radius)
    tile = _tile(planes)
    for corner in range(0, planes.shape[0], tile):
        for i in range(places.shape[0]):
            for block in range(corner, min(corner + tile, planes.shape[0])):
                first = first_column + block * BLOCK
                if highs[i, 0] <= first or lows[i, 0] >= first + BLOCK:
                    continue
                measure_block(planes[block], n_bits, n_levels, places[i], start[i], found)
                close = _at_most(found, n_levels, limits)
                if not some(close):
                    continue
                mask[:] = U(0)
                _window(lows[i, 0], highs[i, 0], first, mask)
                store(mask, U(0), both(load(mask, U(0)), close))
                for lane in range(8):
                    word = mask[lane]
                    if n >= capacity:
                        n += int(count_word(word))
                        continue
                    while word != U(0):
                        bit = lowest(word)
                        word &= word - U(1)
                        if n < capacity:
                            pairs[0, n], pairs[1, n] = i, first + 64 * lane + int(bit)
                            pairs[2, n] = _distance(found, n_levels, lane, bit)
                        n += 1
    return n


@numba.njit(cache=True, nogil=True)
def _insert(near: AnyArray, columns: AnyArray, distance: int, column: int) -> None:
    """Put a column behind all that aren't farther; the last falls out."""
    place = near.shape[0] - 1
    while place > 0 and near[place - 1] > distance:
        near[place], columns[place] = near[place - 1], columns[place - 1]
        place -= 1
    near[place], columns[place] = distance, column


@numba.njit(cache=True, nogil=True)
def _tighten(found: AnyArray, n_levels: int, mask: AnyArray, k: int, limits: AnyArray, limit: int) -> None:
    """Of more than k columns in ``mask``, leave those whose distance isn't above the k-th smallest; ``limit`` is above none of them."""
    chosen, low = load(mask, U(0)), 0
    while low < limit:
        middle = (low + limit) // 2
        _set_limit(limits, n_levels, middle)
        store(mask, U(0), count(both(chosen, _at_most(found, n_levels, limits))))
        if mask.sum() >= k:
            limit = middle
        else:
            low = middle + 1
    _set_limit(limits, n_levels, limit)
    store(mask, U(0), both(chosen, _at_most(found, n_levels, limits)))


@numba.njit(cache=True, nogil=True)
def nearest_rows(
    planes: AnyArray,
    first_column: int,
    n_bits: int,
    plan: tuple[AnyArray, AnyArray],
    segments: tuple[AnyArray, AnyArray],
    near: AnyArray,
    columns: AnyArray,
) -> None:
    """Bring each row's k nearest up to date: distances ``near (n, k)``, ascending, above ``n_bits`` where free, and their columns."""
    places, start = plan
    lows, highs = segments
    n_levels, last = start.shape[1] - 2, near.shape[1] - 1
    found, mask, limits = _scratch(max(n_levels, 6)), _scratch(1), np.zeros(n_levels, np.uint64)
    tile = _tile(planes)
    for corner in range(0, planes.shape[0], tile):
        for i in range(places.shape[0]):
            _set_limit(limits, n_levels, min(near[i, last] - 1, n_bits))
            for block in range(corner, min(corner + tile, planes.shape[0])):
                if near[i, last] == 0:
                    break
                measure_block(planes[block], n_bits, n_levels, places[i], start[i], found)
                close = _at_most(found, n_levels, limits)
                if not some(close):
                    continue
                first = first_column + block * BLOCK
                mask[:] = U(0)
                for s in range(lows.shape[1]):
                    _window(lows[i, s], highs[i, s], first, mask)
                close = both(load(mask, U(0)), close)
                store(mask, U(0), count(close))
                n = mask.sum()
                store(mask, U(0), close)
                if n > U(last + 8):
                    _tighten(found, n_levels, mask, last + 1, limits, min(near[i, last] - 1, n_bits))
                for lane in range(8):
                    word = mask[lane]
                    while word != U(0):
                        bit = lowest(word)
                        word &= word - U(1)
                        distance = _distance(found, n_levels, lane, bit)
                        if distance < near[i, last]:
                            _insert(near[i], columns[i], distance, first + 64 * lane + int(bit))
                _set_limit(limits, n_levels, min(near[i, last] - 1, n_bits))


@numba.njit(cache=True, nogil=True)
def match_rows(a: AnyArray, b: AnyArray, distances: AnyArray) -> None:
    """Row by row distances of words ``(n, n_words)``, into ``distances (n,)``."""
    for i in range(a.shape[0]):
        total = U(0)
        for word in range(a.shape[1]):
            total += count_word(a[i, word] ^ b[i, word])
        distances[i] = total
