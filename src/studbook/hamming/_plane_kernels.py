"""Distances of one bit string to 512 others at once, by adding bits instead of counting them string by string.

The columns are stored transposed: plane p of a block holds bit p of 512 strings. For a row a with the set bits S, the distance to a
column b is

    |a| + |b| - 2 · (bits of b in S),

so half of the planes, or fewer, have to be added. Full adders made of bitwise operations add them for all 512 columns together, sixteen
planes a step (Harley and Seal's carry-save tree). The distances stay in this form, plane k holding bit k of each: comparing 512 of
them with a radius takes a dozen instructions, and counting one value takes one population count.

A block is ``(n_bits + 1 + n_levels, 8)`` words: the planes, one plane of zeros, and the planes of |b|. Distances are
``n_levels = n_bits.bit_length()`` planes.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from studbook.arrays import AnyArray
from studbook.hamming._bit_vectors import both, carry, count_word, differ, load, load_from, lowest, odd, splat, store, without

U = numba.uint64
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
STEP = 16
BLOCK = 512


@numba.njit(cache=True, nogil=True)
def _transpose(square: AnyArray) -> None:
    """Turn a square of 64 words around, in place: bit j of word i becomes bit i of word j (Warren, Hacker's Delight, 7-3)."""
    width, mask = U(32), U(0x00000000FFFFFFFF)
    while width != U(0):
        k = U(0)
        while k < U(64):
            other = k | width
            swapped = ((square[k] >> width) ^ square[other]) & mask
            square[other] ^= swapped
            square[k] ^= swapped << width
            k = (other + U(1)) & ~width
        width >>= U(1)
        mask ^= mask << width


@numba.njit(cache=True, nogil=True)
def fill_planes(words: AnyArray, n_bits: int, planes: AnyArray) -> None:
    """Blocks of planes ``(n_blocks, n_bits + 1 + n_levels, 8)``, zeros before, out of strings ``(n, n_words)``."""
    square = np.empty(64, np.uint64)
    for block in range(planes.shape[0]):
        for lane in range(8):
            first = block * BLOCK + lane * 64
            for word in range(words.shape[1]):
                for i in range(64):
                    square[i] = words[first + i, word] if first + i < words.shape[0] else U(0)
                _transpose(square)
                for place in range(min(64, n_bits - 64 * word)):
                    planes[block, 64 * word + place, lane] = square[place]
            for place in range(n_bits):
                moved = planes[block, place, lane]
                for level in range(n_bits + 1, planes.shape[1]):
                    before = planes[block, level, lane]
                    planes[block, level, lane] = before ^ moved
                    moved &= before


@numba.njit(cache=True, nogil=True)
def plan_rows(words: AnyArray, n_bits: int, n_levels: int, places: AnyArray, start: AnyArray) -> None:
    """What each row adds up.

    ``places (n, n_bits // 2 + 16)``, uint16, are the words at which its planes begin, and ``start (n, n_levels + 2)`` constants.
    With t = 2 · (bits of b in S) - |a| the distance is |b| - t; a row with more ones than zeros adds the planes of its zeros Z instead, and
    with t = 2 · (bits of b in Z) + |a| it is t - |b|. Half of ±|a| is where the sum begins: the first n_levels - 1 columns of ``start``
    are its bits. The last three are its odd bit, the sign (all bits set for t - |b|) and the number of steps.
    """
    for i in range(words.shape[0]):
        size = 0
        for word in range(words.shape[1]):
            size += int(count_word(words[i, word]))
        flip = 2 * size > n_bits
        n = 0
        for word in range(words.shape[1]):
            left = ~words[i, word] if flip else words[i, word]
            while left != U(0):
                place = 64 * word + int(lowest(left))
                left &= left - U(1)
                if place < n_bits:
                    places[i, n] = 8 * place
                    n += 1
        n_steps = (n + STEP - 1) // STEP
        places[i, n : n_steps * STEP] = 8 * n_bits
        constant = (size if flip else -size) >> 1
        for level in range(n_levels - 1):
            start[i, level] = U(0) - U((constant >> level) & 1)
        start[i, n_levels - 1] = U(0) - U(size & 1)
        start[i, n_levels] = FULL if flip else U(0)
        start[i, n_levels + 1] = n_steps


@numba.njit(cache=True, nogil=True, inline="always")
def _add_four(planes: AnyArray, places: AnyArray, q: Any, ones: Any, twos: Any) -> Any:
    """Four planes into the sums of ones and twos, and what is carried out of them, a plane of fours."""
    a, b = load_from(planes, U(places[q])), load_from(planes, U(places[q + U(1)]))
    first, ones = carry(ones, a, b), odd(ones, a, b)
    a, b = load_from(planes, U(places[q + U(2)])), load_from(planes, U(places[q + U(3)]))
    second, ones = carry(ones, a, b), odd(ones, a, b)
    return ones, odd(twos, first, second), carry(twos, first, second)


@numba.njit(cache=True, nogil=True, inline="always")
def _add_sixteen(planes: AnyArray, places: AnyArray, q: Any, ones: Any, twos: Any, fours: Any, eights: Any) -> Any:
    """Sixteen planes into the sums, and what is carried out of them, a plane of sixteens."""
    ones, twos, first = _add_four(planes, places, q, ones, twos)
    ones, twos, second = _add_four(planes, places, q + U(4), ones, twos)
    low, fours = carry(fours, first, second), odd(fours, first, second)
    ones, twos, first = _add_four(planes, places, q + U(8), ones, twos)
    ones, twos, second = _add_four(planes, places, q + U(12), ones, twos)
    high, fours = carry(fours, first, second), odd(fours, first, second)
    return ones, twos, fours, odd(eights, low, high), carry(eights, low, high)


@numba.njit(cache=True, nogil=True, inline="always")
def measure_block(planes: AnyArray, n_bits: int, n_levels: int, places: AnyArray, start: AnyArray, found: AnyArray) -> None:
    """Distances of one planned row to the 512 columns of a block, as planes ``found``, flat, ``max(n_levels, 6)`` vectors."""
    last = U(n_levels) - U(1)
    ones, twos, fours, eights = splat(start[U(0)]), splat(start[U(1)]), splat(start[U(2)]), splat(start[U(3)])
    sixteens, more = splat(start[U(4)]), splat(start[U(5)])
    for level in range(U(6), last):
        store(found, level, splat(start[level]))
    for step in range(start[last + U(2)]):
        ones, twos, fours, eights, moved = _add_sixteen(planes, places, step * U(STEP), ones, twos, fours, eights)
        sixteens, moved = differ(sixteens, moved), both(sixteens, moved)
        more, moved = differ(more, moved), both(more, moved)
        for level in range(U(6), last):
            before = load(found, level)
            store(found, level, differ(before, moved))
            moved = both(before, moved)
    store(found, U(0), ones)
    store(found, U(1), twos)
    store(found, U(2), fours)
    store(found, U(3), eights)
    store(found, U(4), sixteens)
    store(found, U(5), more)
    # |b| - t is |b| + ~t + 1, and t - |b| is ~(|b| + ~t); ~t comes one place later than its plane, for t is twice the sum.
    sign = splat(start[last + U(1)])
    moved = splat(~start[last + U(1)])
    other = splat(~start[last])
    for level in range(U(n_levels)):
        size = load(planes, U(n_bits) + U(1) + level)
        following = without(splat(FULL), load(found, level))
        store(found, level, differ(odd(other, size, moved), sign))
        moved = carry(other, size, moved)
        other = following
    for level in range(U(n_levels), U(6)):
        store(found, level, splat(U(0)))
