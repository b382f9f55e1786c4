"""The coordinator's part where nodes commit: what it tells them when a run goes on, and what it keeps when it is repeated."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from studbook.errors import ConfigError
from studbook.protocols import Gossip, Independent, Message, Synchronised, host, kept, ring
from studbook.protocols.commit import Committer
from studbook.protocols.committing import Commit
from studbook.protocols.kept import MAX_SEGMENT, MOST_EVERY, load_records, load_state
from studbook.protocols.replay import Assignment, ReplayVerifier, bit_for_bit
from studbook.protocols.retrace import show_steps
from studbook.protocols.stores import FolderStore, MemoryStore
from studbook.protocols.transcript import Transcript
from studbook.records import StepRecord
from studbook.records.step_lines import read_step

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import committed_site as site
import training_site


@pytest.mark.parametrize("protocol", [Synchronised(), Gossip(ring(3))])
def test_a_node_that_keeps_too_little_is_told_again(protocol, tmp_path):
    """Its last states are torn: it goes on from an earlier one, with what it took over since."""
    site.commit(tmp_path / "run", protocol, 14)
    for step in (8, 12, 14):
        (tmp_path / f"run/nodes/001/state-{step:08d}.bin").write_bytes(b"torn")
    site.commit(tmp_path / "run", protocol, 17)
    site.commit(tmp_path / "whole", protocol, 17)
    assert site.roots(tmp_path / "run") == site.roots(tmp_path / "whole")
    assert site.outcomes(site.verify(tmp_path / "run")) == ["accept"] * 3


def test_a_run_that_is_repeated_keeps_what_was_signed(tmp_path, monkeypatch):
    """What was published of it stays good; a longer run signs anew."""

    def signed() -> dict[str, bytes]:
        return {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in sorted(tmp_path.rglob("*.json"))}

    site.commit(tmp_path, Gossip(ring(3)), 9)
    first = signed()
    for clock in ("studbook.verification.calibration.now", "studbook.protocols.committing.now"):
        monkeypatch.setattr(clock, lambda: "2099-01-01T00:00:00Z")
    site.commit(tmp_path, Gossip(ring(3)), 9)
    assert signed() == first
    assert len(first) == 4
    (tmp_path / "roster.json").write_bytes(b"torn")
    site.commit(tmp_path, Gossip(ring(3)), 9)
    assert {name for name, data in signed().items() if data != first[name]} == {"roster.json"}
    site.commit(tmp_path, Gossip(ring(3)), 11)
    assert all(data != first[name] for name, data in signed().items())


def test_contacts_of_a_long_run_fit_its_messages():
    """All of them wouldn't: 1,024 nodes and 14,000 steps are more than a message may have."""
    told = Message("apply", {"step": 0, "peers": list(range(1024))}, {"gradient": {"w": np.zeros(2, np.float32)}})
    transcript = Transcript(32 * "0", 10)
    for step in range(14_000):
        transcript.note(step, {0: told}, [0], sent={})
    for message in (transcript.message("commit", 0, 14_000), transcript.message("seal", 0, 14_000, since=14_000)):
        assert len(message.encode()) < 100_000
    assert [row[0] for row in transcript.message("commit", 0, 14_000).fields["contacts"]] == list(range(13_990, 14_000))
    assert len(transcript.message("commit", 0, 40, since=0).fields["contacts"]) == 40


def test_states_from_before_a_node_was_sent_back(tmp_path):
    """It had shown states of drawn steps, and took these steps otherwise since: what is left of the former way is nobody's evidence."""
    node, store = training_site.node(), FolderStore(tmp_path)
    committer = Committer(node, store, every=10, run=training_site.RUN)

    def go_on(state, factor: float):
        while state.step < 20:
            update = node.gradient_at(state).parameters
            agreed = {name: value * np.float32(factor) for name, value in update.items()}
            state = committer.record(state, update, node.apply(state, agreed), agreed=agreed, peers=[0])
        return committer.finish(state, training_site.KEY)

    show_steps(node, store, go_on(committer.begin(), 1.0).record, [13, 17])
    committer.rewind(10)
    signed = go_on(load_state(store, 10, node.begin()), 0.5)
    contacts = {each.step: each.contact for each in committer.records if each.contact}
    found = ReplayVerifier(Assignment(node, training_site.RUN, 20, training_site.KEY.public, contacts=contacts), bit_for_bit(node, 20))
    assert found.examine(signed, store, training_site.ROUND).ballot.accepts
    assert show_steps(node, store, signed.record, [13]) > 0
    assert found.examine(signed, store, training_site.ROUND).ballot.accepts


def test_going_on_reads_each_record_once(monkeypatch):
    """However often a state was kept: the work grows with the steps, and not with their square."""
    seen: list[int] = []
    store = MemoryStore()
    Committer(training_site.node(), store, every=1, run=training_site.RUN).train(60, training_site.KEY)
    monkeypatch.setattr(kept, "read_step", lambda line, what: seen.append(len(line)) or read_step(line, what))
    committer = Committer(training_site.node(), store, every=1, run=training_site.RUN)
    assert committer.begin().step == 60
    assert len(seen) == len(committer.records) == 60


def test_no_more_is_read_than_the_steps_can_have(monkeypatch):
    """A node that promised states far apart shows one file: no longer than its steps could be."""
    store, asked = MemoryStore(), []
    signed = Committer(training_site.node(), store, every=MOST_EVERY, run=training_site.RUN).train(3, training_site.KEY)

    class Counting(MemoryStore):
        def get(self, name, *, max_bytes):
            asked.append(max_bytes)
            return MemoryStore(self.kept).get(name, max_bytes=max_bytes)

    assert len(load_records(Counting(store.kept), signed.record)) == 3
    assert asked == [3 * (StepRecord.MAX_BYTES + 1)]
    assert MOST_EVERY * (StepRecord.MAX_BYTES + 1) <= MAX_SEGMENT
    for every in (0, MOST_EVERY + 1):
        with pytest.raises(ConfigError, match="expected 1 to 4,095"):
            Committer(training_site.node(), store, every=every, run=training_site.RUN)
        with pytest.raises(ConfigError, match="expected 1 to 4,095"):
            Commit(every, training_site.KEY)


def test_how_often_a_state_is_kept_is_the_runs_word(tmp_path, monkeypatch):
    """A node that keeps fewer states would have its verifiers take nearly all of its steps again for each that is drawn."""
    asked = host.recorder_of
    monkeypatch.setattr(host, "recorder_of", lambda node, place, told: asked(node, place, {**told, "every": 4 + 8 * (node.index == 1)}))
    site.commit(tmp_path, Independent(), 24, every=4)
    found = site.verify(tmp_path)
    assert site.outcomes(found) == ["accept", "inconclusive", "accept"]
    assert (found.nodes[1].ballots, found.nodes[1].reason) == (0, "it kept a state every 12 steps, expected every 4")
