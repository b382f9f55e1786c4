"""Compiled passes over logits on a CPU in single precision: their sums, and one token a row by sampling."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from studbook.arrays import AnyArray
from studbook.neural.attention_kernels import C0, C1, C2, C3, C4, C5, C6, INFINITE, LOG2_E, LOWEST, F, U

RUN = 64  # logits are summed in runs of this length
ONE = np.int32(0x3F800000)  # the bits of 1.0


@numba.njit(cache=True, nogil=True, fastmath=INFINITE)
def scan(logits: AnyArray, width: int, maxima: AnyArray, totals: AnyArray) -> None:
    """The maximum of each whole run, and the log of the sum of all exponentials.

    Args:
        logits: ``(n, width)``, flat. May hold minus infinity, but not in a row's every place.
        width: Their columns.
        maxima: ``(n, width // RUN)``, flat; written.
        totals: ``(n,)``; written.
    """
    columns, runs = U(width), U(width) // U(RUN)
    values, powers = np.empty(RUN, np.float32), np.empty(RUN, np.int32)
    twos = powers.view(np.float32)
    for i in range(U(totals.size)):
        top: Any = F(-1e30)
        total: Any = 0.0
        for run in range(runs + U(1)):
            start = i * columns + run * U(RUN)
            if run == runs:
                for s in range(U(RUN)):
                    values[s] = logits[start + s] if run * U(RUN) + s < columns else F(-np.inf)
            else:
                for s in range(U(RUN)):
                    values[s] = logits[start + s]
            best = values[0]
            for s in range(U(RUN)):
                best = max(best, values[s])
            if run < runs:
                maxima[i * runs + run] = best
            if best > top:
                total *= math.exp(top - best)
                top = best
            for s in range(U(RUN)):
                x = max((values[s] - top) * LOG2_E, LOWEST)
                whole = np.int32(x - F(0.5))
                f = x - F(whole)
                values[s] = C0 + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * C6)))))
                powers[s] = (whole + np.int32(127)) << np.int32(23)
            part: Any = F(0.0)
            for s in range(U(RUN)):
                part += values[s] * twos[s]
            total += part
        totals[i] = top + math.log(total)


@numba.njit(cache=True, nogil=True, fastmath=INFINITE)
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
    weights, powers = np.empty(width, np.float32), np.empty(width, np.int32)
    runs = (U(width) + U(RUN - 1)) // U(RUN)
    sums = np.empty(runs, np.float64)
    for i in range(U(uniforms.size)):
        _weigh(logits, i * U(width), F(1.0 / temperature), weights, powers)
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


@numba.njit(cache=True, nogil=True, fastmath=INFINITE, inline="always")
def _weigh(logits: AnyArray, start: int, inverse: Any, weights: AnyArray, powers: AnyArray) -> None:
    """Exponentials of a row's logits over the temperature, the largest of which is 1."""
    width = U(weights.size)
    top = logits[start]
    for s in range(width):
        top = max(top, logits[start + s])
    for s in range(width):
        y = (logits[start + s] - top) * inverse * LOG2_E
        x = max(y, LOWEST)
        whole = np.int32(x - F(0.5))
        f = x - F(whole)
        value = C0 + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * C6)))))
        weights[s] = value if y > LOWEST else F(0.0)
        powers[s] = (whole + np.int32(127)) << np.int32(23)
    twos = powers.view(np.float32)
    for s in range(width):
        weights[s] *= twos[s]


@numba.njit(cache=True, nogil=True, fastmath=INFINITE)
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


@numba.njit(cache=True, nogil=True, fastmath=INFINITE)
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
