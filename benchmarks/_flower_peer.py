"""Flower's simulation, run by ``benchmarks.federated`` with the Python of its own environment: JOB.npz OUT.json.

The job holds each client's rows, the start, and how; the client does what ours does, in NumPy. Nothing of studbook is imported.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from _cpu import cpu_s

NAMES = ("inner", "inner_bias", "outer", "outer_bias")
JOB, OUT = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
client_app, server_app = ClientApp(), ServerApp()
_LOADED: dict = {}


def load(path: str) -> dict:
    if path not in _LOADED:
        with np.load(path) as file:
            _LOADED[path] = dict(file)
    return _LOADED[path]


def slopes(part: dict, x: np.ndarray, labels: np.ndarray) -> dict:
    hidden = np.maximum(x @ part["inner"] + part["inner_bias"], 0)
    logits = hidden @ part["outer"] + part["outer_bias"]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(labels)), labels] -= 1
    shares /= np.float32(len(labels))
    back = (shares @ part["outer"].T) * (hidden > 0)
    return {"inner": x.T @ back, "inner_bias": back.sum(axis=0), "outer": hidden.T @ shares, "outer_bias": shares.sum(axis=0)}


@client_app.train()
def train(message: Message, context: Context) -> Message:
    job = load(str(JOB))
    rows = job[f"rows_{context.node_config['partition-id']}"]
    part = dict(zip(NAMES, (np.array(value) for value in message.content["arrays"].to_numpy_ndarrays()), strict=True))
    batch, rate, rng = int(job["batch"]), np.float32(job["rate"]), np.random.default_rng(0)
    for _ in range(int(job["epochs"])):
        order = rng.permutation(rows)
        for first in range(0, len(order), batch):
            chosen = order[first : first + batch]
            for name, slope in slopes(part, job["x"][chosen], job["labels"][chosen]).items():
                part[name] -= rate * slope
    content = {"arrays": ArrayRecord([part[name] for name in NAMES]), "metrics": MetricRecord({"num-examples": len(rows)})}
    return Message(content=RecordDict(content), reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    job = load(str(JOB))
    n, drawn, rounds = int(job["clients"]), int(job["drawn"]), int(job["rounds"])
    strategy = FedAvg(fraction_train=drawn / n, fraction_evaluate=0.0, min_train_nodes=drawn, min_available_nodes=n)
    start = ArrayRecord([job[name] for name in NAMES])
    strategy.start(grid=grid, initial_arrays=start, num_rounds=2)  # its workers start and load the data
    begun, worked = time.perf_counter(), cpu_s()
    result = strategy.start(grid=grid, initial_arrays=start, num_rounds=rounds)
    seconds, worked = time.perf_counter() - begun, cpu_s() - worked
    part = dict(zip(NAMES, result.arrays.to_numpy_ndarrays(), strict=True))
    hidden = np.maximum(job["held_x"] @ part["inner"] + part["inner_bias"], 0)
    right = (hidden @ part["outer"] + part["outer_bias"]).argmax(axis=1) == job["held_labels"]
    OUT.write_text(json.dumps({"seconds": seconds, "cpu_s": worked, "accuracy": float(right.mean())}))


if __name__ == "__main__":
    run_simulation(server_app, client_app, int(load(str(JOB))["clients"]), backend_config={"client_resources": {"num_cpus": 1}})
