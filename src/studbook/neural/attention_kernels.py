"""The compiled attention of one new token a beam, on a CPU in single precision.

Arrays are flat and offsets unsigned: views inside the loops and signed indices would cost more than the arithmetic.
"""

from __future__ import annotations

import numba
import numpy as np

from studbook.arrays import AnyArray
from studbook.neural.vectors import LANES, add, exp2, highest, load, maximum, multiply, multiply_add, prefetch, splat, store, total, totals

U = np.uint64
F = np.float32
LOG2_E = F(1.4426950408889634)
LINE = U(LANES)
FAST = {"nnan", "nsz", "arcp", "contract", "reassoc", "afn"}  # fast, but minus infinity keeps its meaning


def padded(width: int) -> int:
    """Numbers that a vector of ``width`` numbers takes in the cache: whole cache lines."""
    return -(-width // LANES) * LANES


@numba.njit(cache=True, nogil=True)
def locate(slots: AnyArray, parents: AnyArray, n_read: int, n_written: int, width: int, places: AnyArray) -> int:
    """Find a slot for the newest token of each beam, and say where the keys and values are that each beam reads.

    A slot that no beam reads any longer is used again, so that what is read lies close together.

    Args:
        slots: ``(n, beams, max_new)``; the slot after the prompt's that holds each step of a beam's text; the beams are put in the order of
            ``parents``, and the newest step is filled in.
        parents: ``(n, beams)``; the beam that each one continues.
        n_read: Tokens of the prompts.
        n_written: Steps written, the newest included.
        width: Numbers a slot.
        places: ``(n, beams, m)``, m at least ``n_read + n_written``, counted from the first slot of a prompt and head; written. The rest is
            0.

    Returns:
        Slots after the prompt's that are in use, for the prompt that has most.
    """
    n, beams, _ = slots.shape
    last, most = n_written - 1, 0
    used, old = np.empty(beams * n_written, np.bool_), np.empty(beams, slots.dtype)
    for i in range(n):
        used[:] = False
        for s in range(last):
            for j in range(beams):
                old[j] = slots[i, j, s]
            for j in range(beams):
                slots[i, j, s] = old[parents[i, j]]
                used[slots[i, j, s]] = True
        free = 0
        for j in range(beams):
            while used[free]:
                free += 1
            slots[i, j, last] = free
            free += 1
            most = max(most, free)
            for s in range(n_read):
                places[i, j, s] = np.uint64(s * width)
            for s in range(n_written):
                places[i, j, n_read + s] = np.uint64((n_read + slots[i, j, s]) * width)
            for s in range(n_read + n_written, places.shape[2]):
                places[i, j, s] = np.uint64(0)
    return most


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def attend(
    projected: AnyArray, cache: AnyArray, places: AnyArray, slopes: AnyArray, sizes: tuple[int, ...], scale: float, out: AnyArray
) -> None:
    """Put each beam's new key and value into the cache, and read with its heads.

    Args:
        projected: ``(n * beams, width)``, flat; a row is the queries ``(heads, head_width)``, then a key and a value ``(2, kv_heads,
            head_width)``.
        cache: ``(n, kv_heads, 2, slots, padded(head_width))``, flat: keys and values; the last written step is filled in.
        places: ``(n, beams, m)``, flat, from ``locate``; m is the number of tokens before and with this one, rounded up to whole vectors.
        slopes: ``(heads,)``; what a head's scores rise with each position (ALiBi), else 0.
        sizes: n, beams, heads, kv_heads, head_width, width, slots, tokens before and with this one.
        scale: Of the scores.
        out: ``(n * beams, heads, head_width)``, flat; written.
    """
    n, beams, heads, kv_heads, head_width = U(sizes[0]), U(sizes[1]), U(sizes[2]), U(sizes[3]), U(sizes[4])
    width, slots, length = U(sizes[5]), U(sizes[6]), U(sizes[7])
    span, columns = (head_width + LINE - U(1)) // LINE * LINE, (length + LINE - U(1)) // LINE * LINE
    plane = slots * span
    scores, query, mixed = np.empty(columns, np.float32), np.zeros(span, np.float32), np.empty(span, np.float32)
    steps, outside = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for s in range(columns):
        steps[s], outside[s] = F(s), F(0.0) if s < length else F(-np.inf)
    for i in range(n):
        for g in range(kv_heads):
            keys = (i * kv_heads + g) * U(2) * plane
            for j in range(beams):
                source, to = (i * beams + j) * width + (heads + g) * head_width, keys + places[(i * beams + j) * columns + length - U(1)]
                for d in range(head_width):
                    cache[to + d], cache[to + plane + d] = projected[source + d], projected[source + kv_heads * head_width + d]
            for h in range(g * (heads // kv_heads), (g + U(1)) * (heads // kv_heads)):
                for j in range(beams):
                    beam = i * beams + j
                    for d in range(head_width):
                        query[d] = projected[beam * width + h * head_width + d] * F(scale)
                    _score(query, cache, keys, places, beam * columns, (steps, outside), slopes[h], scores)
                    _soften(scores)
                    _mix(scores, cache, keys + plane, places, beam * columns, mixed)
                    for d in range(head_width):
                        out[(beam * heads + h) * head_width + d] = mixed[d]


@numba.njit(nogil=True, fastmath=FAST, inline="always")
def _fetch(cache: AnyArray, start: int, size: int) -> None:
    """Have the next numbers to be read brought nearer meanwhile."""
    for x in range(start, start + size, LINE):
        prefetch(cache, x)


@numba.njit(nogil=True, fastmath=FAST, inline="always")
def _score(
    query: AnyArray,
    cache: AnyArray,
    keys: int,
    places: AnyArray,
    first: int,
    along: tuple[AnyArray, AnyArray],
    slope: float,
    scores: AnyArray,
) -> None:
    """Products of the query with the keys at ``places``, sixteen keys at a time, plus what ``along`` adds: ALiBi and the end.

    Each key has a name of its own because the compiler keeps only those in registers.
    """
    steps, outside = along
    for s in range(U(0), U(scores.size), LINE):
        t = first + s
        k0, k1, k2, k3 = keys + places[t], keys + places[t + U(1)], keys + places[t + U(2)], keys + places[t + U(3)]
        k4, k5, k6, k7 = keys + places[t + U(4)], keys + places[t + U(5)], keys + places[t + U(6)], keys + places[t + U(7)]
        k8, k9, ka, kb = keys + places[t + U(8)], keys + places[t + U(9)], keys + places[t + U(10)], keys + places[t + U(11)]
        kc, kd, ke, kf = keys + places[t + U(12)], keys + places[t + U(13)], keys + places[t + U(14)], keys + places[t + U(15)]
        p0 = p1 = p2 = p3 = p4 = p5 = p6 = p7 = p8 = p9 = pa = pb = pc = pd = pe = pf = splat(F(0.0))
        for x in range(U(0), U(query.size), LINE):
            q = load(query, x)
            p0, p1 = multiply_add(q, load(cache, k0 + x), p0), multiply_add(q, load(cache, k1 + x), p1)
            p2, p3 = multiply_add(q, load(cache, k2 + x), p2), multiply_add(q, load(cache, k3 + x), p3)
            p4, p5 = multiply_add(q, load(cache, k4 + x), p4), multiply_add(q, load(cache, k5 + x), p5)
            p6, p7 = multiply_add(q, load(cache, k6 + x), p6), multiply_add(q, load(cache, k7 + x), p7)
            p8, p9 = multiply_add(q, load(cache, k8 + x), p8), multiply_add(q, load(cache, k9 + x), p9)
            pa, pb = multiply_add(q, load(cache, ka + x), pa), multiply_add(q, load(cache, kb + x), pb)
            pc, pd = multiply_add(q, load(cache, kc + x), pc), multiply_add(q, load(cache, kd + x), pd)
            pe, pf = multiply_add(q, load(cache, ke + x), pe), multiply_add(q, load(cache, kf + x), pf)
        products = totals((p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, pa, pb, pc, pd, pe, pf))
        store(scores, s, add(multiply_add(load(steps, s), splat(slope), products), load(outside, s)))


@numba.njit(nogil=True, fastmath=FAST, inline="always")
def _soften(scores: AnyArray) -> None:
    """Softmax in place, of whole vectors."""
    size = U(scores.size)
    top = load(scores, U(0))
    for s in range(LINE, size, LINE):
        top = maximum(top, load(scores, s))
    shift, scale, sums = splat(-highest(top) * LOG2_E), splat(LOG2_E), splat(F(0.0))
    for s in range(U(0), size, LINE):
        weights = exp2(multiply_add(load(scores, s), scale, shift))
        store(scores, s, weights)
        sums = add(sums, weights)
    share = splat(F(1.0) / total(sums))
    for s in range(U(0), size, LINE):
        store(scores, s, multiply(load(scores, s), share))


@numba.njit(nogil=True, fastmath=FAST, inline="always")
def _mix(weights: AnyArray, cache: AnyArray, values: int, places: AnyArray, first: int, out: AnyArray) -> None:
    """The weighted sum of the values at ``places``, two lines at a time."""
    for x in range(U(0), U(out.size) // U(2) // LINE * U(2) * LINE, U(2) * LINE):
        a = b = c = d = splat(F(0.0))
        for s in range(U(0), U(weights.size), U(2)):
            first_weight, second_weight = splat(weights[s]), splat(weights[s + U(1)])
            first_value, second_value = values + places[first + s] + x, values + places[first + s + U(1)] + x
            a = multiply_add(first_weight, load(cache, first_value), a)
            b = multiply_add(first_weight, load(cache, first_value + LINE), b)
            c = multiply_add(second_weight, load(cache, second_value), c)
            d = multiply_add(second_weight, load(cache, second_value + LINE), d)
        store(out, x, add(a, c))
        store(out, x + LINE, add(b, d))
    if out.size // LINE % U(2):
        last = U(out.size) - LINE
        a = b = splat(F(0.0))
        for s in range(U(0), U(weights.size), U(2)):
            a = multiply_add(splat(weights[s]), load(cache, values + places[first + s] + last), a)
            b = multiply_add(splat(weights[s + U(1)]), load(cache, values + places[first + s + U(1)] + last), b)
        store(out, last, add(a, b))
