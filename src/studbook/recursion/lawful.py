"""The loop in law: training sets as sufficient statistics, all replicates at once, at a cost independent of the number of samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from studbook.arrays import Space
from studbook.errors import ConfigError
from studbook.mixing import Mix, Origin, Part
from studbook.recursion.curated import LawSieve, Sifting
from studbook.recursion.protocols import LawCurator, LawLearner, LawModel, Statistics, Subsampled
from studbook.recursion.schedule import Phased


@dataclass(frozen=True, slots=True, eq=False)
class LawGeneration:
    """One generation of R replicates.

    Attributes:
        index: 0 for the models fitted to the original data.
        model: The fitted models; ``model.law`` has a leading axis of length R.
        sifting: What the curator did to the candidates; ``None`` where there is no curator, and in generation 0.
    """

    index: int
    model: LawModel
    sifting: Sifting | None = None


def can_run_in_law(learner: object, mix: Mix, *, n: int, n_original: int, real: LawModel | None, probe: Statistics | None) -> bool:
    """Whether every part of the mix can be drawn as statistics.

    Args:
        learner: The model family.
        mix: What each generation trains on; one that changes on the way can't.
        n: Records a generation.
        n_original: Size of the original data.
        real: The model with the source's law, where the source is a distribution.
        probe: Any statistics of this learner; subsets of real records or of a pool need ones that are closed under subsampling.
    """
    if not isinstance(learner, LawLearner) or probe is None or isinstance(mix, Phased):
        return False
    for part in mix.parts(n, n_original):
        if part.origin is Origin.OUTSIDE or (part.origin is Origin.FRESH and real is None):
            return False
        draws_subset = part.n is not None and part.origin in {Origin.ORIGINAL, Origin.POOL, Origin.PREVIOUS}
        if draws_subset and not isinstance(probe, Subsampled):
            return False
    return True


def run_generations_in_law(
    learner: LawLearner,
    mix: Mix,
    original: Statistics,
    space: Space,
    *,
    n: int,
    n_original: int,
    last: int,
    real: LawModel | None,
    rng: np.random.Generator,
    curator: LawCurator | None = None,
) -> Iterator[LawGeneration]:
    """Generations 0 to ``last`` of all replicates, exact in law.

    Args:
        learner: A learner that is exact in law.
        mix: What each generation trains on; see ``can_run_in_law``.
        original: Statistics of the original data of each replicate.
        space: Space of the records.
        n: Records a generation; time and memory don't depend on it.
        n_original: Records behind ``original``.
        last: Index of the last generation.
        real: Models with the source's law, for fresh records (R replicates).
        rng: The stream of this chain: a new stream for every generation would cost as much as the generation.
        curator: Judges the candidates of every generation after 0; see ``can_curate_in_law``. By default all are taken.

    Examples:
        >>> from studbook.learners import Gaussian
        >>> from studbook.data import Normal
        >>> from studbook.mixing import Replace
        >>> from studbook.rng import stream
        >>> learner, source = Gaussian(), Normal().load()
        >>> real = learner.from_law(source.law, source.space)
        >>> original = learner.draw(real, 10**9, rng=stream(0, "original"))
        >>> chain = run_generations_in_law(learner, Replace(), original, source.space, n=10**9, n_original=10**9, last=5, real=real,
        ...                                rng=stream(0, "law"))
        >>> round(float(list(chain)[-1].model.law.covariance[0, 0, 0]), 2)
        1.0
    """
    parts = mix.parts(n, n_original)
    pooling = any(part.origin is Origin.POOL for part in parts)
    pool = training = original
    model = learner.estimate(training, space)
    sieve = None if curator is None else LawSieve(curator, parts, original.n_replicates)
    sifting: Sifting | None = None
    yield LawGeneration(0, model)
    for index in range(1, last + 1):
        if pooling:
            pool = pool.merge(learner.draw(model, n, rng=rng))
        if sieve is None:
            training = _compose(parts, _Shelves(learner, model, real, original, training, pool), rng=rng)
        else:
            kept, sifting = sieve.sift(generation=index, rng=rng)
            training = sieve.draw(learner, model, real, kept, rng=rng)
        model = learner.estimate(training, space)
        yield LawGeneration(index, model, sifting)


@dataclass(frozen=True, slots=True)
class _Shelves:
    """Where the statistics of one generation's parts come from."""

    learner: LawLearner
    model: LawModel
    real: LawModel | None
    original: Statistics
    previous: Statistics
    pool: Statistics

    def fetch(self, part: Part, *, rng: np.random.Generator) -> Statistics:
        if part.origin is Origin.GENERATED:
            return self.learner.draw(self.model, part.n or 0, rng=rng)
        if part.origin is Origin.FRESH:
            if self.real is None:
                raise ConfigError("fresh records in law need a source whose law is known", hint='use study.method = "samples"')
            return self.learner.draw(self.real, part.n or 0, rng=rng)
        whole = {Origin.ORIGINAL: self.original, Origin.PREVIOUS: self.previous, Origin.POOL: self.pool}[part.origin]
        if part.n is None:
            return whole
        if not isinstance(whole, Subsampled):
            raise ConfigError(
                f"a subset of the {part.origin.value} data has no closed form for this learner", hint='use study.method = "samples"'
            )
        return whole.subsample(part.n, rng=rng)


def _compose(parts: tuple[Part, ...], shelves: _Shelves, *, rng: np.random.Generator) -> Statistics:
    """The statistics of the whole training set."""
    total: Statistics | None = None
    for part in parts:
        statistics = shelves.fetch(part, rng=rng)
        if part.weight != 1.0:
            statistics = statistics.scaled(part.weight)
        total = statistics if total is None else total.merge(statistics)
    if total is None:
        raise ConfigError("the mix has no parts", hint="ask for at least one record a generation")
    return total
