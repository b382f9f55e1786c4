"""Folders of runs from outside: rosters that say what can't be, contacts that are none, others' commitments; odd messages to nodes."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from studbook.errors import ConfigError, KeyFileError, RecordError, SchemaVersionError, StudbookError, VerifierError
from studbook.files import write_file
from studbook.protocols import Gossip, Host, InProcess, Lost, Message, Patience, Synchronised, ring
from studbook.protocols.committed_run import open_run
from studbook.protocols.committing import ROSTER
from studbook.protocols.kept import COMMITMENT
from studbook.protocols.transcript import TRANSCRIPT, digest_of_file
from studbook.provenance import open_signed, sign
from studbook.records import TrainingCommitment
from studbook.records.roster import Enrolled, Roster

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import committed_site as site


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("committed")
    site.commit(folder / "run", Gossip(ring(3)))
    return folder / "run"


@pytest.fixture
def copy(committed, tmp_path):
    return shutil.copytree(committed, tmp_path / "run")


def roster_of(folder: Path) -> Roster:
    return open_signed((folder / ROSTER).read_bytes(), Roster, "it").record


def sign_again(folder: Path, **changes) -> None:
    """What a coordinator that lies, or was broken into, would sign."""
    write_file(folder / ROSTER, sign(replace(roster_of(folder), **changes), site.COORDINATOR))


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"spec": "x"}, {"spec": {}}, {"spec": {"objective": "os.system"}}, {"spec": {"objective": "softmax", "nodes": 10**9}},
        {"spec": {"objective": "softmax", "nodes": -1}}, {"spec": {"objective": "softmax", "extra": 1}},
        {"spec": {"objective": "softmax", "settings": {"data": "../../etc/passwd"}}}, {"spec": {"objective": "softmax", "settings": []}},
        {"commit_every": None}, {"commit_every": 0}, {"commit_every": 1 << 20},
        {"protocol": None}, {"protocol": {}}, {"protocol": {"protocol": "federated"}}, {"protocol": {"protocol": "local", "every": 0}},
        {"protocol": {"protocol": "local", "every": "3"}}, {"protocol": {"protocol": "synchronised", "x": 1}},
        {"protocol": {"protocol": "gossip", "graph": "ring", "edges": [[0, 9]], "nodes": 3, "every": 1, "exchange": "pairs"}},
        {"protocol": {**dict(Gossip(ring(3)).describe()), "graph": ["ring"]}},
        {"protocol": {"protocol": "gossip", "graph": "ring", "edges": "all", "nodes": 3, "every": 1, "exchange": "pairs"}},
        {"protocol": {"protocol": "gossip", "graph": "ring", "edges": [[0, 1]], "nodes": 2, "every": 1, "exchange": "pairs"}},
    ],
)  # fmt: skip
def test_settings_that_cannot_be(copy, settings):
    given = dict(roster_of(copy).settings)
    given = {**given, **settings} if settings else {}
    sign_again(copy, settings=given)
    with pytest.raises(StudbookError):
        open_run(copy)


def test_another_number_of_nodes(copy):
    sign_again(copy, nodes=roster_of(copy).nodes[:2])
    with pytest.raises(RecordError, match="names 2 nodes, its run has 3"):
        open_run(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0}, {"steps": 1 << 40}, {"run": "x"}, {"transcript": "x"}, {"made": "yesterday"}, {"steps": 3},
        {"nodes": (Enrolled(node=1, key="k", commitment="sha256:" + 64 * "0", steps=1),)},
    ],
)  # fmt: skip
def test_fields_that_cannot_be(copy, changes):
    with pytest.raises(RecordError):
        replace(roster_of(copy), **changes)


def test_commitments_without_steps_or_keys():
    for commitment, steps, key in (("sha256:" + 64 * "0", 0, "k"), ("", 3, "k"), ("sha256:" + 64 * "0", 3, ""), ("x", 3, "k")):
        with pytest.raises(RecordError):
            Enrolled(node=0, key=key, commitment=commitment, steps=steps)


def test_a_newer_roster(copy):
    class Next(Roster):
        SCHEMA = "studbook.training-roster/2"

    record = roster_of(copy)
    newer = Next(**{name: getattr(record, name) for name in record.__slots__})
    write_file(copy / ROSTER, sign(newer, site.COORDINATOR))
    with pytest.raises(SchemaVersionError, match="version 2"):
        open_run(copy)


LINE = {"contact": {"kind": "parameters", "peers": [0, 1], "value": "blake3:" + 64 * "0"}, "nodes": [0], "step": 0}
SENT = {"node": 0, "sent": "blake3:" + 64 * "0", "step": 0}


@pytest.mark.parametrize(
    "data",
    [
        b"{", b"{}\n", b"[]\n", b"\xff\n", b'{"a":' * 5000 + b"\n", json.dumps(LINE).encode(), b"x" * (1 << 20) + b"\n",
        json.dumps({**LINE, "step": -1}).encode() + b"\n", json.dumps({**LINE, "step": "0"}).encode() + b"\n",
        json.dumps({**LINE, "nodes": [True]}).encode() + b"\n", json.dumps({**LINE, "nodes": "all"}).encode() + b"\n",
        2 * (json.dumps(LINE).encode() + b"\n"), 2 * (json.dumps(SENT).encode() + b"\n"),
        json.dumps({**LINE, "step": 12}).encode() + b"\n", json.dumps({**LINE, "nodes": [3]}).encode() + b"\n",
        json.dumps({**LINE, "contact": {**LINE["contact"], "peers": [999]}}).encode() + b"\n",
        json.dumps({**SENT, "step": 12}).encode() + b"\n", json.dumps({**SENT, "node": 3}).encode() + b"\n",
        json.dumps({**SENT, "node": "0"}).encode() + b"\n", json.dumps({**SENT, "node": -1}).encode() + b"\n",
        json.dumps({**SENT, "sent": 7}).encode() + b"\n", json.dumps({**SENT, "sent": "sha256:" + 64 * "0"}).encode() + b"\n",
        json.dumps({**SENT, **LINE}).encode() + b"\n",
        json.dumps({**LINE, "contact": {**LINE["contact"], "kind": "weights"}}).encode() + b"\n",
        json.dumps({**LINE, "contact": {**LINE["contact"], "peers": [0, 0]}}).encode() + b"\n",
    ],
)  # fmt: skip
def test_contacts_that_are_none(copy, data):
    (copy / TRANSCRIPT).write_bytes(data)
    with pytest.raises(VerifierError, match="isn't the file that the coordinator signed"):
        open_run(copy)
    sign_again(copy, transcript=digest_of_file(copy / TRANSCRIPT))
    with pytest.raises(RecordError):
        open_run(copy)


def test_contacts_that_are_no_file(copy):
    (copy / TRANSCRIPT).unlink()
    with pytest.raises(VerifierError, match="there is no file"):
        open_run(copy)
    (copy / TRANSCRIPT).symlink_to("/dev/zero")
    with pytest.raises(VerifierError, match="there is no file"):
        open_run(copy)


def test_contacts_that_others_did_not_have(copy):
    """A coordinator that leaves a contact out of its transcript, or changes one, and signs that: nodes' own words are against it."""
    lines = (copy / TRANSCRIPT).read_bytes().splitlines(keepends=True)
    (copy / TRANSCRIPT).write_bytes(b"".join(lines[1:]))
    sign_again(copy, transcript=digest_of_file(copy / TRANSCRIPT))
    found = site.verify(copy)
    assert found.outcome == "reject"
    assert any("took over from others what they didn't give" in each.reason for each in found.nodes)


