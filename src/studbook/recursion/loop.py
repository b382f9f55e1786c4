"""The loop on records: fit, sample, mix, fit again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from studbook.arrays import Batch, Ints, concatenate
from studbook.errors import ConfigError
from studbook.mixing import Mix, Origin, Part
from studbook.recursion.protocols import Learner, Model

Streams: TypeAlias = Callable[[int, str], np.random.Generator]
"""From a generation and a purpose to the random stream for it."""


class FreshSupply(Protocol):
    """Where new real records come from."""

    def take(self, generation: int, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` real records that no earlier generation was given."""
        ...


@dataclass(frozen=True, slots=True)
class FreshLaw:
    """New real records drawn from the source's law, by a model that has it."""

    model: Model

    def take(self, generation: int, n: int, *, rng: np.random.Generator) -> Batch:
        """See ``FreshSupply``."""
        return self.model.sample(n, rng=rng)


@dataclass(frozen=True, slots=True)
class FreshReserve:
    """New real records out of a part of the data that was set aside: generation g ≥ 1 gets the g-th slice."""

    records: Batch

    def take(self, generation: int, n: int, *, rng: np.random.Generator) -> Batch:
        """See ``FreshSupply``."""
        rows = np.arange((generation - 1) * n, generation * n)
        if n and rows[-1] >= len(self.records):
            raise ConfigError(
                f"generation {generation} asks for fresh records up to number {rows[-1] + 1}, the reserve has {len(self.records)}",
                hint="raise data.reserve, or lower mix.fresh or study.generations",
            )
        return self.records.take(rows)


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """One generation.

    Attributes:
        index: 0 for the model fitted to the original data.
        model: The fitted model.
        training: What it was fitted to.
        sample: ``n`` records that it generated; the next generation's generated part is taken from them.
    """

    index: int
    model: Model
    training: Batch
    sample: Batch


def run_generations(
    learner: Learner, mix: Mix, original: Batch, *, n: int, last: int, fresh: FreshSupply | None, streams: Streams
) -> Iterator[Generation]:
    """Generations 0 to ``last``.

    Args:
        learner: The model family.
        mix: What each generation trains on.
        original: The original data; generation 0 is fitted to them.
        n: Records that a generation generates.
        last: Index of the last generation, 0 or more.
        fresh: Where fresh records come from; needed by mixes that ask for them.
        streams: The random stream for a generation and a purpose.

    Yields:
        Each generation as soon as it is fitted and sampled.

    Raises:
        FitError: A generation can't be fitted.
        ConfigError: The mix asks for records that aren't there.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.learners import Gaussian
        >>> from studbook.mixing import Replace
        >>> from studbook.rng import stream
        >>> data = numbers(np.random.default_rng(0).normal(size=50))
        >>> chain = run_generations(Gaussian(), Replace(), data, n=50, last=3, fresh=None, streams=lambda g, use: stream(0, g, use))
        >>> [generation.index for generation in chain]
        [0, 1, 2, 3]
    """
    parts = mix.parts(n, len(original))
    pooling = any(part.origin is Origin.POOL for part in parts)
    pool: list[Batch] = [original] if pooling else []
    training = sample = original
    for index in range(last + 1):
        if index:
            rng = streams(index, "mix")
            if pooling:
                pool.append(sample)
            shelves = _Shelves(original, training, sample, tuple(pool), fresh, index)
            training = concatenate([_weigh(part, shelves.fetch(part, rng=rng)) for part in parts])
        model = learner.fit(training, rng=streams(index, "fit"))
        sample = model.sample(n, rng=streams(index, "sample"))
        yield Generation(index, model, training, sample)


@dataclass(frozen=True, slots=True)
class _Shelves:
    """Where the parts of one generation's training set are taken from."""

    original: Batch
    previous: Batch
    generated: Batch
    pool: tuple[Batch, ...]
    fresh: FreshSupply | None
    generation: int

    def fetch(self, part: Part, *, rng: np.random.Generator) -> Batch:
        if part.origin is Origin.GENERATED:
            # A random subset, not the first records: a regression's sample comes in the order of its design.
            whole = part.n == len(self.generated)
            return self.generated if whole else _draw_across((self.generated,), part.n, rng=rng)
        if part.origin is Origin.FRESH:
            if self.fresh is None:
                raise ConfigError("the mix asks for fresh real records, but none were set aside", hint="set data.reserve")
            return self.fresh.take(self.generation, part.n or 0, rng=rng)
        if part.origin is Origin.POOL:
            return _draw_across(self.pool, part.n, rng=rng)
        return _draw_across((self.original if part.origin is Origin.ORIGINAL else self.previous,), part.n, rng=rng)


def _draw_across(batches: tuple[Batch, ...], n: int | None, *, rng: np.random.Generator) -> Batch:
    """``n`` records drawn without replacement from several batches, without putting these together first."""
    if n is None:
        return concatenate(batches)
    ends = np.cumsum([len(batch) for batch in batches])
    rows: Ints = np.sort(rng.choice(int(ends[-1]), size=n, replace=False))
    cuts = np.searchsorted(rows, ends)
    starts = np.concatenate(([0], cuts[:-1]))
    offsets = ends - [len(batch) for batch in batches]
    taken = [
        batch.take(rows[start:cut] - offset)
        for batch, start, cut, offset in zip(batches, starts, cuts, offsets, strict=True)
        if cut > start
    ]
    return concatenate(taken) if taken else batches[0].take(rows)


def _weigh(part: Part, batch: Batch) -> Batch:
    return batch if part.weight == 1.0 else batch.with_weight(part.weight)
