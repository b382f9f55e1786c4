"""Clients of federated training that commit to their turns, and what verifiers say of honest and of dishonest ones."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from studbook.errors import RecordError, VerifierError
from studbook.files import write_file
from studbook.protocols import (
    Choice,
    Federated,
    Host,
    InProcess,
    Lost,
    Message,
    Optimiser,
    Patience,
    Plan,
    Selection,
    Synchronised,
    TrainingSpec,
    train,
)
from studbook.protocols.aggregation import TrimmedMean
from studbook.protocols.committed_run import open_run
from studbook.protocols.inspection import Draw
from studbook.protocols.kept import received_name, state_name
from studbook.protocols.transcript import TRANSCRIPT, digest_of_file, read_contacts
from studbook.protocols.turns import Client
from studbook.provenance import open_signed, sign
from studbook.records.roster import Roster

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import committed_site as site

SPEC = TrainingSpec(
    "mlp", {"data": "digits", "hidden": 8, "limit": 300}, nodes=4, batch=16, optimiser=Optimiser("sgd", 0.1, momentum=0.5), split="label"
)
WHOLE = Federated(clients=2, epochs=2)
SLICES = Federated(clients=2, selection=Selection({"neurons": Choice(3, "random")}), server=Optimiser("adam", 0.05, epsilon=1e-3))
ROBUST = Federated(clients=3, selection=Selection({"neurons": Choice(4, "mixed")}, TrimmedMean(0.2)))
FREQUENT = Federated(clients=3, selection=Selection({"neurons": Choice(3)}, "coverage"), weights="equal")
ALL = [WHOLE, SLICES, FREQUENT, ROBUST]
IDS = ["whole", "random", "frequent", "robust"]


def run(folder, protocol, steps=9, **how):
    return site.commit(folder, protocol, steps, spec=SPEC, every=2, **how)


def told(found) -> dict[int, str]:
    return {each.node: each.reason for each in found.nodes if each.outcome == "reject"}


@pytest.mark.parametrize("protocol", ALL, ids=IDS)
def test_honest_clients_are_accepted(protocol, tmp_path):
    """The training is the one without commitments, to the bit; every turn is covered."""
    committed = run(tmp_path, protocol)
    without = train(InProcess(SPEC.build()), protocol, Plan(9, settings={"spec": SPEC.plain()}))
    assert committed.digests == without.digests
    found = site.verify(tmp_path, n=3)
    assert site.outcomes(found) == ["accept"] * 4, [each.reason for each in found.nodes]
    assert sum(each.covers for each in found.nodes) == 9 * protocol.clients
    assert [each.covers for each in found.nodes] == [each.owed for each in found.nodes] == [each.replayed for each in found.nodes]
    assert [each.ballots for each in found.nodes] == [3] * 4
    assert [each.taken for each in found.nodes] == [each.replayed for each in found.nodes]


@pytest.mark.parametrize("stopped", [4, 5, 6, 8])
@pytest.mark.parametrize("protocol", ALL, ids=IDS)
def test_a_stopped_run_goes_on_to_the_same_commitments(protocol, stopped, tmp_path):
    run(tmp_path / "whole", protocol)

    class Stop(Exception):
        pass

    def stop(row):
        if row.step == stopped:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path / "run", protocol, progress=stop)
    run(tmp_path / "run", protocol)
    assert site.roots(tmp_path / "run") == site.roots(tmp_path / "whole")
    assert (tmp_path / "run" / TRANSCRIPT).read_bytes() == (tmp_path / "whole" / TRANSCRIPT).read_bytes()
    assert site.verify(tmp_path / "run").outcome == "accept"


def test_a_longer_run_goes_on_from_the_end_of_a_shorter_one(tmp_path):
    for steps in (1, 2, 7, 9):
        run(tmp_path / "run", SLICES, steps)
    run(tmp_path / "whole", SLICES)
    assert site.roots(tmp_path / "run") == site.roots(tmp_path / "whole")
    assert site.verify(tmp_path / "run").outcome == "accept"


def test_a_cluster_goes_on_without_commitments_after_a_run_that_was_stopped(tmp_path):
    def stop(row):
        if row.step == 4:
            raise InterruptedError

    cluster = InProcess(SPEC.build(), site.place(tmp_path))
    with pytest.raises(InterruptedError):
        run(tmp_path, SLICES, cluster=cluster, progress=stop)
    kept = sorted(each.name for each in (tmp_path / "nodes").rglob("*"))
    again = train(cluster, SLICES, Plan(9, settings={"spec": SPEC.plain()}))
    assert again.digests == train(InProcess(SPEC.build()), SLICES, Plan(9)).digests
    assert sorted(each.name for each in (tmp_path / "nodes").rglob("*")) == kept


def test_clients_that_were_never_drawn_owe_nothing(tmp_path):
    run(tmp_path, WHOLE, 1)
    found = site.verify(tmp_path)
    idle = [each for each in found.nodes if not each.owed]
    assert len(idle) == 2
    assert {str(each.outcome) for each in idle} == {"inconclusive"}
    assert all("took part in no round" in each.reason for each in idle)
    assert found.outcome == "accept"


class Cheat(InProcess):
    """Node 1 is another's, as the test says."""

    def __init__(self, folder, host):
        super().__init__(SPEC.build(), site.place(folder))
        self._other = host(self.nodes[1], site.place(folder))

    def ask(self, requests, *, timeout_s):
        found = super().ask({i: each for i, each in requests.items() if i != 1}, timeout_s=timeout_s)
        return found | ({1: self._other.answer(requests[1])} if 1 in requests else {})


