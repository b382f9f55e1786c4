"""What a client of federated training does in its node: name keys, and train on what it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np

from studbook.arrays import Ints
from studbook.errors import ConfigError, RecordError
from studbook.parameters import build
from studbook.protocols.by_rounds import ByRounds
from studbook.protocols.messages import Message
from studbook.protocols.node import Node, Optimiser, Steps
from studbook.protocols.objective import Gradient, Objective, Sliced
from studbook.protocols.select import Choice, choose_keys
from studbook.protocols.values import Parameters
from studbook.rng import stream

_MOST = 1_000_000
Array: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]


class HasNode(Protocol):
    """What holds a node; the state between messages isn't looked at, a client keeps none."""

    node: Node


def choose(host: HasNode, message: Message) -> Message:
    """The keys of a round. Fields: ``round``, ``groups``."""
    groups = message.fields.get("groups")
    if not isinstance(groups, Mapping) or not all(isinstance(each, Mapping) for each in groups.values()):
        raise ConfigError("a client was asked for keys without groups, expected a table by group")
    choices = {str(group): build(Choice, dict(choice), "select") for group, choice in groups.items()}
    keys = choose_keys(host.node, choices, _whole(message, "round", 0))
    return Message("keys", {"keys": {group: chosen.tolist() for group, chosen in keys.items()}})


def train(host: HasNode, message: Message) -> Message:
    """Local epochs on a slice, or on the whole model. Fields: ``round``, ``keys``, ``epochs``; array ``slice``."""
    if "slice" not in message.arrays:
        raise RecordError("a client was asked to train, but sent no slice")
    epochs, number = _whole(message, "epochs", 1), _whole(message, "round", 0)
    update, losses = local_epochs(host.node, message.arrays["slice"], read_keys(message), epochs=epochs, number=number)
    return Message("update", {"loss": float(np.mean(losses)), "n": len(host.node.rows)}, {"update": update})


def local_epochs(node: Node, start: Parameters, keys: Mapping[str, Ints], *, epochs: int, number: int) -> tuple[Parameters, list[float]]:
    """The change after some passes through a client's rows, by its own batch and optimiser, and the loss of each step.

    The optimiser begins anew each round: a client keeps nothing between them.

    Args:
        node: The client; its rows are taken in an order that its seed and the round determine.
        start: The slice that it was sent.
        keys: Which slice; none for the whole model.
        epochs: Passes.
        number: Of the round.
    """
    noise = stream(node.seed, "client", node.index, "round", number, "noise")
    optimiser = optimiser_of(node, number)
    part = {name: np.array(value, np.float32) for name, value in start.items()}
    held = {name: dict(each) for name, each in optimiser.begin(start).items()}
    losses: list[float] = []
    for rows in rows_in_order(node, epochs, number):
        for first in range(0, len(rows), node.batch):
            with np.errstate(over="ignore", invalid="ignore"):  # where it diverges, its update says so
                found = _gradient(node.objective, part, keys, rows[first : first + node.batch], noise)
                _move(part, held, found.parameters, optimiser, len(losses))
            losses.append(found.loss)
            del found  # before the next gradient is made: a client is to hold one
    return {name: part[name] - start[name] for name in sorted(part)}, losses


def rows_in_order(node: Node, epochs: int, number: int) -> Iterator[Ints]:
    """A client's rows in the order of each pass of a round, which its seed and the round determine."""
    order = stream(node.seed, "client", node.index, "round", number, "rows")
    for _ in range(epochs):
        yield order.permutation(node.rows)


def _step(part: dict[str, Array], held: dict[str, dict[str, Array]], gradient: Parameters, optimiser: Optimiser, number: int) -> None:
    """Step along a gradient, in place, array by array."""
    for name, slope in gradient.items():
        change, moved = optimiser.change(slope, {kind: each[name] for kind, each in held.items()}, number)
        part[name] -= change
        del change  # before the next array's is made
        for kind, value in moved.items():
            held[kind][name] = value


def _move(part: dict[str, Array], held: dict[str, dict[str, Array]], gradient: Parameters, optimiser: Steps, number: int) -> None:
    """Step along a gradient, in place; all arrays at once where that is how the optimiser steps."""
    if isinstance(optimiser, Optimiser):
        _step(part, held, gradient, optimiser, number)
        return
    after, state = optimiser.step(part, gradient, held, number)
    part.update(after)
    held.update({kind: dict(each) for kind, each in state.items()})


def optimiser_of(node: Node, number: int) -> Steps:
    """A client's optimiser in round ``number``: one that goes array by array, in place, so that a client holds no second copy of its slice;
    or one that knows of rounds.

    Raises:
        ConfigError: It has another.
    """
    if isinstance(node.optimiser, Optimiser):
        return node.optimiser
    if isinstance(node.optimiser, ByRounds):
        return node.optimiser.in_round(number)
    raise ConfigError(f"node {node.index} steps by {type(node.optimiser).__name__}, expected an Optimiser: sgd, adagrad or adam")


def _gradient(objective: Objective, part: Parameters, keys: Mapping[str, Ints], rows: Ints, rng: np.random.Generator) -> Gradient:
    if not keys:
        return objective.gradient(part, rows, rng=rng)
    if not isinstance(objective, Sliced):
        raise ConfigError(f"the objective {objective.describe().get('objective')} can't be sliced", hint="send whole models")
    return objective.slice_gradient(part, keys, rows, rng=rng)


def read_keys(message: Message) -> dict[str, Ints]:
    """The keys in a message; from outside, so nothing in it is trusted.

    Raises:
        RecordError: No whole numbers by group.
    """
    given = message.fields.get("keys")
    if not isinstance(given, Mapping):
        raise RecordError(f"the message {message.kind!r} has no keys, expected lists by group")
    found = {}
    for group, chosen in given.items():
        if not isinstance(chosen, list) or not all(type(key) is int and 0 <= key < 1 << 40 for key in chosen):
            raise RecordError(f"the keys of {str(group)[:80]!r} are no list of whole numbers")
        found[str(group)] = np.array(chosen, np.int64)
    return found


def _whole(message: Message, name: str, least: int) -> int:
    got: Any = message.fields.get(name)
    if type(got) is not int or not least <= got <= _MOST:
        raise ConfigError(f"a client was asked for {name} {got!r}, expected {least} to {_MOST:,}")
    return got
