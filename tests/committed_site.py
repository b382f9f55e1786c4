"""A run whose nodes commit to their training, in a folder; and what a test changes in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from studbook.protocols import InProcess, Optimiser, Patience, Plan, Protocol, TrainingRun, TrainingSpec, train
from studbook.protocols.committed_run import NODES, open_run
from studbook.protocols.committing import Commit
from studbook.protocols.inspection import Draw, Inspection, inspect_run
from studbook.protocols.recorder import Place
from studbook.provenance import SigningKey

SPEC = TrainingSpec("softmax", {"data": "digits", "limit": 400}, nodes=3, batch=16, optimiser=Optimiser("adam", rate=0.01))
COORDINATOR = SigningKey.generate()
VOTERS = [SigningKey.generate() for _ in range(3)]
ALL = Draw(1 << 20, 0.99, 0.05)


def place(folder: Path) -> Place:
    return Place(folder / NODES, folder / "keys")


def commit(
    folder: Path, protocol: Protocol, steps: int = 12, *, spec: TrainingSpec = SPEC, every: int = 4, checkpoint_every: int = 5,
    cluster=None, progress=None, patience: Patience | None = None,
) -> TrainingRun:  # fmt: skip
    """Train; nodes in this process unless a cluster is given."""
    where = InProcess(spec.build(), place(folder)) if cluster is None else cluster
    plan = Plan(steps, spec.seed, checkpoint_every=checkpoint_every, settings={"spec": spec.plain()})
    return train(where, protocol, plan, patience=patience, folder=folder, progress=progress, commit=Commit(every, COORDINATOR))


def verify(folder: Path, draw: Draw = ALL, n: int = 1) -> Inspection:
    return inspect_run(open_run(folder, coordinator=COORDINATOR.public), draw, VOTERS[:n])


def outcomes(found: Inspection) -> list[str]:
    return [str(each.outcome) for each in found.nodes]


def roots(folder: Path) -> Mapping[int, str]:
    run = open_run(folder)
    return {i: run.commitment(i).record.root for i, each in enumerate(run.roster.record.nodes) if each.commitment}
