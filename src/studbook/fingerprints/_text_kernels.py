"""Numba kernels over texts: words, shingles, SimHash counts and MinHash minima, in unsigned 64-bit arithmetic.

numba's cache on disk doesn't notice when a file that this one imports changes: remove ``__pycache__`` after editing.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numba
import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.fingerprints._text_vectors import load, lowest, multiply_add, smaller, splat, store, word_at

Texts: TypeAlias = tuple[AnyArray, Ints, AnyArray]
"""Bytes, bounds and classes; see ``studbook.fingerprints.words.Texts``."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_A, _B, _C = np.uint64(30), np.uint64(27), np.uint64(31)
_EIGHT, _BYTE = np.uint64(8), np.uint64(255)
_FLUSH = 255
_U, _LARGEST = np.uint64, np.uint64(0xFFFFFFFFFFFFFFFF)
_ONES, _HIGHS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
# The bits of a byte, each in a byte of its own.
_SPREAD = np.array([sum(((byte >> bit) & 1) << (8 * bit) for bit in range(8)) for byte in range(256)], dtype=np.uint64)


@numba.njit(cache=True, nogil=True, inline="always")
def _mix(x: np.uint64) -> np.uint64:
    """The last steps of SplitMix64: every bit of the result depends on every bit of x."""
    x = (x ^ (x >> _A)) * _FIRST
    x = (x ^ (x >> _B)) * _SECOND
    return x ^ (x >> _C)


