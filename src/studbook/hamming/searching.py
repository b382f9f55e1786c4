"""Pairs within a radius, nearest neighbours, and distances row by row."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import AnyArray, Ints
from studbook.errors import DataError, DigestError
from studbook.hamming.bits import BitStrings, Device, check_device, check_whole, read_two
from studbook.hamming.blocks import Task, each_pair_once, every, others, run_tasks

LIMIT = 50_000_000
"""Pairs that ``within`` returns unless told otherwise: 1 GB."""
_CAPACITY = 1 << 14
_BYTES = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Some pairs, sorted by row, then column.

    Attributes:
        rows: ``(n,)`` row of ``a``.
        columns: ``(n,)`` row of ``b``, or the other row of ``a``.
        distances: ``(n,)`` int32, in bits.
    """

    rows: Ints
    columns: Ints
    distances: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.rows)


def within(
    a: AnyArray, b: AnyArray | None = None, *, radius_bits: int, threads: int = 1, limit: int = LIMIT, device: Device = "cpu"
) -> Pairs:
    """All pairs at most ``radius_bits`` apart.

    Args:
        a: ``(n, n_bytes)`` uint8 or ``(n, n_words)`` native uint64, packed bits, in memory or mapped; any width of whole bytes.
        b: The other side; without it the pairs of two rows ``i < j`` of ``a``.
        radius_bits: Largest distance, 0 … ``n_bits``.
        threads: Threads of the CPU; the result doesn't depend on it.
        limit: Most pairs to return, 20 bytes each.
        device: ``"cpu"`` or ``"cuda"``; the result is the same.

    Returns:
        The pairs, sorted by row, then column.

    Raises:
        DigestError: An array that isn't packed bits, widths that differ, a radius that no distance can have, fewer than one thread.
        DataError: More pairs than the limit; memory stays bounded until then.
        DeviceError: CUDA was asked for and isn't there.

    Examples:
        >>> import numpy as np
        >>> from studbook.hamming import within
        >>> pairs = within(np.array([[0b0000], [0b0001], [0b0111]], np.uint8), radius_bits=2)
        >>> pairs.rows.tolist(), pairs.columns.tolist(), pairs.distances.tolist()
        ([0, 1], [1, 2], [1, 2])
    """
    rows, columns = read_two(a, b)
    check_device(device)
    radius = check_whole(radius_bits, "radius_bits", 0, rows.n_bits)
    threads, limit = check_whole(threads, "threads", 1), check_whole(limit, "limit", 0)
    choice = each_pair_once(every(len(columns))) if b is None else every(len(columns))
    if device == "cuda":
        from studbook.hamming._cuda import choose_device, find_pairs

        parts = find_pairs(rows, columns, choice, radius, limit, device=choose_device())
    else:
        parts = run_tasks(rows, columns, choice, lambda task: _find(task, radius, limit), threads)
    found, total = [np.empty((3, 0), np.int64)], 0
    with closing(parts):
        for n, pairs in parts:
            total += n
            if total > limit:
                raise DataError(
                    f"more than {limit:,} pairs are within {radius} bits", hint="lower radius_bits or raise limit, 20 bytes a pair"
                )
            found.append(pairs)
    row, column, distance = np.concatenate(found, axis=1)
    order = np.lexsort((column, row))
    return Pairs(row[order], column[order], distance[order].astype(np.int32))


def _find(task: Task, radius: int, limit: int) -> tuple[int, Ints]:
    """How many pairs, and the pairs ``(3, n)``; beyond the limit only how many."""
    from studbook.hamming._bit_kernels import find_rows

    segments, capacity = (task.segments.lows, task.segments.highs), min(_CAPACITY, limit)
    while True:
        pairs = np.empty((3, capacity), np.int64)
        n = find_rows(task.columns.planes, task.columns.first, task.n_bits, task.plan, segments, radius, pairs)
        if n > limit:
            return n, pairs[:, :0]
        if n <= capacity:
            pairs = pairs[:, :n].copy()
            pairs[0] += task.rows.start
            return n, pairs
        capacity = n


