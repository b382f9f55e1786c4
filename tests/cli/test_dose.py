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
    assert "Golden-ratio weight" in result.stdout
    assert "never falls" in run(*ask(), "--ddof", "1").stdout


@pytest.mark.parametrize(
    ("keep", "generations", "words"), [("0.01", "5", "– (only generation 0"), ("0.99", "100000", "pooled, they have 99 %")]
)
def test_golden_weight_and_effective_size_are_always_said(keep, generations, words):
    shown = run(*ask("heterozygosity", keep, "100", generations)).stdout
    assert "Golden-ratio weight of the real records" in shown
    assert "effective sample size" in shown
    assert words in shown


def counts_file(tmp_path):
    file = tmp_path / "counts.txt"
    file.write_text("\n".join(str(10_000 // rank) for rank in range(1, 200)))
    return file


def test_support_of_a_file_by_theory(tmp_path):
    file = counts_file(tmp_path)
    result = run(*ask("support", "0.9", "3000", "20"), "--probabilities", str(file), "--format", "json")
    answer = json.loads(result.stdout)
    assert (answer["fresh"], answer["method"]) == (dose("support", 0.9, 3_000, 20, law=read_probabilities(file)).fresh, "theory")
    assert answer["interval"] == [answer["kept"]] * 2


def test_support_of_a_file_by_simulation(tmp_path):
    file = counts_file(tmp_path)
    question = [*ask("support", "0.9", "1000000000", "20"), "--probabilities", str(file), "--seed", "3"]
    answer = json.loads(run(*question, "--format", "json").stdout)
    assert answer["method"] == "simulation"
    assert answer["interval"][0] <= answer["kept"] <= answer["interval"][1]
    assert "normal" in answer["approximation"]
    assert "replicates" in run(*question).stdout


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
