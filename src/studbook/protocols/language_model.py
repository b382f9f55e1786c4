"""Nodes that train small language models together, inside a study: each on its own blocks, by one of the protocols."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from studbook.arrays import Batch, Ints
from studbook.errors import ConfigError, FitError
from studbook.learners import Gpt
from studbook.protocols.cluster import InProcess
from studbook.protocols.gossip import Gossip
from studbook.protocols.graphs import Graph, ring
from studbook.protocols.independent import Independent
from studbook.protocols.local import Local
from studbook.protocols.node import Node, Optimiser
from studbook.protocols.objective import Gradient
from studbook.protocols.protocols import Protocol
from studbook.protocols.run import Plan, train
from studbook.protocols.synchronised import Synchronised
from studbook.protocols.team import Patience
from studbook.protocols.values import Parameters, digest, mean
from studbook.records import FitReport
from studbook.recursion import Model, Network, starting_point

if TYPE_CHECKING:
    from studbook.learners.gpt import GptModel
    from studbook.neural.language import Windows


@dataclass(frozen=True, slots=True, eq=False)
class NextToken:
    """The mean loss of a node's blocks, in nats a token; see ``studbook.protocols.Objective``.

    Attributes:
        start: The model whose weights all nodes begin with; its network is a workbench.
        windows: The node's blocks, as the network sees them.
    """

    start: GptModel
    windows: Windows
    first: Parameters = field(repr=False)

    @classmethod
    def of(cls, start: GptModel, data: Batch) -> NextToken:
        """The objective of one node.

        Args:
            start: What it begins with; stays as it is.
            data: Its blocks.
        """
        import torch

        from studbook.neural.language import Windows

        context = min(start.network.context, data.values.size)
        device = torch.device("cpu")
        windows = Windows.of(data.values, data.weights, context=context, begin=start.space.n_states, device=device)
        return cls(replace(start, network=copy.deepcopy(start.network)), windows, weights_of(start))

    @property
    def n_rows(self) -> int:
        """Windows."""
        return len(self.windows)

    def initial(self, *, rng: np.random.Generator) -> Parameters:
        """The weights to begin with, whatever the stream: the generation chose them."""
        return {name: value.copy() for name, value in self.first.items()}

    def gradient(self, parameters: Parameters, rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """The gradient over windows, on one thread of the CPU."""
        import torch

        from studbook.neural.device import session

        options = replace(self.start.learner.training, device="cpu", threads=1)
        network = self.start.network.train()
        put_weights(network, parameters)
        with session(options, rng=rng, doing="training gpt", batch=len(rows), lower="learner.training.batch"):
            network.zero_grad(set_to_none=True)
            loss = self.windows.loss(network, torch.from_numpy(rows))
            loss.backward()  # type: ignore[no-untyped-call]
        slopes = {name: np.zeros_like(parameters[name]) if p.grad is None else p.grad.numpy() for name, p in network.named_parameters()}
        return Gradient(slopes, float(loss.detach().double()), len(rows))

    def evaluate(self, parameters: Parameters) -> Mapping[str, float]:
        """Nothing: the study's metrics look at what is generated."""
        return {}

    def describe(self) -> Mapping[str, Any]:
        """What determines it: the blocks, their weights, and the model to begin with."""
        parts = [self.windows.blocks, *([] if self.windows.weights is None else [self.windows.weights])]
        data = hashlib.sha256(b"".join(str(part.shape).encode() + part.numpy().tobytes() for part in parts)).hexdigest()
        return {"objective": "next-token", "rows": self.n_rows, "data": f"sha256:{data}", "start": digest(self.first)}


def weights_of(model: GptModel) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """A model's weights as arrays, tied ones once."""
    return {name: value.detach().numpy().astype(np.float32) for name, value in model.network.named_parameters()}


def put_weights(network: Any, parameters: Parameters) -> None:
    """Set a network's weights, in place."""
    import torch

    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(torch.from_numpy(np.array(parameters[name])))


@dataclass(frozen=True, slots=True)
class TrainedTogether:
    """How a network's nodes fit their models in every generation: by gradients, in contact with each other.

    Every node takes as many steps as passes over its blocks ask for, by Adam at the constant rate ``learner.training.rate``; of the
    training options ``epochs``, ``batch``, ``rate`` and ``start`` count.

    Attributes:
        network: ``synchronised``, ``local``, ``gossip`` or ``apart``.
    """

    network: Network

    def check(self, learner: object) -> None:
        """Refuse, before anything is run, what can't be trained like that.

        Raises:
            ConfigError: The learner isn't a ``gpt``, or asks for a graphics card.
        """
        kind = self.network.kind
        if not isinstance(learner, Gpt):
            raise ConfigError(
                f"learner.protocol.kind is {kind}: its nodes train by gradients, which {type(learner).__name__} doesn't",
                hint='use learner.kind = "gpt", or share records: pool, ring or graph',
            )
        if learner.training.device == "cuda" or learner.training.validation:
            raise ConfigError(
                f"nodes that train by {kind} run on the CPU, without a validation part", hint="leave training.device and validation out"
            )
        self.protocol().check(self.network.nodes)

    def protocol(self) -> Protocol:
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
        """Every node's model, fitted to its own blocks.

        Args:
            learner: The family.
            trainings: Each node's training set.
            base: The base model, where there is one.
            previous: The nodes' models of the generation before; none for generation 0.
            rng: The random stream.

        Raises:
            FitError: The data can't be fitted, or the training diverged.
        """
        start = self._start(learner, trainings[0], base=base, previous=previous, rng=rng)
        options, seed = learner.training, int(rng.integers(2**62))
        objectives = [NextToken.of(start, training) for training in trainings]
        optimiser = Optimiser("adam", rate=options.rate)
        nodes = [Node(i, each, np.arange(each.n_rows), options.batch, optimiser, seed) for i, each in enumerate(objectives)]
        steps = options.epochs * math.ceil(max(each.n_rows for each in objectives) / options.batch)
        run = train(InProcess(nodes), self.protocol(), Plan(steps, seed, spread_every=steps), patience=Patience(on_loss="stop"))
        losses = run.rows[-1].losses
        return tuple(_finished(start, run.parameters[i], FitReport(steps, options.epochs, losses[i], None), i) for i in range(len(nodes)))

    @staticmethod
    def _start(learner: Any, data: Batch, *, base: Model | None, previous: tuple[Model, ...], rng: np.random.Generator) -> GptModel:
        """The model that all nodes begin with: of several models of the generation before, the mean of their weights."""
        fresh: GptModel = learner.unfitted(data, rng=rng)
        chosen: Any = starting_point(learner, base=base, previous=previous[0] if previous else None)
        if chosen is None:
            return fresh
        before: Sequence[Any] = previous if previous and chosen is previous[0] else (chosen,)
        network = copy.deepcopy(fresh.network)
        put_weights(network, mean([weights_of(model) for model in before]))
        return replace(fresh, network=network)


def _finished(start: GptModel, parameters: Parameters, report: FitReport, node: int) -> Model:
    """A node's model after the last step."""
    if not all(np.isfinite(value).all() for value in parameters.values()):
        raise FitError(f"the training of node {node} diverged", hint="lower learner.training.rate")
    network = copy.deepcopy(start.network)
    put_weights(network, parameters)
    return replace(start, network=network.eval(), fit_report=report)