def nearest(a: AnyArray, b: AnyArray | None = None, *, k: int, threads: int = 1, device: Device = "cpu") -> tuple[Ints, NDArray[np.int32]]:
    """The k nearest rows of ``b`` to each row of ``a``, the lower row first among those equally near.

    Args:
        a: ``(n, n_bytes)`` uint8 or ``(n, n_words)`` native uint64, packed bits, in memory or mapped; any width of whole bytes.
        b: The other side; without it the other rows of ``a``, each row's own left out.
        k: Neighbours, 1 … rows of ``b`` (without ``b``, one fewer than rows of ``a``).
        threads: Threads of the CPU; the result doesn't depend on it.
        device: ``"cpu"`` or ``"cuda"``; the result is the same.

    Returns:
        Rows of ``b`` ``(n, k)`` and distances in bits ``(n, k)``, nearest first.

    Raises:
        DigestError: An array that isn't packed bits, widths that differ, more neighbours than there are, fewer than one thread.
        DeviceError: CUDA was asked for and isn't there.

    Examples:
        >>> import numpy as np
        >>> from studbook.hamming import nearest
        >>> columns, distances = nearest(np.array([[0b0000], [0b0001], [0b0111]], np.uint8), k=1)
        >>> columns[:, 0].tolist(), distances[:, 0].tolist()
        ([1, 0, 1], [1, 1, 2])
    """
    rows, columns = read_two(a, b)
    check_device(device)
    k = check_whole(k, "k", 1, max(len(columns) - (b is None), 0), hint="k is at most the number of rows to choose from")
    threads = check_whole(threads, "threads", 1)
    choice = others(len(columns)) if b is None else every(len(columns))
    near, chosen = np.full((len(rows), k), rows.n_bits + 1, np.int32), np.full((len(rows), k), -1)
    if device == "cuda":
        from studbook.hamming._cuda import choose_device, find_nearest

        find_nearest(rows, columns, choice, near, chosen, device=choose_device())
    else:
        for _ in run_tasks(rows, columns, choice, lambda task: _update(task, near, chosen), threads):
            pass
    return chosen, near


def _update(task: Task, near: NDArray[np.int32], chosen: Ints) -> None:
    from studbook.hamming._bit_kernels import nearest_rows

    segments = (task.segments.lows, task.segments.highs)
    nearest_rows(task.columns.planes, task.columns.first, task.n_bits, task.plan, segments, near[task.rows], chosen[task.rows])


def distances(a: AnyArray, b: AnyArray) -> NDArray[np.int32]:
    """Row by row: the bits in which row i of ``a`` and row i of ``b`` differ.

    Args:
        a: ``(n, n_bytes)`` uint8 or ``(n, n_words)`` native uint64, packed bits, in memory or mapped; any width of whole bytes.
        b: As many rows of the same width.

    Returns:
        ``(n,)`` distances.

    Raises:
        DigestError: An array that isn't packed bits, widths or numbers of rows that differ.

    Examples:
        >>> import numpy as np
        >>> from studbook.hamming import distances
        >>> distances(np.array([[1], [2]], np.uint8), np.array([[1], [255]], np.uint8)).tolist()
        [0, 7]
    """
    rows, columns = read_two(a, b)
    if len(rows) != len(columns):
        raise DigestError(
            f"a has {len(rows):,} rows and b has {len(columns):,}, expected the same", hint="use within or nearest for all pairs"
        )
    return _match(rows, columns)


def _match(a: BitStrings, b: BitStrings) -> NDArray[np.int32]:
    from studbook.hamming._bit_kernels import match_rows

    found = np.empty(len(a), np.int32)
    step = max(8 * _BYTES // a.n_bits, 1)
    for start in range(0, len(a), step):
        match_rows(a.words(start, start + step), b.words(start, start + step), found[start : start + step])
    return found