def test_contacts_of_nobody(copy):
    """A coordinator that hands out what it likes, and names no peers."""
    lines = [json.loads(line) for line in (copy / TRANSCRIPT).read_bytes().splitlines()]
    lines = [{**each, "contact": {**each["contact"], "peers": []}} if "contact" in each else each for each in lines]
    write_file(copy / TRANSCRIPT, b"".join(json.dumps(each).encode() + b"\n" for each in lines))
    sign_again(copy, transcript=digest_of_file(copy / TRANSCRIPT))
    found = site.verify(copy)
    assert (found.outcome, set(site.outcomes(found))) == ("reject", {"inconclusive"})
    assert "took over parameters of nobody" in found.fault


@pytest.mark.parametrize("seed", [None, "0", -1, 0.5, True])
def test_a_seed_that_cannot_be(copy, seed):
    sign_again(copy, settings={**roster_of(copy).settings, "seed": seed})
    with pytest.raises(RecordError, match="seed"):
        open_run(copy)


def test_settings_that_are_no_table_take_no_others(copy):
    settings = roster_of(copy).settings
    sign_again(copy, settings={**settings, "spec": {**settings["spec"], "settings": [1]}})
    with pytest.raises(RecordError, match="expected a table"):
        open_run(copy, settings={"data": "x"})


