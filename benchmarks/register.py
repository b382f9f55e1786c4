"""The register beside rensa 0.5 and datasketch 2.0, and its indexes at 10 million rows beside faiss 1.15.

20,000 documents of 200 words, three words a shingle, 128 permutations, 64 bands of 2, in two orders: *query, then insert*, 2,000 at a
time, as a screen does that learns what it lets through (a tenth of the documents is near an earlier one); and *insert all, then query all*,
where each finds at least itself. Ours starts from the texts and ends with entries out of the database: words, SHA-256, MinHash, a durable
insert (SQLite, flushed at each commit), index files, look-up by bytes and by bands with every candidate compared, ``Entry`` objects. The
peers keep everything in memory, forget it at the end, and give the numbers of candidates that share a band; cutting texts into words and
shingles, which is left to their users, is part of their time. One thread by CPU time, two threads by wall time.

10 million rows, one query at a time: faiss compares 64-bit strings in memory, all rows as we do. Nobody else looks MinHash up in 10
million digests within 2 GB of memory: beside ours stands a scan of the same digests by NumPy, extrapolated from 100,000 rows.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from studbook.fingerprints import MinHash
from studbook.registry import Register, fingerprint_texts
from studbook.registry.band_index import LEAST_AGREEMENT, BandIndex
from studbook.registry.bit_index import BitIndex

N_TEXTS, N_WORDS, PERMUTATIONS, BANDS = 20_000, 200, 128, 64
BATCH, ROUNDS = 2_000, 3
N_ROWS, N_QUERIES, RADIUS, PART = 10_000_000, 200, 8, 1_000_000

WORD = re.compile(r"[a-z0-9]+")


def run() -> list[dict]:
    return [*texts_rows(), alone(bits_row), alone(bands_row)]


def alone(work: Callable[[], dict]) -> dict:
    """A row made in a process of its own: the memory that others leave behind isn't counted."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work).result()


def documents(n: int = N_TEXTS) -> list[str]:
    """Texts of words drawn by Zipf's law, in sentences; a tenth are copies of an earlier one with a tenth of the words changed."""
    rng = np.random.default_rng(0)
    known = np.array(["".join(map(chr, rng.integers(97, 123, rng.integers(2, 10)))) for _ in range(20_000)])
    share = 1 / np.arange(1, len(known) + 1)
    drawn = rng.choice(len(known), (n, N_WORDS), p=share / share.sum())
    for i in range(10, n, 10):
        drawn[i] = np.where(rng.random(N_WORDS) < 0.1, drawn[i], drawn[rng.integers(i)])
    return [". ".join(" ".join(known[row[k : k + 20]]).capitalize() for k in range(0, N_WORDS, 20)) for row in drawn]


class Ours:
    """The register in a file of its own."""

    def __init__(self, folder: str, threads: int) -> None:
        self.register, self.threads = Register.open(Path(folder) / "outputs.db", create=True), threads

    def read(self, texts: list[str]) -> Any:
        return fingerprint_texts(texts, threads=self.threads)

    def insert(self, prints: Any) -> None:
        self.register.add_texts(prints, model="some-model")

    def query(self, prints: Any) -> list:
        return self.register.find_texts(prints)


def shingles_of(text: str) -> list[str]:
    words = WORD.findall(text.lower())
    return [" ".join(run) for run in zip(words, words[1:], words[2:], strict=False)]


class Rensa:
    """Its MinHash and LSH, by the calls that take many at once."""

    def __init__(self, _folder: str, _threads: int) -> None:
        from rensa import RMinHashLSH

        self.index, self.n = RMinHashLSH(threshold=0.1, num_perm=PERMUTATIONS, num_bands=BANDS), 0

    def read(self, texts: list[str]) -> list:
        from rensa import RMinHash

        return RMinHash.from_token_sets(list(map(shingles_of, texts)), PERMUTATIONS, 1)

    def insert(self, hashes: list) -> None:
        self.index.insert_many(hashes, self.n)
        self.n += len(hashes)

    def query(self, hashes: list) -> list:
        return self.index.query_all(hashes)


class Datasketch:
    """Its MinHash, in bulk, and LSH."""

    def __init__(self, _folder: str, _threads: int) -> None:
        from datasketch import MinHashLSH

        self.index, self.n = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, PERMUTATIONS // BANDS)), 0

    def read(self, texts: list[str]) -> list:
        from datasketch import MinHash as Theirs

        return Theirs.bulk(([each.encode() for each in shingles_of(text)] for text in texts), num_perm=PERMUTATIONS)

    def insert(self, hashes: list) -> None:
        for i, each in enumerate(hashes, self.n):
            self.index.insert(i, each, check_duplication=False)
        self.n += len(hashes)

    def query(self, hashes: list) -> list:
        return list(map(self.index.query, hashes))


def screen(side: type, texts: list[str], threads: int = 1) -> None:
    """Each batch is looked up, then inserted."""
    with tempfile.TemporaryDirectory() as folder:
        one = side(folder, threads)
        for start in range(0, len(texts), BATCH):
            read = one.read(texts[start : start + BATCH])
            one.query(read)
            one.insert(read)


def fill(side: type, texts: list[str], threads: int = 1) -> None:
    """All are inserted, then all looked up."""
    with tempfile.TemporaryDirectory() as folder:
        one = side(folder, threads)
        read = one.read(texts)
        one.insert(read)
        one.query(read)


