"""Federated rounds beside Flower's simulation on Ray, at equal work.

Flower lives in an environment of its own (``make .venv-flower/.ready``), as its requirements aren't ours. Both sides hold the same rows
by client, begin with the same parameters, and do the same local steps in NumPy. Flower may use all cores; ours uses one with clients in
this process, and all with a process each. Start, two rounds and the loading of data aren't counted.
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
from studbook.execution import HttpCluster
from studbook.protocols import Federated, InProcess, Optimiser, Plan, TrainingSpec, train

FLOWER = Path(__file__).resolve().parent.parent / ".venv-flower" / "bin" / "python"
INSTALL = "make .venv-flower/.ready"
CLIENTS, DRAWN, ROUNDS, BATCH, RATE = 20, 10, 20, 16, 0.1
JOBS = (("digits", 64, 1), ("mnist5k", 256, 4))
START_S = 900.0


def run() -> list[dict]:
    if not FLOWER.is_file():
        print(f"benchmarks.federated: Flower isn't installed; {INSTALL}", file=sys.stderr)
        return []
    return [row for job in JOBS for row in compare(*job)]


def compare(data: str, hidden: int, epochs: int) -> list[dict]:
    rates = Optimiser(rate=RATE)
    spec = TrainingSpec("mlp", {"data": data, "hidden": hidden}, CLIENTS, batch=BATCH, optimiser=rates, split="label", skew=1.0)
    nodes = spec.build()
    found = {"clients in one process": ours(InProcess(nodes), epochs)}
    with HttpCluster(spec, start_timeout_s=START_S) as cluster:
        found["a process for each client, over HTTP"] = ours(cluster, epochs)
    peer = flower(nodes[0].objective, [node.rows for node in nodes], epochs)
    return [row_of(f"{data}, {hidden} neurons, epochs: {epochs}", where, mine, peer) for where, mine in found.items()]


def ours(cluster, epochs: int) -> dict:
    """The better of two runs."""
    train(cluster, Federated(DRAWN, epochs), Plan(2))
    runs = []
    for _ in range(2):
        begun, worked = time.perf_counter(), cpu_s()
        found = train(cluster, Federated(DRAWN, epochs), Plan(ROUNDS))
        runs.append({"seconds": time.perf_counter() - begun, "cpu_s": cpu_s() - worked, "accuracy": found.measures["accuracy"]})
    return min(runs, key=lambda run: run["seconds"])


def row_of(job: str, where: str, mine: dict, peer: dict) -> dict:
    detail = (
        f"{CLIENTS} clients, {DRAWN} a round; {ROUNDS / mine['seconds']:.1f} rounds a second, Flower {ROUNDS / peer['seconds']:.2f}; "
        f"CPU of all processes {mine['cpu_s']:.1f} s, Flower's {peer['cpu_s']:.1f} s; "
        f"accuracy {mine['accuracy']:.3f} and {peer['accuracy']:.3f}"
    )
    return {
        "name": f"federated rounds, {job}, {where}, against Flower's simulation", "ours_s": mine["seconds"], "peer_s": peer["seconds"],
        "ratio": peer["seconds"] / mine["seconds"], "target": 1.0, "detail": detail,
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
