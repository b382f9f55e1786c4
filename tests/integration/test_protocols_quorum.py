"""A node commits, three verifiers replay and vote, and a receipt shows it to others; folders, slices, and a node that cheats."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from studbook.errors import RecordError, StudbookError
from studbook.protocols.commit import Committer
from studbook.protocols.kept import COMMITMENT
from studbook.protocols.node import Node, Optimiser
from studbook.protocols.objectives.tags import Tags
from studbook.protocols.replay import Assignment, ReplayVerifier, bit_for_bit
from studbook.protocols.slices import OnSlice
from studbook.protocols.stores import FolderStore, MemoryStore
from studbook.provenance import SigningKey, open_signed, sign
from studbook.records import TrainingCommitment
from studbook.rng import stream
from studbook.verification.quorum import Quorum, Revealed, check_receipt, check_receipt_of, make_receipt, new_round, seal_ballot, unseal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import training_site as site

VOTERS, COORDINATOR = [SigningKey.generate() for _ in range(3)], SigningKey.generate()


def vote(assignment: Assignment, folder: Path, n: int, tmp_path: Path) -> bytes:
    """Three verifiers with nothing but the folder and what the coordinator assigned; ballots are sealed, then revealed."""
    store = FolderStore(folder)
    data = store.get(COMMITMENT, max_bytes=TrainingCommitment.MAX_BYTES)
    signed = open_signed(data, TrainingCommitment, COMMITMENT, keys=[site.KEY.public])
    quorum, round_ = Quorum(2, tuple(key.public for key in VOTERS)), new_round()
    calibration = bit_for_bit(assignment.node, n)
    ballots = {}
    for key in VOTERS:
        found = ReplayVerifier(assignment, calibration).examine(signed, store, round_, quorum.electorate)
        ballots[key.public] = Revealed(sign(found.ballot, key), 32 * "5")
    seals = {voter: seal_ballot(each.ballot, each.salt, voter) for voter, each in ballots.items()}
    return make_receipt(data, unseal(seals, ballots), quorum, round_, COORDINATOR, made="2026-01-31T12:00:00Z")


def test_three_verifiers_accept_an_honest_node(tmp_path):
    node = site.node()
    Committer(node, FolderStore(tmp_path / "node"), every=10, run=site.RUN).train(60, site.KEY)
    receipt = vote(Assignment(node, site.RUN, 60, site.KEY.public), tmp_path / "node", 12, tmp_path)
    signed, commitment = check_receipt_of(TrainingCommitment, receipt, coordinators=[COORDINATOR.public])
    assert signed.record.verdict.outcome == "accept"
    assert signed.record.verdict.accepts == 3
    assert commitment.record.steps == 60
    with pytest.raises(RecordError):
        check_receipt(receipt)  # it isn't about an output
    with pytest.raises(StudbookError):
        check_receipt_of(TrainingCommitment, receipt.replace(b'"accepts":3', b'"accepts":2'))


def test_three_verifiers_reject_a_node_that_skips_steps(tmp_path):
    node, store = site.node(), FolderStore(tmp_path / "node")
    committer = Committer(node, store, every=10, run=site.RUN)
    state = committer.begin()
    last = node.gradient_at(state).parameters
    while state.step < 60:
        last = last if state.step % 2 else node.gradient_at(state).parameters
        state = committer.record(state, last, node.apply(state, last))
    committer.finish(state, site.KEY)
    # Half of the steps are false; of 30 drawn all are right once in 10^10.
    receipt = vote(Assignment(node, site.RUN, 60, site.KEY.public), tmp_path / "node", 30, tmp_path)
    verdict = check_receipt_of(TrainingCommitment, receipt)[0].record.verdict
    assert verdict.outcome == "reject"
    assert verdict.findings[1].broken == ("replayed steps that differ",)


def test_a_smaller_slice_is_cheaper_to_replay(shared_data):
    objective = Tags(str(shared_data / "wikitext-2" / "valid.txt"), vocabulary=5000).load()
    whole = objective.initial(rng=stream(0, "initial"))
    read = []
    for m in (50, 500):
        rows = np.arange(200)
        sliced = OnSlice(objective, {"words": objective.frequent_keys(rows, "words", m)}, whole)
        node, store = Node(0, sliced, rows, 16, Optimiser(), 1), MemoryStore()
        signed = Committer(node, store, every=5, run=site.RUN).train(20, site.KEY)
        found = ReplayVerifier(Assignment(node, site.RUN, 20), bit_for_bit(node, 6)).examine(signed, store, site.ROUND)
        assert found.ballot.accepts
        read.append(found.cost.bytes_read)
        assert sliced.evaluate(sliced.initial(rng=stream(0, "x"))) == objective.evaluate(whole)
        other = OnSlice(objective, {"words": objective.frequent_keys(rows, "words", m - 1)}, whole)
        assert other.describe() != sliced.describe()
    assert read[1] > 2 * read[0]
