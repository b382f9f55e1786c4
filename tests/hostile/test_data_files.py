"""Files that are missing, damaged, or made to do harm. Each ends in a typed error of one or two lines."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import polars as pl
import pytest

from studbook.data import open_source
from studbook.errors import ConfigError, DataError, StudbookError

SUFFIXES = (".txt", ".csv", ".parquet", ".npz", ".npy", ".idx", ".idx.gz")
NUMBERS = np.random.default_rng(0).standard_normal((40, 3))


def refusal(path, **parameters) -> str:
    with pytest.raises(StudbookError) as caught:
        open_source(path, **parameters).load()
    said = str(caught.value)
    assert len(said.splitlines()) <= 2
    assert len(said) < 600
    return said


def written(folder, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def npy_bytes(array, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npy_header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def idx_bytes(shape: tuple[int, ...], content: bytes, code: int = 8) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


def good_bytes(suffix: str) -> bytes:
    stream = io.BytesIO()
    if suffix == ".parquet":
        pl.DataFrame(NUMBERS).write_parquet(stream)
    elif suffix == ".npz":
        np.savez_compressed(stream, x=NUMBERS)
    elif suffix == ".npy":
        np.save(stream, NUMBERS)
    elif suffix == ".csv":
        np.savetxt(stream, NUMBERS, delimiter=",")
    elif suffix == ".txt":
        stream.write(b"words and words " * 100)
    else:
        content = idx_bytes((4, 3, 3), bytes(range(36)))
        stream.write(gzip.compress(content) if suffix.endswith(".gz") else content)
    return stream.getvalue()


@pytest.mark.parametrize("suffix", SUFFIXES)
class TestAnyFile:
    def test_good(self, tmp_path, suffix):
        assert len(open_source(written(tmp_path, "x" + suffix, good_bytes(suffix))).load().records) > 0

    def test_missing(self, tmp_path, suffix):
        assert "no such file" in refusal(tmp_path / f"x{suffix}")

    def test_missing_folder(self, tmp_path, suffix):
        assert "there is no folder" in refusal(tmp_path / "nowhere" / f"x{suffix}")

    def test_a_near_name_is_shown(self, tmp_path, suffix):
        written(tmp_path, "flowers" + suffix, b"x")
        assert f"flowers{suffix}?" in refusal(tmp_path / f"flower{suffix}")

    def test_folder(self, tmp_path, suffix):
        (tmp_path / f"x{suffix}").mkdir()
        assert "is a folder, expected a file" in refusal(tmp_path / f"x{suffix}")

    def test_empty(self, tmp_path, suffix):
        assert "is empty" in refusal(written(tmp_path, "x" + suffix, b""))

    def test_pipe(self, tmp_path, suffix):
        os.mkfifo(tmp_path / f"x{suffix}")
        assert "device or a pipe" in refusal(tmp_path / f"x{suffix}")

    def test_loop_of_links(self, tmp_path, suffix):
        (tmp_path / f"x{suffix}").symlink_to(tmp_path / f"x{suffix}")
        refusal(tmp_path / f"x{suffix}")

    def test_zero_byte_in_the_path(self, suffix):
        with pytest.raises(ConfigError, match="is no path"):
            open_source(f"a\0b{suffix}").load()

    def test_unknown_home(self, suffix):
        assert "no such home folder" in refusal(f"~nobody-of-this-name/x{suffix}")

    def test_endless_name(self, tmp_path, suffix):
        with pytest.raises(DataError):
            open_source(tmp_path / ("x" * 5_000 + suffix)).load()

    def test_forbidden(self, tmp_path, suffix):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(good_bytes(suffix))
        open_source(path).load()
        path.chmod(0)
        user = os.geteuid()
        # Root may read everything, so for a moment it isn't root.
        os.seteuid(user or 65_534)
        try:
            assert "permission denied" in refusal(path)
        finally:
            os.seteuid(user)

    def test_garbage(self, tmp_path, suffix):
        refusal(written(tmp_path, "x" + suffix, np.random.default_rng(1).bytes(100_000)))

    @pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
    def test_cut_off(self, tmp_path, suffix, share):
        good = good_bytes(suffix)
        if suffix in (".txt", ".csv"):
            pytest.skip("half a text is a text")
        refusal(written(tmp_path, "x" + suffix, good[: int(share * len(good))]))

    def test_too_large(self, tmp_path, suffix):
        path = written(tmp_path, "x" + suffix, good_bytes(suffix))
        assert "allowed are 10" in refusal(path, max_bytes=10)

    def test_impossible_limits(self, suffix):
        with pytest.raises(ConfigError, match="limit is -1"):
            open_source(f"x{suffix}", limit=-1)
        with pytest.raises(ConfigError, match="max_bytes is 0"):
            open_source(f"x{suffix}", max_bytes=0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"good words " * 10 + b"\xff\xfe more", "isn't UTF-8: byte 0xff at offset 110"),
        (b"Gr\xfc\xdfe aus K\xf6ln", "isn't UTF-8: byte 0xfc at offset 2"),
        (b"a few words" + b"\xe4\xb8", "isn't UTF-8: byte 0xe4 at offset 11"),
        ("words in another encoding".encode("utf-16"), "is UTF-16 text, expected UTF-8 (convert it: iconv -f UTF-16"),
        ("words in another encoding".encode("utf-32"), "is UTF-32 text"),
        ("no mark".encode("utf-16-le"), "isn't text: a zero byte at offset 1"),
        (b"PK\x03\x04\0\0\0\0", "isn't text: a zero byte at offset 4"),
        (b" \n\t \n", "holds 0 tokens"),
    ],
)
def test_text_that_is_none(tmp_path, content, said):
    assert said in refusal(written(tmp_path, "x.txt", content))


def test_text_with_an_error_behind_many_chunks_gives_its_offset(tmp_path, monkeypatch):
    monkeypatch.setattr("studbook.data._unicode.CHUNK", 64)
    content = "é words ".encode() * 100
    assert f"offset {len(content):,}" in refusal(written(tmp_path, "x.txt", content + b"\xff"))


def test_text_without_blanks(tmp_path):
    path = written(tmp_path, "x.txt", b"x" * (9 * 2**20))
    assert "without a blank" in refusal(path)
    assert len(open_source(path, tokens="characters", limit=2).load().records) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n3,four\n", "line 3, column 'b' holds 'four', expected a number"),
        ("a,b\n1,2\n3,\n", "line 3, column 'b' holds nothing, expected a number"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells, expected 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 cells, expected 2"),
        ('a,b\n"x\ny",2\n', "line 3, column 'a' holds 'x\\ny'"),
        ("a,b\n1,2\n3,nan\n5,6\n-inf,7\n", "NaN or infinities in 2 of 4 rows (row 1, 3, first in column 'b')"),
        ("a,b\n1,1e999\n", "NaN or infinities in 1 of 1 rows (row 0, first in column 'b')"),
        ("a,b\n1,1_000\n", "holds '1_000'"),
        ("a,b\n", "holds a header and no rows"),
        ("\n\n  \n", "holds no rows"),
        ('a,b\n1,"2\n3,4\n', "isn't CSV"),
        ("a,b\n1," + "x" * 1_000 + "\n", "xxx…'"),
    ],
)
def test_csv_that_is_wrong_names_the_line(tmp_path, content, said):
    assert said in refusal(written(tmp_path, "x.csv", content.encode()))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,2\n3,\xff\n", "isn't UTF-8: byte 0xff at offset 10"),
        (b"a,b\n" + (b"1." + b"0" * 1_996 + b",2\n") * 3_000 + b"3,\xff\n", "isn't UTF-8: byte 0xff at offset 6,003,006"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16 text"),
        (b"a,b\n1,\x002\n", "zero byte at offset 6"),
        (b"," * (5 * 2**20), "line of more than"),
        (b"a,b\n1,2\n" + b"1" * (9 * 2**20), "line of more than"),
    ],
)
def test_csv_bytes(tmp_path, content, said):
    assert said in refusal(written(tmp_path, "x.csv", content))


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        ("n\n1\n2.5\n", "counts", "row 1 is 2.5, expected a whole number"),
        ("n\n1\n-2\n", "counts", "row 1 is -2.0, expected a whole number"),
        ("n\n1\n1000000\n", "states", "expected a whole number from 0 to 999,999"),
        ("n\ncat\n", "counts", "holds texts such as 'cat', expected counts"),
        ("n\ncat\n1\n", "states", "line 2, column 'n' holds 'cat', expected a number"),
        ("n,m\n1,2\n", "states", "2 columns, expected one"),
        ("n\n1e300\n", "counts", "expected a whole number"),
        ("n\nnan\n", "counts", "NaN or infinities"),
    ],
)
def test_csv_counts_and_states(tmp_path, content, kind, said):
    assert said in refusal(written(tmp_path, "x.csv", content.encode()), kind=kind)


@pytest.mark.parametrize(
    ("frame", "parameters", "said"),
    [
        ({"a": [1.0, None]}, {}, "column 'a' has 1 missing values, the first in row 1"),
        ({"a": [1.0, float("nan")]}, {}, "NaN or infinities in 1 of 2 rows (row 1, first in column 'a')"),
        ({"a": [[1], [2]]}, {}, "column 'a' holds List(Int64), expected numbers"),
        ({"a": ["x"], "b": ["y"]}, {}, "column 'a' holds String"),
        ({"a": [1]}, {"columns": ("b",)}, "has no column 'b'"),
        ({"a": [1], "b": [2]}, {"kind": "counts"}, "2 columns, expected one"),
        ({"a": ["x"]}, {"kind": "counts"}, "expected numbers"),
        ({"a": pl.Series([], dtype=pl.Float64)}, {}, "holds no rows"),
    ],
)
def test_parquet_that_does_not_fit(tmp_path, frame, parameters, said):
    pl.DataFrame(frame).write_parquet(tmp_path / "x.parquet")
    assert said in refusal(tmp_path / "x.parquet", **parameters)


def test_parquet_that_unpacks_to_more_than_is_allowed(tmp_path):
    pl.DataFrame({"a": np.zeros(1_000_000)}).write_parquet(tmp_path / "x.parquet")
    assert (tmp_path / "x.parquet").stat().st_size < 100_000
    assert "would take 8,000,000 bytes, allowed are 1,000,000" in refusal(tmp_path / "x.parquet", max_bytes=1_000_000)


def test_a_pattern_is_no_path(tmp_path):
    pl.DataFrame({"a": [1.0]}).write_parquet(tmp_path / "x.parquet")
    assert "no such file" in refusal(tmp_path / "*.parquet")


class Trap:
    def __reduce__(self):
        return os.abort, ()


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_objects_are_never_unpickled(tmp_path, suffix):
    content = npy_bytes(np.array([Trap(), Trap()], dtype=object), allow_pickle=True)
    if suffix == ".npz":
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("x.npy", content)
    else:
        written(tmp_path, "x.npy", content)
    assert "Python objects, which are never unpickled" in refusal(tmp_path / f"x{suffix}")


def test_a_bare_pickle_is_no_array(tmp_path):
    assert "isn't a NumPy array" in refusal(written(tmp_path, "x.npy", pickle.dumps(Trap())))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy_header("(10, 10)") + b"\0" * 80, "takes 800 bytes, the file holds 80"),
        (npy_header("(1000000000000, 1000000)"), "the file holds 0"),
        (npy_header("(-1,)") + b"\0" * 8, "impossible shape"),
        (npy_header("(2,)", "'<U1000000'"), "the file holds 0"),
        (npy_header("(2,)", "[('a', '<f8')]") + b"\0" * 16, "expected numbers"),
        (npy_header("(2,)", "'<c16'") + b"\0" * 32, "expected numbers"),
        (npy_header("(2,)", "'<M8[s]'") + b"\0" * 16, "expected numbers"),
        (npy_header("(" * 5_000), "header can't be read"),
        (npy_header("-" * 9_000 + "1"), "header can't be read"),
        (npy_header("__import__('os').abort()"), "header can't be read"),
        (b"\x93NUMPY\x09\x00\x10\x00", "header can't be read"),
        (npy_bytes(np.float64(3.0)), "single number"),
        (npy_bytes(np.zeros((0, 3))), "holds no records"),
        (npy_bytes(np.zeros((3, 0))), "records without numbers"),
        (npy_bytes(np.zeros((3, 0, 4))), "pictures without pixels"),
        (npy_bytes(np.array([[1.0, np.nan], [2.0, 3.0], [np.inf, 0.0]])), "in 2 of 3 rows (row 0, 2)"),
        (npy_bytes(np.array(["a", "b"])), "expected numbers"),
    ],
)
def test_npy_that_lies(tmp_path, content, said):
    assert said in refusal(written(tmp_path, "x.npy", content))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
        header = npy_header("(64, 1024, 1024)", "'|u1'")
        member.write(header)
        for _ in range(64):
            member.write(bytes(2**20))
    assert (tmp_path / "x.npz").stat().st_size < 2**19
    tracemalloc.start()
    said = refusal(tmp_path / "x.npz", max_bytes=2**24)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "would take 67,108,864 bytes, allowed are 16,777,216" in said
    assert peak < 2**23


def test_bytes_that_fit_as_pixels_but_not_as_numbers(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((100, 10, 10), np.uint8))
    assert "would take 80,000 bytes" in refusal(tmp_path / "x.npy", max_bytes=20_000)
    assert len(open_source(tmp_path / "x.npy", max_bytes=20_000, limit=10).load().records) == 10


def test_npz_that_is_no_archive_of_arrays(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "holds no arrays" in refusal(tmp_path / "x.npz")


def test_npz_with_a_flipped_byte(tmp_path):
    np.savez(tmp_path / "x.npz", x=NUMBERS)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[len(content) // 2] ^= 1
    assert "can't be read as .npz: Bad CRC-32" in refusal(written(tmp_path, "x.npz", bytes(content)))


@pytest.mark.parametrize("labels", [np.zeros(7, np.int64), np.zeros((40, 2), np.int64), np.zeros(40)])
def test_npz_labels_that_do_not_fit(tmp_path, labels):
    np.savez(tmp_path / "x.npz", x=NUMBERS, y=labels)
    assert open_source(tmp_path / "x.npz").load().records.labels is None
    assert "one whole number or name a record" in refusal(tmp_path / "x.npz", labels="y")
    assert "has no labels" in refusal(tmp_path / "x.npz", classes=(1,))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (idx_bytes((4, 3, 3), bytes(35)), "36 bytes, and holds 35"),
        (idx_bytes((4, 3, 3), bytes(37)), "36 bytes, and holds more"),
        (idx_bytes((2**32 - 1,) * 4, bytes(100)), "more than the file can hold"),
        (idx_bytes((0, 3, 3), b""), "holds no records"),
        (idx_bytes((4, 0, 3), b""), "pictures without pixels"),
        (idx_bytes((4, 3, 3), bytes(36), code=7), "isn't an idx file: it begins with 00 00 07 03"),
        (bytes([0, 0, 8, 0]), "isn't an idx file"),
        (bytes([0, 0, 8, 200]) + bytes(900), "isn't an idx file"),
        (bytes([0, 0, 8, 3, 0, 0]), "ends within its header"),
        (b"\0", "isn't an idx file"),
        (idx_bytes((2, 2), np.array([1, np.nan, 2, 3], ">f4").tobytes(), code=0x0D), "NaN or infinities in 1 of 2 rows (row 0)"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_that_lies(tmp_path, content, said, pack):
    assert said in refusal(written(tmp_path, "x.idx", pack(content)))


def test_gzip_bomb_is_refused_by_its_header(tmp_path):
    packed = gzip.compress(idx_bytes((64, 1024, 1024), bytes(2**26)), compresslevel=1)
    assert "allowed are 16,777,216" in refusal(written(tmp_path, "x.idx.gz", packed), max_bytes=2**24)


def test_idx_with_the_labels_of_another_set(tmp_path):
    written(tmp_path, "a-images-idx3-ubyte", idx_bytes((4, 3, 3), bytes(36)))
    written(tmp_path, "a-labels-idx1-ubyte", idx_bytes((5,), bytes(5)))
    assert "has 4 records and labels of shape (5,)" in refusal(tmp_path / "a-images-idx3-ubyte")


def test_idx_with_labels_that_are_no_numbers(tmp_path):
    written(tmp_path, "a-images-idx3-ubyte", idx_bytes((1, 3, 3), bytes(9)))
    written(tmp_path, "a-labels-idx1-ubyte", idx_bytes((1,), bytes(4), code=0x0D))
    assert "expected whole numbers as labels" in refusal(tmp_path / "a-images-idx3-ubyte")
