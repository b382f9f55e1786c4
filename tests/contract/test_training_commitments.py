"""What nodes commit to in this process, over HTTP and on Ray: the same roots; and each signs with a key that its own process drew."""

from __future__ import annotations

import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from studbook.execution import HttpCluster, RayCluster
from studbook.protocols import Choice, Federated, Gossip, Independent, Local, Selection, Synchronised, TrainingSpec, ring
from studbook.protocols.committed_run import open_run

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import committed_site as site

PROTOCOLS = [Independent(), Synchronised(), Local(3), Gossip(ring(3)), Gossip(ring(3), "neighbours"), Federated(2, epochs=2)]
SLICED = TrainingSpec("mlp", {"data": "digits", "hidden": 8, "limit": 300}, nodes=3, batch=16)
SLICES = [Federated(2, selection=Selection({"neurons": Choice(3, "random")})), Federated(2, selection=Selection({"neurons": Choice(3)}))]


def check(folder: Path, opened: Callable[[Path], object], protocols=PROTOCOLS, spec: TrainingSpec = site.SPEC) -> None:
    """One cluster for all protocols: each run's folder is moved away before the next begins."""
    there = folder / "there"
    with opened(there) as cluster:
        for number, protocol in enumerate(protocols):
            here = folder / f"here-{number}"
            expected = site.commit(here, protocol, 9, spec=spec)
            found = site.commit(there, protocol, 9, cluster=cluster, spec=spec)
            assert found.digests == expected.digests
            assert site.roots(there) == site.roots(here)
            assert sorted(site.roots(there)) == [0, 1, 2]
            assert (there / "contacts.jsonl").read_bytes() == (here / "contacts.jsonl").read_bytes()
            assert site.outcomes(site.verify(there)) == ["accept"] * 3
            keys = {each.key for each in open_run(there).roster.record.nodes}
            assert len(keys) == 3
            assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in (there / "keys").iterdir())
            moved = folder / f"there-{number}"
            there.rename(moved)
            shutil.copytree(moved / "keys", there / "keys")


def test_over_http(tmp_path):
    check(tmp_path, lambda there: HttpCluster(site.SPEC, place=site.place(there)))


def test_slices_over_http(tmp_path):
    check(tmp_path, lambda there: HttpCluster(SLICED, place=site.place(there)), SLICES, SLICED)


@pytest.mark.ray
def test_slices_on_ray(tmp_path):
    pytest.importorskip("ray")
    check(tmp_path, lambda there: RayCluster(SLICED, place=site.place(there), workers=2), SLICES, SLICED)


@pytest.mark.ray
def test_on_ray(tmp_path):
    pytest.importorskip("ray")
    check(tmp_path, lambda there: RayCluster(site.SPEC, place=site.place(there), workers=2))
