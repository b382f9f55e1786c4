"""Nodes that train together inside a study: any family that trains by gradients, each node on its own records, by one of the protocols."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Batch, Ints
from studbook.errors import ConfigError, FitError
from studbook.neural.options import Training
from studbook.protocols.cluster import InProcess
from studbook.protocols.gossip import Gossip
from studbook.protocols.graphs import Graph, ring
from studbook.protocols.independent import Independent
from studbook.protocols.local import Local
from studbook.protocols.node import Node
from studbook.protocols.objective import Gradient
from studbook.protocols.protocols import Protocol as TrainingProtocol
from studbook.protocols.run import Plan, train
from studbook.protocols.synchronised import Synchronised
from studbook.protocols.team import Patience
from studbook.protocols.values import Parameters, digest, mean
from studbook.records import FitReport
from studbook.recursion import Continuing, Model, Network, starting_point
from studbook.rng import stream

if TYPE_CHECKING:
    from torch import Tensor

    from studbook.neural.lesson import Lesson

FAMILIES = ("vae", "gan", "diffusion", "gpt", "causal_lm")
"""Kinds of learners that come with studbook and can be trained together; any other with a ``lesson`` can, too."""
_WEIGHT, _AVERAGE = "weight.", "average."


@runtime_checkable
class Teachable(Continuing, Protocol):
    """A learner whose training can be taken apart. It may also have ``check_lesson()``, which refuses settings that can't."""

    def lesson(self, data: Batch, *, start: Any = None, rng: np.random.Generator) -> Lesson:
        """The training of one node on the CPU, from a model or as ``fit`` begins."""
        ...


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

    Attributes:
        lesson: The training; its network is a workbench.
        options: The learner's.
        n_steps: Steps of the whole training.
    """

    lesson: Lesson
    options: Training
    n_steps: int

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
        stepper.steps = number
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
        return {**after, **self._averages(parameters, after, number + 1)}, moved

    def _averages(self, before: Parameters, after: Parameters, steps: int) -> dict[str, NDArray[np.float32]]:
        """The moving averages: early on they move faster, as those of ``studbook.neural.training`` do."""
        decay = np.float32(1.0 - min(self.lesson.decay, (1 + steps) / (10 + steps)))
        averages = [name for name in before if name.startswith(_AVERAGE)]
        return {name: before[name] + decay * (after[_WEIGHT + name.removeprefix(_AVERAGE)] - before[name]) for name in averages}


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


@dataclass(frozen=True, slots=True)
class TrainedTogether:
    """How a network's nodes fit their models in every generation: by gradients, in contact with each other.

    Every node takes as many steps as passes over the longest training set ask for, each on a batch drawn from its own records, with the
    learner's optimiser, schedule, decay of weights and clipping. What runs is one thread of the CPU.

    Attributes:
        network: ``synchronised``, ``local``, ``gossip`` or ``apart``.
    """

    network: Network

    def check(self, learner: object) -> None:
        """Refuse, before anything is run, what can't be trained like that.

        Raises:
            ConfigError: The learner doesn't train by gradients, asks for a graphics card or a validation part, or for turns.
        """
        kind = self.network.kind
        if not isinstance(learner, Teachable):
            raise ConfigError(
                f"learner.protocol.kind is {kind}: its nodes train by gradients, which {type(learner).__name__} doesn't",
                hint=f"set learner.kind to {', '.join(FAMILIES[:-1])} or {FAMILIES[-1]}, or share records: pool, ring or graph",
            )
        options: Any = learner.training
        if options.device == "cuda" or options.validation:
            raise ConfigError(
                f"nodes that train by {kind} run on the CPU, without a validation part", hint="leave training.device and validation out"
            )
        if hasattr(learner, "check_lesson"):
            learner.check_lesson()
        self.protocol().check(self.network.nodes)

    def protocol(self) -> TrainingProtocol:
        """The protocol that the network means."""
        network = self.network
        if network.kind == "synchronised":
            return Synchronised()
        if network.kind == "apart":
            return Independent()
        if network.kind == "local":
            return Local(network.every or 1)
        graph = Graph.of(network.edges, network.nodes) if network.edges else ring(network.nodes)
        return Gossip(graph, every=network.every or 1)

    def fit(
        self, learner: Any, trainings: Sequence[Batch], *, base: Model | None, previous: tuple[Model, ...], rng: np.random.Generator
    ) -> tuple[Model, ...]:
        """Every node's model, fitted to its own records.

        Args:
            learner: The family.
            trainings: Each node's training set.
            base: The base model, where there is one.
            previous: The nodes' models of the generation before; none for generation 0.
            rng: The random stream.

        Raises:
            FitError: The data can't be fitted, or the training diverged.
        """
        return train_together(learner, trainings, self.protocol(), starts=_starts(learner, base, previous), rng=rng)


def train_together(
    learner: Any, trainings: Sequence[Batch], protocol: TrainingProtocol, *, starts: Sequence[Model] = (), rng: np.random.Generator
) -> tuple[Model, ...]:
    """One model a node, trained by a protocol.

    Args:
        learner: The family: ``Teachable``.
        trainings: Each node's training set.
        protocol: How they train together.
        starts: Models whose mean all nodes begin with; none: they begin as the learner's ``fit`` does, all alike.
        rng: The random stream.

    Raises:
        FitError: The data can't be fitted, or the training diverged.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import images
        >>> from studbook.learners import Vae
        >>> from studbook.neural.options import Training
        >>> from studbook.protocols import Gossip, ring
        >>> from studbook.protocols.together import train_together
        >>> pixels = np.random.default_rng(0).random((90, 4, 4)) * np.eye(4)
        >>> parts = [images(pixels[node::3], (0.0, 1.0)) for node in range(3)]
        >>> learner = Vae(latents=2, hidden=16, training=Training(epochs=2, batch=10))
        >>> models = train_together(learner, parts, Gossip(ring(3)), rng=np.random.default_rng(1))
        >>> [model.fit_report.steps for model in models]
        [6, 6, 6]
    """
    options, start = replace(learner.training, device="cpu", threads=1), starts[0] if starts else None
    lessons = [learner.lesson(training, start=start, rng=rng) for training in trainings]
    others = [learner.lesson(trainings[0], start=other, rng=rng) for other in starts[1:]]
    first = mean([read_weights(lesson) for lesson in [lessons[0], *others]])
    seed = int(rng.integers(2**62))
    steps = options.epochs * math.ceil(max(lesson.n for lesson in lessons) / options.batch)
    nodes = []
    for index, (lesson, training) in enumerate(zip(lessons, trainings, strict=True)):
        loss = LearnerLoss(lesson, options, first, {"learner": repr(learner), "data": _digest_of(training)})
        nodes.append(Node(index, loss, np.arange(lesson.n), options.batch, LearnerSteps(lesson, options, steps), seed))
    run = train(InProcess(nodes), protocol, Plan(steps, seed, spread_every=steps), patience=Patience(on_loss="stop"))
    ends = [_End(run.parameters[index], [row.losses[index] for row in run.rows], index, seed) for index in range(len(nodes))]
    return tuple(_finished(lesson, options, end) for lesson, end in zip(lessons, ends, strict=True))


def _starts(learner: Any, base: Model | None, previous: tuple[Model, ...]) -> tuple[Model, ...]:
    """The models whose mean a generation begins with: the base, or all nodes' of the generation before."""
    chosen = starting_point(learner, base=base, previous=previous[0] if previous else None)
    if chosen is None:
        return ()
    return previous if previous and chosen is previous[0] else (chosen,)


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """Where a node's training ended: its parameters, the loss of every step, its number and the run's seed."""

    parameters: Parameters
    losses: Sequence[float]
    node: int
    seed: int


def _finished(lesson: Lesson, options: Training, end: _End) -> Model:
    """A node's model after the last step."""
    from studbook.neural.device import session

    if not all(np.isfinite(value).all() for value in end.parameters.values()):
        raise FitError(f"the training of node {end.node} diverged", hint="lower learner.training.rate")
    put_weights(lesson, end.parameters, averages=True)
    lesson.network.eval()
    rng = stream(end.seed, "node", end.node, "end")
    with session(options, rng=rng, doing="training together", batch=options.batch, lower="learner.training.batch"):
        failure = None if lesson.judge is None else lesson.judge(end.losses)
    last = end.losses[-math.ceil(lesson.n / options.batch) :]
    report = FitReport(len(end.losses), options.epochs, math.fsum(last) / len(last), None, failure=failure)
    model: Model = lesson.finish(report)
    return model


def _digest_of(data: Batch) -> str:
    """SHA-256 of records, weights and labels."""
    found = hashlib.sha256()
    for part in (data.values, data.weights, data.labels):
        if part is not None:
            found.update(f"{part.dtype.str}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
    return f"sha256:{found.hexdigest()}"
