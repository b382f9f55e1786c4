"""Sources by name or path, and their catalog."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from studbook.arrays import Kind, counts, numbers, states
from studbook.data import (
    FILES,
    SOURCES,
    ArrayFile,
    CsvFile,
    Digits,
    IdxFile,
    InMemory,
    Normal,
    ParquetFile,
    TextFile,
    Zipf,
    catalogue,
    describe,
    open_source,
    source_rows,
    unigram_probabilities,
)
from studbook.errors import ConfigError, DataError

NEEDED = {"poisson": {"rate": 3.0}, "uniform": {"states": 5}, "zipf": {"states": 5}, "zipf-text": {"states": 5, "documents": 9}}


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"mnist5k"}))
def test_every_name_opens_and_loads(name):
    dataset = open_source(name, **NEEDED.get(name, {})).load()
    assert (dataset.records is None) != (dataset.law is None)
    assert dataset.name == name
    assert len(dataset.digest) == 64
    assert dataset.origin


@pytest.mark.parametrize(
    ("path", "cls"),
    [
        ("a.txt", TextFile),
        ("folder/a.TXT", TextFile),
        ("a.csv", CsvFile),
        ("a.parquet", ParquetFile),
        ("a.npz", ArrayFile),
        ("a.npy", ArrayFile),
        ("a.idx", IdxFile),
        ("a.idx.gz", IdxFile),
        ("train-images-idx3-ubyte.gz", IdxFile),
        ("train-images-idx3-ubyte", IdxFile),
        ("train-images.idx3-ubyte", IdxFile),
        ("./normal.csv", CsvFile),
    ],
)
def test_the_suffix_decides_who_reads(path, cls):
    assert type(open_source(path)) is cls


def test_a_path_object_is_fine():
    assert open_source(Path("a.txt"), block=3) == TextFile("a.txt", block=3)


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("norml", {}, "there is no data source 'norml' (did you mean 'normal'?"),
        ("Digits", {}, "did you mean 'digits'?"),
        ("xyzzy", {}, "the sources are normal, poisson"),
        ("data.xls", {}, "the suffix '.xls', which no source reads (known are .txt, .csv"),
        ("folder/data", {}, "no suffix, which no source reads"),
        ("a.gz", {}, "the suffix '.gz'"),
        ("normal", {"sdt": 1.0}, "data has no parameter 'sdt' (did you mean 'std'?)"),
        ("normal", {"std": "wide"}, 'data.std is "wide" (a text), expected a number'),
        ("zipf", {}, "data needs 'states', an integer"),
        ("zipf", {"states": 10**9}, "states is 1000000000, expected 2 to 1,000,000"),
        ("a.txt", {"path": "b.txt"}, "data.path isn't a parameter"),
        ("a.txt", {"tokens": "word"}, "did you mean 'words'?"),
        ("", {}, "there is no data source ''"),
        ("x" * 5000, {}, "there is no data source 'xxx"),
        ("~nobody-of-that-name/x", {}, "no suffix, which no source reads"),
    ],
)
def test_what_can_not_be_opened_says_why(name, parameters, said):
    with pytest.raises(ConfigError) as caught:
        open_source(name, **parameters)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "address"),
    [("faces", "hub:./faces"), ("./faces/", "hub:./faces/"), ("~/faces", "hub:~/faces"), ("faces.v2", "hub:./faces.v2")],
)
def test_a_folder_is_read_through_hub(tmp_path, monkeypatch, name, address):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("faces", "faces.v2"):
        (tmp_path / folder).mkdir()
    with pytest.raises(ConfigError) as caught:
        open_source(name)
    assert (
        f"is a folder, expected a source or a file (pictures, texts or tables in a folder are read with data.source = {address!r})"
        in str(caught.value)
    )
    assert open_source(address).name == str((tmp_path / name.removeprefix("~/")).resolve())


def test_descriptions_are_one_line():
    assert describe(Zipf(states=5)) == "zipf (states=5, exponent=1.0): states"
    assert describe(Digits(classes=(1,))) == "digits (classes=(1,), limit=0): images"
    assert describe(TextFile("a/b.txt")).startswith("a/b.txt (tokens='words', block=64")


def test_the_catalog_lists_every_source_with_its_parameters():
    rows = {row.name: row for row in catalogue()}
    assert set(rows) == set(SOURCES) | set(FILES) | {"hub:NAME[/CONFIG][:SPLIT]"}
    assert rows["normal"].parameters == "mean=0.0, std=1.0, dimension=1"
    assert "path" not in rows[".txt"].parameters.split(", ")
    assert all(row.origin for row in rows.values())
    assert [row["source"] for row in source_rows()] == list(rows)


def test_the_catalog_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (row,) = (row for row in source_rows() if row["source"] == "mnist5k")
    assert row["available"] == "pip install 'studbook[mnist]'"


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.csv").write_text("1\n2\n")
    assert len(open_source("~/x.csv").load().records) == 2


def test_symbolic_links_are_followed(tmp_path):
    (tmp_path / "x.csv").write_text("1\n2\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "x.csv")
    assert open_source(tmp_path / "link.csv").load().digest == open_source(tmp_path / "x.csv").load().digest


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (states(np.array([2, 0, 2, 2]), 4), [0.25, 0.0, 0.75, 0.0]),
        (counts(np.array([7, 9, 7, 7])), [0.75, 0.25]),
        (numbers(np.array([1.5, 1.5, -2.0, 1.5])), [0.25, 0.75]),
        (numbers(np.array([[1.0, 2.0], [1.0, 3.0]])), [0.5, 0.5]),
    ],
)
def test_frequencies_of_records(batch, expected):
    assert unigram_probabilities(InMemory(batch).load()).probabilities.tolist() == [expected]


def test_frequencies_of_pictures_are_refused():
    with pytest.raises(DataError, match="pictures have no finite list of states"):
        unigram_probabilities(Digits().load())


def test_a_source_of_ones_own_is_described():
    @dataclass(frozen=True, slots=True)
    class Mine:
        size: int = 1
        record_kind = "numbers"
        origin = "mine"

        def load(self):
            return Normal().load()

    assert describe(Mine()) == "Mine (size=1): numbers"
    assert Mine().load().space.kind is Kind.NUMBERS
