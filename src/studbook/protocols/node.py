"""One node: its rows, its parameters and its optimiser; every step is a function of what it holds, its seed and the step's number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from studbook.arrays import Ints
from studbook.errors import ConfigError
from studbook.protocols.objective import Gradient, Objective
from studbook.protocols.values import Parameters
from studbook.rng import stream


@dataclass(frozen=True, slots=True)
class Optimiser:
    """How an update follows from a gradient.

    Attributes:
        kind: ``sgd`` (with momentum), ``adagrad`` or ``adam``.
        rate: Learning rate, above 0.
        momentum: Of ``sgd``, in [0, 1).
        decay: Adam's decay of the mean of squares, in [0, 1); of the mean it is .9.
        epsilon: Added to the root of the squares.

    Raises:
        ConfigError: A value out of range.
    """

    kind: Literal["sgd", "adagrad", "adam"] = "sgd"
    rate: float = 0.1
    momentum: float = 0.0
    decay: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if self.kind not in ("sgd", "adagrad", "adam"):
            raise ConfigError(f"optimiser.kind is {self.kind!r}, expected sgd, adagrad or adam")
        if not (0.0 < self.rate < math.inf and 0.0 <= self.momentum < 1.0 and 0.0 <= self.decay < 1.0 and self.epsilon > 0.0):
            given = f"a rate of {self.rate}, momentum {self.momentum}, decay {self.decay}, epsilon {self.epsilon}"
            raise ConfigError(f"the optimiser has {given}: expected a rate and an epsilon above 0, the others from 0 to below 1")

    def begin(self, parameters: Parameters) -> dict[str, Parameters]:
        """Its state before the first step: arrays alike the parameters, by name."""
        kept = {"sgd": ("momentum",) if self.momentum else (), "adagrad": ("squares",), "adam": ("means", "squares")}[self.kind]
        return {name: {key: np.zeros_like(value) for key, value in parameters.items()} for name in kept}

    def step(
        self, parameters: Parameters, gradient: Parameters, state: Mapping[str, Parameters], number: int
    ) -> tuple[Parameters, dict[str, Parameters]]:
        """The parameters and the state after step ``number``, counted from 0."""
        moved: dict[str, Parameters] = {name: {} for name in state}
        after = {}
        for key in sorted(parameters):
            held = {name: state[name][key] for name in state}
            change, held = self.change(gradient[key], held, number)
            after[key] = (parameters[key] - change).astype(np.float32)
            moved = {name: {**moved[name], key: held[name]} for name in state}
        return after, moved

    def change(self, gradient: np.ndarray, held: dict[str, np.ndarray], number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """What step ``number`` takes away from one array, and that array's state after it."""
        if self.kind == "sgd":
            if not self.momentum:
                return self.rate * gradient, held
            momentum = (self.momentum * held["momentum"] + gradient).astype(np.float32)
            return self.rate * momentum, {"momentum": momentum}
        if self.kind == "adagrad":
            squares = (held["squares"] + np.square(gradient)).astype(np.float32)
            return self.rate * gradient / (np.sqrt(squares) + self.epsilon), {"squares": squares}
        means = (0.9 * held["means"] + 0.1 * gradient).astype(np.float32)
        squares = (self.decay * held["squares"] + (1 - self.decay) * np.square(gradient)).astype(np.float32)
        unbiased, scale = means / (1 - 0.9 ** (number + 1)), squares / (1 - self.decay ** (number + 1))
        return self.rate * unbiased / (np.sqrt(scale) + self.epsilon), {"means": means, "squares": squares}


class Steps(Protocol):
    """How an update follows from a gradient: ``Optimiser``, or a learner's own."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def begin(self, parameters: Parameters) -> dict[str, Parameters]:
        """Its state before the first step: arrays alike the parameters, by name."""
        ...

    def step(
        self, parameters: Parameters, gradient: Parameters, state: Mapping[str, Parameters], number: int
    ) -> tuple[Parameters, dict[str, Parameters]]:
        """The parameters and the state after step ``number``, counted from 0."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class NodeState:
    """What a node holds after some steps.

    Attributes:
        step: Steps taken.
        parameters: The parameters.
        optimiser: The optimiser's state.
    """

    step: int
    parameters: Parameters
    optimiser: Mapping[str, Parameters]


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One node's part in a training run.

    Attributes:
        index: Its number, from 0.
        objective: What is trained.
        rows: Training rows that it holds, one or more.
        batch: Rows a step; a node with fewer takes all it has.
        optimiser: How it steps.
        seed: The run's root seed.

    Raises:
        ConfigError: No rows, rows that aren't there, or an impossible batch.
    """

    index: int
    objective: Objective
    rows: Ints
    batch: int
    optimiser: Steps
    seed: int
    _drawn: dict[int, Ints] = field(default_factory=dict, init=False, repr=False)
    """The rows of the step that was asked for last: its gradient needs them, and its record."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"the batch is {self.batch}, expected 1 or more rows a step")
        if not len(self.rows) or self.rows.min() < 0 or self.rows.max() >= self.objective.n_rows:
            raise ConfigError(
                f"node {self.index} holds {len(self.rows)} rows, expected 1 or more of {self.objective.n_rows:,}",
                hint="fewer nodes, or more data",
            )

    @property
    def rows_a_step(self) -> int:
        """How many rows a step takes."""
        return min(self.batch, len(self.rows))

    def begin(self) -> NodeState:
        """The state before the first step: every node of a run begins with the same parameters."""
        parameters = self.objective.initial(rng=stream(self.seed, "initial"))
        return NodeState(0, parameters, self.optimiser.begin(parameters))

    def rows_at(self, step: int) -> Ints:
        """The rows of a step, drawn without replacement from those that it holds; not to be written to."""
        rows = self._drawn.get(step)
        if rows is None:
            drawn = stream(self.seed, "node", self.index, "step", step, "rows")
            rows = np.sort(drawn.choice(self.rows, size=self.rows_a_step, replace=False))
            rows.flags.writeable = False
            self._drawn.clear()
            self._drawn[step] = rows
        return rows

    def gradient_at(self, state: NodeState) -> Gradient:
        """The gradient of its next step."""
        rng = stream(self.seed, "node", self.index, "step", state.step, "noise")
        return self.objective.gradient(state.parameters, self.rows_at(state.step), rng=rng)

    def apply(self, state: NodeState, gradient: Parameters) -> NodeState:
        """The state after a step along a gradient, its own or one that several nodes agreed on."""
        parameters, moved = self.optimiser.step(state.parameters, gradient, state.optimiser, state.step)
        return NodeState(state.step + 1, parameters, moved)

    @staticmethod
    def adopt(state: NodeState, parameters: Parameters) -> NodeState:
        """The state with other parameters: after an average with other nodes."""
        return replace(state, parameters=parameters)
