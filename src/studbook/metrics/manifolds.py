"""Precision, recall, density and coverage of two sets of vectors, with standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studbook.arrays import AnyArray, Floats
from studbook.metrics.neighbours import blocks, neighbour_table, squared_distances
from studbook.metrics.stderr import groups_of, jackknife_stderr, mean_stderr, share_stderr

N_GROUPS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """What the two manifolds share, counted.

    Attributes:
        holders: ``(n_fake,)`` in how many real balls each fake record lies.
        covered_by: ``(n_real, G)`` whether a fake record of each group lies in the real record's ball.
        recalled: ``(n_real,)`` whether the real record lies in some fake ball.
        recalled_without: ``(n_real, G)`` the same without each group of fake records.
    """

    holders: AnyArray
    covered_by: AnyArray
    recalled: AnyArray
    recalled_without: AnyArray


def squared_radii(records: Floats, neighbours: int) -> Floats:
    """Squared distance ``(n,)`` of each record to its k-th nearest other record: its ball on the manifold."""
    return neighbour_table(records, neighbours)[1][:, -1]


def overlap(real: Floats, real_radii: Floats, fake: Floats, neighbours: int) -> Overlap:
    """Count who lies in whose ball, ``real`` by blocks.

    Args:
        real: ``(n_real, d)``.
        real_radii: ``(n_real,)`` squared, from ``squared_radii``.
        fake: ``(n_fake, d)``.
        neighbours: k, below both sizes.
    """
    from studbook.metrics._neighbour_kernels import count_overlap

    groups = groups_of(len(fake), N_GROUPS)
    n_groups = int(groups[-1]) + 1
    fake_radii, radii_without = _radii_without_groups(fake, neighbours, groups)
    found = Overlap(
        holders=np.zeros(len(fake), dtype=np.int64),
        covered_by=np.zeros((len(real), n_groups), dtype=np.bool_),
        recalled=np.zeros(len(real), dtype=np.bool_),
        recalled_without=np.zeros((len(real), n_groups), dtype=np.bool_),
    )
    for block in blocks(len(real)):
        counted = found.covered_by[block], found.recalled[block], found.recalled_without[block]
        count_overlap(squared_distances(real[block], fake), real_radii[block], fake_radii, radii_without, groups, found.holders, *counted)
    return found


def _radii_without_groups(fake: Floats, neighbours: int, groups: AnyArray) -> tuple[Floats, Floats]:
    """Squared radii of the fake balls ``(n,)``, and ``(n, G + 1)`` without each group, then the largest; a group's own balls are empty."""
    reach = min(len(fake) - 1, 3 * neighbours + 1)
    rows, squared = neighbour_table(fake, reach)
    n_groups = int(groups[-1]) + 1
    without = np.empty((len(fake), n_groups + 1))
    for group in range(n_groups):
        kept = np.cumsum(groups[rows] != group, axis=1)
        # Where a group takes more than two thirds of the neighbours looked at, the farthest of these stands for the k-th.
        position = np.where(kept[:, -1] >= neighbours, (kept < neighbours).sum(axis=1), reach - 1)
        without[:, group] = np.where(groups == group, -1.0, squared[np.arange(len(fake)), position])
    without[:, n_groups] = without[:, :n_groups].max(axis=1)
    return squared[:, neighbours - 1], without


def scores(found: Overlap, neighbours: int) -> dict[str, tuple[float, float]]:
    """Value and standard error of ``precision``, ``recall``, ``density`` and ``coverage``, given the real records.

    Precision is a binomial share and density a mean over the fake records; recall and coverage depend on the fake records together:
    delete-a-group jackknife.
    """
    n = len(found.holders)
    alone = np.count_nonzero(found.covered_by, axis=1)[:, None] - found.covered_by
    precise = int(np.count_nonzero(found.holders))
    return {
        "precision": (precise / n, share_stderr(precise, n)),
        "recall": (float(found.recalled.mean()), jackknife_stderr(found.recalled_without.mean(axis=0))),
        "density": (float(1.0 / neighbours * found.holders.mean()), mean_stderr(np.append(found.holders, 1)) / neighbours),
        "coverage": (float(found.covered_by.any(axis=1).mean()), jackknife_stderr((alone > 0).mean(axis=0))),
    }
