"""Federated select gives the same numbers wherever its clients live; the command writes its rows."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from typer.testing import CliRunner

from studbook.cli.main import app
from studbook.protocols import (
    Choice,
    Federated,
    Host,
    InProcess,
    Message,
    Optimiser,
    Patience,
    Plan,
    Selection,
    TrainingRun,
    TrainingSpec,
    train,
)

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


def check_losses(cluster, here: list[TrainingRun], kill) -> None:
    """A client in a killed one's place changes nothing; one that is killed for good is left out."""

    def at_step_2(row) -> None:
        if row.step == 2:
            kill(cluster)

    replaced = train(cluster, PROTOCOLS[0], PLAN, patience=Patience(on_loss="replace"), progress=at_step_2)
    assert replaced.digests == here[0].digests
    assert [(event.step, event.node, event.what) for event in replaced.events] == [(2, 1, "lost"), (2, 1, "replaced")]
    left = train(cluster, Federated(clients=4), PLAN, progress=at_step_2)
    assert [(event.step, event.node, event.what) for event in left.events] == [(2, 1, "lost")]
    assert [row.live for row in left.rows] == [4, 4, 3, 3]


def test_processes_over_http_give_the_same_bits(here: list[TrainingRun]) -> None:
    from studbook.execution import HttpCluster

    with HttpCluster(SPEC) as cluster:
        check(cluster, here)
        check_losses(cluster, here, lambda cluster: os.kill(cluster.pids[1], signal.SIGKILL))


class Client(BaseHTTPRequestHandler):
    """Does its part; where its server lies, but for some numbers of its update."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = Message.decode(self.rfile.read(int(self.headers["content-length"])), "the request")
        answer = self.server.host.answer(request)
        if answer.kind == "update" and self.server.lies is not None:
            self.server.lies += 1
            update = dict(answer.arrays["update"])
            update["outer_bias"] = np.full_like(update["outer_bias"], np.nan)
            answer = replace(answer, arrays={"update": update})
        body = answer.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_lying_client_over_http_is_left_out_and_named() -> None:
    from studbook.execution import HttpCluster

    servers = [HTTPServer(("127.0.0.1", 0), Client) for _ in range(4)]
    for i, (server, node) in enumerate(zip(servers, SPEC.build(), strict=True)):
        server.host, server.lies = Host(node), 0 if i == 2 else None
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    cluster = HttpCluster.at(SPEC, [f"http://127.0.0.1:{server.server_port}" for server in servers], "a token of sixteen letters")
    run = train(cluster, Federated(clients=4), PLAN)
    cluster.close()
    for server in servers:
        server.shutdown()
        server.server_close()
    assert [(event.step, event.node, event.what) for event in run.events] == [(0, 2, "lost")]
    assert run.events[0].why.startswith("garbage: its update isn't finite")
    assert servers[2].lies == 1
    assert [row.live for row in run.rows] == [3] * 4


@pytest.mark.ray
def test_ray_gives_the_same_bits(here: list[TrainingRun]) -> None:
    pytest.importorskip("ray")
    import ray

    from studbook.execution import RayCluster

    with RayCluster(SPEC, workers=2) as cluster:
        check(cluster, here)
        check_losses(cluster, here, lambda cluster: ray.kill(cluster._actors[1]))


@pytest.mark.parametrize("cluster", ["http", pytest.param("ray", marks=pytest.mark.ray)])
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