def test_a_neighbours_commitment(copy):
    shutil.copy(copy / "nodes/000" / COMMITMENT, copy / "nodes/001" / COMMITMENT)
    found = site.verify(copy)
    assert (found.nodes[1].outcome, found.nodes[1].ballots) == ("inconclusive", 0)
    # Nor where the coordinator lets it: it is to another node's work.
    nodes = list(roster_of(copy).nodes)
    nodes[1] = replace(nodes[0], node=1)
    sign_again(copy, nodes=tuple(nodes))
    shutil.rmtree(copy / "nodes/001")
    shutil.copytree(copy / "nodes/000", copy / "nodes/001")
    found = site.verify(copy)
    assert (found.nodes[1].outcome, found.nodes[1].ballots) == ("inconclusive", 0)
    assert "another rows" in found.nodes[1].reason or "another node" in found.nodes[1].reason


def test_the_commitment_of_another_run(copy, tmp_path):
    site.commit(tmp_path / "other", Gossip(ring(3)))
    for name in ("nodes", "keys"):
        shutil.rmtree(copy / name)
        shutil.copytree(tmp_path / "other" / name, copy / name)
    nodes = roster_of(tmp_path / "other").nodes
    found = site.verify(copy)
    assert site.outcomes(found) == ["inconclusive"] * 3
    sign_again(copy, nodes=nodes)
    found = site.verify(copy)
    assert {each.ballots for each in found.nodes} == {0}
    assert {each.reason for each in found.nodes} == {"the commitment is of another run"}


def test_a_folder_that_is_elsewhere(copy, tmp_path):
    """A link out of the run's folder is a folder of files like any other; links to files aren't followed."""
    state = copy / "nodes/000/state-00000000.bin"
    state.rename(tmp_path / "state")
    state.symlink_to(tmp_path / "state")
    assert site.verify(copy).nodes[0].ballots == 0


# Messages to nodes that commit


BEGUN = {"step": 0, "run": 32 * "0", "every": 4, "since": 0, "contacts": []}


