"""Dishonest nodes and damaged folders: a rejecting ballot, or none at all; never an accepting one."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from studbook.errors import (
    BallotError,
    EvidenceError,
    RecordError,
    SchemaVersionError,
    SignatureError,
    StorageError,
    StudbookError,
    VerifierError,
)
from studbook.protocols.commit import Committer
from studbook.protocols.kept import (
    COMMITMENT,
    encode_state,
    load_records,
    load_state,
    optimiser_digest,
    received_name,
    state_name,
    steps_name,
)
from studbook.protocols.node import Node, Optimiser
from studbook.protocols.replay import ReplayVerifier, bit_for_bit, drawn_steps
from studbook.protocols.stores import FolderStore, MemoryStore
from studbook.protocols.values import digest, encode
from studbook.provenance import open_signed, sign
from studbook.records import Checkpoint, Claim, Contact, Environment, StepRecord, TrainingCommitment, merkle_root, to_bytes
from studbook.records.step_lines import read_step, write_step
from studbook.verification.quorum import Quorum

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import training_site as site

SHA, ARRAYS = "sha256:" + 64 * "e", "blake3:" + 64 * "e"


@pytest.fixture(scope="module")
def trained():
    return site.train(24, 6)


def outcome(verifier, signed, store) -> str:
    try:
        return "accept" if verifier.examine(signed, store, site.ROUND).ballot.accepts else "reject"
    except (VerifierError, EvidenceError, StudbookError) as error:
        return type(error).__name__


# Every field of a commitment, changed and well signed


CHANGES = {
    "training.objective": SHA, "training.optimiser": SHA, "training.rows": SHA, "training.batch": 17, "training.seed": 8,
    "training.node": 1, "steps": 23, "root": 64 * "0", "every": 5, "run": 32 * "9", "environment": Environment(dtype="bf16"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_every_field_changed(trained, name):
    part, _, inner = name.partition(".")
    record = trained.signed.record
    value = replace(record.training, **{inner: CHANGES[name]}) if inner else CHANGES[name]
    changes = {part: value}
    if name == "steps":
        changes["end"] = replace(record.end, step=23)
    signed = site.resigned(trained, **changes)
    assert outcome(trained.verifier(), signed, trained.store) in {"VerifierError", "CalibrationError"}


@pytest.mark.parametrize("changes", [{"parameters": ARRAYS}, {"optimiser": SHA}])
def test_another_end(trained, changes):
    """The node signed a last state that isn't where its own steps led: a contradiction."""
    end = replace(trained.signed.record.end, **changes)
    assert outcome(trained.verifier(), site.resigned(trained, end=end), trained.store) == "reject"


def test_another_start(trained):
    task = replace(trained.signed.record.training, start=ARRAYS)
    assert outcome(trained.verifier(), site.resigned(trained, training=task), trained.store) == "VerifierError"


@pytest.mark.parametrize("step", [0, 6, 12, 18, 24])
@pytest.mark.parametrize("part", ["parameters", "optimiser"])
def test_every_kept_state_changed(trained, step, part):
    """A well-formed state, but not the one that the records name: what anybody could have put there leaves no ballot."""
    state = load_state(trained.store, step, trained.node.begin())
    if part == "parameters":
        changed = replace(state, parameters={name: value + 1 for name, value in state.parameters.items()})
    else:
        moved = {name: {key: value + 1 for key, value in held.items()} for name, held in state.optimiser.items()}
        changed = replace(state, optimiser=moved)
    store = trained.copy()
    store.put(state_name(step), encode_state(changed))
    assert outcome(trained.verifier(24), trained.signed, store) == "VerifierError"


def test_every_field_is_tried():
    tried = {name.partition(".")[0] for name in CHANGES} | {"end", "made"}
    assert tried == {each.name for each in fields(TrainingCommitment)}
    inner = {name.partition(".")[2] for name in CHANGES if "." in name} | {"start"}
    assert inner == {each.name for each in fields(type(site.train(2, 1).signed.record.training))}


@pytest.mark.parametrize("name", ["before", "optimiser", "batch", "path", "update", "after", "optimiser_after", "step", "contact"])
@pytest.mark.parametrize("place", [0, 7, 23])
def test_every_field_of_a_step_changed(trained, name, place):
    """One false step under a root of its own, all steps replayed: rejected, or shown nothing that fits."""
    records = list(load_records(trained.store, trained.signed.record))
    values = {"path": "7/node/0/step/999", "step": 99, "contact": Contact(kind="parameters", value=ARRAYS)}
    values |= dict.fromkeys(("before", "update", "after"), ARRAYS)
    records[place] = replace(records[place], **{name: values.get(name, SHA)})
    signed, store = site.with_records(trained, records)
    assert outcome(trained.verifier(24), signed, store) == "reject"


