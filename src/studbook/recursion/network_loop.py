"""The loop of a network on records: every node fits its own model, generates, hands records out, and fits again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from studbook.arrays import Batch, Ints, concatenate
from studbook.errors import ConfigError
from studbook.mixing import Mix, Origin, Part
from studbook.recursion.loop import FreshSupply, Generation, Streams, _fit, _tidy
from studbook.recursion.network import Network, n_generated, network_parts, share_of, split_evenly
from studbook.recursion.protocols import Learner, Model
from studbook.recursion.society import Society, average_models
from studbook.recursion.stock import MemoryStock, Standing, Stock


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """Which rows of a generation's records are whose: a function of the network and of sizes alone.

    Attributes:
        network: The network.
        parts: What each node trains on.
        counts: ``(nodes, nodes)`` node j's records in node i's training set.
        generates: Records that each node generates: ``n``, or what it gives, whichever is more.
        n_original: Each node's original records.
    """

    network: Network
    parts: tuple[Part, ...]
    counts: Ints
    generates: tuple[int, ...]
    n_original: int

    @classmethod
    def of(cls, network: Network, mix: Mix, *, n: int, n_original: int) -> Ledger:
        """The ledger of a study.

        Args:
            network: The network.
            mix: What each node trains on.
            n: Records a node.
            n_original: Original records of each node.

        Raises:
            ConfigError: A mix that a network can't have, or shares that don't fit.
        """
        parts = network_parts(mix, n, n_original)
        counts = network.counts(n_generated(parts))
        return cls(network, parts, counts, tuple(max(n, given) for given in share_of(counts)), n_original)

    def samples(self, sample: Batch) -> list[Batch]:
        """A generation's records by the node that generated them."""
        return _cut(sample, self.generates)

    def trainings(self, training: Batch, generation: int) -> list[Batch]:
        """A generation's training records by the node that trains on them."""
        size = self.n_original if generation == 0 else self.size
        return _cut(training, (size,) * self.network.nodes)

    @property
    def size(self) -> int:
        """Records in a node's training set."""
        return sum(self.n_original if part.n is None else part.n for part in self.parts)


class Together(Protocol):
    """How nodes fit their models in contact with each other."""

    def fit(
        self, learner: Any, trainings: Sequence[Batch], *, base: Model | None, previous: tuple[Model, ...], rng: np.random.Generator
    ) -> tuple[Model, ...]:
        """Every node's model, fitted to its own training set."""
        ...


@dataclass(frozen=True, slots=True)
class _Apart:
    """Every node fits its model alone."""

    index: int
    streams: Streams

    def fit(
        self, learner: Any, trainings: Sequence[Batch], *, base: Model | None, previous: tuple[Model, ...], rng: np.random.Generator
    ) -> tuple[Model, ...]:
        """See ``Together``; every node has a stream of its own."""
        starts: tuple[Model | None, ...] = previous or (None,) * len(trainings)
        return tuple(
            _fit(learner, training, base=base, previous=starts[node], rng=self.streams(self.index, f"fit node {node}"))
            for node, training in enumerate(trainings)
        )


def _cut(whole: Batch, sizes: tuple[int, ...]) -> list[Batch]:
    ends = np.cumsum((0, *sizes))
    return [whole.take(np.arange(start, stop)) for start, stop in pairwise(ends.tolist())]


