"""Federated rounds beside Flower's simulation on Ray, at equal work.

Flower lives in an environment of its own (``make .venv-flower/.ready``), as its requirements aren't ours. Both sides hold the same rows
by client, begin with the same parameters, and do the same local steps in NumPy. Flower may use all cores; ours takes one for a small
model (clients in this process), and all for a large one (a process each, over HTTP). Start, two rounds and loading data aren't counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._cpu import cpu_s
from studbook.execution.training import open_cluster
from studbook.protocols import Federated, Optimiser, Plan, TrainingSpec, train

FLOWER = Path(__file__).resolve().parent.parent / ".venv-flower" / "bin" / "python"
INSTALL = "make .venv-flower/.ready"
WHERE = {"process": "ours on one core", "http": "ours a process each"}
CLIENTS, DRAWN, ROUNDS, BATCH, RATE = 20, 10, 20, 16, 0.1
JOBS = (("digits", 64, 1, "process"), ("mnist5k", 256, 4, "http"))


def run() -> list[dict]:
    if not FLOWER.is_file():
        print(f"benchmarks.federated: Flower isn't installed; {INSTALL}", file=sys.stderr)
        return []
    return [compare(*job) for job in JOBS]


def compare(data: str, hidden: int, epochs: int, where: str) -> dict:
    spec = TrainingSpec(
        "mlp", {"data": data, "hidden": hidden}, nodes=CLIENTS, batch=BATCH, optimiser=Optimiser(rate=RATE), split="label", skew=1.0
    )  # fmt: skip
    nodes = spec.build()
    protocol, ours, worked = Federated(DRAWN, epochs), np.inf, np.inf
    with open_cluster(where, spec) as cluster:
        train(cluster, protocol, Plan(2))
        for _ in range(3):
            begun, busy = time.perf_counter(), cpu_s()
            found = train(cluster, protocol, Plan(ROUNDS))
            ours, worked = min(ours, time.perf_counter() - begun), min(worked, cpu_s() - busy)
    peer = flower(nodes[0].objective, [node.rows for node in nodes], epochs)
    detail = (
        f"{data}, {hidden} neurons, {CLIENTS} clients, {DRAWN} a round, epochs: {epochs}; {WHERE[where]}; {ROUNDS / ours:.1f} rounds a "
        f"second, Flower {ROUNDS / peer['seconds']:.2f}; CPU of all processes {worked:.1f} s, Flower's {peer['cpu_s']:.1f} s; "
        f"accuracy {found.measures['accuracy']:.3f} and {peer['accuracy']:.3f}"
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
