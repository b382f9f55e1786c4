"""The loop of a network in law: all replicates at once, at a cost independent of the number of records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from studbook.arrays import Space
from studbook.errors import ConfigError
from studbook.mixing import Mix, Origin, Part
from studbook.recursion.network import Network, n_generated, network_parts
from studbook.recursion.protocols import LawLearner, LawModel, Statistics, Subsampled
from studbook.recursion.society import average_models


@dataclass(frozen=True, slots=True, eq=False)
class NetworkLawGeneration:
    """One generation of R replicates of a network.

    Attributes:
        index: 0 for the models fitted to the original data.
        models: One a node; ``model.law`` has a leading axis of length R.
    """

    index: int
    models: tuple[LawModel, ...]


def run_network_in_law(
    learner: LawLearner,
    mix: Mix,
    originals: Sequence[Statistics],
    space: Space,
    *,
    network: Network,
    n: int,
    n_original: int,
    last: int,
    real: LawModel | None,
    rng: np.random.Generator,
) -> Iterator[NetworkLawGeneration]:
    """Generations 0 to ``last`` of all replicates, exact in law; in law the same as ``run_network``.

    Args:
        learner: A learner that is exact in law.
        mix: What each node trains on.
        originals: Statistics of each node's own original data.
        space: Space of the records.
        network: How the nodes share what they generate.
        n: Records that a node generates and trains on; time and memory don't depend on it.
        n_original: Records behind each of ``originals``.
        last: Index of the last generation.
        real: Models with the source's law, for fresh records (R replicates).
        rng: The stream of this chain.

    Examples:
        >>> from studbook.data import Normal
        >>> from studbook.learners import Gaussian
        >>> from studbook.mixing import Replace
        >>> from studbook.recursion import Network, run_network_in_law
        >>> from studbook.rng import stream
        >>> learner, source = Gaussian(), Normal().load()
        >>> real, rng = learner.from_law(source.law, source.space), stream(0)
        >>> originals = [learner.draw(real, 10**9, rng=rng) for _ in range(3)]
        >>> chain = run_network_in_law(learner, Replace(), originals, source.space, network=Network("pool", 3), n=10**9,
        ...                            n_original=10**9, last=5, real=real, rng=rng)
        >>> [round(float(model.law.covariance[0, 0, 0]), 2) for model in list(chain)[-1].models]
        [1.0, 1.0, 1.0]
    """
    parts = network_parts(mix, n, n_original)
    counts = network.counts(n_generated(parts))
    models = _fitted(learner, originals, space, network)
    yield NetworkLawGeneration(0, models)
    for index in range(1, last + 1):
        shelves = _Shelves(learner, models, real, _publish(learner, models, parts, rng=rng) if network.kind == "published" else None)
        trainings = [shelves.compose(parts, counts[node].tolist(), original, rng=rng) for node, original in enumerate(originals)]
        models = _fitted(learner, trainings, space, network)
        yield NetworkLawGeneration(index, models)


def _fitted(learner: LawLearner, trainings: Sequence[Statistics], space: Space, network: Network) -> tuple[LawModel, ...]:
    models = tuple(learner.estimate(training, space) for training in trainings)
    return average_models(learner, models, network.weights()) if network.averages else models


@dataclass(frozen=True, slots=True)
class _Shelves:
    """Where the statistics of one generation come from."""

    learner: LawLearner
    models: tuple[LawModel, ...]
    real: LawModel | None
    pool: Statistics | None

    def compose(self, parts: tuple[Part, ...], counts: list[int], original: Statistics, *, rng: np.random.Generator) -> Statistics:
        """The statistics of one node's training set."""
        total: Statistics | None = None
        for part in parts:
            statistics = self._fetch(part, counts, original, rng=rng)
            if part.weight != 1.0:
                statistics = statistics.scaled(part.weight)
            total = statistics if total is None else total.merge(statistics)
        if total is None:
            raise ConfigError("the mix has no parts", hint="ask for at least one record a generation")
        return total

    def _fetch(self, part: Part, counts: list[int], original: Statistics, *, rng: np.random.Generator) -> Statistics:
        if part.origin is Origin.GENERATED and self.pool is not None:
            return _subset(self.pool, part.n or 0, "published", rng=rng)
        if part.origin is Origin.GENERATED:
            total: Statistics | None = None
            for model, size in zip(self.models, counts, strict=True):
                if size:
                    drawn = self.learner.draw(model, size, rng=rng)
                    total = drawn if total is None else total.merge(drawn)
            if total is None:
                raise ConfigError("a node gets no generated records", hint="raise study.samples")
            return total
        if part.origin is Origin.FRESH:
            if self.real is None:
                raise ConfigError("fresh records in law need a source whose law is known", hint='use study.method = "samples"')
            return self.learner.draw(self.real, part.n or 0, rng=rng)
        if part.n is None:
            return original
        return _subset(original, part.n, "original", rng=rng)


def _publish(learner: LawLearner, models: tuple[LawModel, ...], parts: tuple[Part, ...], *, rng: np.random.Generator) -> Statistics:
    """As many records of every node's model, in one pool."""
    each = n_generated(parts)
    pool = learner.draw(models[0], each, rng=rng)
    for model in models[1:]:
        pool = pool.merge(learner.draw(model, each, rng=rng))
    return pool


def _subset(whole: Statistics, n: int, what: str, *, rng: np.random.Generator) -> Statistics:
    if not isinstance(whole, Subsampled):
        raise ConfigError(f"a subset of the {what} data has no closed form for this learner", hint='use study.method = "samples"')
    return whole.subsample(n, rng=rng)
