"""Compiled passes over logits on a CPU in single precision: their sums, the slopes of a loss, and one token a row by sampling."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from studbook.arrays import AnyArray
from studbook.neural.attention_kernels import FAST, LINE, LOG2_E, F, U
from studbook.neural.vectors import add, exp2, highest, load, maximum, multiply, splat, store, total

RUN = 64  # logits are summed in runs of this length
ONE = np.int32(0x3F800000)  # the bits of 1.0


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def scan(logits: AnyArray, width: int, maxima: AnyArray, totals: AnyArray) -> None:
    """The maximum of each whole run, and the log of the sum of all exponentials.

    Args:
        logits: ``(n, width)``, flat. May hold minus infinity, but not in a row's every place.
        width: Their columns.
        maxima: ``(n, width // RUN)``, flat; written.
        totals: ``(n,)``; written.
    """
    columns, runs = U(width), U(width) // U(RUN)
    rest = np.full(RUN, F(-np.inf), np.float32)  # what is left of a row after its whole runs
    for i in range(U(totals.size)):
        start = i * columns
        for s in range(columns - runs * U(RUN)):
            rest[s] = logits[start + runs * U(RUN) + s]
        top = _highest_of_run(rest, U(0))
        for run in range(runs):
            best = _highest_of_run(logits, start + run * U(RUN))
            maxima[i * runs + run] = best
            top = max(top, best)
        shift = splat(-top)
        sums = np.float64(_sum_of_run(rest, U(0), shift))
        for run in range(runs):
            sums += _sum_of_run(logits, start + run * U(RUN), shift)
        totals[i] = top + math.log(sums)


@numba.njit(nogil=True, fastmath=FAST, inline="always")
def _highest_of_run(logits: AnyArray, start: int) -> Any:
    first = maximum(load(logits, start), load(logits, start + LINE))
    return highest(maximum(first, maximum(load(logits, start + U(2) * LINE), load(logits, start + U(3) * LINE))))


@numba.njit(nogil=True, fastmath=FAST, inline="always")
def _sum_of_run(logits: AnyArray, start: int, shift: Any) -> Any:
    """The sum of the exponentials of a run's logits plus ``shift``."""
    scale, sums = splat(LOG2_E), splat(F(0.0))
    for s in range(U(0), U(RUN), LINE):
        sums = add(sums, exp2(multiply(add(load(logits, start + s), shift), scale)))
    return total(sums)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def descend(logits: AnyArray, width: int, targets: AnyArray, shares: AnyArray, found: AnyArray) -> None:
    """The log-probability of a target in each row, and what a loss of minus as much changes by with each logit.

    Args:
        logits: ``(n, width)``, flat; written over by the slopes, times the row's share.
        width: Their columns.
        targets: ``(n,)`` columns.
        shares: ``(n,)``.
        found: ``(n,)`` natural logarithms; written.
    """
    columns = U(width)
    even = columns // LINE * LINE
    rest = np.empty(LINE, np.float32)  # what is left of a row after its whole vectors
    for i in range(U(targets.size)):
        start = i * columns
        for s in range(LINE):
            rest[s] = logits[start + even + s] if even + s < columns else F(-np.inf)
        best = load(rest, U(0))
        for s in range(start, start + even, LINE):
            best = maximum(best, load(logits, s))
        top, chosen = highest(best), logits[start + U(targets[i])]
        scale, shift = splat(LOG2_E), splat(-top)
        sums = exp2(multiply(add(load(rest, U(0)), shift), scale))
        store(rest, U(0), sums)
        for s in range(start, start + even, LINE):
            weights = exp2(multiply(add(load(logits, s), shift), scale))
            store(logits, s, weights)
            sums = add(sums, weights)
        whole = total(sums)
        found[i] = chosen - top - math.log(whole)
        factor = splat(shares[i] / whole)
        store(rest, U(0), multiply(load(rest, U(0)), factor))
        for s in range(start, start + even, LINE):
            store(logits, s, multiply(load(logits, s), factor))
        for s in range(columns - even):
            logits[start + even + s] = rest[s]
        logits[start + U(targets[i])] -= shares[i]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def choose(logits: AnyArray, width: int, decoding: tuple[float, int, float], uniforms: AnyArray, chosen: AnyArray) -> None:
    """One token a row: temperature, the ``top_k`` likeliest, the fewest that hold ``top_p``, then the inverse distribution function.

    Args:
        logits: ``(n, width)``, flat, as for ``scan``.
        width: Their columns.
        decoding: Temperature, ``top_k`` (0: all) and ``top_p``.
        uniforms: ``(n,)`` in [0, 1), in double precision.
        chosen: ``(n,)``; written.
    """
    temperature, top_k, top_p = decoding
    weights = np.empty((U(width) + LINE - U(1)) // LINE * LINE, np.float32)
    runs = (U(width) + U(RUN - 1)) // U(RUN)
    sums = np.empty(runs, np.float64)
    for i in range(U(uniforms.size)):
        _weigh(logits, i * U(width), U(width), F(1.0 / temperature), weights)
        cut: Any = F(0.0)
        if 0 < top_k < width:
            cut = _count_cut(weights, F(top_k))
        if top_p < 1.0:
            cut = _share_cut(weights, cut, F(top_p))
        total: Any = 0.0
        for run in range(runs):
            part: Any = F(0.0)
            for s in range(run * U(RUN), min(run * U(RUN) + U(RUN), U(width))):
                part += weights[s] if weights[s] >= cut else F(0.0)
            sums[run] = part
            total += part
        chosen[i] = _locate(weights, cut, sums, uniforms[i] * total)


@numba.njit(nogil=True, fastmath=FAST, inline="always")
def _weigh(logits: AnyArray, start: int, width: int, inverse: Any, weights: AnyArray) -> None:
    """Exponentials of a row's logits over the temperature, the largest of which is 1; 0 up to whole vectors."""
    for s in range(width):
        weights[s] = logits[start + s]
    for s in range(width, U(weights.size)):
        weights[s] = F(-np.inf)
    top = load(weights, U(0))
    for s in range(LINE, U(weights.size), LINE):
        top = maximum(top, load(weights, s))
    scale, shift = splat(inverse * LOG2_E), splat(-highest(top))
    for s in range(U(0), U(weights.size), LINE):
        store(weights, s, exp2(multiply(add(load(weights, s), shift), scale)))


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _count_cut(weights: AnyArray, wanted: Any) -> Any:
    """The smallest weight that is kept where those are that fewer than ``wanted`` weights exceed: the ``wanted``-th largest.

    By bisection on the bits of single-precision numbers, which rise as the numbers do.
    """
    bits = np.empty(1, np.int32)
    number = bits.view(np.float32)
    low, high = np.int32(-1), ONE
    while high - low > 1:
        bits[0] = low + (high - low) // 2
        middle, above = number[0], F(0.0)
        for s in range(U(weights.size)):
            above += F(1.0) if weights[s] > middle else F(0.0)
        if above < wanted:
            high = bits[0]
        else:
            low = bits[0]
    bits[0] = high
    return number[0]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _share_cut(weights: AnyArray, lowest: Any, wanted: Any) -> Any:
    """As ``_count_cut``, where those are kept that weights of less than the share ``wanted`` of all from ``lowest`` on exceed."""
    bits = np.empty(1, np.int32)
    number = bits.view(np.float32)
    total = F(0.0)
    for s in range(U(weights.size)):
        total += weights[s] if weights[s] >= lowest else F(0.0)
    low, high = np.int32(-1), ONE
    while high - low > 1:
        bits[0] = low + (high - low) // 2
        middle, above = number[0], F(0.0)
        for s in range(U(weights.size)):
            above += weights[s] if weights[s] > middle else F(0.0)
        if above < wanted * total:
            high = bits[0]
        else:
            low = bits[0]
    bits[0] = high
    return max(number[0], lowest)


@numba.njit(cache=True, nogil=True)
def _locate(weights: AnyArray, cut: Any, sums: AnyArray, target: float) -> int:
    """The first kept weight at which the running sum is above ``target``; the last kept one where rounding leaves none."""
    last, before = -1, 0.0
    for run in range(sums.size):
        if before + sums[run] > target or run == sums.size - 1:
            for s in range(run * RUN, min(run * RUN + RUN, weights.size)):
                if weights[s] >= cut and weights[s] > 0:
                    last = s
                    before += weights[s]
                    if before > target:
                        return s
        else:
            before += sums[run]
    for s in range(weights.size - 1, -1, -1):
        if last < 0 and weights[s] >= cut and weights[s] > 0:
            last = s
    return max(last, 0)


@numba.njit(cache=True, nogil=True)
def extend(
    logits: AnyArray, width: int, surveyed: tuple[AnyArray, AnyArray], running: AnyArray, found: tuple[AnyArray, AnyArray, AnyArray]
) -> None:
    """The best one-token extensions of each prompt's beams, best first.

    Scores are rounded as ``running + (logit - total)`` is in single precision, so that equal scores are equal elsewhere, too.

    Args:
        logits: ``(n * beams, width)``, flat.
        width: Their columns.
        surveyed: ``(n * beams, width // RUN)`` maxima of the whole runs, flat, and ``(n * beams,)`` totals, as from ``scan``.
        running: ``(n, beams)`` scores of the beams.
        found: Scores, beams and tokens ``(n, wanted)``; written. ``wanted`` is at most ``beams * width``.
    """
    maxima, totals = surveyed
    scores, parents, tokens = found
    n, beams = running.shape
    wanted, runs = scores.shape[1], width // RUN
    for i in range(n):
        count = 0
        for j in range(beams):
            beam = i * beams + j
            start, total, before = beam * width, totals[beam], running[i, j]
            for run in range(runs + 1):
                if run < runs and count == wanted and before + (maxima[beam * runs + run] - total) <= scores[i, wanted - 1]:
                    continue
                for token in range(run * RUN, min(run * RUN + RUN, width)):
                    score = before + (logits[start + token] - total)
                    if count == wanted and not score > scores[i, wanted - 1]:
                        continue
                    count = min(count + 1, wanted)
                    place = count - 1
                    while place > 0 and score > scores[i, place - 1]:
                        scores[i, place], parents[i, place], tokens[i, place] = (
                            scores[i, place - 1], parents[i, place - 1], tokens[i, place - 1],
                        )  # fmt: skip
                        place -= 1
                    scores[i, place], parents[i, place], tokens[i, place] = score, j, token
