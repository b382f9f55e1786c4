"""This package beside NumPy, faiss and usearch: the same work on the same bits, measured in turn, and checked to give the same.

The peers are imported when they are measured. One that isn't installed leaves its time empty.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import AnyArray, Ints
from studbook.errors import MissingExtraError, StudbookError
from studbook.hamming.bits import check_whole
from studbook.hamming.counting import histogram
from studbook.hamming.searching import nearest, within

SIZE = 32_768
ROUNDS = 3
ENOUGH_S = 4.0
NEIGHBOURS = 10
QUERIES = 4096
INSTALL = "pip install faiss-cpu usearch"
POPCOUNTS_A_CLOCK = 16
"""32-bit population counts that a multiprocessor ends in a clock (CUDA C++ Programming Guide, throughput of arithmetic, 8.x and 9.0)."""

Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One piece of work beside one peer.

    Attributes:
        work: What was done.
        bits: Width.
        threads: Threads of either side.
        pairs: Pairs that were compared.
        ours_s: Wall time here, the smallest of some rounds.
        peer: Whom it is compared with.
        peer_s: The peer's, or ``None`` where it isn't installed.
        wanted: The ratio that is wanted, or ``None``.
    """

    work: str
    bits: int
    threads: int
    pairs: int
    ours_s: float
    peer: str
    peer_s: float | None
    wanted: float | None

    @property
    def ratio(self) -> float | None:
        """How many times faster."""
        return None if self.peer_s is None else self.peer_s / self.ours_s


