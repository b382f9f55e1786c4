"""Nodes that train together inside a study: any family that trains by gradients, each node on its own records, by one of the protocols."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from studbook.arrays import Batch
from studbook.errors import ConfigError, FitError, WorkerLostError
from studbook.neural.options import Training
from studbook.protocols.cluster import InProcess
from studbook.protocols.federated import Federated
from studbook.protocols.gossip import Gossip
from studbook.protocols.graphs import Graph, ring
from studbook.protocols.independent import Independent
from studbook.protocols.lessons import LearnerLoss, LearnerSteps, put_weights, read_weights
from studbook.protocols.local import Local
from studbook.protocols.node import Node, Optimiser
from studbook.protocols.protocols import Protocol as TrainingProtocol
from studbook.protocols.run import Plan, train
from studbook.protocols.synchronised import Synchronised
from studbook.protocols.team import Patience
from studbook.protocols.training_run import TrainingRun
from studbook.protocols.values import Parameters, mean
from studbook.records import FitReport
from studbook.recursion import Continuing, Model, Network, starting_point
from studbook.rng import stream

if TYPE_CHECKING:
    from studbook.neural.lesson import Lesson

FAMILIES = ("vae", "gan", "diffusion", "gpt", "causal_lm")
"""Kinds of learners that come with studbook and can be trained together; any other with a ``lesson`` can, too."""
_EPSILON = 1e-3
"""Of an adaptive server, after Reddi et al. 2021: its gradients are mean changes of weights, which are small."""


@runtime_checkable
class Teachable(Continuing, Protocol):
    """A learner whose training can be taken apart. It may also have ``check_lesson()``, which refuses settings that can't."""

    def lesson(self, data: Batch, *, start: Any = None, rng: np.random.Generator) -> Lesson:
        """The training of one node on the CPU, from a model or as ``fit`` begins."""
        ...


@dataclass(frozen=True, slots=True)
class TrainedTogether:
    """How a network's nodes fit their models in every generation: by gradients, in contact with each other.

    Every node takes as many steps as passes over the longest training set ask for, each on a batch drawn from its own records, with the
    learner's optimiser, schedule, decay of weights and clipping. What runs is one thread of the CPU.

    ``federated``: in a round a client passes through its records from the server's parameters, with a new optimiser of the learner's and
    the rate that its schedule has at that share of the rounds. There are as many rounds as give every node the learner's passes in the
    mean, and at the end every node's model is the server's.

    Attributes:
        network: ``synchronised``, ``local``, ``gossip``, ``federated`` or ``apart``.
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
        protocol = self.protocol()
        protocol.check(self.network.nodes)
        if isinstance(protocol, Federated):
            Plan(_rounds(protocol, options, self.network.nodes))

    def protocol(self) -> TrainingProtocol:
        """The protocol that the network means."""
        network = self.network
        if network.kind == "synchronised":
            return Synchronised()
        if network.kind == "apart":
            return Independent()
        if network.kind == "local":
            return Local(network.every or 1)
        if network.kind == "federated":
            server = Optimiser(network.server or "sgd", network.server_rate or 1.0, epsilon=_EPSILON)
            return Federated(network.clients or network.nodes, network.epochs or 1, server)
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
        ConfigError: The protocol can't run with these nodes, or wants slices of a learner's model, which has none.
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
    a_pass = [math.ceil(lesson.n / options.batch) for lesson in lessons]
    federated = protocol if isinstance(protocol, Federated) else None
    steps = options.epochs * max(a_pass) if federated is None else _rounds(federated, options, len(lessons))
    nodes = []
    for index, (lesson, training) in enumerate(zip(lessons, trainings, strict=True)):
        loss = LearnerLoss(lesson, options, first, {"learner": repr(learner), "data": _digest_of(training)})
        own = LearnerSteps(lesson, options, steps, 0 if federated is None else federated.epochs * a_pass[index])
        nodes.append(Node(index, loss, np.arange(lesson.n), options.batch, own, seed))
    run = _run(nodes, protocol, Plan(steps, seed, spread_every=steps))
    ends = [_end(run, index, seed, a_pass[index]) for index in range(len(nodes))]
    return tuple(_finished(lesson, options, end) for lesson, end in zip(lessons, ends, strict=True))


def _rounds(protocol: Federated, options: Training, nodes: int) -> int:
    """Rounds after which a node has passed through its records as often, in the mean, as the learner's training asks for.

    Raises:
        ConfigError: One round has more passes than that.
    """
    if protocol.epochs > options.epochs:
        raise ConfigError(
            f"a round has {protocol.epochs:,} passes, the whole training {options.epochs:,}",
            hint="lower learner.protocol.epochs, or raise learner.training.epochs",
        )
    return math.ceil(options.epochs * nodes / (protocol.clients * protocol.epochs))


def _run(nodes: Sequence[Node], protocol: TrainingProtocol, plan: Plan) -> TrainingRun:
    """The run; in one process a client is lost only by an update that can't be used.

    Raises:
        FitError: It was.
    """
    try:
        return train(InProcess(nodes), protocol, plan, patience=Patience(on_loss="stop"))
    except WorkerLostError as error:
        raise FitError(f"the training together failed: {error.message}", hint="lower learner.training.rate") from error


def _starts(learner: Any, base: Model | None, previous: tuple[Model, ...]) -> tuple[Model, ...]:
    """The models whose mean a generation begins with: the base, or all nodes' of the generation before."""
    chosen = starting_point(learner, base=base, previous=previous[0] if previous else None)
    if chosen is None:
        return ()
    return previous if previous and chosen is previous[0] else (chosen,)


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """Where a node's training ended: its parameters, the loss of every step, how many make a pass, its number and the run's seed."""

    parameters: Parameters
    losses: Sequence[float]
    a_pass: int
    node: int
    seed: int


def _end(run: TrainingRun, node: int, seed: int, a_pass: int) -> _End:
    """A node's own end; with a server that one's, whose steps are rounds with the mean loss of their clients."""
    if run.server is None:
        return _End(run.parameters[node], [row.losses[node] for row in run.rows], a_pass, node, seed)
    return _End(run.server, [float(np.nanmean(row.losses)) for row in run.rows], 1, node, seed)


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
    last = end.losses[-end.a_pass :]
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