@numba.njit(cache=True, nogil=True, inline="always")
def _sequence(data: AnyArray, at: np.uint64, stop: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The code point of the UTF-8 sequence of two bytes or more at ``at``, and where the next one begins."""
    lead = _U(data[at])
    size = _U(2) if lead < _U(0xE0) else _U(3) if lead < _U(0xF0) else _U(4)
    point, end = lead & (_U(0x7F) >> size), min(at + size, stop)
    for k in range(at + _U(1), end):
        point = point << _U(6) | _U(data[k]) & _U(0x3F)
    return point, end


@numba.njit(cache=True, nogil=True, inline="always")
def _small(byte: np.uint8) -> Any:
    """An ASCII letter or digit as a small one, 0 for all other ASCII."""
    small = np.uint8(byte | np.uint8(32))
    letter = np.uint8(small - np.uint8(97)) < np.uint8(26)
    digit = np.uint8(byte - np.uint8(48)) < np.uint8(10)
    return np.uint8(small if letter else byte if digit else np.uint8(0))


@numba.njit(cache=True, nogil=True)
def _copy_ascii(data: AnyArray, letters: AnyArray) -> Any:
    """Small letters and digits, 0 for what separates; a loop of bytes without an exit, which the compiler turns into vectors.

    Returns:
        Whether all was ASCII; else what was written means nothing.
    """
    high = np.uint8(0)
    for i in range(data.size):
        letters[i] = _small(data[i])
        high |= data[i]
    return high < np.uint8(0x80)


@numba.njit(cache=True, nogil=True)
def _copy_any(data: AnyArray, classes: AnyArray, letters: AnyArray) -> int:
    """As ``_copy_ascii``, of any UTF-8, with a 0 on both sides of a letter that is a word by itself; returns how many bytes it wrote."""
    n, at, stop = _U(0), _U(0), _U(data.size)
    while at < stop:
        if data[at] < 0x80:
            letters[n] = _small(data[at])
            n, at = n + _U(1), at + _U(1)
            continue
        point, end = _sequence(data, at, stop)
        kind = classes[point]
        if kind != 1:
            letters[n] = np.uint8(0)
            n += _U(1)
        while kind != 0 and at < end:
            letters[n] = data[at]
            n, at = n + _U(1), at + _U(1)
        if kind == 2:
            letters[n] = np.uint8(0)
            n += _U(1)
        at = end
    return int(n)


@numba.njit(cache=True, nogil=True)
def hash_words(data: AnyArray, classes: AnyArray, letters: AnyArray, words: AnyArray) -> int:
    """Hash every word of a text; ``studbook.fingerprints.words`` says how.

    Args:
        data: ``(n,)`` uint8, UTF-8.
        classes: By code point, of those that aren't ASCII: 0 separates, 1 is part of a word, 2 is a word by itself. May be empty where all
            bytes are ASCII.
        letters: Room, ``(2 n + 16,)`` uint8: no letter that is a word by itself has fewer than two bytes.
        words: uint64, written; n are enough.

    Returns:
        How many words there are.
    """
    size = data.size
    if not _copy_ascii(data, letters):
        size = _copy_any(data, classes, letters)
    letters[size : size + 9] = np.uint8(0)
    n, at, stop = 0, _U(0), _U(size)
    while at < stop:
        if letters[at] == 0:
            at += _U(1)
            continue
        state = _U(0)
        while True:
            block = word_at(letters, at)
            # The lowest byte of 0 has its highest bit set here, and none below it has.
            ends = (block - _ONES) & ~block & _HIGHS
            if ends == _U(0):
                state = _mix(state + block + _GOLDEN)
                at += _U(8)
                continue
            length = lowest(ends) >> _U(3)
            if length > _U(0):
                block &= _LARGEST >> (_U(64) - (length << _U(3)))
                state = _mix(state + block + _GOLDEN)
            at += length + _U(1)
            break
        words[n] = state
        n += 1
    return n


@numba.njit(cache=True, nogil=True)
def mix_shingles(words: AnyArray, size: int, shingles: AnyArray) -> None:
    """Hash every run of ``size`` words: from s = size, s becomes mix(s + word + golden ratio) word by word.

    Args:
        words: ``(n,)`` uint64.
        size: Words a shingle, at most n.
        shingles: ``(n - size + 1,)`` uint64, written; may be the beginning of ``words``.
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
def permutations(factors: AnyArray, terms: AnyArray) -> None:
    """The permutations x → factor · x + term: their numbers in pairs from the SplitMix64 stream, the factors made odd.

    Args:
        factors: ``(k,)`` uint64, written.
        terms: ``(k,)`` uint64, written.
    """
    state = _U(0)
    for i in range(factors.size):
        state += _GOLDEN
        factors[i] = _mix(state) | _U(1)
        state += _GOLDEN
        terms[i] = _mix(state)


@numba.njit(cache=True, nogil=True)
def least_values(shingles: AnyArray, factors: AnyArray, terms: AnyArray, least: AnyArray) -> None:
    """Under each permutation the smallest value factor · shingle + term of any shingle, mixed.

    Args:
        shingles: ``(n,)`` uint64.
        factors: ``(k,)`` uint64, k a multiple of 8.
        terms: ``(k,)`` uint64.
        least: ``(k,)`` uint64, written.
    """
    at, n = _U(0), _U(least.size // 8)
    while at < n:
        # Four vectors in turn hide the time that a product takes.
        second, third, fourth = min(at + _U(1), n - _U(1)), min(at + _U(2), n - _U(1)), min(at + _U(3), n - _U(1))
        a0, a1, a2, a3 = load(factors, at), load(factors, second), load(factors, third), load(factors, fourth)
        b0, b1, b2, b3 = load(terms, at), load(terms, second), load(terms, third), load(terms, fourth)
        m0 = m1 = m2 = m3 = splat(_LARGEST)
        for i in range(shingles.size):
            x = splat(shingles[i])
            m0, m1 = smaller(m0, multiply_add(a0, x, b0)), smaller(m1, multiply_add(a1, x, b1))
            m2, m3 = smaller(m2, multiply_add(a2, x, b2)), smaller(m3, multiply_add(a3, x, b3))
        store(least, at, m0)
        store(least, second, m1)
        store(least, third, m2)
        store(least, fourth, m3)
        at += _U(4)
    for k in range(least.size):
        least[k] = _mix(least[k])


@numba.njit(cache=True, nogil=True)
def shingle_text(data: AnyArray, classes: AnyArray, size: int, letters: AnyArray, room: AnyArray) -> Any:
    """Hash the shingles of one text into ``room``; returns how many there are, 0 where there is no word."""
    n = hash_words(data, classes, letters, room)
    if n == 0:
        return 0
    size = min(size, n)
    mix_shingles(room[:n], size, room[: n - size + 1])
    return n - size + 1


@numba.njit(cache=True, nogil=True)
def minhash_texts(texts: Texts, size: int, factors: AnyArray, terms: AnyArray, least: AnyArray, n_shingles: Ints) -> None:
    """The minima of many texts.

    Args:
        texts: The n texts.
        size: Words a shingle.
        factors: ``(k,)``, see ``permutations``.
        terms: ``(k,)``, see ``permutations``.
        least: ``(n, k)`` uint64, written.
        n_shingles: ``(n,)`` written; 0 for a text without a word, whose minima mean nothing.
    """
    data, bounds, classes = texts
    longest = np.max(np.diff(bounds))
    room, letters = np.empty(longest, np.uint64), np.empty(2 * longest + 16, np.uint8)
    for i in range(n_shingles.size):
        n_shingles[i] = shingle_text(data[bounds[i] : bounds[i + 1]], classes, size, letters, room)
        least_values(room[: n_shingles[i]], factors, terms, least[i])


@numba.njit(cache=True, nogil=True)
def simhash_texts(texts: Texts, size: int, bits: AnyArray, n_shingles: Ints) -> None:
    """Which bits more than half of a text's shingles have set, for many texts.

    Args:
        texts: The n texts.
        size: Words a shingle.
        bits: ``(n, n_bits)`` bool, written.
        n_shingles: ``(n,)`` written; 0 for a text without a word.
    """
    data, bounds, classes = texts
    longest = np.max(np.diff(bounds))
    room, letters = np.empty(longest, np.uint64), np.empty(2 * longest + 16, np.uint8)
    counts = np.empty(bits.shape[1], np.int64)
    for i in range(n_shingles.size):
        n_shingles[i] = shingle_text(data[bounds[i] : bounds[i + 1]], classes, size, letters, room)
        counts[:] = 0
        count_bits(room[: n_shingles[i]], counts)
        for k in range(counts.size):
            bits[i, k] = 2 * counts[k] > n_shingles[i]
