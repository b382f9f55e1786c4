"""Histograms of all-pair distances, whole or by group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.errors import DigestError
from studbook.hamming.bits import BitStrings, Device, check_device, check_whole, read_two
from studbook.hamming.blocks import Choice, Segments, Task, aligned_zeros, each_pair_once, every, run_tasks

GROUPS = ("same recipe", "same class", "other")
"""The groups of ``grouped_histogram``, in its order."""


def histogram(a: AnyArray, b: AnyArray | None = None, *, threads: int = 1, device: Device = "cpu") -> Ints:
    """How many pairs have each distance, exactly.

    Args:
        a: ``(n, n_bytes)`` uint8 or ``(n, n_words)`` native uint64, packed bits, in memory or mapped; any width of whole bytes.
        b: The other side, of the same width; without it each pair of two rows ``i < j`` of ``a`` counts once.
        threads: Threads of the CPU, 1 or more; the result doesn't depend on it.
        device: ``"cpu"`` or ``"cuda"``; the result is the same.

    Returns:
        ``(n_bits + 1,)`` counts of the distances 0 … ``n_bits``; zeros where a side has no rows.

    Raises:
        DigestError: An array that isn't packed bits, widths that differ, fewer than one thread.
        DeviceError: CUDA was asked for and isn't there.

    Examples:
        >>> import numpy as np
        >>> from studbook.hamming import histogram
        >>> histogram(np.array([[0b0000], [0b0001], [0b0111]], np.uint8)).tolist()
        [0, 1, 1, 1, 0, 0, 0, 0, 0]
    """
    rows, columns = read_two(a, b)
    choice = each_pair_once(every(len(columns))) if b is None else every(len(columns))
    counts, _ = _count(rows, columns, choice, 1, closest=False, threads=threads, device=device)
    total: Ints = counts[0]
    return total


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Where each bit string comes from.

    Attributes:
        recipes: ``(n,)`` integers, equal where two strings are outputs of one recipe.
        classes: ``(n,)`` integers, equal where two recipes are of one class; a recipe has one class.
    """

    recipes: Ints
    classes: Ints


@dataclass(frozen=True, slots=True, eq=False)
class GroupedCounts:
    """Histograms by group; ``GROUPS`` names them.

    Attributes:
        counts: ``(3, n_bits + 1)`` pairs at each distance.
        closest: ``(3, 3)`` row, column and distance of the closest pair of each group, -1 in an empty group. Of pairs equally close it is
            the first in order of class, recipe and row.
    """

    counts: Ints
    closest: Ints


def grouped_histogram(
    a: AnyArray, labels: Labels, b: AnyArray | None = None, b_labels: Labels | None = None, *, threads: int = 1, device: Device = "cpu"
) -> GroupedCounts:
    """Histograms of the pairs of one recipe, of one class but different recipes, and of different classes, in one pass.

    Args:
        a: See ``histogram``; read in order of the labels, so a memory map is fastest where it is stored in that order.
        labels: Recipe and class of each row of ``a``.
        b: The other side; without it each pair ``i < j`` of ``a`` counts once.
        b_labels: Recipe and class of each row of ``b``.
        threads: Threads of the CPU; the result doesn't depend on it.
        device: ``"cpu"`` or ``"cuda"``; the result is the same.

    Returns:
        Counts and the closest pair of each group.

    Raises:
        DigestError: See ``histogram``; or labels that don't fit, or a recipe in two classes.
        DeviceError: CUDA was asked for and isn't there.

    Examples:
        >>> import numpy as np
        >>> from studbook.hamming import Labels, grouped_histogram
        >>> strings = np.array([[0b0000], [0b0001], [0b0111], [0b1111]], np.uint8)
        >>> found = grouped_histogram(strings, Labels(np.array([7, 7, 8, 9]), np.array([0, 0, 0, 1])))
        >>> found.counts[:, :5].tolist()
        [[0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 1, 0, 1, 1]]
        >>> found.closest.tolist()
        [[0, 1, 1], [1, 2, 2], [2, 3, 1]]
    """
    rows, columns = read_two(a, b)
    if (b is None) != (b_labels is None):
        raise DigestError("b and b_labels come together, expected both or neither")
    mine = _check_labels(labels, len(rows), "labels")
    theirs = mine if b_labels is None else _check_labels(b_labels, len(columns), "b_labels")
    _check_nested(mine, theirs)
    order, other = _order(mine), _order(theirs)
    rows, columns = BitStrings(rows.packed, order), BitStrings(columns.packed, other)
    choice = _by_label(mine[:, order], theirs[:, other])
    choice = each_pair_once(choice) if b is None else choice
    counts, closest = _count(rows, columns, choice, len(GROUPS), closest=True, threads=threads, device=device)
    known = closest[:, 2] >= 0
    closest[known, 0], closest[known, 1] = order[closest[known, 0]], other[closest[known, 1]]
    if b is None:
        closest[:, :2].sort(axis=1)
    return GroupedCounts(counts, closest)


