"""A node where it lives: it holds a state, and does what the coordinator's messages ask for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from studbook.errors import ConfigError, RecordError
from studbook.protocols import client
from studbook.protocols.messages import Message, error_message
from studbook.protocols.node import Node, NodeState
from studbook.protocols.numerics import numerics
from studbook.protocols.objective import Gradient
from studbook.protocols.recorder import Place, Recorder, recorder_of
from studbook.protocols.transcript import contacts_of
from studbook.protocols.values import Parameters, require_alike
from studbook.records.training import MAX_STEPS

_MOST_STEPS = 1_000_000


class Host:
    """Holds one node's state between messages.

    A message that changes the state names the step that it is for; a node at another step refuses it, so that no update is taken twice.

    Args:
        node: Whose.
        place: Where it may keep records and its key; ``None``: it can't commit to its training.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols import Host, Message, Node, Optimiser, Quadratic
        >>> host = Host(Node(0, Quadratic(dimension=2), np.arange(10), 5, Optimiser(), 0))
        >>> answer = host.answer(Message("advance", {"step": 0, "until": 3}))
        >>> len(answer.fields["losses"]), host.answer(Message("pull")).fields["step"]
        (3, 3)
    """

    def __init__(self, node: Node, place: Place | None = None) -> None:
        self.node, self.place = node, place
        self.recorder: Recorder | None = None

    @functools.cached_property
    def state(self) -> NodeState:
        """What the node holds; begun when it is first asked for, which a client of federated training never does."""
        return self.node.begin()

    def answer(self, message: Message) -> Message:
        """The answer to a message; an error is an answer, too."""
        operation = OPERATIONS.get(message.kind)
        try:
            if operation is None:
                raise ConfigError(f"a node was asked for {message.kind[:80]!r}, expected one of {', '.join(OPERATIONS)}")
            return operation(self, message)
        except Exception as error:  # noqa: BLE001 - the node lives on; the coordinator raises it
            return error_message(error)

    def require_step(self, message: Message) -> None:
        """Refuse a message for another step.

        Raises:
            ConfigError: It is.
        """
        if message.fields.get("step") != self.state.step:
            raise ConfigError(f"node {self.node.index} is at step {self.state.step}, asked for step {message.fields.get('step')}")

    def gradient(self) -> Gradient:
        """The gradient of the node's next step."""
        return self.node.gradient_at(self.state) if self.recorder is None else self.recorder.gradient(self.state)

    def move(self, gradient: Parameters, *, agreed: bool = False, peers: Sequence[int] = ()) -> None:
        """Take a step along a gradient, and record it where the node commits to its steps.

        Args:
            gradient: The node's own, or one that several agreed on.
            agreed: Whether they did.
            peers: Who they are.
        """
        before, self.state = self.state, self.node.apply(self.state, gradient)
        if self.recorder is not None:
            self.recorder.step(before, self.state, gradient if agreed else None, peers)

    def part(self, message: Message, name: str) -> Parameters:
        """Arrays of a message, alike the node's parameters.

        Raises:
            RecordError: They aren't there, or aren't alike.
        """
        if name not in message.arrays:
            raise RecordError(f"the message {message.kind!r} has no {name}")
        require_alike([self.state.parameters, message.arrays[name]])
        return message.arrays[name]


def _begin(host: Host, _message: Message) -> Message:
    host.state, host.recorder = host.node.begin(), None
    return _parameters(host, {})


def _gradient(host: Host, message: Message) -> Message:
    host.require_step(message)
    return _found(host)


def _apply(host: Host, message: Message) -> Message:
    """A step along a gradient that several agreed on; the next one's own comes with the answer where it is asked for."""
    host.require_step(message)
    host.move(host.part(message, "gradient"), agreed=True, peers=message.fields.get("peers", ()))
    return _found(host) if message.fields.get("ahead") else Message("done", {"step": host.state.step})


def _advance(host: Host, message: Message) -> Message:
    """Steps of its own up to ``until``; the parameters come back only where they are asked for."""
    host.require_step(message)
    until = message.fields.get("until")
    if type(until) is not int or not host.state.step <= until <= host.state.step + _MOST_STEPS:
        raise ConfigError(f"node {host.node.index} at step {host.state.step} was asked to go on until {until}")
    losses = []
    while host.state.step < until:
        found = host.gradient()
        host.move(found.parameters)
        losses.append(float(found.loss))
    return _parameters(host, {"losses": losses}) if message.fields.get("pull") else Message("done", {"step": until, "losses": losses})


