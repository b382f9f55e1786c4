"""Runs whose nodes commit by themselves: what they commit to, and what verifiers say of honest and of dishonest ones."""

from __future__ import annotations

import shutil
import stat
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studbook.errors import ConfigError, RecordError, RunFolderError
from studbook.files import write_file
from studbook.protocols import (
    Gossip,
    Independent,
    InProcess,
    Local,
    Lost,
    Message,
    Node,
    Optimiser,
    Patience,
    Plan,
    Synchronised,
    TrainingSpec,
    complete,
    ring,
    star,
    train,
)
from studbook.protocols.committed_run import open_run
from studbook.protocols.committing import ROSTER, Commit
from studbook.protocols.inspection import Draw
from studbook.protocols.recorder import Place
from studbook.protocols.transcript import Transcript
from studbook.protocols.values import digest, mean
from studbook.provenance import sign
from studbook.records import TrainingCommitment
from studbook.verification.quorum import check_receipt_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import committed_site as site

PROTOCOLS = [
    Independent(), Synchronised(), Local(3), Gossip(ring(3)), Gossip(complete(3), every=2), Gossip(star(3), "neighbours"),
]  # fmt: skip


def names(protocol) -> str:
    return "-".join(str(value) for key, value in protocol.describe().items() if key != "edges")


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=names)
def test_honest_nodes_are_accepted(protocol, tmp_path):
    run = site.commit(tmp_path, protocol)
    without = train(InProcess(site.SPEC.build()), protocol, Plan(12, settings={"spec": site.SPEC.plain()}))
    assert run.digests == without.digests
    assert list(run.rows) == list(without.rows)
    found = site.verify(tmp_path, n=3)
    assert site.outcomes(found) == ["accept"] * 3
    assert [each.ballots for each in found.nodes] == [3] * 3
    assert all(each.confirmed == each.contacts for each in found.nodes)
    exchanged = {Independent: 0, Synchronised: 12, Local: 4}.get(type(protocol))
    assert exchanged is None or {each.contacts for each in found.nodes} == {exchanged}
    assert any(each.contacts for each in found.nodes) == (not isinstance(protocol, Independent))
    for node, receipt in found.receipts.items():
        signed, commitment = check_receipt_of(TrainingCommitment, receipt)
        assert (signed.record.verdict.accepts, commitment.record.training.node, commitment.record.steps) == (3, node, 12)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=names)
def test_a_stopped_run_goes_on_to_the_same_commitments(protocol, tmp_path):
    site.commit(tmp_path / "whole", protocol, 14)

    class Stop(Exception):
        pass

    def stop(row):
        if row.step == 13:
            raise Stop

    with pytest.raises(Stop):
        site.commit(tmp_path / "run", protocol, 14, progress=stop)
    site.commit(tmp_path / "run", protocol, 14)
    assert site.roots(tmp_path / "run") == site.roots(tmp_path / "whole")
    assert (tmp_path / "run/contacts.jsonl").read_bytes() == (tmp_path / "whole/contacts.jsonl").read_bytes()
    assert site.outcomes(site.verify(tmp_path / "run")) == ["accept"] * 3


def test_stopped_before_the_first_checkpoint_it_begins_anew(tmp_path):
    def stop(row):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        site.commit(tmp_path, Local(3), 9, every=2, progress=stop)
    site.commit(tmp_path, Local(3), 9, every=4)  # another rhythm: no state of the first life may be left
    assert site.outcomes(site.verify(tmp_path)) == ["accept"] * 3


def test_a_longer_run_goes_on_from_one_that_ended(tmp_path):
    site.commit(tmp_path / "run", Gossip(ring(3)), 10)
    site.commit(tmp_path / "run", Gossip(ring(3)), 17)
    site.commit(tmp_path / "whole", Gossip(ring(3)), 17)
    assert site.roots(tmp_path / "run") == site.roots(tmp_path / "whole")
    assert site.outcomes(site.verify(tmp_path / "run")) == ["accept"] * 3


