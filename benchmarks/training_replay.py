"""What it costs to verify training by replaying steps, and what keys leak: the measured tables of docs/guides/training-verification.md.

    python -m benchmarks.training_replay [cost] [detection] [slices] [tolerance] [leak]

CPU seconds of this process, so that a busy machine shows less; set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from blake3 import blake3

from studbook.protocols.attacks import CopyNeighbour, Scaling, SkipSteps, StaleWeights, View
from studbook.protocols.commit import Committer
from studbook.protocols.eavesdropping import key_leak
from studbook.protocols.kept import load_records, update_name
from studbook.protocols.node import Node, Optimiser
from studbook.protocols.objectives import open_objective
from studbook.protocols.partition import split_by_document
from studbook.protocols.replay import Assignment, ReplayVerifier, bit_for_bit, drawn_steps
from studbook.protocols.retrace import show_steps
from studbook.protocols.select import Choice, choose_keys
from studbook.protocols.slices import OnSlice
from studbook.protocols.stores import MemoryStore
from studbook.protocols.tolerance import Bf16, calibrate_replay
from studbook.protocols.values import digest, encode
from studbook.provenance import Signed, SigningKey
from studbook.records import Environment, TrainingCommitment
from studbook.rng import stream
from studbook.theory import ReplayCosts, clopper_pearson, found_false, verifying_share
from studbook.verification.calibration import Target
from studbook.verification.quorum import new_round

RUN, KEY = 32 * "1", SigningKey.generate()
TEXT = Path(__file__).resolve().parents[2] / "shared" / "data" / "wikitext-2" / "valid.txt"
DRAWN = 90


def cost() -> None:
    """Verifying as a share of training, for models, batches, lengths and distances of kept states; beside theory, from its pieces."""
    cnn, mlp, small = ("cnn", {}), ("mlp", {"hidden": 512}), ("mlp", {"hidden": 64})
    print(_speeds())
    print("| model | parameters | batch | steps | a state every | training | committing | answering | verifying | theory | steps again |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for (name, settings), batch, steps, every in (
        (small, 32, 1800, 1), (small, 32, 7200, 20), (small, 256, 7200, 100), (mlp, 64, 600, 1), (mlp, 64, 4200, 20), (mlp, 256, 2700, 20),
        (cnn, 32, 2400, 5),
    ):  # fmt: skip
        objective = open_objective(name, {"data": "mnist5k", **settings})
        node = Node(0, objective, np.arange(objective.n_rows), batch, Optimiser(rate=0.05), 0)
        print(_cost_row(name, node, steps, every), flush=True)


def _cost_row(name: str, node: Node, steps: int, every: int) -> str:
    size = sum(value.size for value in node.begin().parameters.values())
    store, round_ = MemoryStore(), new_round()
    plain, committed, signed = _side_by_side(node, Committer(node, store, every=every, run=RUN), steps)
    began = time.process_time()
    if every > 1:  # the node's answer: the states before the drawn steps
        show_steps(node, store, signed.record, drawn_steps(signed.record, round_, DRAWN))
    answered = time.process_time() - began
    verified, taken = _verified(node, signed, store, round_)
    costs = ReplayCosts(*(seconds * steps / plain for seconds in _pieces(node)))
    return (
        f"| {name} | {size:,} | {node.batch} | {steps:,} | {every} | {plain:.2f} s | {committed / plain - 1:.0%} "
        f"| {answered / plain if every > 1 else 0.0:.0%} | {verified / plain:.1%} | {verifying_share(DRAWN, steps, costs=costs):.1%} "
        f"(q {costs.digest:.3f}, r {costs.record:.4f}) | {taken / steps:.1%} |"
    )


def _side_by_side(node: Node, committer: Committer, steps: int) -> tuple[float, float, Signed[TrainingCommitment]]:
    """Seconds of training without and with committing: twenty steps of each in turn, as other work on the machine comes and goes."""
    Committer(node, MemoryStore(), every=1, run=RUN).train(3, KEY)  # what is imported and built once in a process
    state, kept = node.begin(), committer.begin()
    plain = committed = 0.0
    while state.step < steps:
        began = time.process_time()
        for _ in range(20):
            state = node.apply(state, node.gradient_at(state).parameters)
        turn = time.process_time()
        for _ in range(20):
            kept = committer.step(kept)
        plain, committed = plain + turn - began, committed + time.process_time() - turn
    began = time.process_time()
    signed = committer.finish(kept, KEY)
    return plain, committed + time.process_time() - began, signed


def _verified(node: Node, signed: Signed[TrainingCommitment], store: MemoryStore, round_: str) -> tuple[float, int]:
    """Seconds of an examination, its preparation among them, median of three; and the steps that it took again."""
    times = []
    for _ in range(3):
        began = time.process_time()
        found = ReplayVerifier(Assignment(node, RUN, signed.record.steps), bit_for_bit(node, DRAWN)).examine(signed, store, round_)
        times.append(time.process_time() - began)
        assert found.ballot.accepts
    return sorted(times)[1], found.cost.taken


def _pieces(node: Node) -> tuple[float, float]:
    """Seconds of digesting the parameters once, and of reading the record of a step."""
    states = [node.begin().parameters for _ in range(20)]  # not always the same memory
    began = time.process_time()
    for each in 3 * states:
        digest(each)
    once = (time.process_time() - began) / 60
    store = MemoryStore()
    signed = Committer(node, store, every=10, run=RUN).train(100, KEY)
    began = time.process_time()
    for _ in range(20):
        assert len(list(load_records(store, signed.record).links())) == 100
    return once, (time.process_time() - began) / 2000


def _speeds() -> str:
    """What bounds it all: bytes that are digested in a second."""
    found = []
    for name, function in (("BLAKE3", blake3), ("SHA-256", hashlib.sha256)):
        for size in (1 << 14, 200_000, 1_600_000, 1 << 26):
            data, times, began = bytes(size), max(1, (1 << 28) // size), time.process_time()
            for _ in range(times):
                function(data).digest()
            found.append(f"{name} {size / 1e6:.2g} MB: {times * size / (time.process_time() - began) / 1e9:.2f} GB/s")
    return "; ".join(found)


def detection() -> None:
    """How often a verifier rejects a node with some false steps, beside theory."""
    steps, rounds, began = 200, 200, time.process_time()
    print("| false steps | replayed | rejected (95 %) | theory | steps taken again |\n|---:|---:|---:|---:|---:|")
    node = Node(0, open_objective("softmax", {"data": "digits"}), np.arange(400), 16, Optimiser(rate=0.1), 0)
    for false_steps in (0, 2, 10, 40):
        store, signed = _with_false_steps(node, steps, false_steps)
        for drawn in (10, 30, 90):
            verifier = ReplayVerifier(Assignment(node, RUN, steps), bit_for_bit(node, drawn))
            found = [verifier.examine(signed, store, f"{i:032x}") for i in range(rounds)]
            rejected = sum(not each.ballot.accepts for each in found)
            low, high = clopper_pearson(rejected, rounds, 0.95)
            print(
                f"| {false_steps / steps:.0%} | {drawn} | {rejected / rounds:.3f} ({low:.3f}–{high:.3f}) "
                f"| {found_false(drawn, false_steps, steps):.3f} | {drawn / steps:.0%} |"
            )
    print(f"\n{rounds} rounds each, {steps} steps; {time.process_time() - began:.0f} s of CPU")


def _with_false_steps(node: Node, steps: int, false_steps: int) -> tuple[MemoryStore, Signed[TrainingCommitment]]:
    """A node that sends its last update again in some of its steps."""
    skipped = set(stream(1, "skipped").choice(np.arange(1, steps), size=false_steps, replace=False).tolist())
    store = MemoryStore()
    committer = Committer(node, store, every=1, run=RUN)
    state = committer.begin()
    update = node.gradient_at(state).parameters
    while state.step < steps:
        update = update if state.step in skipped else node.gradient_at(state).parameters
        state = committer.record(state, update, node.apply(state, update))
    return store, committer.finish(state, KEY)


def slices() -> None:
    """Bytes and seconds of verifying a node that holds a slice."""
    print("| objective | slice | parameters | a state | read by the verifier | verifying 20 of 100 steps |")
    print("|---|---:|---:|---:|---:|---:|")
    jobs = [("mlp", {"data": "mnist5k", "hidden": 512}, "neurons", (8, 32, 128, 512))]
    jobs.append(("tags", {"data": str(TEXT), "vocabulary": 10_000}, "words", (100, 300, 1000, 3000, 10_000)))
    for name, settings, group, sizes in jobs:
        objective = open_objective(name, settings)
        whole = objective.initial(rng=stream(0, "initial"))
        rows = np.arange(min(200, objective.n_rows))
        for m in sizes:
            sliced = OnSlice(objective, {group: objective.frequent_keys(rows, group, m)}, whole)
            node, store = Node(0, sliced, rows, 16, Optimiser(), 0), MemoryStore()
            signed = Committer(node, store, every=1, run=RUN).train(100, KEY)
            found = ReplayVerifier(Assignment(node, RUN, 100), bit_for_bit(node, 20)).examine(signed, store, new_round())
            size = sum(value.size for value in node.begin().parameters.values())
            state = len(store.kept["state-00000000.bin"])
            read = f"{found.cost.bytes_read / 1e6:.2f} MB | {found.cost.cpu_s:.3f} s"
            print(f"| {name} | {m:,} {group} | {size:,} | {state / 1e3:,.0f} kB | {read} |")


def tolerance() -> None:
    """How far honest steps in bf16 are from a replay in fp32, and how far false ones."""
    objective = open_objective("mlp", {"data": "digits", "hidden": 64})
    places = Environment(dtype="bf16"), Environment()

    def node(seed: int) -> Node:
        return Node(0, objective, np.arange(400), 32, Optimiser(rate=0.1), seed)

    def bf16(each: Node) -> Node:
        return replace(each, objective=Bf16(each.objective))

    target = Target(0.05, 0.95)
    found = calibrate_replay([bf16(node(seed)) for seed in range(93)], node_back, steps=60, drawn=10, target=target, environments=places)
    print(f"limit {found.limit:.4f}: {found.false_alarm:.0%} false alarms at most, confidence {found.confidence}, {found.units} runs")
    print("| node | runs | rejected | smallest and largest distance of a run |\n|---|---:|---:|---|")
    cheats = {"honest, bf16": None, "scaling by 1.1": Scaling(1.1), "a neighbour's update": CopyNeighbour()}
    cheats |= {"weights of 20 steps ago": StaleWeights(20), "half of the steps skipped": SkipSteps(0.5)}
    for name, cheat in cheats.items():
        values = [_examined(node(1000 + seed), bf16(node(1000 + seed)), cheat, found, places[0]) for seed in range(20)]
        rejected = sum(value > found.limit * (1 + 1e-9) for value in values)
        print(f"| {name} | {len(values)} | {rejected} | {min(values):.4f} to {max(values):.4f} |")


def node_back(each: Node) -> Node:
    return replace(each, objective=each.objective.objective)


def _examined(node: Node, own: Node, cheat, calibration, place: Environment) -> float:
    """The largest distance among the drawn steps, as a verifier finds it from what the node shows."""
    other = replace(own, index=1, rows=np.arange(400, 800))
    store = MemoryStore()
    committer = Committer(own, store, every=1, run=RUN, environment=place)
    state, past, sent = committer.begin(), [], None
    while state.step < 60:
        view = View(own, state, [other.gradient_at(state).parameters] if cheat else [], past, sent)
        sent = view.honest() if cheat is None else cheat.update(view)
        store.put(update_name(state.step), encode(sent))
        past.append(state)
        state = committer.record(state, sent, own.apply(state, sent))
    signed = committer.finish(state, KEY)
    found = ReplayVerifier(Assignment(node, RUN, 60), calibration).examine(signed, store, new_round())
    return found.ballot.checks[0].value


def leak() -> None:
    """What the keys of clients that hold articles of WikiText-2 tell of their words, and of who they are."""
    objective = open_objective("tags", {"data": str(TEXT), "vocabulary": 10_000})
    rng = np.random.default_rng(0)
    parts = split_by_document(objective.documents, 20, rng=rng)
    nodes = [Node(i, objective, rows, 16, Optimiser(), 0) for i, rows in enumerate(parts)]
    bags = [objective.rows.take(rows).places["bag"] for rows in parts]
    counts = [np.bincount(bag[bag >= 0], minlength=10_000) for bag in bags]
    print("| keys | m | of the client's 100 first words | guessed without keys | keys that it has | bits a key | identified |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for how in ("frequent", "mixed", "random"):
        for m in (100, 1000):
            keys = [choose_keys(each, {"words": Choice(m, how)}, 0)["words"] for each in nodes]
            seen = key_leak(keys, counts, 100)
            print(
                f"| {how} | {m:,} | {seen.recovered:.2f} | {seen.guessed:.2f} | {seen.held:.2f} | {seen.bits:.2f} of {seen.most_bits:.2f} "
                f"| {seen.identified:.0%} |"
            )


if __name__ == "__main__":
    for wanted in sys.argv[1:] or ("cost", "detection", "slices", "tolerance", "leak"):
        {"cost": cost, "detection": detection, "slices": slices, "tolerance": tolerance, "leak": leak}[wanted]()
        print()
