"""A learner's own training as an objective and steps over plain arrays: what a node of any protocol works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Ints
from studbook.neural.options import Training
from studbook.protocols.node import Optimiser
from studbook.protocols.objective import Gradient
from studbook.protocols.values import Parameters, digest
from studbook.rng import stream

if TYPE_CHECKING:
    from torch import Tensor

    from studbook.neural.lesson import Lesson

_WEIGHT, _AVERAGE = "weight.", "average."


@dataclass(frozen=True, slots=True, eq=False)
class LearnerLoss:
    """A learner's own loss on a node's records; see ``studbook.protocols.Objective``.

    Parameters are the network's weights and, where the model has a moving average of some, that average: it has no slope,
    ``LearnerSteps`` moves it, and nodes exchange it like the weights.

    Attributes:
        lesson: The training; its network is a workbench.
        options: Its precision and batch.
        first: What all nodes begin with.
        about: What determines the loss beside the weights, as JSON's types.
    """

    lesson: Lesson
    options: Training
    first: Parameters = field(repr=False)
    about: Mapping[str, Any]

    @property
    def n_rows(self) -> int:
        """Rows of the training set: records, or windows of text."""
        return self.lesson.n

    def initial(self, *, rng: np.random.Generator) -> Parameters:
        """The weights to begin with, whatever the stream: the generation chose them."""
        return {name: value.copy() for name, value in self.first.items()}

    def gradient(self, parameters: Parameters, rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """The gradient over rows, on one thread of the CPU; noise, dropout and latents come from ``rng``."""
        import torch

        from studbook.neural.device import precision, session

        network = self.lesson.network.train()
        put_weights(self.lesson, parameters)
        with session(self.options, rng=rng, doing="training together", batch=len(rows), lower="learner.training.batch") as device:
            network.zero_grad(set_to_none=True)
            with precision(self.options, device):
                loss = self.lesson.loss(torch.tensor(rows))
            loss.backward()  # type: ignore[no-untyped-call]
        slopes = {name: np.zeros_like(value) for name, value in parameters.items()}
        slopes |= {f"{_WEIGHT}{name}": weight.grad.numpy() for name, weight in network.named_parameters() if weight.grad is not None}
        return Gradient(slopes, float(loss.detach().double()), len(rows))

    def evaluate(self, parameters: Parameters) -> Mapping[str, float]:
        """Nothing: the study's metrics look at what is generated."""
        return {}

    def describe(self) -> Mapping[str, Any]:
        """What determines it: the learner, its records, and the weights to begin with."""
        return {"objective": "learner", "rows": self.n_rows, "start": digest(self.first), **self.about}


