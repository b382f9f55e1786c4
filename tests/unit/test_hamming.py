"""The engine of Hamming distances: what it takes and refuses, parts and tasks, memory maps, and the same results elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from typer.testing import CliRunner

from studbook.cli.hamming import app
from studbook.errors import ConfigError, DataError, DeviceError, DigestError, MissingExtraError, StudbookError
from studbook.hamming import GROUPS, Labels, bench, blocks, distances, grouped_histogram, histogram, nearest, within


def draw(n, n_bytes, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, n_bytes), dtype=np.uint8)


def naive(a, b):
    return np.bitwise_count(a[:, None] ^ b[None]).sum(axis=2, dtype=np.int64)


def same(one, other):
    parts = [(one, other)] if isinstance(one, np.ndarray) else [(getattr(one, name), getattr(other, name)) for name in one.__slots__]
    for left, right in parts:
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@pytest.fixture
def small_parts(monkeypatch):
    """Columns in parts of one block, 512 strings."""
    monkeypatch.setattr(blocks, "PLANES_BYTES", 1)


@pytest.mark.parametrize("n_bytes", [1, 5, 8, 16, 32, 128, 512])
def test_many_blocks_and_parts_give_every_pair(n_bytes, small_parts):
    a, b = draw(300, n_bytes, 0), draw(1100, n_bytes, 1)
    a[:3], b[-3:], b[600] = a[5], a[5], ~a[5]
    table = naive(a, b)
    for threads in (1, 3):
        np.testing.assert_array_equal(histogram(a, b, threads=threads), np.bincount(table.ravel(), minlength=8 * n_bytes + 1))
        columns, found = nearest(a, b, k=7, threads=threads)
        order = np.argsort(table, axis=1, kind="stable")[:, :7]
        np.testing.assert_array_equal(columns, order)
        np.testing.assert_array_equal(found, np.take_along_axis(table, order, axis=1))
        radius = int(np.quantile(table, 0.01))
        pairs = within(a, b, radius_bits=radius, threads=threads)
        np.testing.assert_array_equal(np.stack([pairs.rows, pairs.columns]), np.stack(np.nonzero(table <= radius)))
        np.testing.assert_array_equal(pairs.distances, table[table <= radius])


def test_one_side_counts_each_pair_once(small_parts):
    a = draw(1300, 8, 2)
    table = naive(a, a)
    upper = np.triu_indices(len(a), 1)
    np.testing.assert_array_equal(histogram(a, threads=2), np.bincount(table[upper], minlength=65))
    pairs = within(a, radius_bits=20)
    assert (pairs.rows < pairs.columns).all()
    assert len(pairs) == (table[upper] <= 20).sum()
    np.testing.assert_array_equal(nearest(a, k=1)[1][:, 0], (table + 1000 * np.eye(len(a), dtype=int)).min(axis=1))


def test_nobody_is_their_own_neighbour_even_among_twins():
    columns, found = nearest(np.zeros((4, 8), np.uint8), k=3)
    assert columns.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert not found.any()


def test_more_pairs_than_room_at_first():
    a = np.zeros((400, 8), np.uint8)
    pairs = within(a, a, radius_bits=0)
    assert len(pairs) == 160_000
    assert pairs.rows.tolist() == np.repeat(np.arange(400), 400).tolist()
    assert pairs.columns.tolist() == np.tile(np.arange(400), 400).tolist()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_limit_is_exact(threads):
    a = np.zeros((100, 8), np.uint8)
    assert len(within(a, radius_bits=0, limit=4950, threads=threads)) == 4950
    with pytest.raises(DataError, match=r"more than 4,949 pairs are within 0 bits .*raise limit"):
        within(a, radius_bits=0, limit=4949, threads=threads)


def test_words_and_bytes_are_the_same_bits():
    words = np.random.default_rng(3).integers(0, 2**64, (50, 4), dtype=np.uint64)
    same(histogram(words), histogram(words.view(np.uint8)))
    same(within(words, words.view(np.uint8), radius_bits=120), within(words.view(np.uint8), words, radius_bits=120))
    assert distances(words, ~words).tolist() == [256] * 50


def test_a_slice_that_is_not_aligned_is_read_right():
    buffer = np.frombuffer(draw(1, 161, 4).tobytes(), np.uint8)
    a = buffer[1:].reshape(20, 8)
    same(histogram(a), histogram(a.copy()))


def test_no_rows_give_no_pairs():
    none, some = np.empty((0, 8), np.uint8), draw(5, 8, 5)
    for a, b in ((none, some), (some, none), (none, None), (some[:1], None)):
        assert histogram(a, b).tolist() == [0] * 65
        assert len(within(a, b, radius_bits=64, threads=2)) == 0
    assert nearest(none, some, k=2)[0].shape == (0, 2)
    assert distances(none, none).shape == (0,)
    labels = [Labels(np.zeros(n, int), np.zeros(n, int)) for n in (0, 5)]
    assert grouped_histogram(some, labels[1], none, labels[0]).closest.tolist() == [[-1, -1, -1]] * 3


GOOD = np.zeros((4, 8), np.uint8)
BAD = {
    "list": ([[0]], "is a list"),
    "signed": (np.zeros((4, 8), np.int8), r"dtype \|i1"),
    "float": (np.zeros((4, 1)), "dtype <f8"),
    "booleans": (np.zeros((4, 64), bool), r"dtype \|b1"),
    "small words": (np.zeros((4, 2), np.uint32), "dtype <u4"),
    "other byte order": (np.zeros((4, 1), np.dtype(np.uint64).newbyteorder()), "dtype .u8"),
    "flat": (np.zeros(8, np.uint8), r"shape \(8,\)"),
    "deep": (np.zeros((2, 2, 2), np.uint8), r"shape \(2, 2, 2\)"),
    "no bits": (np.zeros((4, 0), np.uint8), "0 bits a row"),
    "too many bits": (np.zeros((4, 513), np.uint8), "4,104 bits a row"),
    "every other": (np.zeros((4, 16), np.uint8)[:, ::2], "C-contiguous"),
    "Fortran": (np.asfortranarray(np.zeros((4, 8), np.uint8)), "C-contiguous"),
}


@pytest.mark.parametrize("array, message", BAD.values(), ids=BAD)
@pytest.mark.parametrize(
    "call",
    [
        histogram,
        lambda a: histogram(GOOD, a),
        lambda a: within(a, radius_bits=1),
        lambda a: nearest(GOOD, a, k=1),
        lambda a: distances(a, GOOD),
        lambda a: grouped_histogram(a, Labels(np.zeros(4, int), np.zeros(4, int))),
    ],
)
def test_what_is_no_packed_bits_is_refused(call, array, message):
    with pytest.raises(DigestError, match=message):
        call(array)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: histogram(GOOD, np.zeros((4, 16), np.uint8)), "64 bits a row and b has 128"),
        (lambda: distances(GOOD, GOOD[:3]), "a has 4 rows and b has 3"),
        (lambda: within(GOOD, radius_bits=65), "radius_bits is 65, expected a whole number, 0 to 64"),
        (lambda: within(GOOD, radius_bits=-1), "radius_bits is -1"),
        (lambda: within(GOOD, radius_bits=1.0), r"radius_bits is 1\.0"),
        (lambda: within(GOOD, radius_bits=True), "radius_bits is True"),
        (lambda: within(GOOD, radius_bits=1, limit=-1), "limit is -1"),
        (lambda: nearest(GOOD, GOOD, k=5), "k is 5, expected a whole number, 1 to 4"),
        (lambda: nearest(GOOD, k=4), "k is 4, expected a whole number, 1 to 3"),
        (lambda: nearest(GOOD, k=0), "k is 0"),
        (lambda: histogram(GOOD, threads=0), "threads is 0, expected a whole number, 1 or more"),
        (lambda: nearest(GOOD, k=1, threads=-1), "threads is -1"),
        (lambda: histogram(GOOD, device="tpu"), "device is 'tpu'"),
        (lambda: within(GOOD, radius_bits=1, device="tpu"), "device is 'tpu'"),
    ],
)
def test_arguments_out_of_range_are_refused(call, message):
    with pytest.raises(DigestError, match=message):
        call()


@pytest.mark.parametrize(
    "labels, message",
    [
        (Labels(np.zeros(3, int), np.zeros(4, int)), r"labels.recipes is int64 \(3,\), expected integers of shape \(4,\)"),
        (Labels(np.zeros(4, int), np.zeros(4)), r"labels.classes is float64 \(4,\)"),
        (Labels([0] * 4, np.zeros(4, int)), "labels.recipes is list"),
        (Labels(np.full(4, 2**63, np.uint64), np.zeros(4, int)), "2\\^63"),
        (Labels(np.array([1, 2, 2, 3]), np.array([0, 0, 1, 1])), "recipe 2 is in the classes 0 and 1"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(labels, message):
    with pytest.raises(DigestError, match=message):
        grouped_histogram(GOOD, labels)


def test_both_sides_need_labels():
    labels = Labels(np.zeros(4, int), np.zeros(4, int))
    with pytest.raises(DigestError, match="come together"):
        grouped_histogram(GOOD, labels, GOOD)
    with pytest.raises(DigestError, match="recipe 0 is in the classes 0 and 1"):
        grouped_histogram(GOOD, labels, GOOD, Labels(np.zeros(4, int), np.ones(4, int)))


@pytest.mark.parametrize("once", [False, True])
def test_groups_over_many_parts(once, small_parts):
    rng = np.random.default_rng(6)
    a, b = draw(700, 16, 7), draw(1300, 16, 8)
    recipes = [rng.integers(0, 60, len(rows)) for rows in (a, b)]
    labels = [Labels(recipe, recipe % 7) for recipe in recipes]
    other, theirs = (a, labels[0]) if once else (b, labels[1])
    table = naive(a, other)
    counted = np.triu(np.ones(table.shape, bool), 1) if once else np.ones(table.shape, bool)
    recipe = labels[0].recipes[:, None] == theirs.recipes
    class_ = labels[0].classes[:, None] == theirs.classes
    results = [grouped_histogram(a, labels[0], *(() if once else (b, labels[1])), threads=threads) for threads in (1, 2, 3)]
    for group, chosen in enumerate((recipe, class_ & ~recipe, ~class_)):
        expected = table[chosen & counted]
        np.testing.assert_array_equal(results[0].counts[group], np.bincount(expected, minlength=129), err_msg=GROUPS[group])
        row, column, distance = results[0].closest[group]
        assert distance == expected.min() == table[row, column]
        assert (chosen & counted)[row, column]
    same(results[0], results[1])
    same(results[0], results[2])


def test_a_memory_map_gives_the_same(tmp_path):
    rows = draw(3000, 8, 9)
    rows.tofile(tmp_path / "bits")
    mapped = np.memmap(tmp_path / "bits", np.uint8, "r", shape=rows.shape)
    a = rows[:200]
    same(histogram(mapped), histogram(rows))
    same(within(a, mapped, radius_bits=18), within(a, rows, radius_bits=18))
    for one, other in zip(nearest(a, mapped, k=3), nearest(a, rows, k=3), strict=True):
        same(one, other)
    labels = Labels(np.arange(3000) % 11, np.arange(3000) % 11 % 2)
    same(grouped_histogram(mapped, labels), grouped_histogram(rows, labels))
    same(distances(mapped, rows), np.zeros(3000, np.int32))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's limit of a process's own memory")
def test_a_memory_map_is_never_held_as_a_whole(tmp_path):
    """A file of 384 MiB, almost all of it a hole, with 160 MiB of memory: from either side."""
    program = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from studbook.hamming import histogram, nearest, within

        mapped = np.memmap(sys.argv[1], np.uint8, "r+", shape=(24 << 20, 16))
        mapped[-1] = 255
        few = np.full((2, 16), 255, np.uint8)
        calls = [
            lambda some: histogram(few, some, threads=2),
            lambda some: histogram(some, few, threads=2),
            lambda some: nearest(few, some, k=1),
            lambda some: within(few, some, radius_bits=3),
        ]
        for call in calls:
            call(mapped[:1000])
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + (160 << 20), resource.RLIM_INFINITY))
        try:
            np.ones(384 << 20, np.uint8)
        except MemoryError:
            one, other, (columns, _), pairs = [call(mapped) for call in calls]
            print(one.tolist() == other.tolist(), one[0], one[128], columns.tolist(), pairs.columns.tolist())
    """
    with (tmp_path / "bits").open("wb") as file:
        file.truncate(384 << 20)
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "bits")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    last = (24 << 20) - 1
    assert found.stdout.strip() == f"True 2 {2 * last} [[{last}], [{last}]] [{last}, {last}]", found.stderr


