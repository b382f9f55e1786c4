"""Numba kernels over blocks of squared distances: one pass each, where NumPy would partition or compare whole blocks many times."""

from __future__ import annotations

import numba
import numpy as np

from studbook.arrays import AnyArray


@numba.njit(cache=True, nogil=True)
def nearest_in_block(squared: AnyArray, first_own: int, rows: AnyArray, near: AnyArray) -> None:
    """The nearest columns of each row, ascending, its own (row + first_own) left out; written into ``rows`` and ``near`` ``(b, k)``."""
    k = rows.shape[1]
    for i in range(squared.shape[0]):
        near[i, :] = np.inf
        for j in range(squared.shape[1]):
            distance = squared[i, j]
            if distance >= near[i, k - 1] or j == i + first_own:
                continue
            place = k - 1
            while place > 0 and near[i, place - 1] > distance:
                near[i, place] = near[i, place - 1]
                rows[i, place] = rows[i, place - 1]
                place -= 1
            near[i, place] = distance
            rows[i, place] = j


@numba.njit(cache=True, nogil=True)
def count_overlap(
    squared: AnyArray,
    real_radii: AnyArray,
    fake_radii: AnyArray,
    radii_without: AnyArray,
    groups: AnyArray,
    holders: AnyArray,
    covered_by: AnyArray,
    recalled: AnyArray,
    recalled_without: AnyArray,
) -> None:
    """Who lies in whose ball, for squared distances ``(b, m)`` of real rows to fake columns; adds to the last four arguments.

    ``radii_without`` is ``(m, G + 1)``: a fake record's squared radius without each group, and last the largest of these.
    """
    n_groups = radii_without.shape[1] - 1
    for i in range(squared.shape[0]):
        for j in range(squared.shape[1]):
            distance = squared[i, j]
            if distance < real_radii[i]:
                holders[j] += 1
                covered_by[i, groups[j]] = True
            if distance < radii_without[j, n_groups]:
                recalled[i] |= distance < fake_radii[j]
                for group in range(n_groups):
                    recalled_without[i, group] |= distance < radii_without[j, group]