def test_garbage_that_was_signed_is_rejected(trained):
    """The node committed to leaves that are no steps: it signed them, so that it is a contradiction and no damage on the way."""
    lines = [to_bytes(each) for each in load_records(trained.store, trained.signed.record)]
    for garbage in (b"", b"{}", b"[]", b"null", b'{"contact":7}', lines[3] + b" ", b"[" * 5000):
        bad = [*lines[:3], garbage, *lines[4:]]
        store = trained.copy()
        store.put(steps_name(0), b"".join(each + b"\n" for each in bad[:6]))
        assert outcome(trained.verifier(24), site.resigned(trained, root=merkle_root(bad)), store) == "reject"


def test_numbers_that_no_record_holds(trained):
    """A number of a million digits, or none at all where one should be: refused as other records are, and not by a crash."""
    whole = replace(load_records(trained.store, trained.signed.record)[3], contact=Contact(kind="gradient", value=ARRAYS, peers=(1, 2)))
    line = write_step(whole)
    for good, bad in (
        (b'"step":3', b'"step":' + 9 * b"3"), (b'"step":3', b'"step":' + 10_000 * b"3"), (b'"step":3', b'"step":03'),
        (b"[1,2]", b"[1,,2]"), (b"[1,2]", b"[,]"), (b"[1,2]", b"[1,2,]"), (b"[1,2]", b"[01,2]"), (b"[1,2]", b"[1,1]"),
        (b"[1,2]", b"[" + 5000 * b"1" + b"]"), (b"[1,2]", b"[9999999999]"), (b"[1,2]", b"[" + b"1," * 40_000 + b"2]"),
        (b'"path":"7/', b'"path":"' + 30 * b"7" + b"/"), (b'"path":"7/', b'"path":"/'),
    ):  # fmt: skip
        assert good in line
        with pytest.raises(StudbookError):
            read_step(line.replace(good, bad), "it")
    assert read_step(line, "it") == whole


# Folders


def test_missing_files_leave_no_ballot(trained):
    for name in trained.store.names():
        store = trained.copy()
        del store.kept[name]
        assert outcome(trained.verifier(24), trained.signed, store) == ("accept" if name == COMMITMENT else "VerifierError")


@pytest.mark.parametrize("name", [state_name(0), state_name(12), steps_name(0), steps_name(18)])
@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "longer", "zeros", "other"])
def test_damaged_files_leave_no_ballot(trained, name, damage):
    data = trained.store.kept[name]
    middle = len(data) // 2
    damaged = {
        "cut": data[:-3], "empty": b"", "flip": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :], "longer": data + b"\0",
        "zeros": bytes(len(data)), "other": trained.store.kept[state_name(18) if name.startswith("state") else steps_name(6)],
    }[damage]  # fmt: skip
    store = trained.copy()
    store.put(name, damaged)
    assert outcome(trained.verifier(24), trained.signed, store) == "VerifierError"


def test_files_that_are_no_files(trained, tmp_path):
    store = FolderStore(tmp_path)
    for name, data in trained.store.kept.items():
        store.put(name, data)
    assert outcome(trained.verifier(24), trained.signed, store) == "accept"
    (tmp_path / state_name(6)).unlink()
    (tmp_path / state_name(6)).symlink_to("/dev/zero")
    assert outcome(trained.verifier(24), trained.signed, store) == "VerifierError"
    with pytest.raises(StorageError, match="no name"):
        store.put("../state-00000000.bin", b"")
    with pytest.raises(StorageError, match="no name"):
        store.get("/etc/passwd", max_bytes=10)


def test_a_huge_file_is_not_read_whole(trained, tmp_path):
    store = FolderStore(tmp_path)
    for name, data in trained.store.kept.items():
        store.put(name, data)
    with (tmp_path / state_name(0)).open("wb") as file:
        file.truncate(1 << 40)
    assert outcome(trained.verifier(24), trained.signed, store) == "VerifierError"


# Other schemas, other records, other runs


