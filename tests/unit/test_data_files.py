"""Tables, arrays and idx files."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import polars as pl
import pytest

from studbook.arrays import Kind
from studbook.data import ArrayFile, CsvFile, IdxFile, ParquetFile, open_source
from studbook.errors import ConfigError, DataError

PIXELS = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)
LABELS = np.array([0, 1, 2, 1, 0], dtype=np.uint8)


def idx(array: np.ndarray, code: int = 0x08) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def csv(tmp_path, content: str, **parameters):
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode())
    return CsvFile(str(path), **parameters).load()


@pytest.mark.parametrize(
    ("content", "names", "rows"),
    [
        ("a,b\n1,2\n3,4\n", ("a", "b"), [[1, 2], [3, 4]]),
        ("1,2\n3,4\n", (), [[1, 2], [3, 4]]),
        ("1;2\n3;4\n", (), [[1, 2], [3, 4]]),
        ("a\tb\n1\t2\n", ("a", "b"), [[1, 2]]),
        ("1\n2\n\n3\n\n", (), [[1], [2], [3]]),
        ("a,b\r\n1,2\r\n3,4\r\n", ("a", "b"), [[1, 2], [3, 4]]),
        ('"a","b"\n"1","2"\n', ("a", "b"), [[1, 2]]),
        ('"two\nlines",b\n1,2\n', ("two\nlines", "b"), [[1, 2]]),
        ("a,b\n 1 , 2\n3,4", ("a", "b"), [[1, 2], [3, 4]]),
        ("\ufeffa,b\n1,2\n", ("a", "b"), [[1, 2]]),
        ("\ufeff1,2\n3,4\n", (), [[1, 2], [3, 4]]),
        ("\n\na,b\n1,2\n", ("a", "b"), [[1, 2]]),
        ("a,b\n1e-3,-.5\n", ("a", "b"), [[0.001, -0.5]]),
    ],
)
def test_csv_layouts(tmp_path, content, names, rows):
    dataset = csv(tmp_path, content)
    assert dataset.space.columns == names
    assert dataset.records.values.tolist() == rows


def test_csv_columns_are_taken_in_their_order(tmp_path):
    dataset = csv(tmp_path, "name,a,b\nx,1,2\ny,3,4\n", columns=("b", "a"))
    assert dataset.records.values.tolist() == [[2, 1], [4, 3]]
    assert csv(tmp_path, "1,2\n3,4\n", columns=("2",)).records.values.tolist() == [[2], [4]]


def test_csv_both_readers_agree(tmp_path, monkeypatch):
    values = np.random.default_rng(0).standard_normal((500, 3)) * 10.0 ** np.arange(-200, 300).reshape(500, 1)
    content = "a,b,c\n" + "\n".join(",".join(map(repr, row)) for row in values.tolist())
    fast = csv(tmp_path, content)
    monkeypatch.setattr("studbook.data._csv._fast", lambda *arguments: None)
    assert csv(tmp_path, content).digest == fast.digest
    np.testing.assert_array_equal(fast.records.values, values)


def test_csv_with_a_header_of_years_needs_to_be_told(tmp_path):
    with pytest.raises(DataError, match=r"line 1, column '1' holds 'id', .*data.header = \"yes\""):
        csv(tmp_path, "id,2019\n7,1\n")
    assert csv(tmp_path, "id,2019\n7,1\n", header="yes").space.columns == ("id", "2019")


def test_csv_kinds(tmp_path):
    assert csv(tmp_path, "n\n3\n0\n7\n", kind="counts").space.kind is Kind.COUNTS
    dataset = csv(tmp_path, "n\n3\n0\n", kind="states")
    assert (dataset.space.n_states, dataset.records.values.tolist()) == (4, [3, 0])
    words = csv(tmp_path, "animal,x\ncat,1\nape,2\ncat,3\n", kind="states", columns=("animal",))
    assert (words.space.n_states, words.records.values.tolist()) == (2, [1, 0, 1])


def test_csv_limit(tmp_path):
    assert len(csv(tmp_path, "1\n2\n3\n", limit=2).records) == 2


def test_csv_with_two_columns_of_a_name(tmp_path):
    with pytest.raises(DataError, match="two columns named 'a'"):
        csv(tmp_path, "a,a\n1,2\n")


@pytest.mark.parametrize("separator", [",,", '"', "\n", "é"])
def test_csv_separators(separator):
    with pytest.raises(ConfigError, match="separator"):
        CsvFile("x.csv", separator=separator)


def test_parquet_numbers(tmp_path):
    path = tmp_path / "t.parquet"
    pl.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]}).write_parquet(path)
    dataset = ParquetFile(str(path)).load()
    assert dataset.space.columns == ("a", "b", "c")
    assert dataset.records.values.tolist() == [[1.0, 0.5, 1.0], [2.0, 1.5, 0.0]]
    assert ParquetFile(str(path), columns=("b", "a")).load().space.columns == ("b", "a")
    assert ParquetFile(str(path), columns=("a",), kind="counts").load().records.values.tolist() == [1, 2]


def test_parquet_text_is_joined(tmp_path):
    path = tmp_path / "t.parquet"
    pl.DataFrame({"text": ["one two", "three four"], "n": [1, 2]}).write_parquet(path)
    dataset = ParquetFile(str(path), columns=("text",), block=2).load()
    assert dataset.space.kind is Kind.TEXT
    assert dataset.records.values.shape == (2, 2)
    assert ParquetFile(str(path), columns=("text",), kind="states").load().records.values.tolist() == [0, 1]
    with pytest.raises(DataError, match="column 'text' holds String, expected numbers"):
        ParquetFile(str(path)).load()
    with pytest.raises(ConfigError, match="expected one column of texts"):
        ParquetFile(str(path), kind="text").load()
    with pytest.raises(ConfigError, match="did you mean 'text'"):
        ParquetFile(str(path), columns=("texts",)).load()


def test_npz_picks_images_and_labels(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, species=LABELS, images=PIXELS)
    dataset = ArrayFile(str(path)).load()
    assert dataset.space.kind is Kind.IMAGES
    assert dataset.space.value_range == (0.0, 255.0)
    assert dataset.records.labels.tolist() == LABELS.tolist()
    one = ArrayFile(str(path), classes=(1,)).load()
    np.testing.assert_array_equal(one.records.values, PIXELS[LABELS == 1])


def test_npz_arrays_by_name(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, first=np.zeros((2, 3)), second=np.ones((2, 4)), groups=np.array(["b", "a"]))
    assert ArrayFile(str(path)).load().space.shape == (3,)
    assert ArrayFile(str(path), array="second").load().space.shape == (4,)
    assert ArrayFile(str(path), labels="groups").load().records.labels.tolist() == [1, 0]
    with pytest.raises(ConfigError, match="did you mean 'second'"):
        ArrayFile(str(path), array="secnd").load()
    with pytest.raises(DataError, match="one whole number or name a record"):
        ArrayFile(str(path), labels="second").load()


@pytest.mark.parametrize(
    ("array", "parameters", "kind", "shape"),
    [
        (np.zeros((4, 3)), {}, Kind.NUMBERS, (3,)),
        (np.zeros(4, np.float32), {}, Kind.NUMBERS, (1,)),
        (np.zeros((4, 2, 3, 3), np.uint8), {}, Kind.IMAGES, (2, 3, 3)),
        (np.zeros((4, 2, 3, 1), np.uint8), {}, Kind.IMAGES, (2, 3)),
        (np.zeros((4, 9)), {"kind": "images"}, Kind.IMAGES, (3, 3)),
        (np.zeros((4, 2, 3)), {"kind": "numbers"}, Kind.NUMBERS, (6,)),
        (np.array([3, 1]), {"kind": "counts"}, Kind.COUNTS, ()),
        (np.array([3, 1], np.int8), {"kind": "states"}, Kind.STATES, ()),
        (np.array([3, 1]), {"kind": "numbers"}, Kind.NUMBERS, (1,)),
        (np.array([True, False]), {"kind": "states"}, Kind.STATES, ()),
        (np.asfortranarray(np.arange(6.0).reshape(2, 3)), {}, Kind.NUMBERS, (3,)),
        (np.arange(6, dtype=">f4").reshape(2, 3), {}, Kind.NUMBERS, (3,)),
    ],
)
def test_npy_kinds(tmp_path, array, parameters, kind, shape):
    np.save(tmp_path / "a.npy", array)
    dataset = ArrayFile(str(tmp_path / "a.npy"), **parameters).load()
    assert (dataset.space.kind, dataset.space.shape) == (kind, shape)
    np.testing.assert_array_equal(dataset.records.values.reshape(-1), array.reshape(-1))


@pytest.mark.parametrize(
    ("array", "parameters", "said"),
    [
        (np.array([1, 2]), {}, "they may be states, counts or numbers"),
        (np.zeros((4, 8)), {"kind": "images"}, "no square pictures"),
        (np.zeros((4, 3, 8, 8)), {}, "expected pictures"),
        (np.zeros((4, 2)), {"kind": "counts"}, "expected one column of counts"),
        (np.zeros((4, 2)), {"labels": "y"}, "one array without a name"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, array, parameters, said):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ConfigError, match=said):
        ArrayFile(str(tmp_path / "a.npy"), **parameters).load()


def test_the_digest_does_not_depend_on_the_container(tmp_path):
    np.save(tmp_path / "a.npy", PIXELS)
    np.savez(tmp_path / "a.npz", PIXELS)
    np.savez_compressed(tmp_path / "b.npz", x=PIXELS)
    (tmp_path / "a.idx").write_bytes(idx(PIXELS))
    (tmp_path / "a.idx.gz").write_bytes(gzip.compress(idx(PIXELS)))
    digests = {open_source(tmp_path / name).load().digest for name in ("a.npy", "a.npz", "b.npz", "a.idx", "a.idx.gz")}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("images.idx", "labels.idx"),
    ],
)
def test_idx_finds_the_labels_beside(tmp_path, images, labels):
    for name, array in ((images, PIXELS), (labels, LABELS)):
        content = idx(array)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    dataset = IdxFile(str(tmp_path / images)).load()
    np.testing.assert_array_equal(dataset.records.values, PIXELS)
    assert dataset.records.labels.tolist() == LABELS.tolist()


def test_idx_takes_labels_from_elsewhere(tmp_path):
    (tmp_path / "a.idx").write_bytes(idx(PIXELS))
    (tmp_path / "b.idx").write_bytes(idx(LABELS))
    assert IdxFile(str(tmp_path / "a.idx")).load().records.labels is None
    assert IdxFile(str(tmp_path / "a.idx"), labels=str(tmp_path / "b.idx"), classes=(2,)).load().records.labels.tolist() == [2]


@pytest.mark.parametrize(("code", "dtype"), [(0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_idx_types(tmp_path, code, dtype):
    array = np.array([[-3, 2], [100, 0]], dtype=dtype)
    (tmp_path / "a.idx").write_bytes(idx(array, code))
    np.testing.assert_array_equal(IdxFile(str(tmp_path / "a.idx")).load().records.values, array)


def test_mnist(shared_data):
    dataset = IdxFile(str(shared_data / "mnist-10k" / "t10k-images-idx3-ubyte.gz")).load()
    assert dataset.records.values.shape == (10_000, 28, 28)
    assert np.bincount(dataset.records.labels)[:3].tolist() == [980, 1135, 1032]


def test_flowers(shared_data):
    dataset = ArrayFile(str(shared_data / "flowers17-64.npz"), classes=(0, 16)).load()
    assert dataset.records.values.shape == (160, 64, 64, 3)
    assert set(dataset.records.labels.tolist()) == {0, 16}