class Poisoner(Host):
    """Commits to its honest update, and sends another."""

    def answer(self, message):
        found = Host.answer(self, message)
        if message.kind != "train":
            return found
        return Message("update", found.fields, {"update": {name: -3 * each for name, each in found.arrays["update"].items()}})


class Sparing(Host):
    """Keeps fewer states than it was told to: each replay of it would take long."""

    def answer(self, message):
        return Host.answer(
            self, Message(message.kind, {**message.fields, "every": 8}, message.arrays) if "every" in message.fields else message
        )


class Alien(Host):
    """Commits to a run of its own."""

    def answer(self, message):
        return Host.answer(
            self, Message(message.kind, {**message.fields, "run": 32 * "f"}, message.arrays) if "run" in message.fields else message
        )


@pytest.mark.parametrize(
    ("host", "why", "what"),
    [(Sparing, "every 8 steps, expected every 2", []), (Alien, "of the run f", ["uncommitted"])],
    ids=["every", "run"],
)
def test_who_commits_to_another_run_or_keeps_less_gets_no_ballot(host, why, what, tmp_path):
    """And keeps nobody from theirs."""
    ended = run(tmp_path, SLICES, cluster=Cheat(tmp_path, host))
    found = site.verify(tmp_path)
    assert site.outcomes(found) == ["accept", "inconclusive", "accept", "accept"]
    assert why in found.nodes[1].reason
    assert [each.what for each in ended.events] == what


@pytest.mark.parametrize("protocol", ALL, ids=IDS)
def test_who_sends_another_update_than_it_committed_to_is_named(protocol, tmp_path):
    """Without any luck in the draw: one replay of each."""
    run(tmp_path, protocol, cluster=Cheat(tmp_path, Poisoner))
    found = site.verify(tmp_path, Draw(1, 0.99, 0.05), n=3)
    assert list(told(found)) == [1]
    assert "it sent something else than the step gave" in told(found)[1]
    assert found.outcome == "reject"


def test_a_drawn_turn_is_replayed_alone(tmp_path):
    """It begins with what was sent: none before it is taken again."""
    run(tmp_path, SLICES)
    found = site.verify(tmp_path, Draw(1, 0.99, 0.05))
    assert [(each.replayed, each.taken) for each in found.nodes] == [(1, 1)] * 4
    assert found.outcome == "accept"


@pytest.mark.parametrize("protocol", ALL, ids=IDS)
def test_who_trains_falsely_and_commits_to_it_is_named(protocol, tmp_path, monkeypatch):
    """It follows its records with a gradient that isn't that of its rows."""
    honest = Client.gradient_at

    def lazy(self, state):
        found = honest(self, state)
        if self.index != 1 or not self.first:
            return found
        return replace(found, parameters={name: np.float32(0.5) * each for name, each in found.parameters.items()})

    with monkeypatch.context() as patched:
        patched.setattr(Client, "gradient_at", lazy)
        run(tmp_path, protocol)
    found = site.verify(tmp_path, n=3)
    assert list(told(found)) == [1]
    assert "another update" in told(found)[1]