def draw_bits(size: int, bits: int, seed: int = 0) -> tuple[Bits, Bits]:
    """Two sides of fair bits ``(size, bits / 8)``; a hundredth of the rows have a near copy on the other side."""
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 256, (size, bits // 8), dtype=np.uint8) for _ in range(2))
    for number, row in enumerate(rng.choice(size, size // 100, replace=False)):
        flips = np.zeros(bits, np.uint8)
        flips[rng.choice(bits, number % (bits // 8), replace=False)] = 1
        b[row] = a[row] ^ np.packbits(flips)
    return a, b


def radius_of(bits: int) -> int:
    """The radius that is searched: 10 of 64 bits, 31 of 256."""
    return 10 if bits <= 64 else bits // 8 - 1


def compare(size: int = SIZE, bits: int = 64, threads: int = 1, rounds: int = ROUNDS) -> Iterator[Comparison]:
    """Measure every piece of work.

    Args:
        size: Rows of either side; ``size²`` pairs, and for the nearest the first 4,096 rows of one side against the other.
        bits: Width, a multiple of 64.
        threads: Threads of either side.
        rounds: Everybody takes part once a round, the slow not in all of them; the smallest time counts.

    Raises:
        DigestError: A number out of range.
        StudbookError: A peer found something else.
    """
    check_whole(size, "size", 1)
    check_whole(bits, "bits", 64, 1024)
    check_whole(bits % 64, "bits modulo 64", 0, 0, hint="the peers take whole words")
    check_whole(threads, "threads", 1)
    a, b = draw_bits(size, bits)
    radius, k, few = radius_of(bits), min(NEIGHBOURS, size), a[:QUERIES]
    works: dict[str, tuple[Bits, Callable[[], Any], dict[str, tuple[Peer, float | None]]]] = {
        "histogram": (
            a,
            lambda: histogram(a, b, threads=threads).tolist(),
            {"NumPy": (numpy_histogram, 4.0), "faiss": (faiss_histogram, 5.0)},
        ),
        f"radius {radius}": (
            a,
            lambda: len(within(a, b, radius_bits=radius, threads=threads)),
            {"faiss": (partial(faiss_radius, radius), 2.0)},
        ),
        f"{k} nearest": (
            few,
            lambda: int(nearest(few, b, k=k, threads=threads)[1].sum()),
            {"faiss": (partial(faiss_nearest, k), None), "usearch": (partial(usearch_nearest, k), None)},
        ),
    }
    for work, (rows, ours, peers) in works.items():
        begun = {name: _begin(peer, rows, b, threads) for name, (peer, _) in peers.items()}
        times = _measure(work, {"": ours, **{name: run for name, run in begun.items() if run is not None}}, rounds)
        for name, (_, wanted) in peers.items():
            yield Comparison(work, bits, threads, len(rows) * size, times[""], name, times.get(name), wanted)


Peer = Callable[[Bits, Bits, int], Callable[[], Any]]
"""Makes ready for some bits and a number of threads, and returns the work to be measured."""


def _begin(peer: Peer, a: Bits, b: Bits, threads: int) -> Callable[[], Any] | None:
    try:
        return peer(a, b, threads)
    except MissingExtraError:
        return None


def _measure(work: str, runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Smallest wall time of each, in turn; what is ours runs once before, where code may be compiled.

    Who has taken ``ENOUGH_S`` seconds isn't asked again.
    """
    expected = runs[""]()
    times, spent = dict.fromkeys(runs, np.inf), dict.fromkeys(runs, 0.0)
    for _ in range(rounds):
        for name, run in runs.items():
            if spent[name] > ENOUGH_S:
                continue
            start = time.perf_counter()
            found = run()
            taken = time.perf_counter() - start
            times[name], spent[name] = min(times[name], taken), spent[name] + taken
            if found != expected:
                raise StudbookError(f"{name or 'a second run'} found something else in the work {work!r}", hint="please report this")
    return times


def _peer(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"{name} isn't installed", hint=INSTALL) from error


def _in_blocks(a: Bits, rows: int, threads: int, n_bits: int, work: Callable[[Bits], Ints]) -> list[int]:
    """The sum of what ``work`` makes of blocks of rows, which threads take in turn."""
    total = np.zeros(n_bits + 1, np.int64)
    with ThreadPoolExecutor(threads) as pool:
        for part in pool.map(work, [a[start : start + rows] for start in range(0, len(a), rows)]):
            total += part
    counts: list[int] = total.tolist()
    return counts


def numpy_histogram(a: Bits, b: Bits, threads: int) -> Callable[[], list[int]]:
    """Blocks of 32 rows, as fast as any: exclusive or and ``bitwise_count`` of words, then ``bincount``."""
    n_bits, columns = 8 * a.shape[1], np.ascontiguousarray(b.view(np.uint64).T)

    def count(rows: Bits) -> Ints:
        words = rows.view(np.uint64)
        distances: AnyArray = np.bitwise_count(words[:, :1] ^ columns[0])
        if len(columns) > 1:
            distances = distances.astype(np.uint16)
        for place in range(1, len(columns)):
            distances += np.bitwise_count(words[:, place, None] ^ columns[place])
        return np.bincount(distances.ravel(), minlength=n_bits + 1)

    return lambda: _in_blocks(a, 32, threads, n_bits, count)


def faiss_histogram(a: Bits, b: Bits, threads: int) -> Callable[[], list[int]]:
    """Blocks of half a million pairs, as fast as any: ``faiss.hammings``, then ``bincount``."""
    faiss = _peer("faiss")
    n_bits, n_rows = 8 * a.shape[1], max((1 << 19) // len(b), 1)

    def count(rows: Bits) -> Ints:
        distances = np.empty((len(rows), len(b)), np.int32)
        faiss.hammings(faiss.swig_ptr(rows), faiss.swig_ptr(b), len(rows), len(b), a.shape[1], faiss.swig_ptr(distances))
        return np.bincount(distances.ravel(), minlength=n_bits + 1)

    def run() -> list[int]:
        faiss.omp_set_num_threads(1)  # the blocks are shared out already
        return _in_blocks(a, n_rows, threads, n_bits, count)

    return run


def _flat_index(faiss: Any, b: Bits) -> Any:
    index = faiss.IndexBinaryFlat(8 * b.shape[1])
    index.add(b)
    return index


def faiss_radius(radius: int, a: Bits, b: Bits, threads: int) -> Callable[[], int]:
    """``IndexBinaryFlat.range_search``; faiss leaves out those at the radius itself."""
    faiss = _peer("faiss")
    index = _flat_index(faiss, b)

    def run() -> int:
        faiss.omp_set_num_threads(threads)
        return int(index.range_search(a, radius + 1)[0][-1])

    return run


def faiss_nearest(k: int, a: Bits, b: Bits, threads: int) -> Callable[[], int]:
    """``IndexBinaryFlat.search``."""
    faiss = _peer("faiss")
    index = _flat_index(faiss, b)

    def run() -> int:
        faiss.omp_set_num_threads(threads)
        return int(index.search(a, k)[0].sum())

    return run


def usearch_nearest(k: int, a: Bits, b: Bits, threads: int) -> Callable[[], int]:
    """``usearch.index.search``, exact."""
    usearch = _peer("usearch.index")
    search = partial(usearch.search, b, a, k, metric=usearch.MetricKind.Hamming, exact=True, threads=threads)
    return lambda: int(search().distances.sum())


def compare_on_cuda(size: int, bits: int) -> Comparison:
    """The histogram of ``size²`` pairs on CUDA beside the time in which the chip could count their bits alone.

    Raises:
        DeviceError: There is no CUDA device.
        DigestError: A number out of range.
    """
    from studbook.hamming._cuda import choose_device, popcounts_a_second

    check_whole(size, "size", 1)
    device = choose_device()
    a, b = draw_bits(size, bits)
    histogram(a[:1000], b[:1000], device="cuda")
    start = time.perf_counter()
    histogram(a, b, device="cuda")
    taken = time.perf_counter() - start
    limit = size * size * (bits / 32) / popcounts_a_second(device, POPCOUNTS_A_CLOCK)
    return Comparison("histogram on CUDA", bits, 1, size * size, taken, "population-count limit", limit, None)
