"""One synchronised step of two processes on a machine: ours (a coordinator that relays, over HTTP) against PyTorch's gloo all-reduce.

Both do the same work besides: a gradient of the quadratic objective, a mean of two, a step of SGD. Gloo's nodes talk to each other and
trust each other; ours are relayed, checked and counted. Rounds of both alternate, so that what else the machine does meets both; the
others wait meanwhile. Flower is in benchmarks/federated.py.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._cpu import cpu_s
from studbook.execution import HttpCluster
from studbook.protocols import InProcess, Optimiser, Patience, Synchronised, Team, TrainingSpec

ROUNDS = 9
SIZES = ((10_000, 200), (1_000_000, 20))

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
for _ in sys.stdin:
    dist.barrier()
    start = time.perf_counter()
    for _ in range(steps):
        state = step(state)
    dist.barrier()
    print((time.perf_counter() - start) / steps, flush=True)
"""


def run() -> list[dict]:
    return [row_of(size, steps) for size, steps in SIZES]


def row_of(size: int, steps: int) -> dict:
    spec = TrainingSpec("quadratic", {"dimension": size, "rows": 20}, nodes=2, batch=1, optimiser=Optimiser(rate=0.01))
    alone = InProcess(spec.build())
    with HttpCluster(spec) as cluster, gloo(size, steps) as peers:
        rounds = [(ours(cluster, steps), theirs(peers, steps), ours(alone, steps)) for _ in range(ROUNDS)]
    mine, peer, here = ([seconds for seconds, _ in column] for column in zip(*rounds, strict=True))
    work = [sum(worked for _, worked in column) / ROUNDS for column in zip(*rounds, strict=True)]
    ratios = sorted(b / a for a, b in zip(mine, peer, strict=True))
    return {
        "name": f"a synchronised step of 2 processes, {size:,} parameters, against gloo",
        "ours_s": statistics.median(mine),
        "peer_s": statistics.median(peer),
        "ratio": statistics.median(ratios),
        "target": None,
        "detail": f"gradient and update included; relayed over HTTP; ratios of {ROUNDS} alternating rounds {ratios[0]:.2f} "
        f"to {ratios[-1]:.2f}; CPU of all processes {1e3 * work[0]:.2f} ms, gloo {1e3 * work[1]:.2f}; "
        f"in one process {1e3 * statistics.median(here):.2f} ms",
    }


def ours(cluster, steps: int) -> tuple[float, float]:
    """Seconds a step, and seconds of CPU in all processes."""
    team = Team(cluster, 0, Patience(on_loss="stop"), "peer")
    team.begin()
    for k in range(steps + 3):
        if k == 3:
            start, worked = time.perf_counter(), cpu_s()
        Synchronised().step(team)
        team.step += 1
    taken = time.perf_counter() - start
    return taken / steps, (cpu_s() - worked) / steps


@contextmanager
def gloo(size: int, steps: int) -> Iterator[list[subprocess.Popen]]:
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(size), str(steps), str(Path(folder, "meeting"))]
        peers = [
            subprocess.Popen([sys.executable, "-c", GLOO, str(rank), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for rank in (0, 1)
        ]
        try:
            theirs(peers, steps)  # it has started
            yield peers
            for peer in peers:
                peer.communicate(timeout=60)
        finally:
            for peer in peers:
                peer.kill()


def theirs(peers: list[subprocess.Popen], steps: int) -> tuple[float, float]:
    """Seconds a step, and seconds of CPU in both processes."""
    pids = [peer.pid for peer in peers]
    worked = cpu_s(pids)
    for peer in peers:
        peer.stdin.write("\n")
        peer.stdin.flush()
    taken = max(float(peer.stdout.readline()) for peer in peers)
    return taken, (cpu_s(pids) - worked) / steps