def _check_labels(labels: Labels, n: int, name: str) -> Ints:
    """Recipes and classes as ``(2, n)``."""
    for part, values in (("recipes", labels.recipes), ("classes", labels.classes)):
        if not isinstance(values, np.ndarray) or values.shape != (n,) or values.dtype.kind not in "iu":
            got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise DigestError(f"{name}.{part} is {got}, expected integers of shape ({n},)", hint="one label a row")
        if values.dtype == np.uint64 and n and int(values.max()) > np.iinfo(np.int64).max:
            raise DigestError(f"{name}.{part} has labels of 2^63 or more", hint="number the labels from 0")
    return np.stack([labels.recipes, labels.classes]).astype(np.int64)


def _check_nested(mine: Ints, theirs: Ints) -> None:
    found = np.unique(np.concatenate([np.unique(mine, axis=1), np.unique(theirs, axis=1)], axis=1), axis=1)
    twice = np.flatnonzero(found[0, 1:] == found[0, :-1])
    if len(twice):
        recipe, one, other = found[0, twice[0]], found[1, twice[0]], found[1, twice[0] + 1]
        raise DigestError(f"recipe {recipe} is in the classes {one} and {other}, expected one class a recipe", hint="number recipes anew")


def _order(labels: Ints) -> Ints:
    order: Ints = np.lexsort((labels[0], labels[1]))
    return order


def _by_label(mine: Ints, theirs: Ints) -> Choice:
    """The columns of each group, both sides sorted by class, then recipe: the class is one run of columns, the recipe a run in it."""
    n = theirs.shape[1]
    recipes, first, sizes = np.unique(theirs[0], return_index=True, return_counts=True)

    def choose(rows: slice) -> Segments:
        recipe, class_ = mine[:, rows]
        begin, end = (np.searchsorted(theirs[1], class_, side=side) for side in ("left", "right"))
        if n:
            place = np.minimum(np.searchsorted(recipes, recipe), len(recipes) - 1)
            known = recipes[place] == recipe
            inner = np.where(known, first[place], begin)
            outer = np.where(known, first[place] + sizes[place], begin)
        else:
            inner = outer = begin
        cuts = np.stack([np.zeros_like(begin), begin, inner, outer, end, np.full_like(begin, n)], axis=1)
        return Segments(np.ascontiguousarray(cuts[:, :-1]), np.ascontiguousarray(cuts[:, 1:]), np.array([2, 1, 0, 1, 2]))

    return choose


def _count(
    a: BitStrings, b: BitStrings, choice: Choice, n_groups: int, *, closest: bool, threads: int, device: Device
) -> tuple[Ints, Ints]:
    """Counts ``(n_groups, n_bits + 1)`` and the closest pairs ``(n_groups, 3)``, rows before columns among equals."""
    check_device(device)
    threads = check_whole(threads, "threads", 1)
    if device == "cuda":
        from studbook.hamming._cuda import choose_device, count_pairs

        return count_pairs(a, b, choice, n_groups, closest=closest, device=choose_device())
    counts = np.zeros((n_groups, a.n_bits + 1), np.int64)
    best = np.full((n_groups, 3), -1)
    for part, near in run_tasks(a, b, choice, lambda task: _count_task(task, n_groups, closest), threads):
        counts += part
        keep_closest(best, near)
    return counts, best


def keep_closest(best: Ints, near: Ints) -> None:
    """Bring the closest pairs ``(n_groups, 3)`` up to date, in place."""
    for group, (row, column, distance) in enumerate(near):
        if row >= 0 and (best[group, 0] < 0 or (distance, row, column) < (best[group, 2], best[group, 0], best[group, 1])):
            best[group] = row, column, distance


def _count_task(task: Task, n_groups: int, closest: bool) -> tuple[Ints, Ints]:
    from studbook.hamming._bit_kernels import count_rows

    n_bits, segments = task.n_bits, task.segments
    counts = aligned_zeros((n_groups, 64 * (n_bits // 64 + 1), 8))
    near = np.full((len(task.words) if closest else 0, n_groups, 2), n_bits + 1)
    count_rows(task.columns.planes, task.columns.first, n_bits, task.plan, (segments.lows, segments.highs, segments.groups), counts, near)
    best = np.full((n_groups, 3), -1)
    if closest:
        rows = near[:, :, 0].argmin(axis=0)
        for group, row in enumerate(rows):
            if near[row, group, 0] <= n_bits:
                best[group] = task.rows.start + row, near[row, group, 1], near[row, group, 0]
    return counts.sum(axis=2)[:, : n_bits + 1].astype(np.int64), best
