"""Federated training: rounds over sampled clients that hold the model for a while, and a server that keeps it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError, RecordError
from studbook.parameters import conform
from studbook.protocols.by_rounds import ByRounds
from studbook.protocols.client import optimiser_of, read_keys
from studbook.protocols.host import Host
from studbook.protocols.messages import Message
from studbook.protocols.node import Node, Optimiser
from studbook.protocols.objective import Sliced
from studbook.protocols.select import Gathering, Selection, key_bytes
from studbook.protocols.team import Recovers, Team
from studbook.protocols.values import Parameters
from studbook.rng import stream

_AVERAGING, _WHOLE = Optimiser(rate=1.0), Selection()
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Federated:
    """In each step, a round, some clients train what they are sent, and a server steps along the mean of what they changed.

    The server is the coordinator: it holds the model and its optimiser's state. A node is a client, its batch and optimiser are the
    client's, and it keeps nothing between rounds. With a selection it names keys and is sent those slices alone.

    Attributes:
        clients: Clients of a round, drawn without replacement; at most as many as there are nodes.
        epochs: A client's passes through its rows.
        server: How the server steps along the mean update: ``sgd`` with a rate of 1 is federated averaging; ``adagrad`` and ``adam``
            want an epsilon about a thousandth.
        selection: Which slices clients train; by default the whole model.
        weights: A client's weight in the mean: its ``rows``, as the spec deals them and not as it says, or ``equal``.

    Raises:
        ConfigError: A value out of range.

    References:
        McMahan et al. 2017 (federated averaging); Reddi et al. 2021, "Adaptive federated optimization", algorithm 2; Charles et al. 2022,
        "Federated select", arXiv 2208.09432.

    Examples:
        >>> from studbook.protocols import Federated, InProcess, Optimiser, Plan, TrainingSpec, train
        >>> spec = TrainingSpec("digits-softmax", nodes=20, batch=16, optimiser=Optimiser(rate=0.5), split="label")
        >>> run = train(InProcess(spec.build()), Federated(clients=10), Plan(steps=20))
        >>> run.measures["accuracy"] > 0.85
        True
    """

    clients: int = 10
    epochs: int = 1
    server: Optimiser = _AVERAGING
    selection: Selection = _WHOLE
    weights: Literal["rows", "equal"] = "rows"

    def __post_init__(self) -> None:
        conform(self, "federated")
        for name in ("clients", "epochs"):
            if not 1 <= getattr(self, name) <= _MOST:
                raise ConfigError(f"federated.{name} is {getattr(self, name)}, expected 1 to {_MOST:,}")

    @property
    def recovers(self) -> Recovers:
        """A client that comes back needs nothing: it had nothing to lose."""
        return "nothing"

    def check(self, n: int) -> None:
        """See ``Protocol``."""
        if self.clients > n:
            raise ConfigError(f"{self.clients:,} clients a round are asked for, there are {n:,} nodes", hint="fewer clients, or more nodes")

    def open_server(self, nodes: Sequence[Node]) -> Host:
        """See ``Served``; keys that the objective doesn't have are refused here."""
        self.selection.check(nodes[0].objective)
        for node in nodes:
            optimiser_of(node, 0)
        first = nodes[0]
        steps = first.optimiser.at_server(self.server) if isinstance(first.optimiser, ByRounds) else self.server
        return Host(dataclasses.replace(first, optimiser=steps))

    def step(self, team: Team) -> Mapping[int, float]:
        """See ``Protocol``; who is lost in a round isn't waited for, and where nobody is left of it, others are drawn."""
        rng, updates = stream(team.seed, "round", team.step, "clients"), dict[int, _Update]()
        while not updates:
            drawn = rng.choice(team.live, size=min(self.clients, len(team.live)), replace=False)
            updates = self._round(team, sorted(drawn.tolist()))
        node, parameters = _server_of(team)
        gathering = Gathering(node.objective, parameters, self.selection.average)
        for i, each in updates.items():
            gathering.add(each.change, each.keys, len(team.cluster.nodes[i].rows) if self.weights == "rows" else 1.0)
        team.before = gathering.spread()
        gradient = {name: -value for name, value in gathering.mean().items()}
        team.ask_server(Message("apply", {"step": team.step}, {"gradient": gradient}))
        return {i: each.loss for i, each in updates.items()}

    def mixing(self, n: int) -> Sequence[Floats]:
        """The clients of a round mix at once, at the server; the others hold nothing that could mix."""
        several = min(self.clients, n)
        return [np.full((several, several), 1.0 / several)]

    def describe(self) -> Mapping[str, Any]:
        """See ``Protocol``."""
        how = {"clients": self.clients, "epochs": self.epochs, "server": dataclasses.asdict(self.server), "weights": self.weights}
        return {"protocol": "federated", **how, "keys": self.selection.as_fields(), "average": str(self.selection.average)}

    def _round(self, team: Team, drawn: Sequence[int]) -> dict[int, _Update]:
        """What the clients changed; those that are lost are left out."""
        node, parameters = _server_of(team)
        how = {"round": team.step, "epochs": self.epochs, "run": "" if team.transcript is None else team.transcript.run}
        if not self.selection.groups:
            request = Message("train", {**how, "keys": {}}, {"slice": parameters})
            return team.collect(dict.fromkeys(drawn, request), lambda i, answer: _read(answer, team.cluster.nodes[i], parameters, {}))
        keys = self._keys(team, drawn)
        assert isinstance(node.objective, Sliced)
        parts = {i: node.objective.take(parameters, chosen) for i, chosen in keys.items()}
        requests = {
            i: Message("train", {**how, "keys": {group: each.tolist() for group, each in chosen.items()}}, {"slice": parts[i]})
            for i, chosen in keys.items()
        }
        return team.collect(requests, lambda i, answer: _read(answer, team.cluster.nodes[i], parts[i], keys[i]))

    def _keys(self, team: Team, drawn: Sequence[int]) -> dict[int, dict[str, Ints]]:
        """The keys that each client names."""
        node, _ = _server_of(team)

        def read(_: int, answer: Message) -> dict[str, Ints]:
            keys = read_keys(answer)
            self.selection.require(keys, node.objective)
            return keys

        request = Message("choose", {"round": team.step, "groups": self.selection.as_fields()})
        found = team.collect(dict.fromkeys(drawn, request), read)
        team.sent += sum(map(key_bytes, found.values()))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Update:
    """What a client changed in its slice."""

    change: Parameters
    keys: Mapping[str, Ints]
    loss: float


def _server_of(team: Team) -> tuple[Node, Parameters]:
    assert team.server is not None
    return team.server.node, team.server.state.parameters


def _read(answer: Message, client: Node, part: Parameters, keys: Mapping[str, Ints]) -> _Update:
    """The update in a client's answer; from outside, so nothing in it is trusted.

    Raises:
        RecordError: It is none of this slice and these rows.
    """
    change, loss, n = answer.arrays.get("update", {}), answer.fields.get("loss"), answer.fields.get("n")
    shapes = {name: value.shape for name, value in part.items()}
    if answer.kind != "update" or len(answer.arrays) != 1 or {name: value.shape for name, value in change.items()} != shapes:
        raise RecordError("its answer is no update of its slice")
    if not all(np.isfinite(value).all() for value in change.values()):
        raise RecordError("its update isn't finite; where all clients' aren't, take a smaller rate")
    if type(n) is not int or n != len(client.rows):
        raise RecordError(f"it says that it trained on {str(n)[:40]} rows, but it holds {len(client.rows):,}")
    if type(loss) is not float or not math.isfinite(loss):
        raise RecordError(f"it says that its loss is {str(loss)[:40]}, expected a number")
    return _Update(change, keys, loss)