def test_keys_are_their_owners_alone(tmp_path):
    site.commit(tmp_path, Independent(), 4)
    keys = sorted((tmp_path / "keys").iterdir())
    assert [key.name for key in keys] == ["node-000.pem", "node-001.pem", "node-002.pem"]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    enrolled = open_run(tmp_path).roster.record.nodes
    assert len({each.key for each in enrolled}) == 3


def test_the_switch_belongs_to_the_run(tmp_path):
    site.commit(tmp_path, Independent(), 4)
    with pytest.raises(RunFolderError, match="another run"):
        train(InProcess(site.SPEC.build()), Independent(), Plan(4, settings={"spec": site.SPEC.plain()}), folder=tmp_path)
    with pytest.raises(RunFolderError, match="another run"):
        site.commit(tmp_path, Independent(), 4, every=2)


def test_a_finished_commitment_is_not_written_over(tmp_path):
    site.commit(tmp_path, Independent(), 4)
    (tmp_path / "checkpoint.bin").unlink()
    with pytest.raises(RunFolderError, match="holds the commitment of a run that ended"):
        site.commit(tmp_path, Independent(), 4)


def test_records_that_do_not_lead_to_the_checkpoint_stop_the_run(tmp_path):
    site.commit(tmp_path, Synchronised(), 10)
    (tmp_path / "nodes/001/received-00000009.bin").unlink()
    with pytest.raises(RunFolderError, match="records of node 1 end at step 9, the checkpoint is at 10"):
        site.commit(tmp_path, Synchronised(), 12)


def test_a_key_that_was_changed_stops_the_run(tmp_path):
    site.commit(tmp_path, Independent(), 5)
    (tmp_path / "keys/node-002.pem").unlink()
    with pytest.raises(RunFolderError, match="node 2 has another key"):
        site.commit(tmp_path, Independent(), 8)


def test_other_numerics_are_nobodys_fault(tmp_path, monkeypatch):
    """Elsewhere an honest step may have other bits: no ballot there, and a run doesn't go on there."""
    from studbook.protocols import host, inspection

    site.commit(tmp_path, Independent(), 5)
    monkeypatch.setattr(inspection, "numerics", lambda: "NumPy 1.0")
    found = site.verify(tmp_path)
    assert site.outcomes(found) == ["inconclusive"] * 3
    assert "here is NumPy 1.0" in found.nodes[0].reason
    monkeypatch.setattr(host, "numerics", lambda: "NumPy 1.0")
    with pytest.raises(RunFolderError, match="would go on with NumPy"):
        site.commit(tmp_path, Independent(), 8)


def test_who_cannot_commit_is_refused_before_training(tmp_path):
    how = Commit(4, site.COORDINATOR)
    nodes = site.SPEC.build()
    with pytest.raises(ConfigError, match="no place for its records"):
        train(InProcess(nodes), Independent(), Plan(4), folder=tmp_path, commit=how)
    with pytest.raises(ConfigError, match="needs a folder"):
        train(InProcess(nodes), Independent(), Plan(4), commit=how)
    with pytest.raises(ConfigError, match="commit_every is 0"):
        Commit(0, site.COORDINATOR)
    with pytest.raises(RecordError, match="record can't hold"):
        train(InProcess(nodes), Independent(), Plan(4, settings={"x": 1 << 60}), folder=tmp_path, commit=how)


# Dishonest nodes


class Lazy(Node):
    """From a step on it sends its first update again and again."""

    def gradient_at(self, state):
        return super().gradient_at(self.begin() if state.step >= 6 else state)


class Poisoner(Node):
    """It turns some updates round."""

    def gradient_at(self, state):
        found = super().gradient_at(state)
        sign = -1.0 if state.step % 2 else 1.0
        return type(found)({name: (sign * value).astype(np.float32) for name, value in found.parameters.items()}, found.loss, found.n)


class Elsewhere(Node):
    """It trains on rows that aren't its own."""

    def rows_at(self, step):
        return np.minimum(super().rows_at(step) + 1, self.objective.n_rows - 1)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=names)