@pytest.fixture
def on_torch(monkeypatch):
    """``device="cuda"`` runs on PyTorch's CPU, in small tiles."""
    torch = pytest.importorskip("torch", reason="needs the extra 'neural'")
    from studbook.hamming import _cuda

    monkeypatch.setattr(_cuda, "choose_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(_cuda, "_CPU_PAIRS", 5000)


@pytest.mark.parametrize("n_bytes", [3, 8, 32])
@pytest.mark.parametrize("once", [False, True])
def test_torch_gives_the_same(once, n_bytes, on_torch):
    a, b = draw(150, n_bytes, 10), draw(333, n_bytes, 11)
    b[7] = b[200] = a[3]
    other = None if once else b
    same(histogram(a, other, device="cuda"), histogram(a, other))
    same(within(a, other, radius_bits=3 * n_bytes, device="cuda"), within(a, other, radius_bits=3 * n_bytes))
    for one, two in zip(nearest(a, other, k=9, device="cuda"), nearest(a, other, k=9), strict=True):
        same(one, two)
    recipes = [np.arange(len(rows)) % 13 for rows in (a, b)]
    labels = [Labels(recipe, recipe % 4) for recipe in recipes]
    sides = (a, labels[0]) if once else (a, labels[0], b, labels[1])
    same(grouped_histogram(*sides, device="cuda"), grouped_histogram(*sides))


def test_torch_keeps_the_limit_too(on_torch):
    with pytest.raises(DataError, match="more than 10 pairs"):
        within(np.zeros((100, 8), np.uint8), radius_bits=0, limit=10, device="cuda")


def test_cuda_that_is_not_there_is_named():
    torch = pytest.importorskip("torch", reason="needs the extra 'neural'")
    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    with pytest.raises(DeviceError, match='device is "cuda", but'):
        histogram(GOOD, device="cuda")


def run_bench(*arguments):
    return CliRunner().invoke(app, ["bench", "--size", "300", "--bits", "64,128", "--threads", "1,2", *arguments])


@pytest.fixture
def only_numpy(monkeypatch):
    """No peer is installed but NumPy."""

    def missing(name):
        raise MissingExtraError(f"{name} isn't installed", hint=bench.INSTALL)

    monkeypatch.setattr(bench, "_peer", missing)


def test_bench_names_the_peers_that_are_missing(only_numpy):
    result = run_bench("--format", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert len(rows) == 2 * 2 * 5
    assert {row["peer"] for row in rows if row["peer_s"] is None} == {"faiss", "usearch"}
    assert all(row["ratio"] > 0 for row in rows if row["peer"] == "NumPy")
    assert "not installed: faiss, usearch; to compare with them: pip install faiss-cpu usearch" in result.stderr


def test_bench_as_a_table(only_numpy):
    result = run_bench()
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("300 × 300 strings")
    assert "radius 10" in result.stdout


@pytest.mark.parametrize(
    "arguments, error",
    [
        (["--bits", "many"], ConfigError),
        (["--bits", "100"], DigestError),
        (["--threads", "0"], DigestError),
        (["--device", "tpu"], DigestError),
    ],
)
def test_bench_refuses_what_cannot_be_meant(arguments, error, only_numpy):
    assert isinstance(run_bench(*arguments).exception, error)


def test_a_peer_that_finds_something_else_ends_the_bench():
    with pytest.raises(StudbookError, match="liar found something else in the work 'adding'"):
        bench._measure("adding", {"": lambda: 2, "liar": lambda: 3}, rounds=1)


@pytest.mark.peers
def test_bench_with_every_peer():
    pytest.importorskip("faiss", reason="needs the group 'bench'")
    pytest.importorskip("usearch", reason="needs the group 'bench'")
    assert all(each.ratio is not None for each in bench.compare(500, 128, 2, rounds=1))


@pytest.mark.peers
@pytest.mark.parametrize("bits", [64, 256])
def test_faiss_finds_the_same(bits):
    faiss = pytest.importorskip("faiss", reason="needs the group 'bench'")
    a, b = draw(500, bits // 8, 12), draw(2000, bits // 8, 13)
    b[:100] = a[:100]
    index = faiss.IndexBinaryFlat(bits)
    index.add(b)
    radius = 18 if bits == 64 else 104
    limits, found, columns = index.range_search(a, radius + 1)
    rows = np.repeat(np.arange(len(a)), np.diff(limits.astype(np.int64)))
    order = np.lexsort((columns, rows))
    pairs = within(a, b, radius_bits=radius, threads=2)
    np.testing.assert_array_equal(pairs.rows, rows[order])
    np.testing.assert_array_equal(pairs.columns, columns[order])
    np.testing.assert_array_equal(pairs.distances, found[order])
    np.testing.assert_array_equal(nearest(a, b, k=10)[1], index.search(a, 10)[0])
    block = np.empty((len(a), len(b)), np.int32)
    faiss.hammings(faiss.swig_ptr(a), faiss.swig_ptr(b), len(a), len(b), bits // 8, faiss.swig_ptr(block))
    np.testing.assert_array_equal(histogram(a, b), np.bincount(block.ravel(), minlength=bits + 1))
