"""Federated select gives the same numbers wherever its clients live; the command writes its rows."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from studbook.cli.main import app
from studbook.protocols import InProcess, TrainingSpec
from studbook.protocols.federated import FederatedPlan, FederatedRun, run_federated
from studbook.protocols.select import Choice, Selection
from studbook.protocols.values import digest

SPEC = TrainingSpec("mlp", {"hidden": 12, "limit": 400}, nodes=3, split="label")
PLAN = FederatedPlan(rounds=3, clients=2, rate=0.1)
SELECTION = Selection({"neurons": Choice(5, "random")})


def run_on(cluster) -> FederatedRun:
    return run_federated(cluster, SPEC.build()[0].objective, PLAN, SELECTION, seed=0)


@pytest.fixture(scope="module")
def here() -> FederatedRun:
    return run_on(InProcess(SPEC.build()))


def test_processes_over_http_give_the_same_bits(here: FederatedRun) -> None:
    from studbook.execution.training_over_http import HttpCluster

    with HttpCluster(SPEC) as cluster:
        there = run_on(cluster)
    assert digest(there.parameters) == digest(here.parameters)
    assert there.rounds == here.rounds


@pytest.mark.ray
def test_ray_gives_the_same_bits(here: FederatedRun) -> None:
    pytest.importorskip("ray")
    from studbook.execution.training_on_ray import RayCluster

    with RayCluster(SPEC) as cluster:
        there = run_on(cluster)
    assert digest(there.parameters) == digest(here.parameters)
    assert there.rounds == here.rounds


STUDY = """
[study]
name = "small"
seeds = 2

[[experiment]]
name = "neurons"
objective = "mlp"
group = "neurons"
m = [2, 8]
how = ["random"]
clients = 10
partition = { by = "label" }
plan = { rounds = 3, clients = 3, rate = 0.1 }
settings = { hidden = 8 }
"""


def test_the_command_shows_and_writes_rows(tmp_path) -> None:
    file, out = tmp_path / "study.toml", tmp_path / "rows.json"
    file.write_text(STUDY)
    runner = CliRunner()
    shown = runner.invoke(app, ["training", "select", str(file), "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "all 8" in shown.output
    assert "2 random" in shown.output
    rows = json.loads(out.read_text())
    again = runner.invoke(app, ["training", "select", str(file), "--format", "json"])
    assert json.loads(again.stdout) == rows
    other = runner.invoke(app, ["training", "select", str(file), "--format", "json", "--set", "limit=300", "--seeds", "3"])
    assert [row["seeds"] for row in json.loads(other.stdout)] == [3, 3]


@pytest.mark.parametrize("arguments", [["--experiment", "words"], ["--set", "limit"], ["--set", "hiden=3"], ["--seeds", "1"]])
def test_mistakes_are_told(tmp_path, arguments: list[str]) -> None:
    file = tmp_path / "study.toml"
    file.write_text(STUDY)
    found = CliRunner().invoke(app, ["training", "select", str(file), *arguments])
    assert type(found.exception).__name__ == "ConfigError"
