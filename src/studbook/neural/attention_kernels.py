"""The compiled attention of one new token a beam, on a CPU in single precision.

Arrays are flat and offsets unsigned: views inside the loops and signed indices would cost more than the arithmetic.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from studbook.arrays import AnyArray

U = np.uint64
F = np.float32
LOG2_E = F(1.4426950408889634)
LOWEST = F(-126.0)  # exponents below are taken for this one: 1e-38
INFINITE = {"nnan", "nsz", "arcp", "contract", "reassoc", "afn"}  # fast, but minus infinity keeps its meaning
# Taylor's polynomial of 2^x on [-1/2, 1/2], right to 1e-7
C0, C1, C2, C3, C4, C5, C6 = (F(math.log(2.0) ** i / math.factorial(i)) for i in range(7))


@numba.njit(cache=True, nogil=True, fastmath=INFINITE)
def attend(
    projected: AnyArray, cache: AnyArray, ancestors: AnyArray, slopes: AnyArray, sizes: tuple[int, ...], scale: float, out: AnyArray
) -> Any:
    """Put each beam's new key and value into the cache, and read with its heads.

    Args:
        projected: ``(n * beams, width)``, flat; a row is the queries ``(heads, head_width)``, then a key and a value ``(2, kv_heads,
            head_width)``.
        cache: ``(n, slots, 2, kv_heads, head_width)``, flat: keys and values; the last written step is filled in.
        ancestors: ``(n, beams, max_new)``, flat; the beam that wrote each step of this beam's text.
        slopes: ``(heads,)``; what a head's scores rise with each position (ALiBi), else 0.
        sizes: n, beams, heads, kv_heads, head_width, width, slots, tokens read, tokens written, max_new.
        scale: Of the scores.
        out: ``(n * beams, heads, head_width)``, flat; written.

    Returns:
        A number without meaning: it keeps the compiler from leaving out reads that are made for their own sake.
    """
    n, beams, heads, kv_heads, head_width = U(sizes[0]), U(sizes[1]), U(sizes[2]), U(sizes[3]), U(sizes[4])
    width, slots, n_read, n_written, n_steps = U(sizes[5]), U(sizes[6]), U(sizes[7]), U(sizes[8]), U(sizes[9])
    row = U(2) * kv_heads * head_width
    length = n_read + n_written
    scores = np.empty(heads * length, np.float32)
    powers = np.empty(length, np.int32)
    places = np.empty(length, np.uint64)
    touched: Any = F(0.0)
    for i in range(n):
        for s in range(n_read):
            places[s] = (i * slots + s) * row
        newest = (i * slots + n_read + (n_written - U(1)) * beams) * row
        for j in range(beams):
            source = (i * beams + j) * width + heads * head_width
            for x in range(row):
                cache[newest + j * row + x] = projected[source + x]
        # One read a cache line, all at once: what follows then finds the prompt's keys and values near, instead of waiting for each.
        together = n_read + n_written - U(1) if beams == U(1) else n_read
        for x in range(U(0), together * row, U(16)):
            touched += cache[i * slots * row + x]
        for j in range(beams):
            beam = i * beams + j
            for s in range(n_written):
                places[n_read + s] = (i * slots + n_read + s * beams + U(ancestors[beam * n_steps + s])) * row
            _score(projected, beam * width, cache, places, slopes, (heads, kv_heads, head_width), F(scale), scores)
            for h in range(heads):
                _soften(scores, h * length, length, powers)
            _mix(scores, cache, places, (heads, kv_heads, head_width), out, beam * heads * head_width)
    return touched


@numba.njit(cache=True, nogil=True, fastmath=INFINITE, inline="always")
def _score(
    projected: AnyArray,
    start: int,
    cache: AnyArray,
    places: AnyArray,
    slopes: AnyArray,
    sizes: tuple[int, ...],
    scale: float,
    out: AnyArray,
) -> None:
    """Products of the queries with the keys at ``places``, four keys at a time: ``out`` is ``(heads, length)``, flat."""
    heads, kv_heads, head_width = sizes
    length, share = U(places.size), heads // kv_heads
    fours = length // U(4) * U(4)
    for s in range(U(0), fours, U(4)):
        for h in range(heads):
            key = h // share * head_width
            k0, k1, k2, k3 = places[s] + key, places[s + U(1)] + key, places[s + U(2)] + key, places[s + U(3)] + key
            query = start + h * head_width
            a = b = c = e = F(0.0)
            for d in range(head_width):
                q = projected[query + d]
                a += q * cache[k0 + d]
                b += q * cache[k1 + d]
                c += q * cache[k2 + d]
                e += q * cache[k3 + d]
            at = h * length + s
            out[at] = a * scale + slopes[h] * F(s)
            out[at + U(1)] = b * scale + slopes[h] * F(s + U(1))
            out[at + U(2)] = c * scale + slopes[h] * F(s + U(2))
            out[at + U(3)] = e * scale + slopes[h] * F(s + U(3))
    for s in range(fours, length):
        for h in range(heads):
            key = places[s] + h // share * head_width
            query = start + h * head_width
            a = F(0.0)
            for d in range(head_width):
                a += projected[query + d] * cache[key + d]
            out[h * length + s] = a * scale + slopes[h] * F(s)


@numba.njit(cache=True, nogil=True, fastmath=INFINITE, inline="always")
def _soften(scores: AnyArray, start: int, length: int, powers: AnyArray) -> None:
    """Softmax of ``length`` scores, in place. ``powers`` is scratch: the powers of two, as the bits of single-precision numbers."""
    top = scores[start]
    for s in range(length):
        top = max(top, scores[start + s])
    for s in range(length):
        x = max((scores[start + s] - top) * LOG2_E, LOWEST)
        whole = np.int32(x - F(0.5))
        f = x - F(whole)
        scores[start + s] = C0 + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * C6)))))
        powers[s] = (whole + np.int32(127)) << np.int32(23)
    twos = powers.view(np.float32)
    total = F(0.0)
    for s in range(length):
        scores[start + s] *= twos[s]
        total += scores[start + s]
    share = F(1.0) / total
    for s in range(length):
        scores[start + s] *= share


@numba.njit(cache=True, nogil=True, fastmath=INFINITE, inline="always")
def _mix(weights: AnyArray, cache: AnyArray, places: AnyArray, sizes: tuple[int, ...], out: AnyArray, start: int) -> None:
    """The weighted sums of the values at ``places``: ``(heads, head_width)`` numbers of ``out`` from ``start`` on."""
    heads, kv_heads, head_width = sizes
    length, share = U(places.size), heads // kv_heads
    eights = length // U(8) * U(8)
    for d in range(heads * head_width):
        out[start + d] = F(0.0)
    for s in range(U(0), eights, U(8)):
        for h in range(heads):
            value = (kv_heads + h // share) * head_width
            v0, v1, v2, v3 = places[s] + value, places[s + U(1)] + value, places[s + U(2)] + value, places[s + U(3)] + value
            v4, v5, v6, v7 = places[s + U(4)] + value, places[s + U(5)] + value, places[s + U(6)] + value, places[s + U(7)] + value
            to, at = start + h * head_width, h * length + s
            w0, w1, w2, w3 = weights[at], weights[at + U(1)], weights[at + U(2)], weights[at + U(3)]
            w4, w5, w6, w7 = weights[at + U(4)], weights[at + U(5)], weights[at + U(6)], weights[at + U(7)]
            for d in range(head_width):
                first = w0 * cache[v0 + d] + w1 * cache[v1 + d] + w2 * cache[v2 + d] + w3 * cache[v3 + d]
                last = w4 * cache[v4 + d] + w5 * cache[v5 + d] + w6 * cache[v6 + d] + w7 * cache[v7 + d]
                out[to + d] += first + last
    for s in range(eights, length):
        for h in range(heads):
            value = places[s] + (kv_heads + h // share) * head_width
            to, a = start + h * head_width, weights[h * length + s]
            for d in range(head_width):
                out[to + d] += a * cache[value + d]
