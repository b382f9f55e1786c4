"""Node processes that are killed, hang and come back in the middle of a run, and coordinators that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studbook.errors import WorkerLostError
from studbook.execution import HttpCluster
from studbook.protocols import (
    Federated,
    Gossip,
    Independent,
    InProcess,
    Local,
    Optimiser,
    Patience,
    Plan,
    Synchronised,
    TrainingSpec,
    ring,
    train,
)

SPEC = TrainingSpec("quadratic", {"dimension": 20}, nodes=3, batch=5, optimiser=Optimiser("adam", rate=0.01))
STEPS = 30


def at_step(step, act):
    def told(row):
        if row.step == step:
            act()

    return told


def test_killed_and_replaced_it_is_as_if_nothing_had_been():
    whole = train(InProcess(SPEC.build()), Synchronised(), Plan(steps=STEPS))
    with HttpCluster(SPEC) as cluster:
        kill = at_step(10, lambda: os.kill(cluster.pids[1], signal.SIGKILL))
        run = train(cluster, Synchronised(), Plan(steps=STEPS), patience=Patience(on_loss="replace"), progress=kill)
    assert run.digests == whole.digests
    assert [(event.step, event.node, event.what) for event in run.events] == [(10, 1, "lost"), (10, 1, "replaced")]


@pytest.mark.parametrize("protocol", [Gossip(ring(3)), Local(4)], ids=["gossip", "local"])
def test_killed_the_others_go_on(protocol):
    with HttpCluster(SPEC) as cluster:
        kill = at_step(10, lambda: os.kill(cluster.pids[1], signal.SIGKILL))
        run = train(cluster, protocol, Plan(steps=STEPS, evaluate_every=10), progress=kill)
    assert len(run.rows) == STEPS
    assert sorted(run.parameters) == [0, 2]
    assert [(event.node, event.what) for event in run.events][:1] == [(1, "lost")]
    assert run.events[0].why.startswith("down")


def test_killed_synchronised_training_stops_and_goes_on_from_its_checkpoint(tmp_path):
    whole = train(InProcess(SPEC.build()), Synchronised(), Plan(steps=STEPS))
    plan = Plan(steps=STEPS, checkpoint_every=5)
    with HttpCluster(SPEC) as cluster:
        kill = at_step(12, lambda: os.kill(cluster.pids[2], signal.SIGKILL))
        with pytest.raises(WorkerLostError, match="node 2 was lost at step 12, down"):
            train(cluster, Synchronised(), plan, folder=tmp_path, progress=kill)
    seen = []
    run = train(InProcess(SPEC.build()), Synchronised(), plan, folder=tmp_path, progress=lambda row: seen.append(row.step))
    assert seen[0] == 11
    assert run.digests == whole.digests
    assert list(run.rows) == list(whole.rows)


@pytest.mark.parametrize("protocol", [Gossip(ring(3)), Independent(), Federated(clients=3)], ids=["gossip", "independent", "federated"])
def test_a_node_that_hangs_is_left_out_and_rejoins(protocol):
    # It hangs at step 10 and goes on at step 14; from step 20 on the run waits until the node is seen, which happens beside the run.
    spec = SPEC
    with HttpCluster(spec) as cluster:
        deadline = time.monotonic() + 60.0

        def told(row):
            if row.step == 10:
                os.kill(cluster.pids[2], signal.SIGSTOP)
            if row.step == 14:
                os.kill(cluster.pids[2], signal.SIGCONT)
            while row.step == 20 and 2 not in cluster._back and time.monotonic() < deadline:
                time.sleep(0.05)

        run = train(cluster, protocol, Plan(steps=STEPS), patience=Patience(timeout_s=1.0), progress=told)
    told_of = [(event.node, event.what) for event in run.events if event.node == 2]
    assert told_of == [(2, "lost"), (2, "rejoined")]
    assert run.events[0].why.startswith("slow")
    assert run.rows[12].live == 2
    assert run.rows[-1].live == 3
    if isinstance(protocol, Independent):
        assert run.digests == train(InProcess(spec.build()), protocol, Plan(steps=STEPS)).digests


RUN = """
import sys
from pathlib import Path
from studbook.cli.main import main
sys.argv = ["studbook", "training", "run", "--objective", "quadratic", "--nodes", "3", "--steps", "600", "--checkpoint-every", "20",
            "--evaluate-every", "0", "--cluster", sys.argv[2], "--out", sys.argv[1], "--format", "json"]
main()
"""


@pytest.mark.parametrize("cluster", ["process", "http"])
def test_a_killed_coordinator_leaves_a_checkpoint_and_no_node(tmp_path, cluster):
    folder = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", RUN, str(folder), cluster], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120.0
    while not (folder / "checkpoint.bin").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    nodes = children_of(process.pid)
    process.kill()
    process.wait()
    assert len(nodes) == (3 if cluster == "http" else 0)
    while any(map(alive, nodes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, nodes))
    spec = TrainingSpec("quadratic", nodes=3)
    plan, seen = Plan(steps=600, settings={"spec": spec.plain()}), []
    resumed = train(InProcess(spec.build()), Gossip(ring(3)), plan, folder=folder, progress=seen.append)
    assert not seen or seen[0].step > 1
    assert resumed.digests == train(InProcess(spec.build()), Gossip(ring(3)), Plan(steps=600)).digests


def children_of(pid: int) -> list[int]:
    return [int(each) for task in Path(f"/proc/{pid}/task").iterdir() for each in (task / "children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
