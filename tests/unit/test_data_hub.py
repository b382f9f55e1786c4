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
    with pytest.raises(DataError, match=r"row 1 \(1\.png\) has 4 x 5 pixels, the first has 4 x 4"):
        load(folder)


def test_a_damaged_picture_is_named(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "0.png")
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes()[:30])
    with pytest.raises(DataError, match=r"row 1 \(1\.png\) can't be read as a picture"):
        load(folder)


def folder_of(folder, *images, suffix="png", **options):
    """Pictures as files 0, 1, ... of a folder."""
    folder.mkdir()
    for i, image in enumerate(images):
        image.save(folder / f"{i}.{suffix}", **options)
    return folder


@pytest.mark.parametrize(("suffix", "kind"), [("png", "<u2"), ("tif", "<u2"), ("tif", ">u2"), ("tif", "<i4"), ("pgm", "<u2")])
def test_of_16_bit_grey_the_upper_byte_is_taken(tmp_path, suffix, kind):
    deep = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2849
    folder = folder_of(tmp_path / "deep", Image.fromarray(deep.astype(kind)), suffix=suffix)
    assert np.array_equal(load(folder).records.values, [deep >> 8])


@pytest.mark.parametrize("values", [np.full((2, 2), 0.5, np.float32), np.full((2, 2), 70_000, np.int32), np.full((2, 2), -1, np.int32)])
def test_grey_beyond_16_bits_is_named(tmp_path, values):
    folder = folder_of(tmp_path / "deep", Image.fromarray(np.zeros((2, 2), np.uint16)), Image.fromarray(values), suffix="tif")
    with pytest.raises(DataError, match=r"row 1 \(1\.tif\): its pixels are neither bytes nor 16-bit numbers.*\.npy"):
        load(folder)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_keep_their_colour(tmp_path, mode):
    image = Image.new(mode.removesuffix("A"), (3, 2), 90 if mode == "LA" else (10, 20, 30))
    pixels = np.asarray(image)
    image.putalpha(0)
    assert np.array_equal(load(folder_of(tmp_path / "clear", image)).records.values, [pixels])


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("L", "CMYK", r"row 1 \(1\.tif\) is coloured \(Pillow's mode CMYK\), the first is grey"),
        ("1", "RGB", "the first is grey"),
    ],
)
def test_a_coloured_picture_after_a_grey_one_is_named(tmp_path, first, second, said):
    folder = folder_of(tmp_path / "mixed", Image.new(first, (3, 3)), Image.new(second, (3, 3)), suffix="tif")
    with pytest.raises(DataError, match=said):
        load(folder)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_grey_pictures_after_a_coloured_one_are_made_so(tmp_path, mode):
    grey = (
        Image.fromarray(np.array([[0, 65535]], np.uint16))
        if mode == "I;16"
        else Image.fromarray(np.array([[0, 255]], np.uint8)).convert(mode)
    )
    batch = load(folder_of(tmp_path / "mixed", Image.new("RGB", (2, 1), (9, 8, 7)), grey, suffix="png"))
    assert batch.records.values.tolist() == [[[[9, 8, 7]] * 2], [[[0, 0, 0], [255, 255, 255]]]]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_animations_are_refused(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), (90 * i, 0, 0)) for i in range(3)]
    folder = folder_of(tmp_path / "moving", frames[0], suffix=suffix, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=rf"row 0 \(0\.{suffix}\) holds 3 pictures"):
        load(folder)


def test_a_photograph_with_a_preview_is_one_picture(tmp_path):
    photograph = Image.new("RGB", (8, 8), (200, 0, 0))
    folder = folder_of(tmp_path / "phone", photograph, suffix="jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    assert load(folder).space.shape == (8, 8, 3)


def test_a_picture_that_would_fill_the_memory_is_not_called_damaged(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "bomb", Image.new("1", (300, 300)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"row 0 \(0\.png\) has far more pixels, expected at most 67,108,864 \(make it smaller first\)"):
        load(folder)


def test_programs_that_draw_are_not_run(tmp_path):
    folder_of(tmp_path / "drawn", Image.new("L", (3, 3)))
    (tmp_path / "drawn" / "1.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 3 3\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=r"row 1 \(1\.png\) can't be read as a picture: cannot identify"):
        load(tmp_path / "drawn")


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
