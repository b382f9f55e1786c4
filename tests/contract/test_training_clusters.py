"""The same run in this process, in processes over HTTP and on Ray: the same numbers to the bit."""

from __future__ import annotations

import pytest

from studbook.execution import HttpCluster, RayCluster
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

SPEC = TrainingSpec("softmax", {"data": "digits", "limit": 400}, nodes=3, batch=16, optimiser=Optimiser("adam", rate=0.01))
PROTOCOLS = [Independent(), Synchronised(), Local(3), Gossip(ring(3)), Gossip(ring(3), "neighbours"), Federated(clients=3)]
PLAN = Plan(steps=8, evaluate_every=4)


def check(cluster) -> None:
    for protocol in PROTOCOLS:
        here = train(InProcess(SPEC.build()), protocol, PLAN)
        there = train(cluster, protocol, PLAN)
        assert there.digests == here.digests
        assert list(there.rows) == list(here.rows)
        assert list(there.evaluations) == list(here.evaluations)
        assert list(there.predicted) == list(here.predicted)
        assert not there.events


def test_over_http():
    with HttpCluster(SPEC) as cluster:
        check(cluster)


@pytest.mark.ray
def test_on_ray():
    pytest.importorskip("ray")
    with RayCluster(SPEC, workers=2) as cluster:
        check(cluster)
        check_losses(cluster)


def check_losses(cluster) -> None:
    """An actor that is killed is left out, and one that takes its place changes nothing."""
    import ray

    def kill(row):
        if row.step == 3:
            ray.kill(cluster._actors[1])

    whole = train(InProcess(SPEC.build()), Synchronised(), PLAN)
    replaced = train(cluster, Synchronised(), PLAN, patience=Patience(on_loss="replace"), progress=kill)
    assert replaced.digests == whole.digests
    assert [event.what for event in replaced.events] == ["lost", "replaced"]
    left = train(cluster, Gossip(ring(3)), PLAN, progress=kill)
    assert sorted(left.parameters) == [0, 2]
    assert [(event.node, event.what) for event in left.events] == [(1, "lost")]
