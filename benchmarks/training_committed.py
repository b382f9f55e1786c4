"""What it costs that every node of a run commits to its training, and to verify them all: a table of docs/guides/training-verification.md.

    python -m benchmarks.training_committed

CPU seconds of this process, which all nodes share, so that a busy machine shows less; set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from studbook.execution.threads import single_threaded
from studbook.protocols import Gossip, Independent, InProcess, Local, Optimiser, Plan, Protocol, Synchronised, TrainingSpec, ring, train
from studbook.protocols.committed_run import NODES, open_run
from studbook.protocols.committing import Commit
from studbook.protocols.inspection import Draw, inspect_run
from studbook.protocols.recorder import Place
from studbook.provenance import SigningKey

SPEC = TrainingSpec("mlp", {"data": "mnist5k", "hidden": 64}, nodes=4, batch=128, optimiser=Optimiser(rate=0.05))
STEPS, EVERY, DRAW, RUNS = 1800, 1, Draw(90, 0.99, 0.05), 2


def main() -> None:
    parameters = sum(value.size for value in SPEC.node(0).begin().parameters.values())
    print(f"{SPEC.nodes} nodes, {parameters:,} parameters, batch {SPEC.batch}, {STEPS:,} steps, a state every {EVERY}, 90 replayed")
    print("| protocol | training | committing, on top | verifying: one verifier, all nodes | steps again | contacts made again |")
    print("|---|---:|---:|---:|---:|---:|")
    with single_threaded():
        for name, protocol in (
            ("independent", Independent()), ("synchronised", Synchronised()), ("local, k = 10", Local(10)),
            ("gossip, ring, pairs", Gossip(ring(4))), ("gossip, ring, neighbours", Gossip(ring(4), "neighbours")),
        ):  # fmt: skip
            print(_row(name, protocol), flush=True)


def _row(name: str, protocol: Protocol) -> str:
    """The cheapest of several runs without and with the switch, in turn: what else the machine does only adds to them."""
    plain, committed, verified = [], [], []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            plain.append(_trained(protocol, Path(folder) / "off", None))
            committed.append(_trained(protocol, Path(folder) / "on", Commit(EVERY, SigningKey.generate())))
            began = time.process_time()
            found = inspect_run(open_run(Path(folder) / "on"), DRAW, [SigningKey.generate()])
            verified.append(time.process_time() - began)
        assert found.outcome == "accept", found
    training, share = min(plain), found.nodes[0].taken / STEPS
    contacts = sum(each.confirmed for each in found.nodes)
    return (
        f"| {name} | {training:.2f} s | {min(committed) / training - 1:.0%} | {min(verified) / training:.1%} | {share:.1%} | {contacts} |"
    )


def _trained(protocol: Protocol, folder: Path, commit: Commit | None) -> float:
    cluster = InProcess(SPEC.build(), Place(folder / NODES, folder / "keys"))
    plan = Plan(STEPS, checkpoint_every=STEPS, spread_every=STEPS, settings={"spec": SPEC.plain()})
    began = time.process_time()
    train(cluster, protocol, plan, folder=folder, commit=commit)
    return time.process_time() - began


if __name__ == "__main__":
    main()
