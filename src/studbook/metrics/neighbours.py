"""Nearest neighbours by blocked matrix products: exact, and in memory that doesn't grow with the product of the two sizes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from studbook.arrays import AnyArray, Floats

BLOCK = 512


def squared_distances(rows: Floats, columns: Floats) -> Floats:
    """Squared Euclidean distances ``(n, m)`` between the records of ``(n, d)`` and ``(m, d)``, as ‖x‖² − 2x·y + ‖y‖².

    Exact for integer-valued records (pixels) up to 2⁵³; otherwise rounding can leave some 1e-16·‖x‖² between equal records.
    """
    squared: Floats = rows @ columns.T
    squared *= -2.0
    squared += np.einsum("ij,ij->i", rows, rows)[:, None]
    squared += np.einsum("ij,ij->i", columns, columns)
    return np.maximum(squared, 0.0, out=squared)


def blocks(n: int) -> Iterator[slice]:
    """Consecutive slices that cover ``range(n)``."""
    for start in range(0, n, BLOCK):
        yield slice(start, min(start + BLOCK, n))


def nearest_squared(rows: Floats, targets: Floats) -> Floats:
    """Squared distance ``(n,)`` from each row to its nearest target."""
    return np.concatenate([squared_distances(rows[block], targets).min(axis=1) for block in blocks(len(rows))])


def neighbour_table(records: Floats, k: int) -> tuple[AnyArray, Floats]:
    """The ``k`` nearest *other* records of each record, nearest first.

    Args:
        records: ``(n, d)``.
        k: 1 to n − 1.

    Returns:
        Their rows ``(n, k)`` and squared distances ``(n, k)``.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.neighbours import neighbour_table
        >>> rows, squared = neighbour_table(np.array([[0.0], [1.0], [3.0]]), 1)
        >>> rows[:, 0].tolist(), squared[:, 0].tolist()
        ([1, 0, 1], [1.0, 1.0, 4.0])
    """
    from studbook.metrics._neighbour_kernels import nearest_in_block

    rows, near = np.zeros((len(records), k), dtype=np.int64), np.empty((len(records), k))
    for block in blocks(len(records)):
        nearest_in_block(squared_distances(records[block], records), block.start, rows[block], near[block])
    return rows, near
