"""How often false steps are found, against theory; how often honest nodes are beyond a tolerance. Seeded; false-alarm rates stated."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studbook.protocols.commit import Committer
from studbook.protocols.kept import load_records
from studbook.protocols.node import Node, Optimiser
from studbook.protocols.quadratic import Quadratic
from studbook.protocols.replay import Assignment, ReplayVerifier, bit_for_bit, drawn_steps
from studbook.protocols.retrace import show_steps
from studbook.protocols.stores import MemoryStore
from studbook.protocols.tolerance import Bf16, calibrate_replay
from studbook.provenance import SigningKey
from studbook.records import Environment
from studbook.theory import clopper_pearson, found_false, replayed_share
from studbook.verification.calibration import Target

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import training_site as site

KEY = SigningKey.generate()


def lazy_run(steps: int, false_steps: int, every: int = 1):
    """A node that sends its last update again in some of its steps, and is honest in the others."""
    node, store = Node(0, Quadratic(dimension=4, rows=200), np.arange(200), 8, Optimiser(), 3), MemoryStore()
    skipped = set(np.random.default_rng(1).choice(np.arange(1, steps), size=false_steps, replace=False).tolist())
    committer = Committer(node, store, every=every, run=site.RUN)
    state = committer.begin()
    last = node.gradient_at(state).parameters
    while state.step < steps:
        last = last if state.step in skipped else node.gradient_at(state).parameters
        state = committer.record(state, last, node.apply(state, last))
    return node, store, committer.finish(state, KEY), skipped


@pytest.mark.parametrize("false_steps, replayed", [(1, 10), (3, 10), (5, 20), (5, 45)])
def test_detection_follows_the_hypergeometric_law(false_steps, replayed):
    """500 rounds each, a Clopper-Pearson interval of confidence 1 - 1e-6 in 4 settings: false alarm 4e-6. The verifier itself votes in 20
    of the rounds, and rejects exactly where a false step is drawn."""
    node, store, signed, skipped = lazy_run(100, false_steps)
    rounds = [f"{i:032x}" for i in range(500)]
    hits = [bool(skipped & set(drawn_steps(signed.record, round_, replayed))) for round_ in rounds]
    low, high = clopper_pearson(sum(hits), len(hits), 1 - 1e-6)
    assert low <= found_false(replayed, false_steps, 100) <= high
    verifier = ReplayVerifier(Assignment(node, site.RUN, 100), bit_for_bit(node, replayed))
    for round_, hit in list(zip(rounds, hits, strict=True))[:20]:
        assert verifier.examine(signed, store, round_).ballot.accepts is not hit


def test_replayed_steps_follow_theory():
    """Mean of 100 examinations within 5 standard errors (false alarm 6e-7), states every 10 steps."""
    node, store, signed, _ = lazy_run(200, 0, every=10)
    verifier = ReplayVerifier(Assignment(node, site.RUN, 200), bit_for_bit(node, 6))
    taken = np.array([verifier.examine(signed, store, f"{i:032x}").cost.taken for i in range(100)])
    assert abs(taken.mean() - 200 * replayed_share(6, 200, 10)) < 5 * taken.std() / np.sqrt(len(taken))


def test_what_others_skip_on_the_way_is_found_too():
    """With states every 20 steps the way to a drawn step passes others: no less is found than theory says."""
    node, store, signed, _ = lazy_run(100, 5, every=20)
    verifier = ReplayVerifier(Assignment(node, site.RUN, 100), bit_for_bit(node, 5))
    rejected = sum(not verifier.examine(signed, store, f"{i:032x}").ballot.accepts for i in range(80))
    # Binomial(80, p) is below its mean by 5 standard deviations once in 10^6.
    p = found_false(5, 5, 100)
    assert rejected > 80 * p - 5 * np.sqrt(80 * p * (1 - p))


def test_honest_nodes_keep_within_a_calibrated_tolerance():
    """Promised at confidence .95: at most 5 % of honest nodes are beyond. Of 100 fresh ones more than 17 would be once in 10^5."""
    environments = Environment(dtype="bf16"), Environment()

    def bf16(each: Node) -> Node:
        return replace(each, objective=Bf16(each.objective))

    found = calibrate_replay(
        [site.node(seed=seed) for seed in range(93)], bf16, steps=8, drawn=3, target=Target(0.05, 0.95), environments=environments
    )
    beyond = 0
    for seed in range(1000, 1100):
        node, store = site.node(seed=seed), MemoryStore()
        signed = Committer(bf16(node), store, every=4, run=site.RUN, environment=environments[0]).train(8, KEY)
        show_steps(bf16(node), store, signed.record, drawn_steps(signed.record, site.ROUND, 3))
        beyond += not ReplayVerifier(Assignment(node, site.RUN, 8), found).examine(signed, store, site.ROUND).ballot.accepts
    assert beyond <= 17
    assert len(load_records(store, signed.record)) == 8
