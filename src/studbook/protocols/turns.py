"""A client of federated training that commits to its turns: each begins with what the server sent, and ends with the update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np

from studbook.arrays import Ints
from studbook.errors import ConfigError, EvidenceError, RecordError, RunFolderError, VerifierError
from studbook.parameters import build
from studbook.protocols import client
from studbook.protocols.client import local_epochs, read_keys, rows_in_order
from studbook.protocols.kept import keys_digest, load_state
from studbook.protocols.messages import Message
from studbook.protocols.node import Node, NodeState
from studbook.protocols.numerics import numerics
from studbook.protocols.objective import Gradient, Sliced
from studbook.protocols.recorder import Place, Recorder
from studbook.protocols.select import Choice, choose_keys
from studbook.protocols.stores import FolderStore
from studbook.protocols.transcript import contacts_of
from studbook.protocols.values import Parameters, digest, require_alike
from studbook.records import Contact
from studbook.rng import stream

FIRST = -1
"""Among contacts: what a client was sent in its first turn. What it is sent in the next ones it takes over after the turn before."""


@dataclass(frozen=True, slots=True, eq=False)
class Client(Node):
    """A node whose steps are its turns: the rounds that it took part in.

    Its state is the slice alone, as its optimiser begins anew in each turn; its gradient is the change that it sends, which it adds. After
    a turn it takes over what it is sent in the next one.

    Attributes:
        epochs: Passes through its rows in a turn.
        groups: Which keys it names; none: the whole model.
        rounds: By turn: the round's number; it grows turn by turn.
        first: What it was sent in its first turn; ``None``: not known here.
        served: By turn: digest of the keys that its slice was cut by, as the coordinator has it; empty: not known here.
    """

    FORGETS: ClassVar[bool] = True

    epochs: int = 1
    groups: Mapping[str, Choice] = field(default_factory=dict)
    rounds: list[int] = field(default_factory=list)
    first: Parameters | None = None
    served: tuple[str, ...] = ()

    @classmethod
    def of(cls, node: Node, epochs: int, groups: Mapping[str, Choice], rounds: list[int], served: tuple[str, ...] = ()) -> Client:
        """A node as a client."""
        return cls(node.index, node.objective, node.rows, node.batch, node.optimiser, node.seed, epochs, groups, rounds, served=served)

    def begin(self) -> NodeState:
        """The state before the first turn; where that isn't known, a slice of its form."""
        if self.first is not None:
            return NodeState(0, self.first, {})
        whole = self.objective.initial(rng=stream(self.seed, "initial"))
        return NodeState(0, self.objective.take(whole, self.keys_at(0)) if isinstance(self.objective, Sliced) else whole, {})

    def rows_at(self, step: int) -> Ints:
        """All rows, in the order of the turn's passes."""
        return np.concatenate(list(rows_in_order(self, self.epochs, self.rounds[step])))

    def keys_at(self, step: int) -> Mapping[str, Ints]:
        """The keys that it has to name in a turn."""
        return self.keys_in(self.rounds[step])

    def keys_in(self, number: int) -> Mapping[str, Ints]:
        """The keys that it has to name in a round."""
        return choose_keys(self, self.groups, number) if self.groups else {}

    def path_at(self, step: int) -> str:
        """See ``Node``."""
        return f"{self.seed}/client/{self.index}/round/{self.rounds[step]}"

    def stepping(self) -> dict[str, Any]:
        """See ``Node``."""
        groups = {group: {"m": choice.m, "how": choice.how} for group, choice in sorted(self.groups.items())}
        return {**Node.stepping(self), "epochs": self.epochs, "keys": groups}

    def gradient_at(self, state: NodeState) -> Gradient:
        """The change that a turn makes.

        Raises:
            EvidenceError: The slice was cut by other keys than the client had to name.
        """
        keys, number = self.keys_at(state.step), self.rounds[state.step]
        if self.served and self.served[state.step] != keys_digest(keys):
            raise EvidenceError(f"in round {number} it named other keys than its seed and its rows give", hint="reject it")
        change, losses = local_epochs(self, state.parameters, keys, epochs=self.epochs, number=number)
        return Gradient(change, float(np.mean(losses)), len(self.rows))

    def apply(self, state: NodeState, gradient: Parameters) -> NodeState:
        """The slice with the change."""
        return NodeState(state.step + 1, {name: value + gradient[name] for name, value in state.parameters.items()}, {})


