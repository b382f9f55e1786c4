"""Numba kernels over hashed words: shingles, SimHash counts and MinHash minima, in unsigned 64-bit arithmetic."""

from __future__ import annotations

import numba
import numpy as np

from studbook.arrays import AnyArray, Ints

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_A, _B, _C = np.uint64(30), np.uint64(27), np.uint64(31)
_EIGHT, _BYTE = np.uint64(8), np.uint64(255)
_FLUSH = 255
# The bits of a byte, each in a byte of its own.
_SPREAD = np.array([sum(((byte >> bit) & 1) << (8 * bit) for bit in range(8)) for byte in range(256)], dtype=np.uint64)


@numba.njit(cache=True, nogil=True, inline="always")
def _mix(x: np.uint64) -> np.uint64:
    """The last steps of SplitMix64: every bit of the result depends on every bit of x."""
    x = (x ^ (x >> _A)) * _FIRST
    x = (x ^ (x >> _B)) * _SECOND
    return x ^ (x >> _C)


@numba.njit(cache=True, nogil=True)
def mix_shingles(words: AnyArray, size: int, shingles: AnyArray) -> None:
    """Hash every run of ``size`` words: from s = size, s becomes mix(s + word + golden ratio) word by word.

    Args:
        words: ``(n,)`` uint64.
        size: Words a shingle, at most n.
        shingles: ``(n - size + 1,)`` uint64, written.
    """
    for i in range(shingles.size):
        state = np.uint64(size)
        for k in range(size):
            state = _mix(state + words[i + k] + _GOLDEN)
        shingles[i] = state


@numba.njit(cache=True, nogil=True)
def count_bits(shingles: AnyArray, counts: Ints) -> None:
    """How many shingles have each bit set, in the 64-bit lanes mix(shingle + (lane + 1) · golden ratio).

    Args:
        shingles: ``(n,)`` uint64.
        counts: ``(lanes * 64,)`` int64 zeros, added to; the lowest bit of a lane first.
    """
    lanes = counts.size // 64
    # Eight counters to a word, emptied before they can run over.
    eights = np.zeros(lanes * 8, np.uint64)
    held = 0
    for i in range(shingles.size):
        state = shingles[i]
        for lane in range(lanes):
            state += _GOLDEN
            value = _mix(state)
            for k in range(8):
                eights[8 * lane + k] += _SPREAD[np.intp(value & _BYTE)]
                value >>= _EIGHT
        held += 1
        if held == _FLUSH or i == shingles.size - 1:
            for k in range(eights.size):
                value = eights[k]
                for bit in range(8):
                    counts[8 * k + bit] += np.int64(value & _BYTE)
                    value >>= _EIGHT
                eights[k] = np.uint64(0)
            held = 0


@numba.njit(cache=True, nogil=True)
def least_values(shingles: AnyArray, least: AnyArray) -> None:
    """Under each permutation the smallest value, mix(shingle xor mix((i + 1) · golden ratio)), of any shingle.

    Args:
        shingles: ``(n,)`` uint64.
        least: ``(k,)`` uint64, written.
    """
    state = np.uint64(0)
    for i in range(least.size):
        state += _GOLDEN
        seed = _mix(state)
        found = np.uint64(0xFFFFFFFFFFFFFFFF)
        for s in range(shingles.size):
            found = min(found, _mix(shingles[s] ^ seed))
        least[i] = found