@pytest.mark.parametrize("kind", [Lazy, Poisoner, Elsewhere])
def test_a_dishonest_node_is_rejected_and_named(protocol, kind, tmp_path):
    nodes = site.SPEC.build()
    false = nodes[1]
    nodes[1] = kind(1, false.objective, false.rows, false.batch, false.optimiser, false.seed)
    site.commit(tmp_path, protocol, cluster=InProcess(nodes, site.place(tmp_path)))
    found = site.verify(tmp_path)
    assert (found.outcome, found.nodes[1].outcome, found.fault) == ("reject", "reject", "")
    assert "step" in found.nodes[1].reason
    # What others took over of its false steps can't be made again: they aren't rejected for it, nor accepted.
    for i in (0, 2):
        each = found.nodes[i]
        assert each.outcome == ("accept" if each.confirmed == each.contacts else "inconclusive")
        assert (each.outcome == "accept") == (not each.reason)
        assert not each.reason or "node 1's isn't there" in each.reason
    assert not isinstance(protocol, Independent) or site.outcomes(found) == ["accept", "reject", "accept"]


def test_a_coordinator_that_combines_falsely_is_found(tmp_path):
    """Everybody's records say the same, and what they took over isn't the mean of what they had: no node could have known."""

    class False1(Gossip):
        def step(self, team):
            adopt = team.adopt
            if team.step == 5:
                team.adopt = lambda several, peers: adopt({i: {k: v + 1 for k, v in each.items()} for i, each in several.items()}, peers)
            return super().step(team)

    site.commit(tmp_path, Unslotted(False1))
    found = site.verify(tmp_path)
    assert found.outcome == "reject"
    assert found.fault == "what was taken over in step 5 isn't what its peers had, combined"
    assert sorted(site.outcomes(found)) == ["accept", "inconclusive", "inconclusive"]
    told = [each for each in found.nodes if each.outcome == "inconclusive"]
    assert [(each.contacts - each.confirmed, each.ballots, each.reason) for each in told] == 2 * [(1, 0, found.fault)]
    receipt, _ = check_receipt_of(TrainingCommitment, found.receipts[told[0].node])
    verdict = receipt.record.verdict
    assert (verdict.accepts, verdict.rejects, receipt.record.notes) == (0, 0, (found.fault,))


def Unslotted(kind):
    """A gossip on a complete graph, whose team's adopt may be replaced for a step."""
    protocol = kind(complete(3))

    class Proxy:
        def __getattr__(self, name):
            return getattr(protocol, name)

        def step(self, team):
            wrapped = Wrapped(team)
            return protocol.step(wrapped)

    class Wrapped:
        def __init__(self, team):
            self.__dict__["_team"] = team

        def __getattr__(self, name):
            return getattr(self._team, name)

        def __setattr__(self, name, value):
            if name == "adopt":
                self.__dict__["adopt"] = value
            else:
                setattr(self._team, name, value)

    return Proxy()


def test_nodes_that_are_not_partners_are_found(tmp_path):
    """A pair that no edge of the graph joins."""
    graph = star(3)

    class Other(Gossip):
        def step(self, team):
            return Gossip(ring(3)).step(team)

    site.commit(tmp_path, Other(graph))
    found = site.verify(tmp_path)
    assert found.outcome == "reject"
    assert "by the protocol it was to take over" in found.fault
    assert "reject" not in site.outcomes(found)


class Leaving(Synchronised):
    """It leaves the gradient of node 2 out of every mean, and says so."""

    def step(self, team):
        found = team.gradients()
        team.apply(mean([found[i].parameters for i in (0, 1)], [found[i].n for i in (0, 1)]), [0, 1])
        return {i: each.loss for i, each in found.items()}


class Choosing(Gossip):
    """Its pairs are drawn with another seed than the run's."""

    def _pairs(self, live, seed, step):
        return super()._pairs(live, seed + 1, step)