class TurnRecorder:
    """Follows a client through a run.

    Args:
        client: Whose turns, with the rounds of those that count so far.
        place: Where they are kept.
        run: 128 random bits in hex that name the run.
        every: A state is kept every so many turns.
    """

    def __init__(self, client: Client, place: Place, *, run: str, every: int) -> None:
        self._client, self._place, self.run, self._every = client, place, run, every
        self._recorder = self._follow(client)
        self._state: NodeState | None = None
        self.key = self._recorder.key

    @property
    def taken(self) -> int:
        """Turns so far."""
        return 0 if self._state is None else self._state.step

    def begin(self, contacts: Mapping[int, Contact], since: int = 0) -> int:
        """Come to the end of the turns that count, by what is kept of them.

        Args:
            contacts: What it was sent: by the turn before it, ``FIRST`` for the first.
            since: Contacts of turns before this one may be missing, but for the first.

        Returns:
            How many turns are kept; fewer than count where something is gone, or contacts of the turns after them are missing.

        Raises:
            RunFolderError: What is kept is another client's or run's.
        """
        if not self._client.rounds:
            self._recorder.clear()
            return 0
        store = FolderStore(self._place.folder(self._client.index), flush=False)
        try:
            first = load_state(store, 0, self._client.begin()).parameters
        except VerifierError:
            return 0
        if FIRST not in contacts or digest(first) != contacts[FIRST].value:
            return 0
        until = len(self._client.rounds)
        self._recorder = self._follow(replace(self._client, first=first))
        between = {turn: each for turn, each in contacts.items() if FIRST < turn < until - 1}
        state = self._recorder.begin(until, between, since=min(since, until - 1), reopen=True)
        if state.step < since:
            return state.step
        if state.step < until:  # the turn before a hole is the last one that can be shown
            self._client = replace(self._client, rounds=self._client.rounds[: state.step])
            return self.begin(contacts) if state.step else 0
        self._state = state
        return until

    def turn(self, number: int, keys: Mapping[str, Ints], part: Parameters) -> Gradient:
        """Take a turn, and record it.

        Raises:
            RecordError: What came isn't cut by the keys that the client had to name.
        """
        state = self._state
        if state is not None:
            require_alike([state.parameters, part])
        if keys_digest(keys) != keys_digest(self._client.keys_in(number)):
            raise RecordError(f"node {self._client.index} was sent a slice of other keys than it names in round {number}")
        self._client.rounds.append(number)
        if state is None:
            self._recorder = self._follow(replace(self._client, first=part))
            state = self._recorder.begin(0, {})
        else:
            self._recorder.adopt(part, ())
            state = self._client.adopt(state, part)
        found = self._recorder.gradient(state)
        self._state = self._client.apply(state, found.parameters)
        self._recorder.step(state, self._state)
        return found

    def finish(self) -> str:
        """The signed commitment to all turns so far.

        Raises:
            RunFolderError: There are none.
        """
        if self._state is None:
            raise RunFolderError(f"node {self._client.index} has no records of its turns", hint="they are gone: it can't commit to them")
        return self._recorder.finish(self._state).data.decode()

    def _follow(self, client: Client) -> Recorder:
        return Recorder(client, self._place, run=self.run, every=self._every)


class HasTurns(Protocol):
    """What holds a client, and records its turns where it commits to them."""

    node: Node
    place: Place | None
    turns: TurnRecorder | None


def enlist(host: HasTurns, message: Message) -> Message:
    """Begin to record, or go on. Fields: ``run``, ``every``, ``epochs``, ``groups``, ``rounds``, ``since``, ``contacts``."""
    recorder, step = _recorder_of(host, message)
    host.turns = recorder if step == len(message.fields["rounds"]) else None  # what can't be shown isn't gone on with
    return _recording(recorder, step)


def train(host: HasTurns, message: Message) -> Message:
    """See ``client.train``; recorded, where the client commits to its turns. Fields: ``run`` as well, that which commits, or none."""
    if host.turns is None or message.fields.get("run") != host.turns.run:
        host.turns = None  # of a run that is over
        return client.train(host, message)
    number = message.fields.get("round")
    if "slice" not in message.arrays or type(number) is not int or number < 0:
        raise RecordError("a client was asked to train, but sent no slice, or in no round")
    found = host.turns.turn(number, read_keys(message), message.arrays["slice"])
    return Message("update", {"loss": found.loss, "n": found.n}, {"update": found.parameters})


def sign_turns(host: HasTurns, message: Message) -> Message:
    """Sign the commitment to the turns that count, or say where it stands, as for ``seal``. Fields: as for ``enlist``."""
    recorder = host.turns
    if recorder is None or recorder.taken != len(message.fields.get("rounds", ())):
        recorder, step = _recorder_of(host, message)
        if step < message.fields["since"]:
            return _recording(recorder, step)
    return Message("commitment", {"commitment": recorder.finish()})


def _recording(recorder: TurnRecorder, step: int) -> Message:
    return Message("recording", {"step": step, "key": str(recorder.key.public), "numerics": numerics()})


def _recorder_of(host: HasTurns, message: Message) -> tuple[TurnRecorder, int]:
    """The recorder that a message asks for, and how many turns it knows; from outside, so nothing in it is trusted.

    Raises:
        ConfigError: The node has no place to keep records, or the message doesn't name a run and its rounds.
    """
    given = message.fields
    if host.place is None:
        raise ConfigError(f"node {host.node.index} has no place for its records", hint="give the cluster one when it is opened")
    run, every, epochs, rounds, since, groups = (given.get(name) for name in ("run", "every", "epochs", "rounds", "since", "groups"))
    if not isinstance(run, str) or type(every) is not int or type(epochs) is not int or epochs < 1:
        raise ConfigError("the message names no run, not how often a state is kept, or not how often a client passes through its rows")
    if not isinstance(rounds, list) or any(type(each) is not int or each < 0 for each in rounds):
        raise RecordError("the message names no rounds")
    if type(since) is not int or not 0 <= since <= len(rounds):
        raise RecordError("the message doesn't say which contacts it leaves out")
    if not isinstance(groups, Mapping) or not all(isinstance(choice, Mapping) for choice in groups.values()):
        raise RecordError("the message doesn't say by group which keys a client names")
    choices = {str(group): build(Choice, dict(choice), "select") for group, choice in groups.items()}
    recorder = TurnRecorder(Client.of(host.node, epochs, choices, list(rounds)), host.place, run=run, every=every)
    return recorder, recorder.begin(contacts_of(given), since)
