"""Federated rounds: clients in this process beside Flower's simulation on Ray, at equal work.

Flower lives in an environment of its own (``make .venv-flower/.ready``), as its requirements aren't ours. Both sides hold the same rows
by client, begin with the same parameters, and do the same local steps in NumPy; Flower may use all cores, ours uses one. Its start, two
rounds and the loading of data aren't counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from studbook.protocols import Federated, InProcess, Node, Optimiser, Plan, train
from studbook.protocols.objectives import open_objective
from studbook.protocols.partition import Partition

FLOWER = Path(__file__).resolve().parent.parent / ".venv-flower" / "bin" / "python"
INSTALL = "make .venv-flower/.ready"
CLIENTS, DRAWN, ROUNDS, BATCH, RATE = 20, 10, 20, 16, 0.1
JOBS = (("digits", 64, 1), ("mnist5k", 256, 4))


def run() -> list[dict]:
    if not FLOWER.is_file():
        print(f"benchmarks.federated: Flower isn't installed; {INSTALL}", file=sys.stderr)
        return []
    return [compare(*job) for job in JOBS]


def compare(data: str, hidden: int, epochs: int) -> dict:
    objective = open_objective("mlp", {"data": data, "hidden": hidden})
    parts = Partition("label", alpha=1.0).split(objective, CLIENTS, seed=0)
    cluster = InProcess([Node(i, objective, rows, BATCH, Optimiser(rate=RATE), 0) for i, rows in enumerate(parts)])
    ours, found = np.inf, None
    for _ in range(3):
        begun = time.perf_counter()
        found = train(cluster, Federated(DRAWN, epochs), Plan(ROUNDS))
        ours = min(ours, time.perf_counter() - begun)
    peer = flower(objective, parts, epochs)
    detail = (
        f"{data}, {hidden} neurons, {CLIENTS} clients, {DRAWN} a round, epochs: {epochs}; {ROUNDS / ours:.1f} rounds a second, "
        f"Flower {ROUNDS / peer['seconds']:.2f}; accuracy {found.measures['accuracy']:.3f} and {peer['accuracy']:.3f}"
    )
    return {
        "name": "federated rounds, Flower's simulation", "ours_s": ours, "peer_s": peer["seconds"], "ratio": peer["seconds"] / ours,
        "target": 1.0, "detail": detail,
    }  # fmt: skip


def flower(objective, parts: tuple[np.ndarray, ...], epochs: int) -> dict:
    from studbook.rng import stream

    pictures = objective.pictures
    job = {
        "x": pictures.flat, "labels": pictures.labels, "held_x": pictures.held_flat, "held_labels": pictures.held_labels,
        "clients": CLIENTS, "drawn": DRAWN, "rounds": ROUNDS, "batch": BATCH, "rate": RATE, "epochs": epochs,
        **objective.initial(rng=stream(0, "initial")), **{f"rows_{i}": rows for i, rows in enumerate(parts)},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "job.npz", Path(folder) / "out.json"
        np.savez(file, **job)
        script = Path(__file__).with_name("_flower_peer.py")
        done = subprocess.run([str(FLOWER), str(script), str(file), str(out)], capture_output=True, text=True, timeout=600, check=False)
        if not out.is_file():
            raise RuntimeError(f"Flower's simulation ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return json.loads(out.read_text())


if __name__ == "__main__":
    for line in run():
        print(f"{line['ratio']:.1f} × ({line['detail']})")
