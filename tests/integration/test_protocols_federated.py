"""Federated select gives the same numbers wherever its clients live; the command writes its rows."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from studbook.cli.main import app
from studbook.protocols import Choice, Federated, InProcess, Optimiser, Patience, Plan, Selection, TrainingRun, TrainingSpec, train

SPEC = TrainingSpec("mlp", {"hidden": 12, "limit": 400}, nodes=4, batch=16, split="label")
ADAM = Optimiser("adam", 0.03, epsilon=1e-3)
PROTOCOLS = [Federated(clients=3, epochs=2), Federated(clients=2, server=ADAM, selection=Selection({"neurons": Choice(5, "random")}))]
PLAN = Plan(steps=4, evaluate_every=2)


@pytest.fixture(scope="module")
def here() -> list[TrainingRun]:
    return [train(InProcess(SPEC.build()), protocol, PLAN) for protocol in PROTOCOLS]


def check(cluster, here: list[TrainingRun]) -> None:
    for protocol, whole in zip(PROTOCOLS, here, strict=True):
        run = train(cluster, protocol, PLAN)
        assert run.digests == whole.digests
        assert np.array_equal([row.losses for row in run.rows], [row.losses for row in whole.rows], equal_nan=True)
        assert [replace(row, losses=()) for row in run.rows] == [replace(row, losses=()) for row in whole.rows]
        assert list(run.evaluations) == list(whole.evaluations)
        assert not run.events


def test_processes_over_http_give_the_same_bits(here: list[TrainingRun]) -> None:
    from studbook.execution import HttpCluster

    with HttpCluster(SPEC) as cluster:
        check(cluster, here)


def test_a_client_that_is_killed_is_left_out_and_one_in_its_place_changes_nothing(here: list[TrainingRun]) -> None:
    from studbook.execution import HttpCluster

    everybody = Federated(clients=4)
    with HttpCluster(SPEC) as cluster:

        def kill(row) -> None:
            if row.step == 2:
                os.kill(cluster.pids[1], signal.SIGKILL)

        left = train(cluster, everybody, PLAN, progress=kill)
    assert [(event.step, event.node, event.what) for event in left.events] == [(2, 1, "lost")]
    assert [row.live for row in left.rows] == [4, 4, 3, 3]
    with HttpCluster(SPEC) as cluster:
        replaced = train(cluster, PROTOCOLS[0], PLAN, patience=Patience(on_loss="replace"), progress=kill)
    assert replaced.digests == here[0].digests


@pytest.mark.ray
def test_ray_gives_the_same_bits(here: list[TrainingRun]) -> None:
    pytest.importorskip("ray")
    from studbook.execution import RayCluster

    with RayCluster(SPEC, workers=2) as cluster:
        check(cluster, here)


@pytest.mark.parametrize("cluster", ["process", "http", pytest.param("ray", marks=pytest.mark.ray)])
def test_the_command_trains_clients_anywhere(tmp_path, cluster: str) -> None:
    command = ["training", "run", "--protocol", "federated", "--objective", "mlp", "--set", "hidden=12", "--set", "limit=400"]
    command += ["--nodes", "4", "--batch", "16", "--split", "label", "--steps", "4", "--cluster", cluster, "--format", "json"]
    command += ["--clients", "2", "--server", "adam", "--server-rate", "0.03", "--slices", "neurons=5", "--keys", "random"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    whole = train(InProcess(SPEC.build()), PROTOCOLS[1], Plan(4))
    assert told["digests"] == whole.digests
    assert told["settings"]["protocol"]["keys"] == {"neurons": {"m": 5, "how": "random"}}
    assert list(told["measures"]) == ["server"]


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
    file, out = tmp_path / "study.toml", tmp_path / "out"
    file.write_text(STUDY)
    runner = CliRunner()
    shown = runner.invoke(app, ["training", "select", str(file), "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "all 8" in shown.output
    assert "2 random" in shown.output
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert "all 8" in (out / "report.html").read_text()
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
