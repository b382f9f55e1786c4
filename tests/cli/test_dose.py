"""``studbook dose`` through a Typer app."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from studbook.cli.dose import dose_command
from studbook.errors import ConfigError, DataError
from studbook.planning import dose, read_probabilities

app = typer.Typer()
app.command("dose")(dose_command)
KEYS = {"fresh", "fraction", "kept", "method", "interval", "samples", "generations", "metric"}


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def ask(metric="variance", keep="0.9", samples="100", generations="1000"):
    return ["--metric", metric, "--keep", keep, "--samples", samples, "--generations", generations]


def test_json_holds_the_answer_alone_on_stdout():
    result = run(*ask(), "--format", "json")
    answer = json.loads(result.stdout)
    assert answer.keys() >= KEYS
    assert (answer["fresh"], answer["method"], answer["interval"]) == (5, "theory", [answer["kept"]] * 2)


def test_table_is_plain_sentences():
    result = run(*ask())
    assert result.exit_code == 0
    assert "5 fresh real records a generation among 100" in result.stdout
    assert "golden ratio" in result.stdout
    assert "never falls" in run(*ask(), "--ddof", "1").stdout


def test_support_of_a_file_by_simulation(tmp_path):
    file = tmp_path / "counts.txt"
    file.write_text("\n".join(str(10_000 // rank) for rank in range(1, 200)))
    result = run(*ask("support", "0.9", "3000", "20"), "--probabilities", str(file), "--format", "json", "--seed", "3")
    answer = json.loads(result.stdout)
    expected = dose("support", 0.9, 3_000, 20, law=read_probabilities(file), seed=3)
    assert (answer["fresh"], answer["method"]) == (expected.fresh, "simulation")
    assert answer["interval"] == list(expected.interval)
    assert "replicates" in run(*ask("support", "0.9", "3000", "20"), "--probabilities", str(file)).stdout


def test_support_of_a_source():
    result = run(*ask("support", "0.5", "200", "20"), "--data", "zipf", "--set", "data.states=50", "--format", "json")
    assert json.loads(result.stdout)["method"] == "theory"


@pytest.mark.parametrize(
    ("arguments", "error", "exit_code"),
    [
        (ask("varianse"), ConfigError, 2),
        (ask(keep="0.9999"), ConfigError, 2),
        (ask("support"), ConfigError, 2),
        ([*ask("support"), "--data", "zipff"], ConfigError, 2),
        ([*ask("support"), "--data", "zipf", "--probabilities", "x.txt"], ConfigError, 2),
        ([*ask("support"), "--probabilities", "absent.txt"], DataError, 1),
        ([*ask("support"), "--data", "normal"], DataError, 1),
        ([*ask("support"), "--data", "zipf"], ConfigError, 2),
        ([*ask("support"), "--data", "zipf", "--set", "states"], ConfigError, 2),
        ([*ask("support"), "--data", "zipf", "--set", "states=many"], ConfigError, 2),
        ([*ask(), "--set", "states=4"], ConfigError, 2),
    ],
)
def test_mistakes_are_typed_errors(arguments, error, exit_code):
    result = run(*arguments)
    assert isinstance(result.exception, error)
    assert result.exception.exit_code == exit_code
    assert result.stdout == ""
