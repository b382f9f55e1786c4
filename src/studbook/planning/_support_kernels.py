"""Numba kernels: the genealogy of a training set, traced back to the real draws that it descends from."""

from __future__ import annotations

import math

import numba
import numpy as np

from studbook.learners._count_kernels import hypergeometric


@numba.njit(cache=True, nogil=True)
def simulate_founders(fresh: int, samples: int, generations: int, exact_steps: float, rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw how many real draws the last training set descends from.

    Backwards in time: a lineage sits on a record; a fresh record is a founder, a generated one is a copy of a uniformly chosen
    record of the generation before, where lineages that meet are one.

    Returns:
        The founders, the elementary steps taken, and how many of the draws were rounded normal numbers (see ``_draw_occupancy``).
    """
    lineages, founders, steps, rounded = samples, 0, 0, 0
    good, bad = np.array([fresh]), np.array([samples - fresh])
    for _ in range(generations):
        if fresh > 0:
            hits = hypergeometric(good, bad, lineages, rng)[0]
            founders += hits
            lineages -= hits
        lineages, thrown = _draw_occupancy(lineages, samples, exact_steps, rng)
        rounded += thrown == 0
        steps += thrown + 8
        if lineages == 0 or (lineages == 1 and fresh == 0):
            break
    return founders + lineages, steps, rounded


@numba.njit(cache=True, nogil=True)
def _draw_occupancy(balls: int, boxes: int, exact_steps: float, rng: np.random.Generator) -> tuple[int, int]:
    """Boxes hit by ``balls`` balls, and the steps taken; 0 steps: a rounded normal number, as the exact draw takes too many.

    The variance is written with (1 - 2/n) / (1 - 1/n)² = 1 - 1/(n-1)², because the textbook form cancels for large n.
    """
    if balls <= 1 or boxes == 1:
        return min(balls, 1), 1
    if balls * (balls / boxes) <= exact_steps or boxes <= 2:
        return _throw(balls, boxes, rng)  # type: ignore[no-any-return]
    empty = math.exp(balls * math.log1p(-1.0 / boxes))
    pairs = math.expm1(balls * math.log1p(-1.0 / (boxes - 1.0) ** 2))
    variance = boxes * empty * (1.0 - empty) + boxes * (boxes - 1.0) * empty * empty * pairs
    mean = -boxes * math.expm1(balls * math.log1p(-1.0 / boxes))
    drawn = round(mean + math.sqrt(max(variance, 0.0)) * rng.standard_normal())
    return max(1, min(drawn, balls, boxes)), 0


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
