"""Data by hub id, from folders in the hub's layout."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from studbook.arrays import Kind
from studbook.data import HubData, describe, join_tokens, open_source
from studbook.data.hub import split_address
from studbook.errors import ConfigError, DataError, MissingExtraError

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")

CARD = """---
license: cc-by-4.0
configs:
- config_name: en
  data_files:
  - split: train
    path: en/train.jsonl
  - split: test
    path: en/test.jsonl
- config_name: de
  data_files: de/all.jsonl
---
# Words
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def words(tmp_path):
    """Text in two configurations, one of them with two splits."""
    folder = tmp_path / "words"
    for path, word in (("en/train", "hello"), ("en/test", "goodbye"), ("de/all", "hallo")):
        file = folder / f"{path}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"text": f"{word} world {i}", "size": i / 2, "label": i % 2} for i in range(6)]
        file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def pictures(tmp_path):
    """Grey pictures with named classes, as Parquet."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (7, 6, 5), dtype=np.uint8)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    rows = {"image": [Image.fromarray(p) for p in pixels], "label": [i % 3 for i in range(7)]}
    (tmp_path / "pictures" / "data").mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "pictures/data/train-00000-of-00001.parquet"))
    return tmp_path / "pictures", pixels


def load(address, **options):
    return open_source(f"hub:{address}", **options).load()


def test_text_of_a_configuration_and_a_split(words):
    dataset = load(f"{words}/en:train", block=3)
    assert dataset.space.kind is Kind.TEXT
    assert [join_tokens(block, dataset.space) for block in dataset.records.values[:2]] == ["hello world 0", "hello world 1"]
    assert dataset.name == "words/en:train"


def test_train_is_the_split_where_none_is_named_and_so_is_the_only_one(words):
    assert load(f"{words}/en", block=3).digest == load(f"{words}/en:train", block=3).digest
    assert load(f"{words}/de", block=3).digest == load(f"{words}/de:train", block=3).digest


def test_a_relative_folder(words, monkeypatch):
    monkeypatch.chdir(words.parent)
    assert open_source("hub:./words/en").name == str(words)
    assert open_source("hub:words/en:test").config == "en"
    assert load("words/en:test", block=3).digest == load(f"{words}/en:test", block=3).digest


def test_text_options_are_those_of_text(words):
    dataset = load(f"{words}/en", tokens="bytes", block=5, limit=2, lowercase=True)
    assert dataset.records.values.shape == (2, 5)
    assert dataset.space.joined == "bytes"


def test_the_digest_is_of_the_content(words, tmp_path):
    before = load(f"{words}/de", block=3).digest
    words.rename(tmp_path / "other")
    assert load(f"{tmp_path}/other/de", block=3).digest == before
    file = tmp_path / "other/de/all.jsonl"
    file.write_text(file.read_text().replace("hallo", "servus"))
    assert load(f"{tmp_path}/other/de", block=3).digest != before


def test_numbers_and_states_of_columns(words):
    table = load(f"{words}/en", kind="numbers", columns=("size", "label"))
    assert table.space.columns == ("size", "label")
    assert table.records.values[3].tolist() == [1.5, 1.0]
    assert load(f"{words}/en", kind="states", columns=("label",)).records.values.tolist() == [0, 1, 0, 1, 0, 1]


def test_pictures_with_their_classes(pictures):
    folder, pixels = pictures
    dataset = load(folder)
    assert dataset.space.kind is Kind.IMAGES
    assert dataset.space.value_range == (0.0, 255.0)
    assert np.array_equal(dataset.records.values, pixels)
    assert dataset.records.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    chosen = load(folder, classes=(2,), limit=1)
    assert np.array_equal(chosen.records.values, pixels[2:3])


def test_a_folder_of_coloured_pictures(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "animals" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(np.full((4, 3, 3), i, np.uint8)).save(tmp_path / "animals" / name / f"{i}.png")
    dataset = load(tmp_path / "animals")
    assert dataset.space.shape == (4, 3, 3)
    assert sorted(dataset.records.labels.tolist()) == [0, 0, 1, 1]


def test_plain_text_files(tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "train.txt").write_text("one two\nthree four\n")
    assert load(tmp_path / "plain", block=4).space.vocabulary == ("one", "two", "three", "four")


def test_tables_go_below_the_cache_folder_and_those_of_a_folder_do_not_stay(words, tmp_path):
    load(f"{words}/en", block=3)
    assert (tmp_path / "cache" / "datasets").is_dir()
    assert not list((tmp_path / "cache" / "datasets").rglob("*.arrow"))


@pytest.mark.parametrize(
    ("rest", "options", "said"),
    [
        ("/fr", {}, "has no configuration 'fr' (the configurations are en, de)"),
        ("", {}, "has the configurations en, de (choose one: hub:"),
        ("/en:tset", {}, "has no split 'tset' (did you mean 'test'?)"),
        ("/en", {"columns": ("txet",)}, "has no column 'txet' (did you mean 'text'?)"),
        ("/en", {"columns": ("size",), "kind": "text"}, "no column of texts: it has text (string)"),
        ("/en", {"columns": ("text",), "kind": "numbers"}, "column 'text' holds string, expected numbers"),
        ("/en", {"kind": "images"}, "no column of pictures"),
        ("/en", {"kind": "states"}, "2 columns of numbers, expected one"),
        ("/en", {"kind": "numbers", "labels": "class"}, "has no column 'class'"),
        ("/en", {"kind": "numbers", "labels": "size"}, "column 'size' holds no classes"),
        ("/en", {"config": "de"}, "data.config is given"),
        ("/en", {"columns": ("size", "size")}, "columns names one twice"),
    ],
)
def test_names_that_are_not_there(words, rest, options, said):
    with pytest.raises(ConfigError) as caught:
        load(f"{words}{rest}", **options)
    assert said in str(caught.value)


@pytest.mark.parametrize("address", ["hub:", "hub::train", "hub:a/b/c/d", "hub:a//b"])
def test_addresses_that_name_nothing(address):
    with pytest.raises(ConfigError):
        open_source(address)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hub:mnist", {"name": "mnist"}),
        ("hub:owner/name:test", {"name": "owner/name", "split": "test"}),
        ("hub:owner/name/part", {"name": "owner/name", "config": "part"}),
    ],
)
def test_addresses(address, parts):
    assert split_address(address) == parts
    assert HubData(**parts).address == address


def test_a_missing_folder_and_a_missing_network_are_one_quick_line(tmp_path):
    began = time.monotonic()
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="there is no folder nobody/nothing, and the hub can't be reached") as caught:
        load("nobody/nothing")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 20


def test_scripts_are_not_run(tmp_path):
    folder = tmp_path / "script"
    folder.mkdir()
    (folder / "script.py").write_text("raise SystemExit('ran')")
    with pytest.raises(DataError, match="can't be loaded: Dataset scripts are no longer supported"):
        load(folder)


def test_damaged_and_empty_folders(tmp_path, pictures):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="doesn't contain any data files"):
        load(tmp_path / "empty")
    file = pictures[0] / "data/train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match="can't be loaded"):
        load(pictures[0])


def test_pictures_of_different_sizes_are_named(tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for i, side in enumerate((4, 5)):
        Image.fromarray(np.zeros((side, 4), np.uint8)).save(folder / f"{i}.png")
    with pytest.raises(DataError, match="row 1 has 4 x 5 pixels, the first has 4 x 4"):
        load(folder)


def test_a_damaged_picture_is_named(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "0.png")
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes()[:30])
    with pytest.raises(DataError, match="row 1 can't be read as a picture"):
        load(folder)


def test_too_much_is_refused(pictures, words):
    with pytest.raises(DataError, match="would take"):
        load(pictures[0], max_bytes=100)
    with pytest.raises(DataError, match="would take"):
        load(f"{words}/en", kind="numbers", max_bytes=10)


def test_the_licence_and_the_description(words):
    assert describe(open_source(f"hub:{words}/en:test")).startswith(f"hub:{words}/en:test (kind='auto'")
    assert "hub" in load(f"{words}/en", block=3).origin


def test_the_library_is_named_where_it_is_missing(words, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"studbook\[hub\]"):
        load(f"{words}/en")
