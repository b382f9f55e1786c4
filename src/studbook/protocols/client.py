"""What a client of federated training does in its node: name keys, and train on what it is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from studbook.arrays import Ints
from studbook.errors import ConfigError, RecordError
from studbook.parameters import build
from studbook.protocols.messages import Message
from studbook.protocols.node import Node
from studbook.protocols.objective import Sliced
from studbook.protocols.select import Choice, choose_keys
from studbook.protocols.values import Parameters
from studbook.rng import stream

_MOST = 1_000_000


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
    return Message("keys", {"keys": {group: chosen.tolist() for group, chosen in keys.items()}, "rows": len(host.node.rows)})


def train(host: HasNode, message: Message) -> Message:
    """Local epochs on a slice, or on the whole model. Fields: ``round``, ``keys``, ``epochs``, ``batch``, ``rate``; array ``slice``."""
    if "slice" not in message.arrays:
        raise RecordError("a client was asked to train, but sent no slice")
    keys, rate = read_keys(message), message.fields.get("rate")
    if not isinstance(rate, float) or not 0.0 < rate < math.inf:
        raise ConfigError(f"the client's rate is {rate!r}, expected a number above 0")
    plan = _whole(message, "epochs", 1), _whole(message, "batch", 1), rate
    update, losses = local_epochs(host.node, message.arrays["slice"], keys, plan, _whole(message, "round", 0))
    fields = {"loss": float(np.mean(losses)), "rows": len(host.node.rows), "steps": len(losses)}
    return Message("update", fields, {"update": update})


def local_epochs(
    node: Node, start: Parameters, keys: Mapping[str, Ints], plan: tuple[int, int, float], number: int
) -> tuple[Parameters, list[float]]:
    """The change after local epochs of SGD, and the loss of each step.

    Args:
        node: The client; its rows are taken in an order that its seed and the round determine.
        start: The slice that it was sent.
        keys: Which slice; none for the whole model.
        plan: Epochs, rows a step, and the learning rate.
        number: Of the round.
    """
    epochs, batch, rate = plan
    order = stream(node.seed, "client", node.index, "round", number, "rows")
    noise = stream(node.seed, "client", node.index, "round", number, "noise")
    objective, losses = node.objective, []
    if keys and not isinstance(objective, Sliced):
        raise ConfigError(f"the objective {objective.describe().get('objective')} can't be sliced", hint="send whole models")
    part = {name: np.array(value, np.float32) for name, value in start.items()}
    for _ in range(epochs):
        rows = order.permutation(node.rows)
        for first in range(0, len(rows), batch):
            chosen = rows[first : first + batch]
            if keys and isinstance(objective, Sliced):
                found = objective.slice_gradient(part, keys, chosen, rng=noise)
            else:
                found = objective.gradient(part, chosen, rng=noise)
            for name, slope in found.parameters.items():
                part[name] -= np.float32(rate) * slope
            losses.append(found.loss)
            del found  # before the next gradient is made: a client is to hold one
    return {name: part[name] - start[name] for name in sorted(part)}, losses


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