def test_other_schemas_are_refused(trained):
    data = trained.store.kept[COMMITMENT]
    with pytest.raises(SignatureError):
        open_signed(data.replace(b'"steps":24', b'"steps":25'), TrainingCommitment, "it")

    class Next(TrainingCommitment):
        SCHEMA = "studbook.training/3"

    record = trained.signed.record
    newer = Next(**{each.name: getattr(record, each.name) for each in fields(record)})
    with pytest.raises(SchemaVersionError, match="version 3"):
        open_signed(sign(newer, site.KEY), TrainingCommitment, "it")

    class First(TrainingCommitment):
        SCHEMA = "studbook.training/1"

    older = First(**{each.name: getattr(record, each.name) for each in fields(record)})
    with pytest.raises(RecordError) as refused:
        open_signed(sign(older, site.KEY), TrainingCommitment, "it")
    assert "older studbook" in refused.value.hint
    with pytest.raises(StudbookError, match="another kind"):
        open_signed(data, Claim, "it")


def test_an_old_commitment_is_not_taken_again(trained):
    """An honest run of the day before, replayed instead of training: same task, another run."""
    assert outcome(trained.verifier(24, run=32 * "7"), trained.signed, trained.store) == "VerifierError"


def test_a_copied_commitment_is_not_taken(trained):
    """A lazy node signs its neighbour's commitment."""
    copied = site.resigned(trained, key=site.STRANGER)
    assert outcome(trained.verifier(24), copied, trained.store) == "VerifierError"
    neighbour = replace(trained.assignment(), node=site.node(1), key=site.STRANGER.public)
    verifier = ReplayVerifier(neighbour, bit_for_bit(trained.node, 24))
    assert outcome(verifier, copied, trained.store) == "VerifierError"
    # And says that it is its own: the rows of every step are the neighbour's.
    mine = site.node(1)
    task = replace(trained.signed.record.training, node=1, rows=ReplayVerifier(neighbour, bit_for_bit(mine, 24))._task.rows)
    assert outcome(verifier, site.resigned(trained, key=site.STRANGER, training=task), trained.store) == "reject"


def test_other_data_leave_no_ballot(trained):
    """Trained on other data, honestly said so: nobody asked for that."""
    from studbook.protocols.objectives.softmax import Softmax

    other = Node(0, Softmax("digits", held_out=0.3).load(), trained.node.rows, 16, trained.node.optimiser, 7)
    store = MemoryStore()
    signed = Committer(other, store, every=6, run=site.RUN).train(24, site.KEY)
    assert outcome(trained.verifier(24), signed, store) == "VerifierError"
    claimed = replace(signed.record.training, objective=trained.signed.record.training.objective)
    lied = open_signed(sign(replace(signed.record, training=claimed), site.KEY), TrainingCommitment, "it")
    assert outcome(trained.verifier(24), lied, store) == "reject"


def test_a_state_from_elsewhere_is_seen():
    """Steps that are each right, but begin where nobody left off: teleporting to better weights."""
    node, store = site.node(), MemoryStore()
    committer = Committer(node, store, every=1, run=site.RUN)
    state = committer.begin()
    for _ in range(12):
        if state.step == 6:
            jumped = node.adopt(state, {name: value + 1 for name, value in state.parameters.items()})
            state = jumped
            store.put(state_name(6), encode_state(jumped))
        state = committer.step(state)
    signed = committer.finish(state, site.KEY)
    verifier = ReplayVerifier(site.Trained(node, store, signed).assignment(), bit_for_bit(node, 1))
    found = verifier.examine(signed, store, site.ROUND)
    assert not found.ballot.accepts
    assert "where the last one ended" in found.contradiction


def test_taken_over_values_must_be_shown(trained):
    node, store = site.node(), MemoryStore()
    committer = Committer(node, store, every=4, run=site.RUN)
    state = committer.begin()
    for _ in range(8):
        update = node.gradient_at(state).parameters
        better = {name: value + 0.1 for name, value in state.parameters.items()}
        state = committer.record(state, update, node.apply(state, update), adopted=better)
    signed = committer.finish(state, site.KEY)
    contacts = {each.step: each.contact for each in load_records(store, signed.record)}
    whole = site.Trained(node, store, signed)
    assert outcome(whole.verifier(8, contacts=contacts), signed, store) == "accept"
    assert outcome(whole.verifier(8), signed, store) == "reject"
    damaged = whole.copy()
    damaged.put(received_name(3), encode({name: value * 0 for name, value in state.parameters.items()}))
    assert outcome(whole.verifier(8, contacts=contacts), signed, damaged) == "VerifierError"
    del damaged.kept[received_name(3)]
    assert outcome(whole.verifier(8, contacts=contacts), signed, damaged) == "VerifierError"