def test_who_names_other_keys_than_its_own_is_named(tmp_path, monkeypatch):
    """It might choose rows that nobody else has; that others were served says the transcript."""
    import studbook.protocols.client as asked
    import studbook.protocols.turns as turns

    honest = asked.choose_keys

    def other(node, groups, number):
        found = honest(node, groups, number)
        return found if node.index != 1 else {"neurons": np.array([0, 1, 2 + (found["neurons"] == [0, 1, 2]).all()])}

    with monkeypatch.context() as patched:
        patched.setattr(asked, "choose_keys", other)
        patched.setattr(turns, "choose_keys", other)
        run(tmp_path, SLICES)
    found = site.verify(tmp_path)
    assert list(told(found)) == [1]


def test_a_server_that_says_it_sent_something_else_contradicts_its_clients(tmp_path):
    run(tmp_path, WHOLE)
    lines = [json.loads(line) for line in (tmp_path / TRANSCRIPT).read_text().splitlines()]
    lines[0]["contact"]["value"] = "blake3:" + 64 * "0"
    data = "".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines)
    write_file(tmp_path / TRANSCRIPT, data.encode())
    with pytest.raises(VerifierError, match="isn't the file that the coordinator signed"):
        open_run(tmp_path)
    roster = open_signed((tmp_path / "roster.json").read_bytes(), Roster, "it").record
    again = replace(roster, transcript=digest_of_file(tmp_path / TRANSCRIPT))
    write_file(tmp_path / "roster.json", sign(again, site.COORDINATOR))
    assert site.verify(tmp_path).outcome != "accept"


@pytest.mark.parametrize("name", [received_name(0), state_name(0), "steps-00000000.jsonl", "commitment.json"])
def test_what_is_missing_leaves_no_ballot(name, tmp_path):
    run(tmp_path, WHOLE)
    (tmp_path / "nodes/001" / name).unlink()
    found = site.verify(tmp_path)
    assert [each.ballots for each in found.nodes] == [1, 0, 1, 1]
    assert str(found.nodes[1].outcome) == "inconclusive"
    assert found.outcome == "inconclusive"


def test_a_transcript_without_a_turn_leaves_no_ballot(tmp_path):
    """The coordinator signs that a client took part less often than it committed to: nobody can say what it was to do."""
    run(tmp_path, WHOLE)
    noted = [json.loads(line) for line in (tmp_path / TRANSCRIPT).read_bytes().splitlines()]
    for each in noted:
        if "nodes" in each:
            each["nodes"] = [i for i in each["nodes"] if i != 1]
    transcribe(tmp_path, [each for each in noted if each.get("node") != 1])
    found = site.verify(tmp_path)
    assert str(found.nodes[1].outcome) == str(found.outcome) == "inconclusive"
    assert "the transcript knows of 0" in found.nodes[1].reason


@pytest.mark.parametrize("kept", [{"contact"}, {"sent"}, {"sent", "contact"}])
def test_a_half_turn_is_refused(kept, tmp_path):
    """What a client was sent without what it sent, or the reverse, or not by which keys."""
    run(tmp_path, SLICES)
    noted = [json.loads(line) for line in (tmp_path / TRANSCRIPT).read_bytes().splitlines()]
    for each in noted:
        each.pop("keys", None)
    transcribe(tmp_path, [each for each in noted if kept & set(each)])
    with pytest.raises(RecordError, match="isn't one of clients' turns"):
        site.verify(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda noted: [each for each in noted if each["step"] != 4],
        lambda noted: [each | {"step": each["step"] - (each["step"] == 4)} for each in noted],
        lambda noted: [each | {"step": each["step"] + 1} for each in noted],
        lambda noted: [each | {"nodes": [9]} if each.get("nodes") == [1] else each for each in noted],
    ],
    ids=["without a round", "more clients than are drawn", "beyond the end", "another node"],
)
def test_rounds_that_the_protocol_hasnt_are_refused(change, tmp_path):
    run(tmp_path, SLICES)
    transcribe(tmp_path, change([json.loads(line) for line in (tmp_path / TRANSCRIPT).read_bytes().splitlines()]))
    with pytest.raises(RecordError, match=r"transcript|another|something else"):
        site.verify(tmp_path)


def test_turns_where_no_server_is_are_refused(tmp_path):
    site.commit(tmp_path, Synchronised(), 4, spec=SPEC, every=2)
    noted = [json.loads(line) for line in (tmp_path / TRANSCRIPT).read_bytes().splitlines()]
    transcribe(tmp_path, [each | ({"keys": "sha256:" + 64 * "0"} if "sent" in each else {}) for each in noted])
    with pytest.raises(RecordError, match="isn't one of clients' turns"):
        site.verify(tmp_path)