def _pull(host: Host, _message: Message) -> Message:
    return _parameters(host, {})


def _adopt(host: Host, message: Message) -> Message:
    host.require_step(message)
    adopted = host.part(message, "parameters")
    host.state = host.node.adopt(host.state, adopted)
    if host.recorder is not None:
        host.recorder.adopt(adopted, message.fields.get("peers", ()))
    return Message("done", {"step": host.state.step})


def _evaluate(host: Host, message: Message) -> Message:
    given = host.part(message, "parameters") if message.arrays else host.state.parameters
    measures = {name: float(value) for name, value in host.node.objective.evaluate(given).items()}
    return Message("measures", {"step": host.state.step, "measures": measures})


def _save(host: Host, _message: Message) -> Message:
    return state_message(host.state)


def _restore(host: Host, message: Message) -> Message:
    state = read_state(message)
    begun = host.node.begin()
    require_alike([begun.parameters, state.parameters, *state.optimiser.values()])
    if set(state.optimiser) != set(begun.optimiser):
        raise RecordError(f"the state has an optimiser of {sorted(state.optimiser)}, expected {sorted(begun.optimiser)}")
    host.state, host.recorder = state, None  # steps that aren't its own: it can't commit to them
    return Message("done", {"step": state.step})


def _commit(host: Host, message: Message) -> Message:
    """Begin to record, or go on: the node comes to a step by what it keeps of its own steps, or to an earlier one."""
    host.recorder = recorder_of(host.node, host.place, message.fields)
    host.state = _standing(host.recorder, message)
    return _recording(host.recorder, host.state)


def _seal(host: Host, message: Message) -> Message:
    """Sign the commitment to the first so many steps: all that it took, or those before it went on from a peer's state.

    A node that keeps too little to come there without contacts that the message leaves out says where it stands.
    """
    until = _step_of(message)
    recorder, state = host.recorder, host.state
    if recorder is None or state.step != until:
        recorder = recorder_of(host.node, host.place, message.fields)
        state = _standing(recorder, message)
        if state.step < _step_of(message, "since"):
            return _recording(recorder, state)
    return Message("commitment", {"commitment": recorder.finish(state).data.decode()})


def _standing(recorder: Recorder, message: Message) -> NodeState:
    return recorder.begin(_step_of(message), contacts_of(message.fields), since=_step_of(message, "since"))


def _recording(recorder: Recorder, state: NodeState) -> Message:
    return Message("recording", {"step": state.step, "key": str(recorder.key.public), "numerics": numerics()})


def _step_of(message: Message, name: str = "step") -> int:
    step = message.fields.get(name)
    if type(step) is not int or not 0 <= step <= MAX_STEPS:
        raise RecordError(f"the message {message.kind!r} names no {name}")
    return step


OPERATIONS: Mapping[str, Callable[[Host, Message], Message]] = {
    "begin": _begin, "gradient": _gradient, "apply": _apply, "advance": _advance, "pull": _pull, "adopt": _adopt,
    "evaluate": _evaluate, "save": _save, "restore": _restore, "commit": _commit, "seal": _seal,
    "choose": client.choose, "train": client.train,
}  # fmt: skip
"""All that a node can be asked for. A further protocol's operation is one function here: a message in, a message out."""
CHANGING = frozenset({"apply", "advance", "adopt", "restore", "begin"})
"""Those after which the state is another."""


def _found(host: Host) -> Message:
    found = host.gradient()
    return Message("gradient", {"step": host.state.step, "loss": float(found.loss), "n": int(found.n)}, {"gradient": found.parameters})


def _parameters(host: Host, fields: Mapping[str, Any]) -> Message:
    return Message("parameters", {"step": host.state.step, **fields}, {"parameters": host.state.parameters})


def state_message(state: NodeState) -> Message:
    """A node's whole state as a message, to be kept or to be given to another node."""
    optimiser = {f"optimiser/{name}": value for name, value in state.optimiser.items()}
    return Message("restore", {"step": state.step}, {"parameters": state.parameters, **optimiser})


def read_state(message: Message) -> NodeState:
    """The state in a message.

    Raises:
        RecordError: There is none.
    """
    step = message.fields.get("step")
    if type(step) is not int or step < 0 or "parameters" not in message.arrays:
        raise RecordError("the message holds no node's state", hint="see state_message")
    optimiser = {name.removeprefix("optimiser/"): part for name, part in message.arrays.items() if name.startswith("optimiser/")}
    return NodeState(step, message.arrays["parameters"], optimiser)
