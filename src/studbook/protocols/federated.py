"""Federated training: rounds over sampled clients, local epochs, and an optimiser on the server."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from studbook.arrays import Ints
from studbook.errors import ConfigError, RecordError, UnitFailedError
from studbook.parameters import conform
from studbook.protocols.client import read_keys
from studbook.protocols.cluster import Cluster, Lost
from studbook.protocols.messages import Message, raise_error
from studbook.protocols.node import Optimiser
from studbook.protocols.objective import Objective, Sliced
from studbook.protocols.select import Selection, combine, slice_bytes
from studbook.protocols.values import Parameters
from studbook.rng import stream

_SERVER, _WHOLE = Optimiser(rate=1.0), Selection()


@dataclass(frozen=True, slots=True)
class FederatedPlan:
    """How a federated run goes.

    Attributes:
        rounds: Rounds, 1 or more.
        clients: Clients of a round, drawn without replacement; at most as many as there are.
        epochs: A client's passes through its rows.
        batch: Rows a step of a client.
        rate: A client's learning rate.
        server: How the server steps along the mean update: ``sgd`` with a rate of 1 is federated averaging; ``adagrad`` and ``adam``
            want an epsilon about a thousandth.
        weights: A client's weight in the mean: its ``rows``, or ``equal``.
        every: Rounds between two evaluations; the last round is always one.
        timeout_s: How long a client's answer is waited for.

    Raises:
        ConfigError: A value out of range.

    References:
        McMahan et al. 2017 (federated averaging); Reddi et al. 2021, "Adaptive federated optimization", algorithm 2.
    """

    rounds: int = 20
    clients: int = 10
    epochs: int = 1
    batch: int = 16
    rate: float = 0.1
    server: Optimiser = _SERVER
    weights: Literal["rows", "equal"] = "rows"
    every: int = 5
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        conform(self, "federated")
        for name in ("rounds", "clients", "epochs", "batch", "every"):
            if not 1 <= getattr(self, name) <= 10**6:
                raise ConfigError(f"federated.{name} is {getattr(self, name)}, expected 1 to 1,000,000")
        for name in ("rate", "timeout_s"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ConfigError(f"federated.{name} is {getattr(self, name)}, expected above 0")


@dataclass(frozen=True, slots=True)
class Round:
    """What happened in a round.

    Attributes:
        number: From 0.
        clients: Whose updates were taken, ascending.
        lost: Clients that gave no answer, with the reason.
        loss: Mean of the clients' training losses; NaN where all were lost.
        down_bytes: Sent to clients: slices at four bytes a number.
        up_bytes: Received from them: updates, and keys at four bytes each.
        client_bytes: What the largest client held: its slice, the slice as it came, and a gradient; what a batch takes isn't counted.
        measures: On held-out data, where this round was evaluated.
    """

    number: int
    clients: tuple[int, ...]
    lost: Mapping[int, str]
    loss: float
    down_bytes: int
    up_bytes: int
    client_bytes: int
    measures: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FederatedRun:
    """What came out.

    Attributes:
        rounds: Round by round.
        parameters: The server's, after the last one.
    """

    rounds: tuple[Round, ...]
    parameters: Parameters

    @property
    def measures(self) -> Mapping[str, float]:
        """On held-out data, after the last round."""
        return self.rounds[-1].measures or {}

    @property
    def client_bytes(self) -> int:
        """What the largest client held."""
        return max(each.client_bytes for each in self.rounds)


def run_federated(cluster: Cluster, objective: Objective, plan: FederatedPlan, selection: Selection = _WHOLE, *, seed: int) -> FederatedRun:
    """Train on the clients of a cluster.

    The same numbers to the bit wherever the clients live. A client that dies or hangs is left out of its round; only a round without any
    answer ends the run.

    Args:
        cluster: Its nodes are the clients.
        objective: The one that they train; the server takes the start from it, and evaluates it.
        plan: How.
        selection: Which slices clients train; by default the whole model.
        seed: Of the start and of who is drawn; the clients have one of their own.

    Raises:
        ConfigError: More clients a round than there are, or keys that aren't there: before anything is sent.
        UnitFailedError: No client of a round answered.

    Examples:
        >>> from studbook.protocols import InProcess, Node, Optimiser
        >>> from studbook.protocols.federated import FederatedPlan, run_federated
        >>> from studbook.protocols.objectives import Softmax
        >>> from studbook.protocols.partition import Partition
        >>> objective = Softmax("digits").load()
        >>> parts = Partition("label", alpha=1.0).split(objective, 20, seed=0)
        >>> cluster = InProcess([Node(i, objective, rows, 16, Optimiser(), 0) for i, rows in enumerate(parts)])
        >>> run = run_federated(cluster, objective, FederatedPlan(rounds=20, clients=10, rate=0.5), seed=0)
        >>> run.measures["accuracy"] > 0.85
        True
    """
    if plan.clients > cluster.n:
        message = f"{plan.clients:,} clients a round are asked for, there are {cluster.n:,}"
        raise ConfigError(message, hint="set federated.clients lower")
    selection.check(objective)
    server = Server(cluster, objective, plan, selection)
    parameters: Parameters = objective.initial(rng=stream(seed, "initial"))
    state = plan.server.begin(parameters)
    rounds = []
    for number in range(plan.rounds):
        drawn = stream(seed, "round", number, "clients").choice(cluster.n, size=plan.clients, replace=False)
        report, mean = server.round(parameters, number, np.sort(drawn))
        gradient = {name: -value for name, value in mean.items()}
        parameters, state = plan.server.step(parameters, gradient, state, number)
        last = number + 1 == plan.rounds
        measures = dict(objective.evaluate(parameters)) if last or (number + 1) % plan.every == 0 else None
        rounds.append(replace(report, measures=measures))
    return FederatedRun(tuple(rounds), parameters)


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """What stays the same over the rounds.

    Attributes:
        cluster: The clients.
        objective: What they train.
        plan: How.
        selection: Which slices.
    """

    cluster: Cluster
    objective: Objective
    plan: FederatedPlan
    selection: Selection

    def round(self, parameters: Parameters, number: int, drawn: Ints) -> tuple[Round, Parameters]:
        """One round with these clients: its report, and the mean update.

        Raises:
            UnitFailedError: Nobody answered.
            RecordError: An answer that isn't of this run.
        """
        lost: dict[int, str] = {}
        keys = self._keys(number, drawn, lost)
        parts = {index: self._slice(parameters, chosen) for index, chosen in keys.items()}
        how = {"round": number, "epochs": self.plan.epochs, "batch": self.plan.batch, "rate": float(self.plan.rate)}
        requests = {
            index: Message("train", {**how, "keys": {group: each.tolist() for group, each in chosen.items()}}, {"slice": parts[index]})
            for index, chosen in keys.items()
        }
        answers = self._ask(requests, lost)
        if not answers:
            reasons = "; ".join(f"client {index}: {why}" for index, why in sorted(lost.items())[:3])
            raise UnitFailedError(f"no client of round {number} answered ({reasons})", hint="are the clients still running?")
        updates = [(_update(answer, parts[index], index), keys[index]) for index, answer in answers.items()]
        losses, rows = [_loss(answer, index) for index, answer in answers.items()], [self._rows(answer, i) for i, answer in answers.items()]
        weights = rows if self.plan.weights == "rows" else [1.0] * len(rows)
        mean = combine(self.objective, parameters, updates, weights, self.selection.average)
        sizes = [slice_bytes(parts[index], keys[index]) for index in answers]
        loss = float(np.average(losses, weights=weights))
        down, up = sum(size for size, _ in sizes), sum(map(sum, sizes))
        return Round(number, tuple(answers), lost, loss, down, up, 3 * max(size for size, _ in sizes)), mean

    def _keys(self, number: int, drawn: Ints, lost: dict[int, str]) -> dict[int, dict[str, Ints]]:
        """Each client's keys; none where it trains the whole model."""
        if not self.selection.groups:
            return {int(index): {} for index in drawn}
        request = Message("choose", {"round": number, "groups": self.selection.as_fields()})
        found = {index: read_keys(answer) for index, answer in self._ask({int(index): request for index in drawn}, lost).items()}
        wanted = {group: choice.m for group, choice in self.selection.groups.items()}
        for index, keys in found.items():
            got = {group: len(chosen) for group, chosen in keys.items()}
            if got != wanted:
                raise RecordError(f"client {index} names keys {got}, expected {wanted}", hint="the client isn't of this run")
        return found

    def _rows(self, answer: Message, index: int) -> float:
        """What a client weighs is its own word: at most all rows."""
        rows, most = answer.fields.get("rows"), self.objective.n_rows
        if type(rows) is not int or not 1 <= rows <= most:
            raise RecordError(f"client {index} says that it holds {str(rows)[:80]!r} rows, expected 1 to {most:,}")
        return float(rows)

    def _slice(self, parameters: Parameters, keys: Mapping[str, Ints]) -> Parameters:
        return self.objective.take(parameters, keys) if keys and isinstance(self.objective, Sliced) else parameters

    def _ask(self, requests: Mapping[int, Message], lost: dict[int, str]) -> dict[int, Message]:
        """The answers in the order of the clients; an error that a client reports is raised, a silent one is noted."""
        answers = self.cluster.ask(requests, timeout_s=self.plan.timeout_s) if requests else {}
        found = {}
        for index in sorted(requests):
            answer = answers[index]
            if isinstance(answer, Lost):
                lost[index] = str(answer)
                continue
            raise_error(answer, f"client {index}")
            found[index] = answer
        return found


def _update(answer: Message, part: Parameters, index: int) -> Parameters:
    update = answer.arrays.get("update", {})
    if answer.kind != "update" or {name: value.shape for name, value in update.items()} != {k: v.shape for k, v in part.items()}:
        raise RecordError(f"client {index} answered with no update of its slice", hint="the client isn't of this run")
    return update


def _loss(answer: Message, index: int) -> float:
    loss = answer.fields.get("loss")
    if isinstance(loss, bool) or not isinstance(loss, int | float):
        raise RecordError(
            f"client {index} says that its loss is {str(loss)[:80]!r}, expected a number", hint="the client isn't of this run"
        )
    return float(loss)