@pytest.mark.parametrize("gone", [[], [2, 4, 6], [6]], ids=["kept", "back to the first", "back to one"])
def test_a_run_that_ended_is_sealed_again_as_it_was(gone, tmp_path):
    """Its processes are others. They are told no contacts at first; who keeps too little is told them then. No roster is made anew."""
    run(tmp_path, FREQUENT)
    roster = (tmp_path / "roster.json").read_bytes()
    for step in gone:
        for each in (tmp_path / "nodes").glob(f"*/{state_name(step)}"):
            each.unlink()
    run(tmp_path, FREQUENT)
    assert (tmp_path / "roster.json").read_bytes() == roster
    assert site.verify(tmp_path).outcome == "accept"


def transcribe(folder, noted):
    """Another transcript, signed by the coordinator."""
    data = "".join(json.dumps(each, sort_keys=True, separators=(",", ":")) + "\n" for each in noted)
    write_file(folder / TRANSCRIPT, data.encode())
    roster = open_signed((folder / "roster.json").read_bytes(), Roster, "it").record
    write_file(folder / "roster.json", sign(replace(roster, transcript=digest_of_file(folder / TRANSCRIPT)), site.COORDINATOR))


class Losing(InProcess):
    """Node 1's answer of a round is lost on the way: it took the turn, and nobody knows. Its records may be lost with it."""

    def __init__(self, folder, number, gone):
        super().__init__(SPEC.build(), site.place(folder))
        self._number, self._gone, self._folder = number, gone, folder

    def ask(self, requests, *, timeout_s):
        found = dict(super().ask(requests, timeout_s=timeout_s))
        asked = requests.get(1)
        if asked is not None and asked.kind == "train" and asked.fields["round"] >= self._number:
            self._number = 1 << 30
            found[1] = Lost("slow", "no answer")
            if self._gone:
                shutil.rmtree(self._folder / "nodes/001")
        return found


@pytest.mark.parametrize("loss", ["leave_out", "replace"])
@pytest.mark.parametrize("gone", [False, True], ids=["kept", "gone"])
@pytest.mark.parametrize("number", [0, 4, 6])
def test_a_lost_answer(number, gone, loss, tmp_path):
    """The turn that nobody knows of doesn't count; with its records a client goes on, without it commits to what is left."""
    run(tmp_path, FREQUENT, 12, cluster=Losing(tmp_path, number, gone), patience=Patience(on_loss=loss))
    found = site.verify(tmp_path)
    assert not told(found)
    nothing_lost = not gone or found.nodes[1].covers == found.nodes[1].owed
    assert site.outcomes(found) == ["accept", "accept" if nothing_lost else "inconclusive", "accept", "accept"]
    if gone and number:
        assert found.nodes[1].covers < found.nodes[1].owed


def test_the_transcript_has_what_was_sent_and_came_back(tmp_path):
    run(tmp_path, SLICES, 3)
    noted = read_contacts(tmp_path / TRANSCRIPT)
    assert sorted(noted) == [0, 1, 2]
    assert all(set(each.taken) == set(each.sent) == set(each.keys) for each in noted.values())
    assert len({sent for each in noted.values() for sent in each.sent.values()}) == 6
    assert len({keys for each in noted.values() for keys in each.keys.values()}) > 1


@pytest.mark.parametrize(
    "change", [{"run": 3}, {"epochs": 0}, {"rounds": "x"}, {"rounds": [-1]}, {"groups": []}, {"groups": {"neurons": 3}}, {"contacts": None},
               {"groups": {"neurons": {"m": 0}}}, {"every": 0}, {"since": -1}, {"since": 1}],
)  # fmt: skip
def test_odd_messages(change, tmp_path):
    sound = {"run": 32 * "0", "every": 2, "epochs": 1, "groups": {}, "rounds": [], "since": 0, "contacts": []}
    host = Host(SPEC.build()[0], site.place(tmp_path))
    assert host.answer(Message("enlist", sound)).kind == "recording"
    for kind in ("enlist", "sign"):
        assert host.answer(Message(kind, {**sound, **change})).kind == "error"
    assert host.answer(Message("sign", sound)).kind == "error"  # to nothing


def test_a_client_is_a_node_with_turns():
    assert [each.name for each in fields(Client)][-5:] == ["epochs", "groups", "rounds", "first", "served"]
