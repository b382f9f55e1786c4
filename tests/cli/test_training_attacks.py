"""``studbook training attacks`` through a Typer app."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from studbook.cli.training_attacks import attacks_command
from studbook.errors import ConfigError

app = typer.Typer()
app.command("attacks")(attacks_command)


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_json_holds_the_table_alone_on_stdout():
    result = run("--attacks", "copy", "--defences", "mean,replay", "--seeds", "2", "--steps", "10", "--format", "json")
    rows = json.loads(result.stdout)
    assert [(row["attack"], row["defence"]) for row in rows] == [("copy", "mean"), ("copy", "replay")]
    assert rows[0]["caught"] is None
    assert rows[1]["caught"] == "6 of 6"
    assert rows[1]["wronged"] == "0 of 14"


def test_a_table_and_a_page(tmp_path):
    result = run("--attacks", "none", "--defences", "mean", "--seeds", "2", "--steps", "5", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert "accuracy" in result.stdout
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["plan"]["seeds"] == 2
    assert f"{found['rows'][0]['accuracy']:.3f} ±" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("wrong", [["--attacks", "sinflip"], ["--defences", "none"], ["--seeds", "1"], ["--steps", "0"], ["--drawn", "26"]])
def test_mistakes_are_named(wrong):
    result = run(*wrong)
    assert isinstance(result.exception, ConfigError)
