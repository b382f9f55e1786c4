"""Philox 4x32-10 and Gumbel noise in compiled loops."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from studbook.arrays import AnyArray

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
_ROUNDS = 10


@numba.njit(cache=True, inline="always")
def _philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:  # pragma: no cover - compiled
    for _ in range(_ROUNDS):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _LOW, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@numba.njit(cache=True, nogil=True)
def philox_words(seed: int, stream: int, position: int, out: AnyArray) -> None:  # pragma: no cover - compiled
    """Fill ``out`` (n,) uint32 with the words of one position; word i is number i mod 4 of block i // 4."""
    key, where = np.uint64(seed), np.uint64(position)
    for block in range((len(out) + 3) // 4):
        words = _philox(np.uint64(block), where & _LOW, where >> _SHIFT, np.uint64(stream), key & _LOW, key >> _SHIFT)
        for i in range(4):
            if 4 * block + i < len(out):
                out[4 * block + i] = np.uint32(words[i])


@numba.njit(cache=True, inline="always")
def _gumbel(word: Any) -> Any:  # pragma: no cover - compiled
    return -math.log(-math.log((float(word) + 0.5) * 2.0**-32))


@numba.njit(cache=True, nogil=True)
def gumbel_best(
    logits: AnyArray, inverse: float, lowest: float, seed: int, stream: int, position: int, claimed: int
) -> tuple[int, float, float]:  # pragma: no cover - compiled
    """The token with the largest ``logit * inverse + noise`` among those of logit ``lowest`` and more, its score, and that of ``claimed``.

    A claimed token below ``lowest`` loses what it is short of it, beside what it is short of the best.
    """
    key, where = np.uint64(seed), np.uint64(position)
    best, best_score, claimed_score = -1, -np.inf, -np.inf
    n = len(logits)
    for block in range((n + 3) // 4):
        first = 4 * block
        asked = first <= claimed < first + 4
        top = -np.inf
        for i in range(first, min(first + 4, n)):
            top = max(top, logits[i])
        # No noise is above 22.9: what can't win isn't drawn.
        if not asked and (top < lowest or top * inverse + 22.9 < best_score):
            continue
        words = _philox(np.uint64(block), where & _LOW, where >> _SHIFT, np.uint64(stream), key & _LOW, key >> _SHIFT)
        for i in range(4):
            token = first + i
            if token < n and (token == claimed or logits[token] >= lowest):
                score = logits[token] * inverse + _gumbel(words[i])
                if token == claimed:
                    claimed_score = score
                if logits[token] >= lowest and score > best_score:
                    best, best_score = token, score
    if claimed >= 0 and logits[claimed] < lowest:
        claimed_score = min(claimed_score, best_score) - (lowest - logits[claimed]) * inverse
    return best, best_score, claimed_score


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def mass_above(logits: AnyArray, inverse: float, value: float, lowest: float) -> float:  # pragma: no cover - compiled
    """The share of probability of logits above ``value``, among those of ``lowest`` and more."""
    top = np.float64(logits.max())
    above, total = 0.0, 0.0
    for logit in logits:
        if logit >= lowest:
            weight = math.exp((logit - top) * inverse)
            total += weight
            above += weight if logit > value else 0.0
    return above / total
