"""Commitments to training: what is kept, how a run goes on, and how single steps are replayed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from studbook.errors import CalibrationError, ConfigError, EvidenceError, RecordError, RunFolderError, VerifierError
from studbook.protocols import kept, retrace
from studbook.protocols.commit import Committer
from studbook.protocols.kept import encode_state, load_records, load_state, state_name, update_name
from studbook.protocols.node import Node, Optimiser
from studbook.protocols.quadratic import Quadratic
from studbook.protocols.replay import (
    Assignment,
    ReplayVerifier,
    bit_for_bit,
    check_taken_over,
    drawn_steps,
    relative_distance,
)
from studbook.protocols.retrace import Walk, show_steps
from studbook.protocols.stores import FolderStore, MemoryStore
from studbook.protocols.tolerance import Bf16, calibrate_replay, round_bf16
from studbook.protocols.values import digest, encode, mean
from studbook.records import Environment, TrainingCommitment, digest_of, from_bytes, to_bytes
from studbook.verification.calibration import Target

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import training_site as site


@pytest.fixture(scope="module")
def trained():
    return site.train()


def test_a_commitment_is_a_record(trained):
    record = trained.signed.record
    assert from_bytes(TrainingCommitment, to_bytes(record), "it") == record
    assert record.end.step == record.steps == 40
    assert [name for name in trained.store.names() if name.startswith("state")] == [state_name(step) for step in range(0, 41, 8)]
    assert len(load_records(trained.store, record)) == 40
    assert trained.signed.key == site.KEY.public


@pytest.mark.parametrize("kind", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("every", [1, 7, 100])
def test_an_honest_run_is_accepted(kind, every):
    trained = site.train(30, every, kind=kind)
    found = trained.verifier(30).examine(trained.signed, trained.store, site.ROUND)
    assert found.ballot.accepts
    assert found.steps == tuple(range(30))
    assert found.cost.taken == 30
    assert found.ballot.task == trained.signed.record.task


def test_a_kept_state_makes_a_replay_one_step():
    each = site.train(60, 1).verifier(5)
    trained = site.train(60, 1)
    assert each.examine(trained.signed, trained.store, site.ROUND).cost.taken == 5
    sparse = site.train(60, 30)
    cost = sparse.verifier(5).examine(sparse.signed, sparse.store, site.ROUND).cost
    assert 5 < cost.taken <= 60
    # The node's answer: the states before the drawn steps, so that each is replayed alone.
    steps = drawn_steps(sparse.signed.record, site.ROUND, 5)
    show_steps(sparse.node, sparse.store, sparse.signed.record, steps)
    assert sparse.verifier(5).examine(sparse.signed, sparse.store, site.ROUND).cost.taken == 5


@pytest.mark.parametrize("every", [1, 7])
def test_no_state_is_digested_twice(monkeypatch, every):
    """A step digests its update and where it leads; a verifier besides the states that it reads, or comes to on its way."""
    seen = []
    monkeypatch.setattr(kept, "digest", lambda parameters: seen.append(1) or digest(parameters))
    monkeypatch.setattr(retrace, "digest", kept.digest)
    node, store = Node(0, Quadratic(dimension=4, rows=200), np.arange(200), 8, Optimiser(), 3), MemoryStore()
    signed = Committer(node, store, every=every, run=site.RUN).train(42, site.KEY)
    assert len(seen) == 1 + 2 * 42
    verifier = ReplayVerifier(Assignment(node, site.RUN, 42, start=signed.record.training.start), bit_for_bit(node, 6))
    seen.clear()
    found = verifier.examine(signed, store, site.ROUND)
    assert found.ballot.accepts
    stretches = {step // every for step in found.steps}
    reached = sum(step % every > 0 and step - 1 not in found.steps for step in found.steps)
    assert len(seen) == 2 * 6 + len(stretches) + reached + 1  # the last state


def test_digests_are_those_of_the_bytes():
    parameters = site.node().begin().parameters
    turned = {name: np.asfortranarray(value) for name, value in parameters.items()}
    assert digest(parameters) == digest(turned) == f"blake3:{blake3(encode(parameters)).hexdigest()}"
    assert digest({}) == f"blake3:{blake3(encode({})).hexdigest()}"
    # The test vector of the empty input, from BLAKE3's reference.
    assert blake3(b"").hexdigest() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_a_batch_is_named_by_canonical_json(trained):
    recording = kept.Recording(trained.node)
    named = {"data": trained.signed.record.training.objective, "rows": kept.rows_digest(trained.node.rows_at(3))}
    assert recording.batch(3) == digest_of(named) == load_records(trained.store, trained.signed.record)[3].batch
    assert kept.optimiser_digest({}) == digest_of({})


def test_rows_are_drawn_once_and_stay_as_they_are(trained):
    rows = trained.node.rows_at(3)
    assert trained.node.rows_at(3) is rows
    trained.node.rows_at(4)
    assert np.array_equal(trained.node.rows_at(3), rows)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 1


def test_the_draw_depends_on_commitment_and_round(trained):
    record = trained.signed.record
    other = site.resigned(trained, made="2026-01-01T00:00:00Z").record
    draws = {drawn_steps(record, site.ROUND, 5), drawn_steps(record, site.OTHER_ROUND, 5), drawn_steps(other, site.ROUND, 5)}
    assert len(draws) == 3
    with pytest.raises(EvidenceError, match="32 hex digits"):
        drawn_steps(record, "", 5)


@pytest.mark.parametrize("other", [{"index": 1}, {"seed": 8}])
def test_the_steps_of_another_node_are_not_gone_on_from(tmp_path, other):
    """All nodes of a run begin in the same state; of these objectives, those of all runs do."""
    Committer(site.node(), FolderStore(tmp_path), every=4, run=site.RUN).train(8, site.KEY)
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(RunFolderError, match="another node's"):
        Committer(site.node(**other), FolderStore(tmp_path), every=4, run=site.RUN).train(12, site.KEY)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == kept


def test_a_killed_run_goes_on_to_the_same_steps(tmp_path):
    whole = site.train(37, 8)
    store = FolderStore(tmp_path / "node-0")
    committer = Committer(site.node(), store, every=8, run=site.RUN)
    state = committer.begin()
    for _ in range(21):
        state = committer.step(state)
    # What a kill leaves: the steps since the last kept state are in memory alone.
    again = Committer(site.node(), store, every=8, run=site.RUN)
    resumed = again.begin()
    assert resumed.step == 16
    signed = again.train(37, site.KEY)
    assert signed.record.root == whole.signed.record.root
    assert signed.record.end == whole.signed.record.end
    assert Committer(site.node(), store, every=8, run=site.RUN).train(48, site.KEY).record.steps == 48


def test_a_run_goes_on_before_a_damaged_state(tmp_path):
    store = FolderStore(tmp_path)
    first = Committer(site.node(), store, every=8, run=site.RUN).train(32, site.KEY)
    (tmp_path / state_name(24)).write_bytes(b"torn")
    committer = Committer(site.node(), store, every=8, run=site.RUN)
    assert committer.begin().step == 16
    assert committer.train(32, site.KEY).record.root == first.record.root


def test_a_folder_with_another_start_is_not_gone_on_from(tmp_path):
    store = FolderStore(tmp_path)
    Committer(Node(0, Quadratic(dimension=3), np.arange(50), 5, Optimiser(), 0), store, every=4, run=site.RUN).train(12, site.KEY)
    other = Committer(Node(0, Quadratic(dimension=3), np.arange(50), 5, Optimiser(), 1), store, every=4, run=site.RUN)
    with pytest.raises(RunFolderError, match="another node's"):
        other.begin()


def test_steps_out_of_turn_are_refused(trained):
    committer = Committer(trained.node, MemoryStore(), every=4, run=site.RUN)
    state = committer.begin()
    after = committer.step(state)
    with pytest.raises(ConfigError, match="after 1 steps"):
        committer.step(state)
    assert after.step == 1
    committer.train(8, site.KEY)
    with pytest.raises(ConfigError, match="taken already"):
        committer.train(4, site.KEY)
    with pytest.raises(ConfigError, match="1 to 4,095"):
        Committer(trained.node, MemoryStore(), every=0, run=site.RUN)
    with pytest.raises(RecordError, match="one value or more"):
        empty = Committer(trained.node, MemoryStore(), every=4, run=site.RUN)
        empty.finish(empty.begin(), site.KEY)


def test_steps_that_all_do_again(tmp_path):
    store = FolderStore(tmp_path)
    committer = Committer(site.node(), store, every=4, run=site.RUN)
    committer.train(12, site.KEY)
    committer.rewind(8)
    assert len(committer.records) == 8
    assert Committer(site.node(), store, every=4, run=site.RUN).begin().step == 8
    with pytest.raises(ConfigError, match="no state before step 6"):
        committer.rewind(6)
    signed = committer.train(16, site.KEY)
    assert site.Trained(site.node(), store, signed).verifier(16).examine(signed, store, site.ROUND).ballot.accepts


# What nodes take over from others


def agreed_run(n_nodes: int = 3, steps: int = 6, *, adopt: bool = False):
    """Synchronised: everybody steps along the mean gradient; or everybody adopts the mean of the parameters."""
    nodes = [site.node(index) for index in range(n_nodes)]
    stores = [MemoryStore() for _ in nodes]
    committers = [Committer(each, store, every=2, run=site.RUN) for each, store in zip(nodes, stores, strict=True)]
    states = [each.begin() for each in committers]
    peers = range(n_nodes)
    for _ in range(steps):
        updates = [each.gradient_at(state).parameters for each, state in zip(nodes, states, strict=True)]
        if adopt:
            afters = [each.apply(state, update) for each, state, update in zip(nodes, states, updates, strict=True)]
            extra = {"adopted": mean([each.parameters for each in afters])}
        else:
            extra = {"agreed": mean(updates)}
            afters = [each.apply(state, extra["agreed"]) for each, state in zip(nodes, states, strict=True)]
        parts = zip(committers, states, updates, afters, strict=True)
        states = [each.record(state, update, after, peers=peers, **extra) for each, state, update, after in parts]
    signed = [each.finish(state, site.KEY) for each, state in zip(committers, states, strict=True)]
    return nodes, stores, signed


@pytest.mark.parametrize("adopt", [False, True])
def test_contacts_are_replayed_and_checked(adopt):
    nodes, stores, signed = agreed_run(adopt=adopt)
    records = {i: load_records(store, each.record) for i, (store, each) in enumerate(zip(stores, signed, strict=True))}
    contacts = {each.step: each.contact for each in records[0] if each.contact is not None}
    assert len(contacts) == 6
    for each, store, commitment in zip(nodes, stores, signed, strict=True):
        verifier = ReplayVerifier(Assignment(each, site.RUN, 6, contacts=contacts), bit_for_bit(each, 6))
        assert verifier.examine(commitment, store, site.ROUND).ballot.accepts
        alone = ReplayVerifier(Assignment(each, site.RUN, 6), bit_for_bit(each, 6))
        refused = alone.examine(commitment, store, site.ROUND)
        assert not refused.ballot.accepts
        assert "didn't give" in refused.contradiction
        sent = {2: ("gradient", records[each.index][2].update), 5: ("parameters", records[each.index][5].after)}
        for told, accepts in ((sent, True), ({**sent, 4: ("parameters", sent[2][1])}, False), ({2: ("gradient", sent[5][1])}, False)):
            verifier = ReplayVerifier(Assignment(each, site.RUN, 6, contacts=contacts, sent=told), bit_for_bit(each, 1))
            found = verifier.examine(commitment, store, site.ROUND)
            assert (found.ballot.accepts, "it sent something else" in found.contradiction) == (accepts, not accepts)
    walks = [Walk(each, store, records[i], 2) for i, (each, store) in enumerate(zip(nodes, stores, strict=True))]
    taken = {i: walk.replay(3) for i, walk in enumerate(walks)}
    values = {i: each.after.parameters if adopt else each.update for i, each in taken.items()}
    check_taken_over(3, contacts[3], values)
    with pytest.raises(EvidenceError, match="combined"):
        check_taken_over(3, contacts[3], {**values, 1: values[0]})
    with pytest.raises(VerifierError, match="node 2"):
        check_taken_over(3, contacts[3], {0: values[0], 1: values[1]})
    with pytest.raises(EvidenceError, match="names nobody"):
        check_taken_over(3, replace(contacts[3], peers=()), values)


# Other numerics


ENVIRONMENTS = (Environment(dtype="bf16"), Environment())


@pytest.fixture(scope="module")
def tolerance():
    nodes = [site.node(seed=seed) for seed in range(59)]
    return calibrate_replay(nodes, bf16, steps=20, drawn=4, target=Target(0.05, 0.95), environments=ENVIRONMENTS)


def bf16(node: Node) -> Node:
    return Node(node.index, Bf16(node.objective), node.rows, node.batch, node.optimiser, node.seed)


def test_other_numerics_are_within_the_tolerance(tolerance):
    assert 1e-4 < tolerance.limit < 0.1
    node, store = site.node(seed=1000), MemoryStore()
    signed = Committer(bf16(node), store, every=10, run=site.RUN, environment=ENVIRONMENTS[0]).train(20, site.KEY)
    verifier = ReplayVerifier(Assignment(node, site.RUN, 20), tolerance)
    with pytest.raises(VerifierError, match="there is no"):
        verifier.examine(signed, store, site.ROUND)
    show_steps(bf16(node), store, signed.record, drawn_steps(signed.record, site.ROUND, 4))
    found = verifier.examine(signed, store, site.ROUND)
    assert found.ballot.accepts
    assert found.cost.taken == 4
    assert 0 < found.ballot.checks[0].value <= tolerance.limit


def test_a_cheat_is_beyond_the_tolerance(tolerance):
    """It trains on half of each batch, and shows what it did: its states and updates are as it committed to them."""
    node, store = site.node(seed=1000), MemoryStore()
    committer = Committer(node, store, every=1, run=site.RUN, environment=ENVIRONMENTS[0])
    state = committer.begin()
    for _ in range(20):
        rows = node.rows_at(state.step)[:8]
        update = node.objective.gradient(state.parameters, rows, rng=np.random.default_rng(0)).parameters
        store.put(update_name(state.step), encode(update))
        state = committer.record(state, update, node.apply(state, update))
    signed = committer.finish(state, site.KEY)
    found = ReplayVerifier(Assignment(node, site.RUN, 20), tolerance).examine(signed, store, site.ROUND)
    assert not found.ballot.accepts
    assert found.ballot.checks[0].value > 10 * tolerance.limit


def test_calibrations_that_cannot_be(tolerance):
    nodes = [site.node(seed=seed) for seed in range(3)]
    how = {"steps": 10, "drawn": 2, "environments": ENVIRONMENTS}
    with pytest.raises(CalibrationError, match="56 more"):
        calibrate_replay(nodes, bf16, target=Target(0.05, 0.95), **how)
    with pytest.raises(CalibrationError, match="bit for bit"):
        calibrate_replay(nodes, lambda each: each, target=Target(0.6, 0.5), **how)
    with pytest.raises(ConfigError, match="two numerics"):
        calibrate_replay(nodes, bf16, target=Target(0.6, 0.5), steps=10, drawn=2, environments=ENVIRONMENTS[:1] * 2)
    trained = site.train()
    with pytest.raises(CalibrationError, match="covers"):
        ReplayVerifier(trained.assignment(), tolerance).examine(trained.signed, trained.store, site.ROUND)
    other = Node(0, Quadratic(), np.arange(10), 2, Optimiser(), 0)
    with pytest.raises(CalibrationError, match="another objective"):
        ReplayVerifier(Assignment(other, site.RUN, 10), tolerance)


def test_relative_distances():
    one = {"w": np.array([3.0, 4.0], np.float32)}
    assert relative_distance({"w": np.array([np.nan, 0.0], np.float32)}, one) == 1e6
    assert relative_distance(one, {"w": np.zeros(2, np.float32)}) == 1e6
    assert relative_distance({"w": np.full(2, 3e38, np.float32)}, one) == 1e6
    assert round_bf16(np.array([np.inf, np.nan, 3.4e38], np.float32)).tolist()[0] == np.inf


def test_states_round_trip(trained):
    state = load_state(trained.store, 16, trained.node.begin())
    store = MemoryStore({state_name(16): encode_state(state)})
    assert digest(load_state(store, 16, trained.node.begin()).parameters) == digest(state.parameters)
