"""``studbook training report``: one page for several runs, and mistakes."""

from __future__ import annotations

from typer.testing import CliRunner

from studbook.cli.main import app
from studbook.errors import ConfigError, RunFolderError
from studbook.protocols import Gossip, Independent, InProcess, Plan, TrainingSpec, ring, train
from studbook.protocols.writing import write_run


def report(*arguments: str):
    return CliRunner().invoke(app, ["training", "report", *map(str, arguments)])


def test_one_run_and_two(tmp_path):
    spec, folders = TrainingSpec("quadratic", {"rows": 100}, nodes=3, batch=4), [tmp_path / "a", tmp_path / "b"]
    for folder, protocol in zip(folders, (Independent(), Gossip(ring(3))), strict=True):
        write_run(train(InProcess(spec.build()), protocol, Plan(5)), folder)
    alone = report(folders[0])
    assert alone.exit_code == 0, alone.output
    assert alone.stdout.split() == [str(folders[0] / "report.html")]
    both = report(*folders, "--out", tmp_path / "both.html")
    assert both.exit_code == 0, both.output
    assert "2 ways to train together" in (tmp_path / "both.html").read_text()
    refused = report(*folders)
    assert isinstance(refused.exception, ConfigError)
    assert "--out" in refused.exception.hint


def test_what_is_no_run_is_named(tmp_path):
    refused = report(tmp_path)
    assert isinstance(refused.exception, RunFolderError)
    assert "no finished training run" in str(refused.exception)