def test_a_gradient_adopted_as_parameters(trained):
    """What others gave, in another way than they gave it: weights that nobody agreed on, and honest gradients at them."""
    node, store = site.node(), MemoryStore()
    committer = Committer(node, store, every=4, run=site.RUN)
    state, contacts = committer.begin(), {}
    for step in range(8):
        update = node.gradient_at(state).parameters
        contacts[step] = Contact(kind="gradient", value=digest(update))
        taken = {"adopted": update} if step == 3 else {"agreed": update}
        state = committer.record(state, update, node.apply(state, update), **taken)
    whole = site.Trained(node, store, committer.finish(state, site.KEY))
    found = whole.verifier(8, contacts=contacts).examine(whole.signed, store, site.ROUND)
    assert not found.ballot.accepts
    assert "didn't give" in found.contradiction


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_the_optimiser_begins_where_it_was_to_begin(kind):
    """Momentum that no gradient ever made pushes the weights wherever the node wants, by steps that all follow from each other."""
    node = replace(site.node(), optimiser=Optimiser(kind, 0.1, 0.9 if kind == "sgd" else 0.0))
    first, store = node.begin(), MemoryStore()
    pushed = replace(first, optimiser={name: {key: value + 3.0 for key, value in part.items()} for name, part in first.optimiser.items()})
    signed = Committer(node, store, every=4, run=site.RUN).train(8, site.KEY, start=pushed)
    whole = site.Trained(node, store, signed)
    found = whole.verifier(8).examine(signed, store, site.ROUND)
    assert not found.ballot.accepts
    assert "optimiser" in found.contradiction
    assert outcome(whole.verifier(8, optimiser=optimiser_digest(pushed.optimiser)), signed, store) == "accept"


# Grinding


def test_grinding_needs_the_round(trained):
    """Whoever knows the round can choose a commitment that draws no false step; the round is drawn after the commitment."""
    false_step, drawn = 5, 3

    def missed(round_: str, made: str) -> bool:
        return false_step not in drawn_steps(site.resigned(trained, made=made).record, round_, drawn)

    times = [f"2026-01-01T00:00:{second:02d}Z" for second in range(12)]
    chosen = next(made for made in times if missed(site.ROUND, made))
    rounds = [f"{i:032x}" for i in range(400)]
    escaped = sum(missed(round_, chosen) for round_ in rounds) / len(rounds)
    # 1 - 3/24 = .875 whatever was chosen; 400 draws: off by more than .09 once in 10⁶ (normal tail at 5.4 sigma: 7e-8).
    assert abs(escaped - 0.875) < 0.09
    with pytest.raises(EvidenceError):
        drawn_steps(trained.signed.record, "offline", drawn)


# Ballots


def test_ballots_do_not_travel(trained):
    """A ballot on another commitment, round or task of the same node counts for nobody."""
    keys = [site.SigningKey.generate() for _ in range(3)]
    quorum = Quorum(2, tuple(key.public for key in keys))
    found = trained.verifier().examine(trained.signed, trained.store, site.ROUND, quorum.electorate)
    data = [sign(found.ballot, key) for key in keys]
    assert quorum.judge(trained.signed, data, round_=site.ROUND).outcome == "accept"
    for signed, round_ in (
        (trained.signed, site.OTHER_ROUND), (site.resigned(trained, made="2026-01-01T00:00:00Z"), site.ROUND),
        (site.resigned(trained, key=site.STRANGER), site.ROUND),
    ):  # fmt: skip
        with pytest.raises(BallotError):
            quorum.judge(signed, data, round_=round_)


def test_nothing_is_a_silent_pass(trained):
    """A bit of a file flipped, 200 times: no ballot."""
    rng = np.random.default_rng(5)
    names = [name for name in trained.store.names() if name != COMMITMENT]
    verifier = trained.verifier(24)
    for _ in range(200):
        store, name = trained.copy(), names[rng.integers(len(names))]
        data = bytearray(store.kept[name])
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        store.put(name, bytes(data))
        assert outcome(verifier, trained.signed, store) == "VerifierError"


def test_digests_are_of_the_slice_alone(trained):
    assert Checkpoint(0, digest(trained.node.begin().parameters), SHA).parameters == trained.signed.record.training.start
    assert isinstance(load_records(trained.store, trained.signed.record)[0], StepRecord)
