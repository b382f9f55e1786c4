"""Where nodes over HTTP listen: on sockets in a folder that only their owner can enter, or on the loopback; neither outlives the run."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from studbook.errors import ConfigError, WorkerLostError
from studbook.execution import HttpCluster
from studbook.protocols import InProcess, Message, Optimiser, Plan, Synchronised, TrainingSpec, train

SPEC = TrainingSpec("quadratic", {"dimension": 300_000, "rows": 20}, nodes=2, batch=5, optimiser=Optimiser("adam", rate=0.01))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("loopback", [False, True])
def test_large_models_get_the_same_bits_either_way(place, loopback):
    plan = Plan(steps=4, evaluate_every=2)
    here = train(InProcess(SPEC.build()), Synchronised(), plan)
    with HttpCluster(SPEC, loopback=loopback) as cluster:
        folders = list(place.iterdir())
        there = train(cluster, Synchronised(), plan)
        assert len(folders) == (0 if loopback else 1)
        assert all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in folders)
    assert there.digests == here.digests
    assert list(there.rows) == list(here.rows)
    assert list(there.evaluations) == list(here.evaluations)
    assert not list(place.iterdir())


def test_a_node_that_takes_a_killed_one_s_place_listens_at_the_same_socket(place):
    with HttpCluster(TrainingSpec("quadratic", nodes=1)) as cluster:
        os.kill(cluster.pids[0], 9)
        assert cluster.revive(0, fresh=True)
        assert cluster.ask({0: Message("pull")}, timeout_s=20.0)[0].kind == "parameters"


HOLD = """
import sys, time, tempfile
from studbook.execution import HttpCluster
from studbook.protocols import TrainingSpec
tempfile.tempdir = sys.argv[1]
cluster = HttpCluster(TrainingSpec("quadratic", nodes=2))
print("ready", flush=True)
time.sleep(60)
"""


def test_a_killed_coordinator_leaves_no_socket(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        assert len(list(tmp_path.glob("*/*.sock"))) == 2
        process.kill()
    deadline = time.monotonic() + 30.0
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())


def test_nodes_end_where_a_later_one_can_t_be_started(place, monkeypatch):
    started = []

    class Few(subprocess.Popen):
        def __init__(self, *arguments, **options):
            if len(started) == 2:
                raise OSError(11, "Resource temporarily unavailable")
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Few)
    with pytest.raises(WorkerLostError, match="node 2 can't be started"):
        HttpCluster(TrainingSpec("quadratic", nodes=4))
    assert [process.poll() for process in started] == [-9, -9]
    assert not list(place.iterdir())


def test_a_path_that_is_too_long_for_a_socket(place, monkeypatch):
    long = Path(place, "x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(ConfigError, match="can listen at") as error:
        HttpCluster(TrainingSpec("quadratic", nodes=1))
    assert "TMPDIR" in error.value.hint
    assert not list(long.iterdir())
