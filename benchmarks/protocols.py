"""One synchronised step of two processes on loopback: ours (a coordinator that relays, over HTTP) against PyTorch's gloo all-reduce.

Both do the same work besides: a gradient of the quadratic objective, a mean of two, a step of SGD. Gloo's nodes talk to each other and
trust each other; ours are relayed, checked and counted. Flower is in benchmarks/federated.py.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from studbook.execution import HttpCluster
from studbook.protocols import InProcess, Optimiser, Patience, Synchronised, Team, TrainingSpec

ROUNDS = 3
SIZES = ((10_000, 100), (1_000_000, 10))

GLOO = """
import sys, time
import torch, torch.distributed as dist
from studbook.protocols import Optimiser, TrainingSpec
torch.set_num_threads(1)
rank, size, steps, meeting = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
spec = TrainingSpec("quadratic", {"dimension": size, "rows": 20}, nodes=2, batch=1, optimiser=Optimiser(rate=0.01))
node = spec.node(rank)
state = node.begin()
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
def step(state):
    gradient = torch.from_numpy(node.gradient_at(state).parameters["w"])
    dist.all_reduce(gradient)
    return node.apply(state, {"w": gradient.numpy() / 2})
for _ in range(3):
    state = step(state)
for _ in range(int(sys.argv[5])):
    dist.barrier()
    start = time.perf_counter()
    for _ in range(steps):
        state = step(state)
    dist.barrier()
    if rank == 0:
        print((time.perf_counter() - start) / steps)
"""


def run() -> list[dict]:
    return [row_of(size, steps) for size, steps in SIZES]


def row_of(size: int, steps: int) -> dict:
    spec = TrainingSpec("quadratic", {"dimension": size, "rows": 20}, nodes=2, batch=1, optimiser=Optimiser(rate=0.01))
    with HttpCluster(spec) as cluster:
        own = [(ours(cluster, steps), ours(InProcess(spec.build()), steps)) for _ in range(ROUNDS)]
    pairs = [(over_http, peer, here) for (over_http, here), peer in zip(own, gloo(size, steps), strict=True)]
    mine, theirs, here = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "name": f"a synchronised step of 2 processes on loopback, {size:,} parameters, against gloo",
        "ours_s": mine,
        "peer_s": theirs,
        "ratio": theirs / mine,
        "target": None,
        "detail": f"gradient and update included; relayed by a coordinator over HTTP; in one process {1e3 * here:.2f} ms; "
        f"ratios of {ROUNDS} rounds: {', '.join(f'{peer / own:.2f}' for own, peer, _ in pairs)}",
    }


def ours(cluster, steps: int) -> float:
    team = Team(cluster, 0, Patience(on_loss="stop"), "peer")
    team.begin()
    for k in range(steps + 3):
        if k == 3:
            start = time.perf_counter()
        Synchronised().step(team)
        team.step += 1
    return (time.perf_counter() - start) / steps


def gloo(size: int, steps: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(size), str(steps), str(Path(folder, "meeting")), str(ROUNDS)]
        processes = [
            subprocess.Popen([sys.executable, "-c", GLOO, str(rank), *arguments], stdout=subprocess.PIPE, text=True) for rank in (0, 1)
        ]
        told = [process.communicate(timeout=300)[0] for process in processes]
    return [float(line) for line in told[0].split()]