@dataclass(frozen=True, slots=True, eq=False)
class LearnerSteps:
    """A learner's own steps (optimiser, schedule, decay of weights, clipping) as a function of what a node holds.

    To the bit those of the learner's ``fit``; see ``studbook.protocols.Optimiser``.

    In federated training a client's optimiser begins anew each round, and the schedule goes by rounds: all steps of round r have the rate
    that step r of as many steps as there are rounds would have, so that it warms up and falls by the share of rounds done. Moving averages
    count the steps of the rounds before.

    Attributes:
        lesson: The training; its network is a workbench.
        options: The learner's.
        n_steps: Steps of the whole training; in federated training its rounds.
        steps_a_round: Steps that the client takes in a round; of federated training.
        round: The round under way; ``None``: there are none.
    """

    lesson: Lesson
    options: Training
    n_steps: int
    steps_a_round: int = 0
    round: int | None = None

    def in_round(self, number: int) -> LearnerSteps:
        """The steps of a client in round ``number``, counted from 0."""
        return replace(self, round=number)

    def at_server(self, server: Optimiser) -> ServerSteps:
        """The steps of a server that keeps the learner's parameters."""
        return ServerSteps(server)

    def begin(self, parameters: Parameters) -> dict[str, Parameters]:
        """The optimiser's state before the first step, under PyTorch's names."""
        kept = ("momentum_buffer",) if self.options.optimizer == "sgd" else ("exp_avg", "exp_avg_sq")
        return {name: {key: np.zeros_like(value) for key, value in parameters.items()} for name in kept}

    def step(
        self, parameters: Parameters, gradient: Parameters, state: Mapping[str, Parameters], number: int
    ) -> tuple[Parameters, dict[str, Parameters]]:
        """The parameters and the state after step ``number``, counted from 0."""
        import torch

        from studbook.neural.device import session
        from studbook.neural.training import Stepper

        put_weights(self.lesson, parameters)
        stepper = Stepper(self.lesson.network, self.options, self.n_steps, betas=self.lesson.betas, players=self.lesson.players)
        stepper.steps = number if self.round is None else self.round
        counted = {} if self.options.optimizer == "sgd" else {"step": torch.tensor(float(number))}
        weights = {f"{_WEIGHT}{name}": weight for name, weight in self.lesson.network.named_parameters()}
        for name, weight in weights.items():
            # As the weight lies in memory: PyTorch's fused optimisers go through all four side by side.
            weight.grad, *held_parts = (_like(weight, values[name]) for values in (gradient, *state.values()))
            held = dict(zip(state, held_parts, strict=True))
            stepper.optimizer.state[weight] = {**held, **{key: value.clone() for key, value in counted.items()}}
        with session(self.options, rng=stream(0), doing="a step", batch=self.options.batch, lower="learner.width"):
            stepper.descend()
        after: dict[str, NDArray[np.float32]] = {name: weight.detach().numpy().copy() for name, weight in weights.items()}
        moved: dict[str, Parameters] = {}
        for part, values in state.items():
            moved[part] = {**values, **{name: stepper.optimizer.state[weight][part].numpy() for name, weight in weights.items()}}
        taken = number if self.round is None else self.round * self.steps_a_round + number
        return {**after, **self._averages(parameters, after, taken + 1)}, moved

    def _averages(self, before: Parameters, after: Parameters, steps: int) -> dict[str, NDArray[np.float32]]:
        """The moving averages: early on they move faster, as those of ``studbook.neural.training`` do."""
        decay = np.float32(1.0 - min(self.lesson.decay, (1 + steps) / (10 + steps)))
        averages = [name for name in before if name.startswith(_AVERAGE)]
        return {name: before[name] + decay * (after[_WEIGHT + name.removeprefix(_AVERAGE)] - before[name]) for name in averages}


@dataclass(frozen=True, slots=True)
class ServerSteps:
    """How a server steps along the clients' mean update of a learner's parameters: weights by its optimiser.

    A moving average of weights takes the mean of the clients', whatever the optimiser: it is none once it is scaled by past gradients.

    Attributes:
        optimiser: Of the weights.
    """

    optimiser: Optimiser

    def begin(self, parameters: Parameters) -> dict[str, Parameters]:
        """The optimiser's state before the first round."""
        return self.optimiser.begin(parameters)

    def step(
        self, parameters: Parameters, gradient: Parameters, state: Mapping[str, Parameters], number: int
    ) -> tuple[Parameters, dict[str, Parameters]]:
        """The parameters and the state after round ``number``, counted from 0."""
        after, moved = self.optimiser.step(parameters, gradient, state, number)
        averages = {name: parameters[name] - gradient[name] for name in parameters if name.startswith(_AVERAGE)}
        return {**after, **averages}, moved


def _like(weight: Tensor, values: NDArray[np.float32]) -> Tensor:
    """An array as a tensor of a weight's layout."""
    import torch

    with torch.no_grad():
        return torch.empty_like(weight).copy_(torch.from_numpy(np.array(values)))


def read_weights(lesson: Lesson) -> Parameters:
    """A lesson's weights as arrays, tied ones once, and beside them where their moving average begins."""
    named = {name: weight.detach().numpy().astype(np.float32) for name, weight in lesson.network.named_parameters()}
    averaged = [name for name in named if lesson.decay and name.startswith(lesson.averaged)]
    weights = {f"{_WEIGHT}{name}": value for name, value in named.items()}
    return {**weights, **{f"{_AVERAGE}{name}": named[name].copy() for name in averaged}}


def put_weights(lesson: Lesson, parameters: Parameters, *, averages: bool = False) -> None:
    """Set the weights of a lesson's network, in place; with ``averages`` to their moving average, where there is one."""
    import torch

    with torch.no_grad():
        for name, weight in lesson.network.named_parameters():
            value = parameters[f"{_WEIGHT}{name}"]
            weight.copy_(torch.from_numpy(np.array(parameters.get(f"{_AVERAGE}{name}", value) if averages else value)))