@pytest.mark.parametrize(
    "fields",
    [
        {}, *({name: value for name, value in BEGUN.items() if name != left_out} for left_out in BEGUN), {**BEGUN, "step": -1},
        {**BEGUN, "step": 1 << 60}, {**BEGUN, "every": 0}, {**BEGUN, "every": 1 << 40}, {**BEGUN, "run": 7}, {**BEGUN, "since": -1},
        {**BEGUN, "contacts": [[0]]}, {**BEGUN, "contacts": [[0, "x", "y", []]]}, {**BEGUN, "contacts": {"0": 1}},
        {**BEGUN, "contacts": [["0", "gradient", "blake3:" + 64 * "0", [0]]]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["commit", "seal"])
def test_odd_messages(kind, fields, tmp_path):
    host = Host(site.SPEC.node(0), site.place(tmp_path))
    assert host.answer(Message(kind, fields)).kind == "error"
    assert host.answer(Message("pull")).fields["step"] == 0


def test_odd_peers_and_contacts_out_of_turn(tmp_path):
    host = Host(site.SPEC.node(0), site.place(tmp_path))
    assert host.answer(Message("commit", BEGUN)).kind == "recording"
    parameters = host.state.parameters
    assert host.answer(Message("adopt", {"step": 0}, {"parameters": parameters})).kind == "error"  # before a step of its own
    for peers in ("01", [0, 0], [-1], [None], 7):
        host.answer(Message("commit", BEGUN))
        answer = host.answer(Message("apply", {"step": 0, "peers": peers}, {"gradient": parameters}))
        assert answer.kind == "error", peers


def test_a_key_that_others_can_read_stops_the_run_before_it_begins(tmp_path):
    site.commit(tmp_path / "first", Synchronised(), 4)
    shutil.copytree(tmp_path / "first/keys", tmp_path / "run/keys")
    (tmp_path / "run/keys/node-001.pem").chmod(0o644)
    with pytest.raises(KeyFileError, match="can be read by others"):
        site.commit(tmp_path / "run", Synchronised(), 4)


def forged(answer: Message, folder: Path, **changes) -> Message:
    record = open_signed(answer.fields["commitment"].encode(), TrainingCommitment, "it").record
    if "steps" in changes:
        changes["end"] = replace(record.end, step=changes["steps"])
    return Message("commitment", {"commitment": sign(replace(record, **changes), site.place(folder).key(0)).decode()})


SEALED = [
    lambda _answer, _folder: Message("commitment", {"commitment": "{}"}),
    lambda _answer, _folder: Message("commitment", {"commitment": 7}),
    lambda _answer, _folder: Message("commitment", {"commitment": "\ud800"}),
    lambda _answer, _folder: Message("error", {"code": "\ud800", "message": "\ud800" * 3000, "hint": None}),
    lambda _answer, _folder: Message("commitment"),
    lambda answer, folder: forged(answer, folder, steps=17),  # more steps than the run has
    lambda answer, folder: forged(answer, folder, run=32 * "0"),
]


@pytest.mark.parametrize("how", SEALED)
def test_a_node_that_seals_garbage_has_no_commitment(how, tmp_path):
    """Nor does it keep the others from theirs: the roster is signed, and the run's events name it."""

    class Odd(InProcess):
        def ask(self, requests, *, timeout_s):
            answers = dict(super().ask(requests, timeout_s=timeout_s))
            return {i: how(each, tmp_path) if requests[i].kind == "seal" and i == 0 else each for i, each in answers.items()}

    done = site.commit(tmp_path, Gossip(ring(3)), cluster=Odd(site.SPEC.build(), site.place(tmp_path)))
    assert [(each.node, each.what) for each in done.events] == [(0, "uncommitted")]
    enrolled = open_run(tmp_path).roster.record.nodes
    assert [bool(each.commitment) for each in enrolled] == [False, True, True]
    assert enrolled[0].why
    assert site.verify(tmp_path).outcome == "inconclusive"


@pytest.mark.parametrize("field", ["key", "numerics"])
def test_a_node_that_tells_what_no_roster_can_hold(field, tmp_path):
    class Odd(InProcess):
        def ask(self, requests, *, timeout_s):
            answers = dict(super().ask(requests, timeout_s=timeout_s))
            for i, request in requests.items():
                if request.kind == "commit" and i == 0:
                    answers[i] = Message("recording", {**answers[i].fields, field: "\ud800"})
            return answers

    done = site.commit(tmp_path, Gossip(ring(3)), cluster=Odd(site.SPEC.build(), site.place(tmp_path)))
    assert [(each.node, each.what, each.why.partition(":")[0]) for each in done.events] == [(0, "lost", "garbage")]
    assert [bool(each.commitment) for each in open_run(tmp_path).roster.record.nodes] == [False, True, True]


def test_a_node_that_is_lost_as_it_signs(tmp_path):
    class Dies(InProcess):
        def ask(self, requests, *, timeout_s):
            answers = dict(super().ask(requests, timeout_s=timeout_s))
            return {i: Lost("down", "gone") if requests[i].kind == "seal" and i == 0 else each for i, each in answers.items()}

    site.commit(tmp_path, Gossip(ring(3)), cluster=Dies(site.SPEC.build(), site.place(tmp_path)), patience=Patience(on_loss="leave_out"))
    assert not open_run(tmp_path).roster.record.nodes[0].commitment


def test_a_coordinator_may_not_name_a_folder(tmp_path):
    """Where records go is said when a node is started, not in messages."""
    host = Host(site.SPEC.node(0), site.place(tmp_path / "run"))
    begun = {**BEGUN, "place": {"records": str(tmp_path / "x"), "keys": str(tmp_path / "y")}}
    assert host.answer(Message("commit", begun)).kind == "recording"
    assert not (tmp_path / "x").exists()
    with pytest.raises(ConfigError, match="no place"):
        from studbook.protocols.messages import raise_error

        raise_error(Host(site.SPEC.node(0)).answer(Message("commit", begun)), "node 0")
