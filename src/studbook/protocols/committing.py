"""The coordinator's part where nodes commit to their training: it learns their keys, and signs the roster of who committed to what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studbook.errors import ConfigError, RecordError, RunFolderError, StudbookError
from studbook.files import write_file
from studbook.protocols.answers import require_fields
from studbook.protocols.kept import COMMITMENT, MOST_EVERY
from studbook.protocols.messages import Message, raise_error
from studbook.protocols.protocols import Protocol, Served
from studbook.protocols.team import Check, Event, Team
from studbook.protocols.transcript import TRANSCRIPT, Transcript, begin_file, digest_of_file
from studbook.provenance import PublicKey, Signed, SigningKey, open_signed, read_signed, sign
from studbook.records import TrainingCommitment, canonical_bytes
from studbook.records.roster import Enrolled, Roster
from studbook.verification.calibration import now
from studbook.verification.quorum import new_round

ROSTER = "roster.json"
_LONGEST_WHY = 500


@dataclass(frozen=True, slots=True, eq=False)
class Commit:
    """That every node commits to its training, by itself and where it lives.

    Attributes:
        every: A state is kept every so many steps: 1 makes replays short, more saves room.
        key: The coordinator's, which signs the roster.

    Raises:
        ConfigError: An impossible ``every``.
    """

    every: int
    key: SigningKey

    def __post_init__(self) -> None:
        require_every(self.every)

    @staticmethod
    def check(protocol: Protocol, folder: Path | None) -> None:
        """Refuse runs whose nodes can't commit.

        Raises:
            ConfigError: They can't.
        """
        if isinstance(protocol, Served):
            message = f"{protocol.describe()['protocol']} clients keep nothing between steps that they could commit to"
            raise ConfigError(message, hint="leave out --commit, or take another protocol")
        if folder is None:
            raise ConfigError("a run whose nodes commit needs a folder for its roster and contacts", hint="train(…, folder=…)")

    def begin(self, team: Team, folder: Path, settings: Mapping[str, Any]) -> None:
        """Nodes begin to record, before the first step.

        Raises:
            RecordError: Settings that no record can hold.
            StudbookError: A node has no place for records, or can't use its key.
        """
        canonical_bytes(settings)
        begin_file(folder)
        team.transcript = Transcript(new_round(), self.every)
        _enrol(team, team.transcript)

    def resume(self, team: Team, folder: Path, plain: Mapping[str, Any]) -> None:
        """Nodes go on from what they keep, at the step of a checkpoint.

        Raises:
            RunFolderError: A node's records don't lead there, or what the run wrote isn't whole.
        """
        team.transcript = Transcript.resumed(folder, plain, self.every, team.step)
        _enrol(team, team.transcript)

    def end(self, team: Team, folder: Path, settings: Mapping[str, Any]) -> Signed[Roster]:
        """Nodes sign; the roster says who committed to what. One that says the same stays: verifiers may have it already.

        Raises:
            StorageError: The disk refused.
        """
        transcript = team.transcript
        assert transcript is not None
        wanted = {i: transcript.stopped.get(i, team.step) for i in team.live}
        requests = {i: transcript.message("seal", i, steps, since=steps) for i, steps in wanted.items() if steps}
        answers = _ask(team, transcript, requests, check=lambda _i, _request, _answer: None)
        roster = Roster(
            settings=dict(settings), steps=team.step, run=transcript.run, transcript=digest_of_file(folder / TRANSCRIPT),
            nodes=tuple(_enrolled(team, transcript, i, wanted.get(i, 0), answers.get(i)) for i in range(team.cluster.n)), made=now(),
        )  # fmt: skip
        before = self._signed(folder / ROSTER)
        if before is not None and replace(before.record, made=roster.made).id == roster.id:
            return before
        data = sign(roster, self.key)
        write_file(folder / ROSTER, data)
        return open_signed(data, Roster, ROSTER)

    def _signed(self, path: Path) -> Signed[Roster] | None:
        """The roster that is there, if this key signed it."""
        try:
            return read_signed(path, Roster, keys=[self.key.public])
        except StudbookError:
            return None


def require_every(every: object) -> None:
    """Refuse a number of steps between kept states that can't be.

    Raises:
        ConfigError: It can't.
    """
    if type(every) is not int or not 1 <= every <= MOST_EVERY:
        raise ConfigError(f"commit_every is {every!r}, expected 1 to {MOST_EVERY:,} steps between kept states")


def _enrol(team: Team, transcript: Transcript) -> None:
    going = [i for i in team.live if i not in transcript.stopped]
    for i, answer in _ask(team, transcript, {i: transcript.message("commit", i, team.step) for i in going}).items():
        if answer.fields["step"] != team.step:
            message = f"the records of node {i} end at step {answer.fields['step']}, the checkpoint is at {team.step}"
            raise RunFolderError(message, hint="begin anew in another folder with --out")
        told = answer.fields["key"], answer.fields["numerics"]
        key, computes = transcript.told.setdefault(i, told)
        if key != told[0]:
            raise RunFolderError(f"node {i} has another key than the run began with", hint="give the same folder with --key-dir")
        if computes != told[1]:
            message = f"node {i} began with {computes}, and would go on with {told[1]}: nobody could replay all of it"
            raise RunFolderError(message, hint="go on where it began, or begin anew")


def _ask(team: Team, transcript: Transcript, requests: Mapping[int, Message], check: Check | None = None) -> Mapping[int, Message]:
    """Nodes' answers; whoever keeps too little is asked again, with what it took over since. All contacts of a run would fit no message."""
    answers = team.ask(requests, check=check)
    behind = {}
    for i, answer in answers.items():
        at = answer.fields.get("step")
        if answer.kind == "recording" and type(at) is int and 0 <= at < requests[i].fields["since"]:
            behind[i] = transcript.message(requests[i].kind, i, requests[i].fields["step"], since=at)
    return {**answers, **(team.ask(behind, check=check) if behind else {})}


def _enrolled(team: Team, transcript: Transcript, i: int, wanted: int, answer: Message | None) -> Enrolled:
    """What a node committed to, once its signature is its own; else why it didn't: no node keeps the others from a signed roster."""
    key, computes = transcript.told.get(i, ("", ""))
    none = Enrolled(node=i, key=key, commitment="", steps=0, numerics=computes, why=_story(team, i))
    if answer is None:
        return none
    try:
        found = _sealed(answer, i, PublicKey(key), transcript.run, wanted)
        return replace(none, commitment=found.id, steps=found.steps, why="" if found.steps == team.step else none.why)
    except StudbookError as error:
        team.events.append(Event(team.step, i, "uncommitted", error.message[:_LONGEST_WHY]))
        return replace(none, why=(f"{none.why}; {error.message}" if none.why else error.message)[: 2 * _LONGEST_WHY])


def _sealed(answer: Message, i: int, key: PublicKey, run: str, wanted: int) -> TrainingCommitment:
    """The commitment in a node's answer: to this run, and to no more steps than it was asked for."""
    raise_error(answer, f"node {i}")
    require_fields("seal", answer.fields)
    found = open_signed(answer.fields["commitment"].encode(), TrainingCommitment, COMMITMENT, keys=[key]).record
    if found.run != run or found.steps > wanted:
        raise RecordError(f"node {i} committed to {found.steps:,} steps of the run {found.run}, asked for {wanted:,} of {run}")
    return found


def _story(team: Team, i: int) -> str:
    told = [f"{each.what} at step {each.step}: {each.why}" for each in team.events if each.node == i and each.what != "cut off"]
    return "; ".join(told)[:_LONGEST_WHY]
