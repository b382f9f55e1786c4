"""``studbook mark``: pictures and texts from files, and calibrations."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from studbook.cli.mark import app as mark_app
from studbook.errors import CalibrationError, CheckpointError, ConfigError, DataError
from studbook.marks.dalle_strip import DalleStrip
from studbook.pictures import jpeg_bytes, png_bytes, read_picture
from studbook.provenance import SigningKey, open_signed
from studbook.records import DetectorCalibration

PAYLOAD = "5a3c96e1"
app = typer.Typer()
app.add_typer(mark_app, name="mark")


def run(*arguments: object):
    return CliRunner().invoke(app, ["mark", *map(str, arguments)])


def answer(*arguments: object, exit_code: int = 0):
    result = run(*arguments, "--format", "json")
    assert result.exit_code == exit_code, result.exception
    return json.loads(result.stdout)


@pytest.fixture
def scene(tmp_path):
    photograph = pytest.importorskip("sklearn.datasets").load_sample_images().images[0]
    path = tmp_path / "scene.png"
    path.write_bytes(png_bytes(np.ascontiguousarray(photograph)))
    return path


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key.pem"
    SigningKey.generate().save(path)
    return path


def test_a_picture_is_marked_and_read_again(tmp_path, scene):
    out = tmp_path / "marked.png"
    assert run("image", scene, "--out", out, "--payload", PAYLOAD).exit_code == 0
    rows = answer("read", out, scene, "--payload", PAYLOAD, "--payload", "0f0f0f1e")
    assert [row["mark"] for row in rows] == 2 * ["dwt-dct-svd", "dalle-strip"]
    assert rows[0]["p_value"] < 1e-8 < 1e-2 < rows[2]["p_value"]
    assert PAYLOAD in rows[0]["note"]
    compressed = tmp_path / "marked.jpg"
    compressed.write_bytes(jpeg_bytes(read_picture(out.read_bytes(), "marked"), 80))
    assert answer("read", compressed, "--payload", PAYLOAD)[0]["p_value"] < 1e-6


def test_without_a_payload_the_strip_alone_is_looked_for(tmp_path, scene):
    stamped = tmp_path / "stamped.png"
    stamped.write_bytes(png_bytes(DalleStrip().embed(read_picture(scene.read_bytes(), "scene"))))
    found, plain = answer("read", stamped, scene)
    assert found["score"] == 0.0 and plain["score"] < -100 and found["p_value"] is None
    assert "dalle-strip" in run("read", stamped).stdout


def test_a_file_that_is_no_picture_is_a_row_of_its_own(tmp_path, scene):
    broken = tmp_path / "broken.png"
    broken.write_bytes(scene.read_bytes()[:200])
    rows = answer("read", broken, tmp_path / "nothing.png", scene, exit_code=1)
    assert len(rows) == 3 and "can't be read" in rows[0]["note"] and "can't be read" in rows[1]["note"]
    assert rows[2]["mark"] == "dalle-strip"


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("--out", "x.jpg", "--payload", PAYLOAD), ConfigError, r"\.png"),
        (("--out", "x.png", "--payload", "zz"), ConfigError, "hex"),
        (("--out", "x.png", "--payload", "00000000"), ConfigError, "0 ones"),
    ],
)
def test_what_cannot_be_meant_is_refused(scene, arguments, kind, message):
    found = run("image", scene, *arguments).exception
    assert isinstance(found, kind)
    with pytest.raises(kind, match=message):
        raise found


def test_a_small_picture_is_refused(tmp_path):
    small = tmp_path / "small.png"
    small.write_bytes(png_bytes(np.zeros((64, 64, 3), np.uint8)))
    assert isinstance(run("image", small, "--out", tmp_path / "out.png", "--payload", PAYLOAD).exception, DataError)
    assert not (tmp_path / "out.png").exists()


def test_a_drawn_payload_is_one(tmp_path):
    drawn = run("payload", "--bits", 64).stdout.strip()
    assert len(drawn) == 16 and drawn != run("payload", "--bits", 64).stdout.strip()


def test_a_strip_is_calibrated_signed_and_used(tmp_path, key):
    pictures, rng = tmp_path / "pictures", np.random.default_rng(3)
    pictures.mkdir()
    for i in range(100):
        (pictures / f"{i}.png").write_bytes(png_bytes(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)))
    (pictures / "broken.png").write_bytes(b"no picture")
    settings, out = tmp_path / "strip.toml", tmp_path / "strip.json"
    settings.write_text('kind = "dalle_strip"\n')
    rows = answer("calibrate", "--mark", settings, "--human", pictures, "--false-alarm", 0.2, "--key", key, "--out", out, "--seed", 4)
    assert [row["what"] for row in rows][:2] == ["false hits", "hits"]
    assert rows[0]["upper"] <= 0.2 and rows[1]["rate"] == 1.0
    calibration = open_signed(out.read_bytes(), DetectorCalibration, "strip.json").record
    assert calibration.detector == "dalle-strip" and calibration.made > "2020"
    stamped = tmp_path / "stamped.png"
    stamped.write_bytes(png_bytes(DalleStrip().embed(np.full((40, 60, 3), 99, np.uint8))))
    found = answer("read", stamped, "--calibration", out)[0]
    assert found["p_value"] == (calibration.false_hits.events + 1) / (calibration.false_hits.units + 1)


def test_too_few_pictures_and_wrong_settings_are_told(tmp_path, key, scene):
    settings = tmp_path / "mark.toml"
    rest = ("--false-alarm", 0.2, "--key", key, "--out", tmp_path / "out.json")
    settings.write_text(f'kind = "dwtDctSvd"\npayloads = ["{PAYLOAD}"]\n')
    assert isinstance(run("calibrate", "--mark", settings, "--human", scene, *rest).exception, CalibrationError)
    assert isinstance(run("calibrate", "--mark", settings, "--human", scene, "--generated", scene, *rest).exception, ConfigError)
    for text in ("kind = 'nonsense'", "kind = ", 'kind = "dwtDctSvd"\npayload = "x"', 'kind = "kgw"\nvocabulary = 10\nkey = 3'):
        settings.write_text(text)
        assert isinstance(run("calibrate", "--mark", settings, "--human", scene, *rest).exception, ConfigError), text
    settings.write_text('kind = "likelihood_ratio"\nhuman = "a"\ngenerated = "b"')
    (tmp_path / "a.txt").write_text("words")
    both = ("--human", tmp_path / "a.txt", "--generated", tmp_path / "a.txt")
    assert isinstance(run("calibrate", "--mark", settings, *both, *rest).exception, CheckpointError)
    assert not (tmp_path / "out.json").exists()


def word_tokenizer(folder, words):
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=words[0]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


def green_text(mark, words, n, rng):
    """Words that are all green under a mark; chance picks which."""
    from studbook.marks.greenlists import GreenLists

    lists, ids = GreenLists(mark), [0]
    for _ in range(n):
        green = np.flatnonzero(lists.bits(np.array([ids[-1]]))[0])
        ids.append(int(rng.choice(green)))
    return " ".join(words[i] for i in ids)


def test_texts_are_tested_under_a_mark(tmp_path):
    from studbook.marks import Kgw

    words, rng = [f"w{i}" for i in range(500)], np.random.default_rng(5)
    word_tokenizer(tmp_path, words)
    settings = tmp_path / "mark.toml"
    settings.write_text('kind = "kgw"\nvocabulary = 500\nkey = 15485863\n')
    (tmp_path / "marked.txt").write_text(green_text(Kgw(vocabulary=500, key=15_485_863), words, 60, rng))
    (tmp_path / "plain.txt").write_text(" ".join(rng.choice(words, 60)))
    marked, plain = answer("detect", tmp_path / "marked.txt", tmp_path / "plain.txt", "--mark", settings, "--tokenizer", tmp_path)
    assert marked["p_value"] < 1e-20 and marked["green"] == marked["of"]
    assert plain["p_value"] > 1e-3 and plain["expected"] == 0.25
    lines = [json.dumps({"text": (tmp_path / name).read_text()}) for name in ("plain.txt", "marked.txt")]
    (tmp_path / "both.jsonl").write_text("\n".join(lines))
    rows = answer("detect", tmp_path / "both.jsonl", "--mark", settings, "--tokenizer", tmp_path)
    assert rows == [{**plain, "file": "both.jsonl#0"}, {**marked, "file": f"both.jsonl#{len(lines[0]) + 1}"}]  # where the line begins
    (tmp_path / "none.jsonl").write_text("[]")
    assert isinstance(run("detect", tmp_path / "none.jsonl", "--mark", settings, "--tokenizer", tmp_path).exception, DataError)
    assert isinstance(run("detect", tmp_path / "marked.txt", "--mark", settings).exception, ConfigError)
    as_json = tmp_path / "mark.json"
    as_json.write_text(json.dumps({"kind": "kgw", "vocabulary": 500, "key": 15_485_863}))
    assert answer("detect", tmp_path / "marked.txt", "--mark", as_json, "--tokenizer", tmp_path) == [marked]
    as_json.write_text("[]")
    assert isinstance(run("detect", tmp_path / "marked.txt", "--mark", as_json, "--tokenizer", tmp_path).exception, ConfigError)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    assert isinstance(run("detect", tmp_path / "bad.txt", "--mark", settings, "--tokenizer", tmp_path).exception, DataError)


def test_a_text_mark_is_calibrated(tmp_path, key):
    from studbook.marks import Kgw

    words, rng = [f"w{i}" for i in range(300)], np.random.default_rng(6)
    word_tokenizer(tmp_path, words)
    settings, out = tmp_path / "mark.toml", tmp_path / "mark.json"
    settings.write_text('kind = "kgw"\nvocabulary = 300\nkey = 15485863\ntokenizer = "."\n')
    human = [{"text": " ".join(rng.choice(words, 80))} for _ in range(220)]
    made = [{"text": green_text(Kgw(vocabulary=300, key=15_485_863), words, 80, rng)} for _ in range(20)]
    for name, rows in (("human", human), ("made", made)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = answer(
        "calibrate", "--mark", settings, "--human", tmp_path / "human.jsonl", "--generated", tmp_path / "made.jsonl",
        "--false-alarm", 0.1, "--key", key, "--out", out,
    )  # fmt: skip
    assert rows[0]["upper"] <= 0.1 and rows[1]["rate"] == 1.0
    assert open_signed(out.read_bytes(), DetectorCalibration, "mark.json").record.detector == "kgw"


def test_a_detector_is_learnt_calibrated_and_screens(tmp_path, key):
    from studbook.records.content import text_content
    from studbook.screening import Record
    from studbook.screening.settings import open_screen

    rng, words = np.random.default_rng(7), np.array([f"w{i}" for i in range(80)])

    def write(name, n, slope):
        law = np.exp(-slope * np.arange(80))
        rows = [" ".join(row) for row in rng.choice(words, (n, 60), p=law / law.sum())]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
        return rows

    write("human", 200, 0.02)
    write("made", 200, 0.08)
    write("human-held", 220, 0.02)
    held = write("made-held", 40, 0.08)
    human, made, models = tmp_path / "human.jsonl", tmp_path / "made.jsonl", tmp_path / "models"
    assert run("learn", "--human", human, "--generated", made, "--out", models, "--order", 1).exit_code == 0
    settings, out = tmp_path / "ratio.toml", tmp_path / "ratio.json"
    settings.write_text('kind = "likelihood_ratio"\nhuman = "models/human"\ngenerated = "models/generated"\ntokens = 50\n')
    both = ("--human", tmp_path / "human-held.jsonl", "--generated", tmp_path / "made-held.jsonl")
    rows = answer("calibrate", "--mark", settings, *both, "--false-alarm", 0.1, "--key", key, "--out", out)
    assert rows[0]["upper"] <= 0.1 and rows[1]["rate"] > 0.9
    screen_file = tmp_path / "screen.toml"
    screen_file.write_text("[[detector]]\n" + settings.read_text() + 'calibration = "ratio.json"\n')
    records = [Record(str(i), "text", text_content(each), text=each) for i, each in enumerate(held)]
    judged = open_screen(screen_file).judge(records)
    assert np.mean([each.origin == "generated" for each in judged]) == rows[1]["rate"]
