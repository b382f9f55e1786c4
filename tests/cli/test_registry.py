"""``studbook registry`` through its Typer app."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from studbook.cli.registry import app
from studbook.errors import ConfigError, RegisterError
from studbook.pictures import jpeg_bytes, png_bytes
from studbook.registry import Register, text_content
from studbook.testing.registers import signed_claim_and_receipt

WORDS = "text {i} of a folder is about {j} and has enough words to be told from text {k} and from the others in it"


def run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exit_code != code:
        raise AssertionError(f"exit code {result.exit_code}, expected {code}: {result.output} {result.exception!r}")
    return result


def picture(seed: int):
    return np.repeat(np.repeat(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8), 10, axis=0), 10, axis=1)


@pytest.fixture
def place(tmp_path):
    """A register, and beside it a folder of outputs."""
    outputs = tmp_path / "outputs"
    (outputs / "more").mkdir(parents=True)
    for i in range(5):
        (outputs / "more" / f"{i}.txt").write_text(WORDS.format(i=i, j=i * 7919, k=i + 31))
    rows = [{"text": f"row {i} of a table: {i * 104729} and {i * 7} words", "answer": f"the answer of row {i} is {i}"} for i in range(3)]
    (outputs / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (outputs / "one.png").write_bytes(png_bytes(picture(1)))
    run("new", tmp_path / "register.db")
    return tmp_path


def test_what_is_entered_is_found(place):
    added = json.loads(run("add", place / "register.db", place / "outputs", "--model", "m", "--source", "s", "--format", "json").stdout)
    assert (added["new"], added["known"], added["skipped"]) == (9, 0, 0)
    again = json.loads(run("add", place / "register.db", place / "outputs", "--model", "m", "--source", "s", "--format", "json").stdout)
    assert (again["new"], again["known"]) == (0, 9)
    (place / "near.jpg").write_bytes(jpeg_bytes(picture(1), 60))
    (place / "other.png").write_bytes(png_bytes(picture(2)))
    shown = run("find", place / "register.db", place / "near.jpg", place / "other.png", place / "outputs", "--format", "json", "--most", 1)
    found = {row["output"]: row for row in json.loads(shown.stdout)["outputs"]}
    assert found[str(place / "near.jpg")]["how"] == "near"
    assert found[str(place / "near.jpg")]["distance"] <= found[str(place / "near.jpg")]["limit"]
    assert found[str(place / "other.png")]["how"] is None
    assert found[str(place / "outputs" / "table.jsonl") + "#2"]["how"] == "exact"
    assert {row["model"] for row in found.values() if row["how"]} == {"m"}
    assert "10 of 11 found" in shown.stderr


def test_another_column_and_another_origin(place):
    table = place / "outputs" / "table.jsonl"
    run("add", place / "register.db", table, "--column", "answer", "--origin", "human", "--parent", "sha256:" + 64 * "a")
    with Register.open(place / "register.db") as register:
        (entry,) = register.get(text_content("the answer of row 2 is 2"))
        assert (entry.origin, entry.parents) == ("human", ("sha256:" + 64 * "a",))
    assert "nothing" not in run("find", place / "register.db", table, "--column", "answer", "--expect", "found").stdout


def test_exit_codes_of_a_look_up(place):
    run("add", place / "register.db", place / "outputs" / "more")
    known, unknown = place / "outputs" / "more", place / "outputs" / "one.png"
    run("find", place / "register.db", known, unknown)
    run("find", place / "register.db", known, "--expect", "found")
    run("find", place / "register.db", known, "--expect", "absent", code=3)
    run("find", place / "register.db", unknown, "--expect", "absent")
    run("find", place / "register.db", known, unknown, "--expect", "found", code=3)
    (place / "bad.png").write_bytes(b"no picture")
    result = run("find", place / "register.db", known, place / "bad.png", code=1)
    assert "bad.png" in result.stderr
    assert "5 of 5 found, 1 couldn't be read" in result.stderr


def test_what_cannot_be_read_is_skipped_with_a_reason(place):
    (place / "outputs" / "notes.txt").write_bytes(b"\xff\xfe no text")
    (place / "outputs" / "empty.txt").write_bytes(b"")
    (place / "outputs" / "bad.png").write_bytes(b"no picture")
    (place / "outputs" / "thing.bin").write_bytes(b"?")
    (place / "outputs" / "broken.jsonl").write_text('{"text": 3}\nnope\n\n{"text": "one two three four"}\n')
    added = json.loads(run("add", place / "register.db", place / "outputs", "--format", "json").stdout)
    assert (added["new"], added["skipped"]) == (10, 6)
    reasons = " | ".join(added["reasons"])
    for words in ("not UTF-8", "is empty", "can't be read as a picture", "by its name", "no text in the column", "not JSON"):
        assert words in reasons


def test_show_and_stats(place):
    _, receipt, name = signed_claim_and_receipt()
    run("add", place / "register.db", place / "outputs", "--model", "m")
    with Register.open(place / "register.db") as register:
        register.add_verdict(receipt)
        register.link("m", "corpus", "trained-on")
    content = text_content("row 1 of a table: 104729 and 7 words")
    shown = json.loads(run("show", place / "register.db", content, "--format", "json").stdout)
    assert [entry["model"] for entry in shown["entries"]] == ["m"]
    assert {step["relation"] for step in shown["lineage"]} == {"generated-by", "trained-on"}
    assert "generated-by" in run("show", place / "register.db", "m").stdout
    verdicts = json.loads(run("show", place / "register.db", name, "--format", "json").stdout)["verdicts"]
    assert [each["outcome"] for each in verdicts] == ["inconclusive"]
    assert "inconclusive" in run("show", place / "register.db", name).stdout
    assert "knows nothing" in run("show", place / "register.db", "sha256:" + 64 * "0", code=3).stderr
    stats = json.loads(run("stats", place / "register.db", "--format", "json").stdout)
    assert (stats["entries"], stats["claims"], stats["verdicts"]) == (9, 1, 1)
    assert "image, generated" in run("stats", place / "register.db").stdout


def test_export_import_and_verify(place):
    run("add", place / "register.db", place / "outputs")
    run("export", place / "register.db", place / "all.jsonl")
    run("new", place / "other.db")
    assert "9 entries are new" in run("import", place / "other.db", place / "all.jsonl").stderr
    assert "nothing is wrong" in run("verify", place / "other.db").stderr
    with Register.open(place / "other.db") as register, register._store.write() as connection:
        connection.exec_driver_sql("DELETE FROM entries WHERE id = 2")
    assert json.loads(run("verify", place / "other.db", "--format", "json", code=3).stdout)[0]["part"] == "entries"
    assert "fingerprints" in run("verify", place / "other.db", code=3).stdout


def test_limits(place):
    assert "flowers" in run("limit", place / "register.db", "phash").stdout
    assert json.loads(run("limit", place / "register.db", "phash", "--set", "3", "--format", "json").stdout)["limit"] == 3
    assert json.loads(run("limit", place / "register.db", "ahash", "--format", "json").stdout)["limit"] is None
    many = place / "many"
    many.mkdir()
    for i in range(130):
        (many / f"{i}.png").write_bytes(png_bytes(picture(100 + i)))
    shown = run("limit", place / "register.db", "phash", "--calibrate", many, "--rate", "0.05")
    assert "calibrated" in shown.stdout
    run("limit", place / "register.db", "phash", "--calibrate", many, code=1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("add", "absent.db", "{place}/outputs"), RegisterError),
        (("find", "{place}/register.db", "{place}/nowhere"), ConfigError),
        (("stats", "{place}"), RegisterError),
        (("new", "{place}/outputs/table.jsonl"), RegisterError),
        (("new", "mysql://host/x"), ConfigError),
        (("limit", "{place}/register.db", "fash", "--set", "3"), ConfigError),
        (("import", "{place}/register.db", "{place}/outputs/table.jsonl"), RegisterError),
        (("import", "{place}/register.db", "{place}/nowhere"), RegisterError),
    ],
)
def test_mistakes_are_typed_errors(place, arguments, error):
    result = CliRunner().invoke(app, [each.format(place=place) for each in arguments])
    assert isinstance(result.exception, error)
    assert result.stdout == ""
