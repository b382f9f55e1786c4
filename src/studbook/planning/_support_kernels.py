"""Numba kernels: the genealogy of a training set, traced back to the real draws that it descends from."""

from __future__ import annotations

import numba
import numpy as np

from studbook.arrays import Floats, Ints


@numba.njit(cache=True, nogil=True)
def simulate_founders(fresh: int, samples: int, generations: int, out: Ints, rng: np.random.Generator) -> None:
    """Draw, for each entry of ``out``, how many real draws the last training set descends from.

    Backwards in time: a lineage sits on a record; a fresh record is a founder, a generated one is a copy of a uniformly chosen
    record of the generation before, where lineages that meet are one.
    """
    for replicate in range(len(out)):
        lineages, founders = samples, 0
        for _ in range(generations):
            fresh_left, occupied = fresh, 0
            for position in range(lineages):
                if fresh_left > 0 and rng.random() * (samples - position) < fresh_left:
                    fresh_left -= 1
                elif rng.random() * samples >= occupied:
                    occupied += 1
            founders += fresh - fresh_left
            lineages = occupied
            if lineages == 0 or (lineages == 1 and fresh == 0):
                break
        out[replicate] = founders + lineages


@numba.njit(cache=True, nogil=True)
def thin_by_fresh(weights: Floats, hypergeometric: Floats, absent: Floats, top: int) -> Floats:
    """Remove the lineages that sit on fresh records, each at the price of ``absent``: the probability that a real draw isn't the state.

    Args:
        weights: ``(D, top + 1)`` weight of each number of lineages, one row a state.
        hypergeometric: ``[j, m]`` is the probability that ``m`` of ``j`` lineages sit on fresh records.
        absent: ``(D,)``.
        top: Largest number of lineages.
    """
    thinned = np.zeros_like(weights)
    for row in range(len(weights)):
        for lineages in range(top + 1):
            weight = weights[row, lineages]
            if weight < 1e-19:
                continue
            for fresh in range(min(hypergeometric.shape[1] - 1, lineages) + 1):
                share = hypergeometric[lineages, fresh]
                thinned[row, lineages - fresh] += weight * share
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