def texts_rows() -> list[dict]:
    texts, rows = documents(), []
    for name, order, threads, clock in (
        ("query, then insert", screen, 1, time.process_time),
        ("insert all, then query all", fill, 1, time.process_time),
        ("query, then insert, 2 threads", screen, 2, time.perf_counter),
        ("insert all, then query all, 2 threads", fill, 2, time.perf_counter),
    ):
        for side in (Ours, Rensa, Datasketch):
            order(side, texts[:200], threads)
        best = {Ours: np.inf, Rensa: np.inf}
        for _ in range(ROUNDS):
            for side, before in best.items():
                best[side] = min(before, taken(partial(order, side, texts, threads), clock))
        rates = f"{N_TEXTS:,} texts; {N_TEXTS / best[Ours]:,.0f} a second, rensa {N_TEXTS / best[Rensa]:,.0f}"
        rows.append(row(f"register, {name}, rensa", best[Ours], best[Rensa], 2.0, rates))
        slow = taken(partial(order, Datasketch, texts, threads), clock)
        rows.append(row(f"register, {name}, datasketch", best[Ours], slow, 10.0, f"datasketch {N_TEXTS / slow:,.0f} a second"))
    return rows


def taken(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


def row(name: str, ours_s: float, peer_s: float, target: float | None, detail: str) -> dict:
    return {"name": name, "ours_s": ours_s, "peer_s": peer_s, "ratio": peer_s / ours_s, "target": target, "detail": detail}


def each_query(search: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    """Median CPU seconds of one query at a time, the first left out."""
    return float(np.median([taken(lambda i=i: search(queries[i : i + 1]), time.process_time) for i in range(len(queries))][1:]))


def bits_row() -> dict:
    import faiss

    faiss.omp_set_num_threads(1)
    rows = np.random.default_rng(1).integers(0, 256, (N_ROWS, 8), dtype=np.uint8)
    queries = rows[:: N_ROWS // N_QUERIES].copy()
    queries[:, 0] ^= 3
    theirs = faiss.IndexBinaryFlat(64)
    theirs.add(rows)
    with tempfile.TemporaryDirectory() as folder:
        index = BitIndex(Path(folder), 8)
        index.extend(rows)
        _, found, distances = index.search(queries, RADIUS)
        _, near, numbers = theirs.range_search(queries, RADIUS + 1)
        if sorted(found.tolist()) != sorted(numbers.tolist()) or sorted(distances.tolist()) != sorted(near.astype(int).tolist()):
            raise RuntimeError("faiss finds something else")
        ours_s = each_query(lambda query: index.search(query, RADIUS), queries)
        together = taken(lambda: index.search(queries, RADIUS), time.process_time) / len(queries)
    peer_s = each_query(lambda query: theirs.range_search(query, RADIUS + 1), queries)
    detail = f"{N_ROWS:,} 64-bit strings, radius {RADIUS}, one at a time; {together * 1e3:.1f} ms each of {N_QUERIES}; faiss finds the same"
    return row("register, 64-bit look-up, faiss", ours_s, peer_s, None, detail)


def bands_row() -> dict:
    rng = np.random.default_rng(2)
    width = MinHash().permutations * MinHash().bits // 8
    with tempfile.TemporaryDirectory() as folder:
        index, queries, built = BandIndex(Path(folder)), [], 0.0
        for _ in range(0, N_ROWS, PART):
            digests = rng.integers(0, 256, (PART, width), dtype=np.uint8)
            built += taken(lambda digests=digests: index.extend(digests), time.process_time)
            queries.append(digests[: N_QUERIES * PART // N_ROWS].view(np.uint16).copy())
        asked = np.concatenate(queries)
        asked = np.where(rng.random(asked.shape) < 0.3, asked, rng.integers(0, 1 << 16, asked.shape, dtype=np.uint16)).view(np.uint8)
        few = digests[: N_ROWS // 100].view(np.uint16).copy()
        del digests
        forget_peak()
        ours_s = each_query(lambda query: index.search(query, LEAST_AGREEMENT), asked)
        together = taken(lambda: index.search(asked, LEAST_AGREEMENT), time.process_time) / len(asked)
        held = peak_mb()
        size = sum(file.stat().st_blocks * 512 for file in Path(folder).iterdir()) / N_ROWS
    scan = taken(lambda: (few == asked[:1].view(np.uint16)).sum(axis=1), time.process_time) * N_ROWS / len(few)
    detail = (
        f"{N_ROWS:,} digests of {width} bytes; {together * 1e3:.2f} ms each of {len(asked)} at once; made in {built:.0f} s, "
        f"{size:.0f} bytes a row on the disk, {held:,.0f} MB resident at most while searching; NumPy's scan extrapolated"
    )
    return row("register, MinHash look-up, NumPy's scan", ours_s, scan, None, detail)


def forget_peak() -> None:
    """Let ``peak_mb`` begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Most memory of this process since ``forget_peak``, mapped pages included."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1e3


if __name__ == "__main__":
    for line in run():
        print(f"{line['name']}: {line['ours_s']:.3g} s, {line['peer_s']:.3g} s, {line['ratio']:.2f} × ({line['detail']})")
