"""All pairs, cut into parts that fit: blocks of columns that are transposed once, and tasks of rows that threads take in turn."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, TypeVar

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.hamming.bits import BitStrings, Words

PLANES_BYTES = 1 << 24
ROWS = 256
BLOCK = 512

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Which columns count for each row, and in which group.

    Attributes:
        lows: ``(n, s)`` first column of each segment.
        highs: ``(n, s)`` the column behind its last.
        groups: ``(s,)`` group of each segment.
    """

    lows: Ints
    highs: Ints
    groups: Ints

    def beyond(self, first: int) -> Segments:
        """Only columns beyond the row's own number, ``first`` that of the first row: each pair of two rows once."""
        own = np.arange(first, first + len(self.lows))
        return Segments(np.maximum(self.lows, own[:, None] + 1), self.highs, self.groups)

    def reach(self, start: int, stop: int) -> bool:
        """Whether any row has a column of this range."""
        return bool(((self.lows < stop) & (self.highs > start) & (self.lows < self.highs)).any())


Choice: TypeAlias = Callable[[slice], Segments]
"""The segments of some rows; made when they are needed, as there may be more rows than memory holds."""


def every(n_columns: int) -> Choice:
    """Every column counts."""

    def choose(rows: slice) -> Segments:
        n = rows.stop - rows.start
        return Segments(np.zeros((n, 1), np.int64), np.full((n, 1), n_columns), np.zeros(1, np.int64))

    return choose


def each_pair_once(choice: Choice) -> Choice:
    """Of these columns, those beyond the row's own number."""
    return lambda rows: choice(rows).beyond(rows.start)


def others(n_columns: int) -> Choice:
    """Every column but the row's own."""

    def choose(rows: slice) -> Segments:
        own = np.arange(rows.start, rows.stop)
        lows = np.stack([np.zeros_like(own), own + 1], axis=1)
        return Segments(lows, np.stack([own, np.full_like(own, n_columns)], axis=1), np.zeros(2, np.int64))

    return choose


@dataclass(frozen=True, eq=False)
class Columns:
    """Some columns, transposed.

    Attributes:
        first: Number of the first of them.
        planes: ``(n_blocks, n_bits + 1 + n_levels, 8)`` words; see ``_plane_kernels``.
    """

    first: int
    planes: Words


@dataclass(frozen=True, eq=False)
class Task:
    """Some rows against some columns.

    Attributes:
        rows: Which rows.
        columns: The columns.
        words: The rows' bits.
        n_bits: Width.
        segments: Which columns count for these rows.
    """

    rows: slice
    columns: Columns
    words: Words
    n_bits: int
    segments: Segments

    @cached_property
    def plan(self) -> tuple[AnyArray, AnyArray]:
        """What each row adds up; see ``_plane_kernels``."""
        from studbook.hamming._plane_kernels import STEP, plan_rows

        n_levels = self.n_bits.bit_length()
        places = np.empty((len(self.words), self.n_bits // 2 + STEP), np.uint16)
        start = np.empty((len(self.words), n_levels + 2), np.uint64)
        plan_rows(self.words, self.n_bits, n_levels, places, start)
        return places, start


def run_tasks(a: BitStrings, b: BitStrings, choice: Choice, work: Callable[[Task], ResultT], threads: int) -> Generator[ResultT]:
    """What ``work`` makes of every task, in a fixed order: columns part by part, and for each part the rows from the first to the last.

    How rows and columns are cut doesn't depend on the number of threads. Memory is bounded: one part of the columns, transposed (16 MiB),
    and for each thread the rows of a few tasks.
    """
    n_rows = min(max(len(a) // 16, 1), ROWS)
    with ThreadPoolExecutor(threads) as pool:
        for columns in _parts(b):
            tasks = _tasks(a, columns, choice, n_rows)
            yield from map(work, tasks) if threads == 1 else _in_order(pool, work, tasks, 4 * threads)


def _tasks(a: BitStrings, columns: Columns, choice: Choice, n_rows: int) -> Iterator[Task]:
    for start in range(0, len(a), n_rows):
        rows = slice(start, min(start + n_rows, len(a)))
        segments = choice(rows)
        if segments.reach(columns.first, columns.first + len(columns.planes) * BLOCK):
            yield Task(rows, columns, a.words(rows.start, rows.stop), a.n_bits, segments)


def _in_order(pool: ThreadPoolExecutor, work: Callable[[Task], ResultT], tasks: Iterator[Task], ahead: int) -> Iterator[ResultT]:
    """As ``map``, with at most ``ahead`` tasks begun before their turn."""
    waiting: deque[Future[ResultT]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _parts(b: BitStrings) -> Iterator[Columns]:
    from studbook.hamming._plane_kernels import fill_planes

    n_planes = b.n_bits + 1 + b.n_bits.bit_length()
    size = max(PLANES_BYTES // (n_planes * 64), 1) * BLOCK
    for first in range(0, len(b), size):
        words = b.words(first, first + size)
        planes = aligned_zeros((-(-len(words) // BLOCK), n_planes, 8))
        fill_planes(words, b.n_bits, planes)
        yield Columns(first, planes)


def aligned_zeros(shape: tuple[int, ...]) -> Words:
    """Words of zeros, the first at the beginning of a line of the cache: vectors across two lines take twice as long to load."""
    n = math.prod(shape)
    words = np.zeros(n + 8, np.uint64)
    skipped = -words.ctypes.data % 64 // 8
    return words[skipped : skipped + n].reshape(shape)
