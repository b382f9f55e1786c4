"""``studbook training run``: results, a run taken up again, and mistakes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from studbook.cli.main import app
from studbook.errors import ConfigError, RunFolderError

SMALL = ["--objective", "quadratic", "--set", "rows=100", "--nodes", "4", "--batch", "4"]


def run(*arguments: str):
    return CliRunner().invoke(app, ["training", "run", *SMALL, *arguments])


def test_results_and_going_on(tmp_path):
    out = str(tmp_path / "run")
    first = run("--out", out, "--steps", "10", "--format", "json")
    assert first.exit_code == 0
    told = json.loads(first.stdout)
    assert told["steps"] == 10
    assert told["settings"]["protocol"]["graph"] == "ring"
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == told
    assert "gossip, ring, pairs" in (tmp_path / "run" / "report.html").read_text()
    longer = json.loads(run("--out", out, "--steps", "20", "--format", "json").stdout)
    whole = json.loads(run("--out", str(tmp_path / "other"), "--steps", "20", "--format", "json").stdout)
    assert longer["digests"] == whole["digests"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--protocol", "independent"], ["--protocol", "synchronised"], ["--protocol", "local", "--every", "3"],
        ["--graph", "star"], ["--graph", "pairs"], ["--exchange", "neighbours"], ["--optimiser", "adam", "--split", "contiguous"],
    ],
)  # fmt: skip
def test_tables(tmp_path, arguments):
    shown = run("--out", str(tmp_path / "run"), "--steps", "6", *arguments)
    assert shown.exit_code == 0, shown.output
    assert "spread_predicted" in shown.stdout
    assert "mean" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--protocol", "local"], "steps between averages"), (["--protocol", "local", "--every", "0"], "every is 0"),
        (["--nodes", "1"], "1 node, expected 2"), (["--nodes", "101"], "101 nodes share 100 rows"), (["--graph", "torus"], "no graph"),
        (["--objective", "softmx"], "no objective"), (["--set", "rows"], "KEY=VALUE"), (["--rate", "0"], "rate of 0"),
        (["--steps", "0"], "steps is 0"), (["--timeout-s", "-1"], "timeout_s"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path, arguments, match):
    failed = run("--out", str(tmp_path / "run"), *arguments)
    assert isinstance(failed.exception, ConfigError)
    assert match in str(failed.exception)


def test_a_disconnected_graph_and_another_runs_folder(tmp_path):
    (tmp_path / "edges.txt").write_text("0 1\n2 3\n")
    failed = run("--out", str(tmp_path / "run"), "--graph", str(tmp_path / "edges.txt"))
    assert "disconnected" in str(failed.exception)
    assert run("--out", str(tmp_path / "run"), "--steps", "3").exit_code == 0
    assert isinstance(run("--out", str(tmp_path / "run"), "--steps", "3", "--seed", "1").exception, RunFolderError)


def test_a_choice_that_is_none_is_told_in_plain_words(tmp_path):
    command = [sys.executable, "-m", "studbook", "training", "run", "--protocol", "nope", "--out", str(tmp_path / "run")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith("studbook: error: Invalid value for '--protocol': 'nope' is not one of 'independent'")