def run_network(
    learner: Learner,
    mix: Mix,
    original: Batch,
    *,
    network: Network,
    n: int,
    last: int,
    fresh: FreshSupply | None,
    streams: Streams,
    base: Model | None = None,
    stock: Stock | None = None,
    after: Standing | None = None,
    together: Together | None = None,
) -> Iterator[Generation]:
    """Generations 0 to ``last`` of a network.

    Args:
        learner: The model family of every node.
        mix: What each node trains on.
        original: The original data of all nodes together; each gets a random part of its own.
        network: How the nodes share what they generate.
        n: Records that a node generates and trains on.
        last: Index of the last generation, 0 or more.
        fresh: Where fresh records come from.
        streams: The random stream for a generation and a purpose.
        base: The model that fits start from, where the learner asks for one.
        stock: Where records are held; by default in memory.
        after: Where to go on; by default from the beginning.
        together: How the nodes fit their models in contact; by default each alone.

    Yields:
        Each generation: its model is a ``Society``, its training set and sample are all nodes' in the order of the nodes; ``Ledger`` tells
        whose is what.

    Raises:
        FitError: A node can't be fitted.
        ConfigError: The mix or the shares don't fit, more nodes than records.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.learners import Gaussian
        >>> from studbook.mixing import Replace
        >>> from studbook.recursion import Network, run_network
        >>> from studbook.rng import stream
        >>> data = numbers(np.random.default_rng(0).normal(size=60))
        >>> chain = run_network(Gaussian(), Replace(), data, network=Network("pool", 3), n=20, last=2, fresh=None,
        ...                     streams=lambda g, use: stream(0, g, use))
        >>> [(generation.index, len(generation.model.models), len(generation.sample)) for generation in chain]
        [(0, 3, 60), (1, 3, 60), (2, 3, 60)]
    """
    nodes, held = network.nodes, stock or MemoryStock()
    each = split_evenly(len(original), nodes)
    ledger = Ledger.of(network, mix, n=n, n_original=each)
    order = streams(0, "nodes").permutation(len(original))
    own = [original.take(np.sort(order[node * each : (node + 1) * each])) for node in range(nodes)]
    at = after or Standing(-1, None, original, original)
    models: tuple[Model, ...] = at.model.models if isinstance(at.model, Society) else ()
    sample = at.sample
    for index in range(at.index + 1, last + 1):
        trainings = own if index == 0 else _Exchanged(ledger, own, ledger.samples(sample), fresh, streams, index).trainings()
        fitting = together or _Apart(index, streams)
        models = fitting.fit(learner, trainings, base=base, previous=models, rng=streams(index, "fit"))
        if network.averages:
            models = average_models(learner, models, network.weights())  # type: ignore[arg-type]
        written = [
            _tidy(model, model.sample(size, rng=streams(index, f"sample node {node}")))
            for node, (model, size) in enumerate(zip(models, ledger.generates, strict=True))
        ]
        sample = held.keep(index, concatenate(written))
        yield Generation(index, Society(models), concatenate(trainings), sample)


@dataclass(frozen=True, slots=True, eq=False)
class _Exchanged:
    """One generation's training sets, node by node."""

    ledger: Ledger
    own: list[Batch]
    samples: list[Batch]
    fresh: FreshSupply | None
    streams: Streams
    generation: int

    def trainings(self) -> list[Batch]:
        handed, real = self._hand_out(), self._fresh()
        return [concatenate([self._piece(part, node, handed, real) for part in self.ledger.parts]) for node in range(len(self.own))]

    def _piece(self, part: Part, node: int, handed: list[Batch], real: list[Batch]) -> Batch:
        if part.origin is Origin.GENERATED:
            batch = handed[node]
        elif part.origin is Origin.FRESH:
            batch = real[node]
        else:
            batch = self.own[node]
            if part.n is not None:
                rng = self.streams(self.generation, f"mix node {node}")
                batch = batch.take(np.sort(rng.choice(len(batch), size=part.n, replace=False)))
        return batch if part.weight == 1.0 else batch.with_weight(part.weight)

    def _hand_out(self) -> list[Batch]:
        """Every node's generated records, in random order, dealt out: each goes to one node."""
        if self.ledger.network.kind == "published":
            return self._publish()
        counts, dealt = self.ledger.counts, []
        for node, sample in enumerate(self.samples):
            order = self.streams(self.generation, f"share node {node}").permutation(len(sample))
            ends = np.cumsum([0, *counts[:, node].tolist()])
            dealt.append([sample.take(np.sort(order[start:stop])) for start, stop in pairwise(ends.tolist())])
        return [concatenate([pieces[node] for pieces in dealt if len(pieces[node])]) for node in range(len(self.samples))]

    def _publish(self) -> list[Batch]:
        """As many of every node's records in one pool, from which each node draws without replacement, whatever the others draw."""
        each, several = n_generated(self.ledger.parts), []
        for node, sample in enumerate(self.samples):
            order = self.streams(self.generation, f"share node {node}").permutation(len(sample))
            several.append(sample.take(np.sort(order[:each])))
        pool = concatenate(several)
        draws = (self.streams(self.generation, f"draw node {node}") for node in range(len(several)))
        return [pool.take(np.sort(rng.choice(len(pool), size=each, replace=False))) for rng in draws]

    def _fresh(self) -> list[Batch]:
        n, nodes = sum(part.n or 0 for part in self.ledger.parts if part.origin is Origin.FRESH), len(self.own)
        if not n:
            return []
        if self.fresh is None:
            raise ConfigError("the mix asks for fresh real records, but none were set aside", hint="set data.reserve")
        return _cut(self.fresh.take(self.generation, n * nodes, rng=self.streams(self.generation, "mix")), (n,) * nodes)
