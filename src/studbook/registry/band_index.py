"""MinHash digests on the disk, and which of them share a band with a query: locality-sensitive hashing over memory-mapped tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Ints
from studbook.errors import RegisterError
from studbook.fingerprints.protocols import Packed
from studbook.registry._row_file import RowFile, check_rows
from studbook.registry._segments import Run, Segment, build_segment, chain, plan_runs, runs_in

LEAST_AGREEMENT = 20
"""Agreeing permutations of 128 from which on a row counts as near, of ``MinHash()`` in 64 bands of 2; a Jaccard similarity of about .16.

Measured by ``tests/statistical/test_register_recall.py``, which holds it to this, on 3,000 documents of 50 or 200 words and 831 of 1,000
cut from WikiText-2, and fewer from python-docs. Found again, WikiText: .991, .998, 1.0 after 20 % of the words were drawn anew from the
corpus; .66, .77, .81 after 30 %; all half excerpts; .83, .97, .98 of quarter excerpts. Of 8.9 million pairs of documents from different
articles none is a hit at 50 words, 6 at 200 words, which quote each other, and of 0.7 million none at 1,000 words: with 99 % confidence
fewer than 6e-7, 2e-6 and 7e-6, and fewer than 1 in 100 queries meets one. In python-docs, where functions share their documentation, such
quotes are hits in 2e-5 to 2e-4 of the pairs and for up to 4 in 100 queries, as they are meant to be; of pairs that share no 12 words in a
row 34 of 8.9 million at 50 words, none at 200 and 1,000. A text of a few words has few shingles: one changed word changes most of them.
"""
TAIL_ROWS = 1024
"""So many of the newest rows, at most, have no table yet and are compared one by one."""
RESIDENT_BYTES = 3 << 28
"""Mapped pages are given back once the process has so many more of them than when the index was opened."""
# Queries between two looks at the memory; of a large index each may map 64 MiB, 64 KiB for a page.
_FEW_QUERIES, _MANY_QUERIES = 8, 4096


class BandIndex:
    """MinHash digests of 16 bits a permutation, numbered from 0 in the order in which they came.

    Cut into bands of a few permutations, two digests with the Jaccard similarity J share one with probability 1 − (1 − Jʳ)ᵇ (Leskovec,
    Rajaraman and Ullman, "Mining of massive datasets", 3.4): of 64 bands of 2, .99 at J = .27, .72 at .14, .15 at .05. A look-up reads one
    bucket of each band in each table, and compares the whole digests of what it finds there; so it gives no row that doesn't share a band.

    **Bounds.** Boilerplate puts thousands of rows into one bucket. In each table a query reads at most 65,536 postings, the shortest
    buckets first, and compares at most 4,096 rows: beyond these, rows as near as those it gives may be missing, the newest first.

    **On the disk**: the digests, 256 bytes a row, and tables, about 270 bytes a row, of which a query touches some pages. Tables are
    immutable; sizes triple from the youngest to the oldest, and up to ``TAIL_ROWS`` of the newest rows have none. One process extends at a
    time; others may search meanwhile and see the rows of every ``extend`` that has finished. A process that is killed in one leaves the
    rows before it.

    Args:
        folder: Where the files are, or are to be.
        bands: Bands a digest.
        rows: Permutations a band.

    Raises:
        RegisterError: What lies there is damaged, or of other digests; the index is a cache and can be made again.
        StorageError: The disk refused.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from studbook.fingerprints import MinHash
        >>> from studbook.registry.band_index import BandIndex
        >>> index = BandIndex(Path(tempfile.mkdtemp()))
        >>> index.extend(MinHash().pack(["the quick brown fox jumps over the lazy dog", "what the register holds is found again"]))
        >>> query, row, agreement = index.search(MinHash().pack(["see: the quick brown fox jumps over the lazy dog"]), 40)
        >>> row.tolist(), bool(agreement[0] > 90)
        ([0], True)
    """

    def __init__(self, folder: Path, *, bands: int = 64, rows: int = 2) -> None:
        if type(bands) is not int or type(rows) is not int or bands < 1 or rows < 1 or bands * rows % 4 or bands * rows > 4096:
            raise RegisterError(f"an index has {bands!r} bands of {rows!r} rows, expected whole numbers whose product is a multiple of 4")
        self.bands, self.rows = bands, rows
        self._folder = folder
        self._file = RowFile(folder / f"minhash-{bands}x{rows}.rows", 2 * bands * rows)
        self._segments: list[Segment] = []
        self._known = -1
        self._mapped_before = _mapped_bytes()
        self._refresh()

    @property
    def n_rows(self) -> int:
        """Rows of every ``extend`` that has finished."""
        return self._file.n_rows

    @property
    def n_permutations(self) -> int:
        """Of a digest."""
        return self.bands * self.rows

    def extend(self, packed: Packed) -> None:
        """Append digests ``(n, 2 · bands · rows)`` uint8; they are on the disk on return.

        Now and then this makes tables anew, a few seconds for a million rows, so that one call may take much longer than another.

        Raises:
            RegisterError: Not such rows; or a file was damaged.
            StorageError: The disk refused; nothing was appended.
        """
        digests = check_rows(packed, self._file.n_bytes, "digests")
        if not len(digests):
            return
        self._remove(run for run in runs_in(self._folder) if run.stop > self._file.n_rows)  # of a process that was killed
        stop = self._file.write(digests)
        kept = chain(runs_in(self._folder), self._file.n_rows)
        if stop - (kept[-1].stop if kept else 0) > TAIL_ROWS:
            kept, made = plan_runs(kept, stop)
            for run in made:
                build_segment(self._folder, self._file, run, self.bands, self.rows)
            kept += made
        # First the number, by which others know the new tables, then the removal of the old ones.
        self._file.publish(stop)
        self._remove(run for run in runs_in(self._folder) if run not in kept)
        for left in self._folder.glob(".writing-*"):
            left.unlink(missing_ok=True)

    def _remove(self, runs: Iterable[Run]) -> None:
        for run in runs:
            (self._folder / run.name).unlink(missing_ok=True)

    def search(self, queries: Packed, least_agreement: int, *, limit: int = 10_000_000) -> tuple[Ints, Ints, Ints]:
        """Rows that share a band with a query and agree with it in enough permutations.

        Args:
            queries: ``(q, 2 · bands · rows)`` uint8.
            least_agreement: 0 … permutations; see ``LEAST_AGREEMENT``.
            limit: Most rows to give, 24 bytes each.

        Returns:
            Query, row and how many permutations agree, ``(n,)`` each, sorted by query, falling agreement, row.

        Raises:
            RegisterError: Not such queries, an impossible agreement, more rows than the limit; or a file was damaged.
        """
        asked = check_rows(queries, self._file.n_bytes, "queries").view(np.uint64)
        if not isinstance(least_agreement, int | np.integer) or not 0 <= least_agreement <= self.n_permutations:
            raise RegisterError(f"the least agreement is {least_agreement!r}, expected 0 to {self.n_permutations} permutations")
        known = self._file.rows(self._refresh()).view(np.uint64)
        found, total = [np.empty((3, 0), np.int64)], 0
        step = _MANY_QUERIES if 4 * known.nbytes < RESIDENT_BYTES else _FEW_QUERIES
        for start in range(0, len(asked), step):
            for part in self._search_all(known, asked[start : start + step], int(least_agreement)):
                part[0] += start
                found.append(part)
                total += part.shape[1]
                if total > limit:
                    raise RegisterError(f"more than {limit:,} rows are near the queries", hint="ask fewer at once, or raise limit")
            self._keep_small()
        query, row, agreement = np.concatenate(found, axis=1)
        order = np.lexsort((row, -agreement, query))
        return query[order], row[order], agreement[order]

    def _search_all(self, known: NDArray[np.uint64], asked: NDArray[np.uint64], least: int) -> list[Ints]:
        from studbook.registry._band_kernels import search_segment, search_tail

        found = []
        for segment in self._segments:
            first, stop = segment.run.first, segment.run.stop
            search = partial(search_segment, segment.table, segment.shape, known[first:stop], first, asked, least)
            found.append(_grown(search, len(asked)))
        covered = self._segments[-1].run.stop if self._segments else 0
        found.append(_grown(partial(search_tail, known[covered:], covered, asked, self.bands, self.rows, least), len(asked)))
        return found

    def _refresh(self) -> int:
        """Take up what another process has added; returns the number of rows."""
        for _ in range(8):
            n = self.n_rows
            if n == self._known:
                return n
            try:
                runs = chain(runs_in(self._folder), n)
                held = {segment.run: segment for segment in self._segments}
                opened = [held.get(run) or Segment(self._folder, run, self.bands, self.rows) for run in runs]
            except FileNotFoundError:
                continue  # replaced by a larger one meanwhile
            if n - (runs[-1].stop if runs else 0) <= TAIL_ROWS:
                self._segments, self._known = opened, n
                return n
        raise RegisterError(f"tables of {self._folder} are missing", hint="delete the folder: it is made again from the register")

    def _keep_small(self) -> None:
        if _mapped_bytes() - self._mapped_before > RESIDENT_BYTES:
            self._file.release()
            for segment in self._segments:
                segment.release()


def _grown(search: Callable[[Ints], int], n_queries: int) -> Ints:
    """What a kernel finds, with as much room as it needs."""
    room = np.empty((3, 4 * n_queries + 64), np.int64)
    while (n := search(room)) > room.shape[1]:
        room = np.empty((3, n), np.int64)
    found: Ints = room[:, :n]
    return found


def _mapped_bytes() -> int:
    """Resident bytes of this process that come from files; 0 where the system doesn't tell."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[2]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
