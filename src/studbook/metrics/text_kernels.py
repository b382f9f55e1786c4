"""Compiled loops of the text metrics: numbering n-grams, and telling which occur in one group of blocks only."""

from __future__ import annotations

import numba
import numpy as np

from studbook.arrays import AnyArray

ABSENT = -1
SEVERAL = -2


@numba.njit(cache=True, nogil=True)
def number_ngrams(shorter: AnyArray, tokens: AnyArray, n: int, n_words: int) -> tuple[AnyArray, int]:
    """Number the n-grams by a hash table of (number of the first n - 1 tokens, last token).

    Args:
        shorter: ``(blocks, length - n + 2)`` number of the (n - 1)-gram that begins at each position.
        tokens: ``(blocks, length)`` token ids.
        n: 2 or more.
        n_words: Size of the vocabulary.

    Returns:
        ``(blocks, length - n + 1)`` numbers from 0 in order of first occurrence, and how many there are.
    """
    numbers = np.empty((tokens.shape[0], tokens.shape[1] - n + 1), np.int32)
    size = 16
    while size < 2 * numbers.size:
        size *= 2
    keys, values = np.full(size, -1, np.int64), np.empty(size, np.int32)
    count = 0
    for b in range(numbers.shape[0]):
        for i in range(numbers.shape[1]):
            key = np.int64(shorter[b, i]) * n_words + tokens[b, i + n - 1]
            mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
            k = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(size - 1))
            while keys[k] >= 0 and keys[k] != key:
                k = (k + 1) & (size - 1)
            if keys[k] < 0:
                keys[k], values[k] = key, count
                count += 1
            numbers[b, i] = values[k]
    return numbers, count


@numba.njit(cache=True, nogil=True)
def only_group(numbers: AnyArray, groups: AnyArray, n_numbers: int) -> AnyArray:
    """For each number the only group of blocks that holds it, ``SEVERAL`` or ``ABSENT``.

    Args:
        numbers: ``(blocks, k)`` integers in ``[0, n_numbers)``.
        groups: ``(blocks,)`` group of each block, 0 or more.
        n_numbers: Length of the result.
    """
    result = np.full(n_numbers, ABSENT, np.int16)
    for b in range(numbers.shape[0]):
        for i in range(numbers.shape[1]):
            known = result[numbers[b, i]]
            if known == ABSENT:
                result[numbers[b, i]] = groups[b]
            elif known != groups[b]:
                result[numbers[b, i]] = SEVERAL
    return result
