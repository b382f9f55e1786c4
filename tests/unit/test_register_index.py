"""The register's indexes against plain references, under damage, and beside a writer that is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from studbook.errors import RegisterError
from studbook.registry import _band_kernels, _segments, band_index, bit_index
from studbook.registry._segments import Run, chain, plan_runs, runs_in
from studbook.registry.band_index import BandIndex
from studbook.registry.bit_index import BitIndex


def plain_bits(rows: np.ndarray, queries: np.ndarray, radius: int) -> list[tuple[int, int, int]]:
    distances = np.unpackbits(queries[:, None] ^ rows[None], axis=-1).sum(axis=-1)
    return sorted((int(q), int(r), int(distances[q, r])) for q, r in np.argwhere(distances <= radius))


def plain_bands(rows: np.ndarray, queries: np.ndarray, least: int, bands: int = 64) -> list[tuple[int, int, int]]:
    same = queries.view(np.uint16)[:, None] == rows.view(np.uint16)[None]
    share = same.reshape(len(queries), len(rows), bands, -1).all(-1).any(-1)
    agreement = same.sum(-1)
    return sorted((int(q), int(r), int(agreement[q, r])) for q, r in np.argwhere(share & (agreement >= least)))


def triples(found: tuple[np.ndarray, ...]) -> list[tuple[int, int, int]]:
    assert all(each.dtype == np.int64 for each in found)
    return list(zip(*(each.tolist() for each in found), strict=True))


def some_digests(n: int, rng: np.random.Generator, width: int = 128) -> np.ndarray:
    """Digests ``(n, 2 width)`` of which each shares a part of its numbers with one of a few."""
    parents = rng.integers(0, 1 << 16, (max(n // 20, 1), width), dtype=np.uint16)
    numbers = parents[rng.integers(0, len(parents), n)]
    changed = rng.random(numbers.shape) < rng.random((n, 1))
    numbers[changed] = rng.integers(0, 1 << 16, int(changed.sum()))
    return np.ascontiguousarray(numbers).view(np.uint8)


@pytest.mark.parametrize("n_bytes", [1, 7, 8, 28, 32, 128])
@pytest.mark.parametrize("many", [False, True])
def test_bit_index_equals_comparing_everything(n_bytes: int, many: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bit_index, "MANY_QUERIES", 1 if many else 10**6)
    rng = np.random.default_rng(n_bytes)
    index = BitIndex(tmp_path, n_bytes)
    rows = rng.integers(0, 256, (5000, n_bytes), dtype=np.uint8)
    rows[1000:2000] = rows[:1000]
    rows[1500:2000, 0] ^= 5
    for start, stop in ((0, 1), (1, 1), (1, 700), (700, 5000)):
        index.extend(rows[start:stop])
        assert index.n_rows == stop
    queries, radius = rows[990:1010], 2 * n_bytes
    for limit in (0, radius):
        found = triples(index.search(queries, limit, threads=2))
        assert sorted(found) == plain_bits(rows, queries, limit)
        assert found == sorted(found, key=lambda each: (each[0], each[2], each[1]))
    assert triples(BitIndex(tmp_path, n_bytes).search(queries, radius)) == triples(index.search(queries, radius))
    assert triples(index.search(rows[:0], radius)) == []


@pytest.mark.parametrize("bands, rows", [(64, 2), (32, 4), (16, 1), (8, 8)])
def test_band_index_equals_comparing_everything(bands: int, rows: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(bands)
    digests = some_digests(4000, rng, bands * rows)
    index, other = BandIndex(tmp_path, bands=bands, rows=rows), BandIndex(tmp_path, bands=bands, rows=rows)
    stop = 0
    for size in (1, 0, 900, 200, 1024, 3, 1872):
        index.extend(digests[stop : stop + size])
        stop += size
        queries = digests[rng.integers(0, 4000, 30)]
        for least in (0, 1, bands * rows // 4, bands * rows):
            found = triples(other.search(queries, least))
            assert found == triples(index.search(queries, least))
            assert sorted(found) == plain_bands(digests[:stop], queries, least, bands)
            assert found == sorted(found, key=lambda each: (each[0], -each[2], each[1]))
    assert stop == index.n_rows == other.n_rows == 4000
    assert triples(index.search(digests[:0], 3)) == []


def test_tables_are_few_and_grow_in_size(tmp_path: Path) -> None:
    index, rng = BandIndex(tmp_path, bands=4, rows=2), np.random.default_rng(0)
    for _ in range(40):
        index.extend(rng.integers(0, 256, (700, 16), dtype=np.uint8))
        sizes = [run.n for run in chain(runs_in(tmp_path), index.n_rows)]
        assert all(older >= _segments.GROWTH * younger for older, younger in pairwise(sizes))
        assert index.n_rows - sum(sizes) <= band_index.TAIL_ROWS
        assert len(runs_in(tmp_path)) == len(sizes)


def test_tables_have_a_largest_size() -> None:
    limit = _segments.MAX_ROWS
    kept, made = plan_runs([Run(0, limit)], 2 * limit + 5000)
    assert (kept, made) == ([Run(0, limit)], [Run(limit, limit), Run(2 * limit, 5000)])
    assert chain([Run(5, 9), Run(0, 3), Run(0, 5), Run(14, 6), Run(0, 99)], 20) == [Run(0, 5), Run(5, 9), Run(14, 6)]
    assert Run(0, limit).id_bits == 24


def test_boilerplate_costs_a_bounded_number_of_comparisons_and_rare_buckets_come_first(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(2), 2 * _band_kernels.MAX_POSTINGS
    digests = rng.integers(0, 1 << 16, (n, 8), dtype=np.uint16)
    digests[:, :2] = 7  # a band that all have
    index = BandIndex(tmp_path, bands=4, rows=2)
    index.extend(digests.view(np.uint8))
    query = digests[-1:].copy()
    query[0, 4:6] = 1
    row = index.search(query.view(np.uint8), 6)[1]
    assert row.tolist() == [n - 1]  # not among the first of the long bucket, but in others that are short
    _, row, agreement = index.search(query.view(np.uint8), 2)
    assert len(row) == _band_kernels.MAX_CANDIDATES
    assert agreement[0] == 6
    with pytest.raises(RegisterError, match="more than 100 rows are near"):
        index.search(query.view(np.uint8), 2, limit=100)


def test_mapped_pages_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = some_digests(3000, np.random.default_rng(3))
    index = BandIndex(tmp_path)
    index.extend(digests)
    before = triples(index.search(digests[:50], 10))
    monkeypatch.setattr(band_index, "RESIDENT_BYTES", -(1 << 40))
    assert triples(index.search(digests[:50], 10)) == before == triples(index.search(digests[:50], 10))


def test_a_table_that_a_killed_process_left_behind_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = some_digests(6000, np.random.default_rng(4))
    index = BandIndex(tmp_path)
    index.extend(digests[:2000])

    def killed(_n: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(index._file, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            index.extend(digests[2000:4000])
    assert triples(BandIndex(tmp_path).search(digests[:5], 128)) == triples(index.search(digests[:5], 128))
    index = BandIndex(tmp_path)
    assert index.n_rows == 2000
    index.extend(digests[4000:5000])
    index.extend(digests[5000:6000])
    kept = np.concatenate([digests[:2000], digests[4000:]])
    assert sorted(triples(index.search(kept[::50], 40))) == plain_bands(kept, kept[::50], 40)


@pytest.mark.parametrize("make", [lambda folder: BitIndex(folder, 8), BandIndex], ids=["bits", "bands"])
def test_damage_is_noticed(make, tmp_path: Path) -> None:
    index = make(tmp_path)
    index.extend(np.zeros((3000, 8 if isinstance(index, BitIndex) else 256), np.uint8))
    (file,) = tmp_path.glob("*.rows")
    whole = file.read_bytes()
    for damaged, message in (
        (b"", "isn't an index of rows"),
        (b"something else" + whole[14:], "isn't an index of rows"),
        (whole[:24] + b"\x01" + whole[25:], "count of rows"),
        (whole[:4096], "shorter than its 3,000 rows"),
        (whole[:30], "count of rows"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(RegisterError, match=message):
            make(tmp_path)
    file.write_bytes(whole)
    for table in tmp_path.glob("*.table"):
        content = table.read_bytes()
        for damaged in (content[:-1], content + b"0", b"", b"x" + content[1:]):
            table.write_bytes(damaged)
            with pytest.raises(RegisterError, match="isn't a table"):
                make(tmp_path)
        # Numbers that lead out of the table are never followed.
        table.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
        make(tmp_path).search(np.zeros((2, 256), np.uint8), 1)
        table.unlink()
        with pytest.raises(RegisterError, match="are missing"):
            make(tmp_path)


def test_what_is_no_row_is_refused(tmp_path: Path) -> None:
    bits, bands = BitIndex(tmp_path / "a", 8), BandIndex(tmp_path / "b")
    for index, width in ((bits, 8), (bands, 256)):
        for wrong in (np.zeros((2, width + 1), np.uint8), np.zeros((2, width), np.int8), np.zeros(width, np.uint8), [bytes(width)], None):
            for call in (index.extend, lambda rows, index=index: index.search(rows, 1)):
                with pytest.raises(RegisterError, match="expected uint8"):
                    call(wrong)
        for limit in (-1, width * 8 + 1, 1.5, "1"):
            with pytest.raises(RegisterError, match="expected 0 to"):
                index.search(np.zeros((1, width), np.uint8), limit)
        assert index.n_rows == 0
    for n_bytes in (0, 513, 8.0):
        with pytest.raises(RegisterError, match="expected 1 to 512"):
            BitIndex(tmp_path / "c", n_bytes)
    with pytest.raises(RegisterError, match="isn't an index of rows of 8 bytes"):
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "bits-8.rows").write_bytes((tmp_path / "b" / "minhash-64x2.rows").read_bytes())
        BitIndex(tmp_path / "d", 8)
    for bands_, rows in ((0, 2), (64, 0), (3, 1), (2.0, 2), (4096, 2)):
        with pytest.raises(RegisterError, match="multiple of 4"):
            BandIndex(tmp_path / "e", bands=bands_, rows=rows)


WRITER = """
import sys, numpy as np
from pathlib import Path
from studbook.registry.band_index import BandIndex
from studbook.registry.bit_index import BitIndex
folder, kind = Path(sys.argv[1]), sys.argv[2]
index = BitIndex(folder, 8) if kind == "bits" else BandIndex(folder, bands=4, rows=2)
width = 8 if kind == "bits" else 16
print("ready", flush=True)
while True:
    n = index.n_rows
    index.extend(np.repeat(np.arange(n, n + 300, dtype="<u8"), width // 8).view(np.uint8).reshape(-1, width))
    print(index.n_rows, flush=True)
"""


@pytest.mark.parametrize("kind", ["bits", "bands"])
def test_a_killed_writer_leaves_the_rows_of_every_finished_extend_and_readers_see_whole_prefixes(kind: str, tmp_path: Path) -> None:
    rng = random.Random(kind)
    width = 8 if kind == "bits" else 16
    reader: BitIndex | BandIndex = BitIndex(tmp_path, 8) if kind == "bits" else BandIndex(tmp_path, bands=4, rows=2)
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), kind],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "NUMBA_NUM_THREADS": "1"},
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            until = time.monotonic() + rng.uniform(0.02, 0.4)
            while time.monotonic() < until:
                n = reader.n_rows
                last = np.repeat(np.array([max(n - 1, 0)], "<u8"), width // 8).view(np.uint8)[None]
                assert (n == 0) or n - 1 in reader.search(last, 0 if kind == "bits" else 8)[1]
            os.kill(writer.pid, signal.SIGKILL)
            said = [0, *map(int, writer.stdout.read().split("\n")[:-1])][-1]
        n = reader.n_rows
        assert n >= said
        assert n % 300 == 0
        again = BitIndex(tmp_path, 8) if kind == "bits" else BandIndex(tmp_path, bands=4, rows=2)
        rows = again._file.rows(again.n_rows).view("<u8")
        assert (rows == np.arange(n)[:, None]).all()
    again.extend(np.repeat(np.arange(n, n + 3000, dtype="<u8"), width // 8).view(np.uint8).reshape(-1, width))
    assert reader.n_rows == n + 3000
    assert not list(tmp_path.glob(".writing-*"))
