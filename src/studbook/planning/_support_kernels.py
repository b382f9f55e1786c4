"""Numba kernels: the genealogy of a training set, traced back to the real draws that it descends from."""

from __future__ import annotations

import math

import numba
import numpy as np

from studbook.arrays import Floats, Ints

NORMAL_VARIANCE = 400.0
"""Counts of more variance than this are drawn from the normal law with their exact mean and variance."""


@numba.njit(cache=True, nogil=True)
def simulate_founders(fresh: int, samples: int, generations: int, normal_variance: float, out: Ints, rng: np.random.Generator) -> int:
    """Draw, for each entry of ``out``, how many real draws the last training set descends from.

    Backwards in time: a lineage sits on a record; a fresh record is a founder, a generated one is a copy of a uniformly chosen
    record of the generation before, where lineages that meet are one.

    Returns:
        Elementary steps taken.
    """
    steps = 0
    for replicate in range(len(out)):
        lineages, founders = samples, 0
        for _ in range(generations):
            hits, used = _draw_hypergeometric(fresh, samples, lineages, normal_variance, rng)
            founders += hits
            lineages, thrown = _draw_occupancy(lineages - hits, samples, normal_variance, rng)
            steps += used + thrown + 4
            if lineages == 0 or (lineages == 1 and fresh == 0):
                break
        out[replicate] = founders + lineages
    return steps


@numba.njit(cache=True, nogil=True)
def _draw_occupancy(balls: int, boxes: int, normal_variance: float, rng: np.random.Generator) -> tuple[int, int]:
    """Boxes hit by ``balls`` balls, and the steps taken.

    The variance is written with (1 - 2/n) / (1 - 1/n)² = 1 - 1/(n-1)², because the textbook form cancels for large n.
    """
    if balls <= 1 or boxes == 1:
        return min(balls, 1), 1
    empty = math.exp(balls * math.log1p(-1.0 / boxes))
    pairs = math.expm1(balls * math.log1p(-1.0 / (boxes - 1.0) ** 2)) if boxes > 2 else -1.0
    variance = boxes * empty * (1.0 - empty) + boxes * (boxes - 1.0) * empty * empty * pairs
    if variance > normal_variance:
        mean = -boxes * math.expm1(balls * math.log1p(-1.0 / boxes))
        drawn = round(mean + math.sqrt(variance) * rng.standard_normal())
        return max(1, min(drawn, balls, boxes)), 1
    return _throw(balls, boxes, rng)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)
def _throw(balls: int, boxes: int, rng: np.random.Generator) -> tuple[int, int]:
    """Ball ``i`` meets an occupied box with probability (i - collisions)/n: jump from candidate to candidate at the largest rate."""
    bound = min(1.0, balls / boxes)
    rate = -math.log1p(-bound) if bound < 1.0 else math.inf
    ball, collisions, steps = 0.0, 0, 0
    while True:
        ball += 1.0 + math.floor(rng.standard_exponential() / rate)
        steps += 1
        if ball > balls:
            return balls - collisions, steps
        if rng.random() * bound * boxes < ball - 1.0 - collisions:
            collisions += 1


@numba.njit(cache=True, nogil=True)
def _draw_hypergeometric(good: int, total: int, drawn: int, normal_variance: float, rng: np.random.Generator) -> tuple[int, int]:
    """Good items among ``drawn`` of ``total`` taken without replacement, and the steps taken."""
    if good == 0 or drawn == total:
        return good, 1
    if 2 * good > total:
        bad, steps = _draw_hypergeometric(total - good, total, drawn, normal_variance, rng)
        return drawn - bad, steps
    if 2 * drawn > total:
        left, steps = _draw_hypergeometric(good, total, total - drawn, normal_variance, rng)
        return good - left, steps
    share = good / total
    variance = drawn * share * (1.0 - share) * ((total - drawn) / (total - 1.0))
    if variance > normal_variance:
        hits = round(drawn * share + math.sqrt(variance) * rng.standard_normal())
        return max(0, min(hits, good, drawn)), 1
    return _pick(min(good, drawn), max(good, drawn), total, rng)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)
def _pick(trials: int, marked: int, total: int, rng: np.random.Generator) -> tuple[int, int]:
    """Trial ``i`` takes a marked item with probability (marked - hits)/(total - i): candidates at the largest rate, as in ``_throw``."""
    bound = min(1.0, marked / (total - trials + 1.0))
    rate = -math.log1p(-bound) if bound < 1.0 else math.inf
    trial, hits, steps = 0.0, 0, 0
    while trials > 0:
        trial += 1.0 + math.floor(rng.standard_exponential() / rate)
        steps += 1
        if trial > trials:
            break
        if rng.random() * bound * (total - trial + 1.0) < marked - hits:
            hits += 1
    return hits, steps


@numba.njit(cache=True, nogil=True)
def thin_by_fresh(weights: Floats, hypergeometric: Floats, absent: Floats) -> Floats:
    """Remove the lineages that sit on fresh records, each at the price of ``absent``: the probability that a real draw isn't the state.

    Args:
        weights: ``(D, L)`` weight of each number of lineages 0 ... L - 1, one row a state.
        hypergeometric: ``[j, m]`` is the probability that ``m`` of ``j`` lineages sit on fresh records.
        absent: ``(D,)``.
    """
    thinned = np.zeros_like(weights)
    for row in range(weights.shape[0]):
        for lineages in range(weights.shape[1]):
            weight = weights[row, lineages]
            if weight < 1e-19:
                continue
            for fresh in range(min(hypergeometric.shape[1] - 1, lineages) + 1):
                thinned[row, lineages - fresh] += weight * hypergeometric[lineages, fresh]
                weight *= absent[row]
    return thinned


@numba.njit(cache=True, nogil=True)
def occupancy_table(samples: int) -> Floats:
    """``[l, k]``: the probability that ``l`` balls thrown into ``samples`` boxes hit ``k`` different ones."""
    table = np.zeros((samples + 1, samples + 1))
    table[0, 0] = 1.0
    for balls in range(1, samples + 1):
        for boxes in range(1, balls + 1):
            stay = table[balls - 1, boxes] * boxes
            table[balls, boxes] = (stay + table[balls - 1, boxes - 1] * (samples - boxes + 1)) / samples
    return table
