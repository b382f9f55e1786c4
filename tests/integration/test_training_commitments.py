"""Nodes and coordinators that die while nodes commit: what the commitments cover afterwards, and what verifiers say of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studbook.errors import WorkerLostError
from studbook.execution import HttpCluster
from studbook.protocols import Gossip, Independent, Local, Optimiser, Patience, Synchronised, TrainingSpec, ring
from studbook.protocols.committed_run import open_run

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import committed_site as site

SPEC = TrainingSpec("quadratic", {"dimension": 20}, nodes=3, batch=5, optimiser=Optimiser("adam", rate=0.01))
STEPS = 24


def killing(cluster, step: int, node: int = 1):
    def told(row):
        if row.step == step:
            os.kill(cluster.pids[node], signal.SIGKILL)

    return told


def run(folder: Path, protocol, cluster=None, **how):
    return site.commit(folder, protocol, STEPS, spec=SPEC, every=5, checkpoint_every=10, cluster=cluster, **how)


@pytest.mark.parametrize("protocol", [Synchronised(), Local(4), Gossip(ring(3)), Independent()], ids=["sync", "local", "gossip", "alone"])
def test_a_replaced_node_commits_to_all_its_steps(protocol, tmp_path):
    """The new process goes on from what the old one kept, and takes over again what the transcript says: as if nothing had been."""
    whole = run(tmp_path / "whole", protocol)
    with HttpCluster(SPEC, place=site.place(tmp_path / "run")) as cluster:
        found = run(tmp_path / "run", protocol, cluster, patience=Patience(on_loss="replace"), progress=killing(cluster, 13))
    assert [event.what for event in found.events] == ["lost", "replaced"]
    assert found.digests == whole.digests
    assert site.roots(tmp_path / "run") == site.roots(tmp_path / "whole")
    assert site.outcomes(site.verify(tmp_path / "run")) == ["accept"] * 3


def test_a_replaced_node_without_its_records_commits_to_what_is_left(tmp_path):
    """Its folder is gone with it: it has a peer's state, and nothing to show for the steps before. That is said, and isn't accepted."""
    import shutil

    folder = tmp_path / "run"
    with HttpCluster(SPEC, place=site.place(folder)) as cluster:
        kill = killing(cluster, 13)

        def told(row):
            kill(row)
            if row.step == 13:
                shutil.rmtree(folder / "nodes/001")

        run(folder, Gossip(ring(3)), cluster, patience=Patience(on_loss="replace"), progress=told)
    found = site.verify(folder)
    assert site.outcomes(found) == ["inconclusive"] * 3
    assert all("node 1's isn't there" in found.nodes[i].reason for i in (0, 2))
    assert found.nodes[1].covers < 13
    assert "lost at step 13" in found.nodes[1].reason
    assert found.outcome == "inconclusive"


@pytest.mark.parametrize("protocol", [Gossip(ring(3)), Independent()], ids=["gossip", "alone"])
def test_a_node_that_rejoins(protocol, tmp_path):
    """Alone it takes the missed steps again and commits to all; with a peer's state, to those before it was lost."""
    folder = tmp_path / "run"
    with HttpCluster(SPEC, place=site.place(folder)) as cluster:
        deadline = time.monotonic() + 120.0

        def told(row):
            if row.step == 8:
                os.kill(cluster.pids[2], signal.SIGSTOP)
            if row.step == 11:
                os.kill(cluster.pids[2], signal.SIGCONT)
            while row.step == 15 and 2 not in cluster._back and time.monotonic() < deadline:
                time.sleep(0.05)

        done = run(folder, protocol, cluster, patience=Patience(timeout_s=10.0), progress=told)
    assert [(event.node, event.what) for event in done.events] == [(2, "lost"), (2, "rejoined")]
    found = site.verify(folder)
    if isinstance(protocol, Independent):
        assert site.outcomes(found) == ["accept"] * 3
        return
    assert (site.outcomes(found), found.fault) == (["inconclusive"] * 3, "")
    assert found.nodes[2].ballots == 1
    assert found.nodes[2].covers == 8
    assert "it committed to 8 of 24 steps; lost at step 8" in found.nodes[2].reason
    assert all("node 2's isn't there" in each.reason for each in found.nodes[:2])


def test_a_lost_node_has_no_commitment(tmp_path):
    folder = tmp_path / "run"
    with HttpCluster(SPEC, place=site.place(folder)) as cluster:
        run(folder, Gossip(ring(3)), cluster, progress=killing(cluster, 13))
    enrolled = open_run(folder).roster.record.nodes
    assert [bool(each.commitment) for each in enrolled] == [True, False, True]
    found = site.verify(folder)
    assert (site.outcomes(found), found.fault) == (["inconclusive"] * 3, "")
    assert found.nodes[1].reason.startswith("node 1 made no commitment; lost at step 13: down")


def test_a_synchronised_run_that_stopped_goes_on_to_the_same_commitments(tmp_path):
    whole = run(tmp_path / "whole", Synchronised())
    folder = tmp_path / "run"
    with HttpCluster(SPEC, place=site.place(folder)) as cluster, pytest.raises(WorkerLostError, match="node 1 was lost at step 13"):
        run(folder, Synchronised(), cluster, progress=killing(cluster, 13))
    again = run(folder, Synchronised())
    assert again.digests == whole.digests
    assert site.roots(folder) == site.roots(tmp_path / "whole")
    assert site.outcomes(site.verify(folder)) == ["accept"] * 3


RUN = """
import sys
from studbook.cli.main import main
sys.argv = ["studbook", "training", "run", "--objective", "quadratic", "--nodes", "3", "--steps", "300", "--checkpoint-every", "20",
            "--evaluate-every", "0", "--cluster", sys.argv[2], "--out", sys.argv[1], "--format", "json", "--commit", "--commit-every", "7"]
main()
"""


@pytest.mark.parametrize("cluster", ["process", "http"])
def test_a_killed_coordinator_goes_on_to_the_same_commitments(tmp_path, cluster):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", RUN, str(folder), cluster]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120.0
    while not (folder / "checkpoint.bin").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (folder / "roster.json").exists()
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    whole = [sys.executable, "-c", RUN, str(tmp_path / "whole"), "process"]
    assert json.loads(subprocess.run(whole, capture_output=True, text=True, check=True).stdout)["digests"] == told["digests"]
    assert site.roots(folder) == site.roots(tmp_path / "whole")
    assert [each["steps"] for each in told["commitments"]] == [300] * 3