@pytest.mark.parametrize(
    ("trained", "said"),
    [
        (Independent(), Synchronised()), (Independent(), Gossip(ring(3))), (Local(3), Local(1)), (Local(1), Local(3)),
        (Local(1), Independent()), (Local(1), Gossip(complete(3), "neighbours", 2)), (Leaving(), Synchronised()),
        (Choosing(ring(3)), Gossip(ring(3))),
    ],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
def test_a_run_that_is_not_what_its_roster_says_is_the_coordinators_fault(trained, said, tmp_path):
    """Every node's steps are honest, and what it took over is what the transcript has: only the protocol says otherwise."""
    site.commit(tmp_path, trained)
    roster = open_run(tmp_path).roster.record
    settings = {**roster.settings, "protocol": dict(said.describe())}
    write_file(tmp_path / ROSTER, sign(replace(roster, settings=settings), site.COORDINATOR))
    found = site.verify(tmp_path)
    assert found.outcome == "reject"
    assert "by the protocol it was to take over" in found.fault
    assert set(site.outcomes(found)) <= {"accept", "inconclusive"}
    assert any(each.ballots == 0 for each in found.nodes)


class Twofold(InProcess):
    """Its node 0 sends -3 times what its steps give, and records honest steps."""

    def ask(self, requests, *, timeout_s):
        found = dict(super().ask(requests, timeout_s=timeout_s))
        if 0 in found and requests[0].kind in ("gradient", "apply", "advance"):
            arrays = {key: {name: -3 * value for name, value in each.items()} for key, each in found[0].arrays.items()}
            found[0] = Message(found[0].kind, found[0].fields, arrays)
        return found


@pytest.mark.parametrize("protocol", PROTOCOLS[1:], ids=names)
def test_a_node_that_sends_something_else_is_rejected_alone(protocol, tmp_path):
    """In whatever step it does: what it committed to is held against what the coordinator has from it in each."""
    site.commit(tmp_path, protocol, cluster=Twofold(site.SPEC.build(), site.place(tmp_path)))
    found = site.verify(tmp_path, Draw(1, 0.99, 0.05))
    assert (found.nodes[0].outcome, found.fault) == ("reject", "")
    assert found.nodes[0].reason.endswith("it sent something else than the step gave")
    assert "reject" not in site.outcomes(found)[1:]
    assert all("node 0's isn't there" in each.reason for each in found.nodes if each.outcome == "inconclusive")


def test_no_commitment_is_no_pass(tmp_path):
    site.commit(tmp_path, Gossip(ring(3)))
    shutil.rmtree(tmp_path / "nodes/002")
    found = site.verify(tmp_path)
    assert site.outcomes(found) == ["inconclusive"] * 3
    assert [each.ballots for each in found.nodes] == [0] * 3
    assert 2 not in found.receipts
    assert found.outcome == "inconclusive"
    assert found.nodes[0].confirmed < found.nodes[0].contacts
    assert "node 2's isn't there" in found.nodes[0].reason


@pytest.mark.parametrize("killed", [False, True], ids=["through", "killed"])
def test_a_node_that_rejoined_commits_to_the_steps_before(tmp_path, killed):
    """Also where the run is stopped afterwards, and goes on: what it committed to stays where it was lost."""

    class Away(InProcess):
        gone = False

        def ask(self, requests, *, timeout_s):
            there = {i: each for i, each in requests.items() if i != 2 or not self.gone}
            found = dict(super().ask(there, timeout_s=timeout_s))
            return found | {i: Lost("down", "away") for i in requests if i not in there}

        def revive(self, index, *, fresh):
            return not self.gone

    cluster = Away(site.SPEC.build(), site.place(tmp_path))

    def told(row):
        cluster.gone = 5 <= row.step < 7
        if killed and row.step == 11:
            raise InterruptedError

    if killed:
        with pytest.raises(InterruptedError):
            site.commit(tmp_path, Gossip(ring(3)), 14, cluster=cluster, progress=told)
    site.commit(tmp_path, Gossip(ring(3)), 14, cluster=cluster, progress=None if killed else told)
    assert [each.steps for each in open_run(tmp_path).roster.record.nodes] == [14, 14, 5]
    found = site.verify(tmp_path)
    # What nodes took over from it afterwards can't be made again; that is nobody's fault.
    assert (site.outcomes(found), found.fault) == (["inconclusive"] * 3, "")
    assert all("node 2's isn't there" in each.reason for each in found.nodes[:2])
    assert found.nodes[2].ballots == 1
    assert found.nodes[2].reason.startswith("it committed to 5 of 14 steps; lost at step 5: down: away; rejoined at step 7")


class Flaky(InProcess):
    """Its nodes are lost and come back as a seed has it, in the middle of steps and of exchanges."""

    def __init__(self, nodes, place, seed):
        super().__init__(nodes, place)
        self.rng, self.gone, self.lost = np.random.default_rng(seed), set(), 0

    def ask(self, requests, *, timeout_s):
        if self.rng.random() < 0.1:
            self.gone = set() if self.gone else {int(self.rng.integers(self.n))}
        away = {i for i in self.gone if i in requests and requests[i].kind not in ("begin", "commit", "seal")}
        self.lost += len(away)
        there = {i: each for i, each in requests.items() if i not in away}
        return dict(super().ask(there, timeout_s=timeout_s)) | {i: Lost("down", "away") for i in away}

    def revive(self, index, *, fresh):
        self.gone = set() if fresh else self.gone
        return index not in self.gone and super().revive(index, fresh=fresh)


@pytest.mark.parametrize("on_loss", ["leave_out", "replace"])
@pytest.mark.parametrize("protocol", [*PROTOCOLS[1:], Gossip(ring(3), "neighbours")], ids=names)
def test_losses_are_nobodys_fault(protocol, on_loss, tmp_path):
    spec = TrainingSpec("quadratic", {"dimension": 3}, nodes=3)
    lost = 0
    for seed in range(3):
        folder = tmp_path / str(seed)
        cluster = Flaky(spec.build(), site.place(folder), seed)
        site.commit(folder, protocol, spec=spec, cluster=cluster, patience=Patience(on_loss=on_loss, replacements=99))
        found = site.verify(folder)
        assert found.fault == ""
        assert "reject" not in site.outcomes(found)
        assert on_loss == "leave_out" or site.outcomes(found) == ["accept"] * 3
        lost += cluster.lost
    assert lost


def test_fewer_replays_than_a_share_needs_say_what_they_find():
    assert Draw(None, 0.99, 0.05).of(1800) == 88
    assert Draw(90, 0.99, 0.05).of(10) == 10
    assert Draw(1, 0.99, 0.5).detects(10) == 0.5
    for impossible in ((0, 0.99, 0.05), (None, 1.0, 0.05), (None, 0.99, 0.0)):
        with pytest.raises(ConfigError):
            Draw(*impossible)


def test_a_transcript_is_what_a_checkpoint_was(tmp_path):
    transcript = Transcript(32 * "1", 4, {0: ("k", "n")}, {2: 3})
    value = {"w": np.ones(2, np.float32)}
    for step in range(5):
        told = Message("adopt", {"peers": [0, 1]}, {"parameters": value})
        transcript.note(step, {0: told, 1: told, 2: Message("pull")}, [0, 1, 2], {0: value, 1: value})
        transcript.append(tmp_path, step + 1)
    again = Transcript.resumed(tmp_path, transcript.plain(), 4, 3)
    assert (again.run, again.told, again.stopped) == (transcript.run, transcript.told, transcript.stopped)
    assert list(again.of(1, 9)) == [0, 1, 2]
    assert again.of(1, 9)[2].value == digest(value)
    assert again.of(2, 9) == {}
    assert (tmp_path / "contacts.jsonl").read_bytes().count(b"\n") == 3 * 3


def test_a_place_travels_as_text(tmp_path):
    there = Place(tmp_path / "a", tmp_path / "b")
    assert Place.of(there.plain()) == there
    assert Place.of(None) is None
    for wrong in ("x", {"records": "a"}, {"records": 1, "keys": "b"}):
        with pytest.raises(ConfigError):
            Place.of(wrong)


def test_optimisers_with_a_state_are_followed(tmp_path):
    for kind in ("sgd", "adagrad"):
        optimiser = Optimiser(kind, rate=0.05, momentum=0.9 if kind == "sgd" else 0.0)
        spec = TrainingSpec("quadratic", {"dimension": 3, "rows": 60}, nodes=3, batch=4, optimiser=optimiser)
        site.commit(tmp_path / kind, Synchronised(), spec=spec)
        assert site.outcomes(site.verify(tmp_path / kind)) == ["accept"] * 3
