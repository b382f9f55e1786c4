"""The loop on records: fit, sample, mix, fit again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

import numpy as np

from studbook.arrays import Batch, Ints, concatenate
from studbook.errors import ConfigError
from studbook.mixing import Mix, Origin, Part
from studbook.recursion.curated import Sifting, sift
from studbook.recursion.protocols import Continuing, Curator, Learner, Model, Storable
from studbook.recursion.schedule import Poisoned, mix_at
from studbook.recursion.stock import MemoryStock, Needs, Standing, Stock

NO_BASE_HINT = "set learner.training.base to the folder of a saved model, or data.base to the share of records that one is pretrained on"

Streams: TypeAlias = Callable[[int, str], np.random.Generator]
"""From a generation and a purpose to the random stream for it."""


class FreshSupply(Protocol):
    """Where new real records come from."""

    def take(self, generation: int, n: int, *, rng: np.random.Generator, after: int = 0) -> Batch:
        """``n`` real records that no earlier generation was given, beyond the ``after`` that this one was given already.

        Fewer where a curator asks for more than there are.
        """
        ...


@dataclass(frozen=True, slots=True)
class FreshLaw:
    """New real records drawn from the source's law, by a model that has it."""

    model: Model

    def take(self, generation: int, n: int, *, rng: np.random.Generator, after: int = 0) -> Batch:
        """See ``FreshSupply``."""
        return self.model.sample(n, rng=rng)


@dataclass(frozen=True, slots=True)
class FreshReserve:
    """New real records out of a part of the data that was set aside: generation g ≥ 1 gets the g-th slice.

    Attributes:
        records: The part.
        starts: Where each generation's slice begins, where they aren't equally long; else empty.
        share: Records that a generation gets at most, where a curator asks several times; 0: as many as it asks for, once.
    """

    records: Batch
    starts: Sequence[int] = ()
    share: int = 0

    def take(self, generation: int, n: int, *, rng: np.random.Generator, after: int = 0) -> Batch:
        """See ``FreshSupply``."""
        if self.share:
            first = (generation - 1) * self.share
            return self.records.take(np.arange(first + after, first + min(after + n, self.share)))
        start = self.starts[generation] if self.starts else (generation - 1) * n
        rows = np.arange(start, start + n)
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
        sifting: What the curator did to its candidates; ``None`` where there is no curator, and in generation 0.
    """

    index: int
    model: Model
    training: Batch
    sample: Batch
    sifting: Sifting | None = None


def run_generations(
    learner: Learner,
    mix: Mix,
    original: Batch,
    *,
    n: int,
    last: int,
    fresh: FreshSupply | None,
    streams: Streams,
    base: Model | None = None,
    stock: Stock | None = None,
    after: Standing | None = None,
    curator: Curator | None = None,
) -> Iterator[Generation]:
    """Generations 0 to ``last``.

    Args:
        learner: The model family; one that is ``Continuing`` may start its fits from a model that is there.
        mix: What each generation trains on; one that is ``Phased`` is asked for each generation.
        original: The original data; generation 0 is fitted to them.
        n: Records that a generation generates.
        last: Index of the last generation, 0 or more.
        fresh: Where fresh records come from; needed by mixes that ask for them.
        streams: The random stream for a generation and a purpose.
        base: The model that fits start from, where the learner asks for one.
        stock: Where records are held; by default in memory.
        after: Where to go on; by default from the beginning. The generations are the same as without an interruption.
        curator: Judges the candidates of every generation after 0, newly opened; by default all are taken.

    Yields:
        Each generation as soon as it is fitted and sampled.

    Raises:
        FitError: A generation can't be fitted.
        ConfigError: The mix asks for records that aren't there, or the learner for a base where there is none.

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
    held = stock or MemoryStock()
    pooling = Needs.of(learner, mix, n=n, n_original=len(original), last=last).pool
    at = after or Standing(-1, None, original, original)
    training, sample, model, sifting = at.training, at.sample, at.model, None
    pool = [original, *at.pool] if pooling else []
    if curator is not None:
        _remind(curator, at)
    for index in range(at.index + 1, last + 1):
        if index:
            parts = mix_at(mix, index).parts(n, len(original))
            shelves = _Shelves(original, training, sample, tuple(pool), fresh, index, mix_at(mix, index))
            if curator is None:
                training = held.gather(index, _compose(parts, shelves, rng=streams(index, "mix")))
            else:
                desk = _Desk(curator, _writer(model), shelves, streams(index, "mix"))
                pieces, sifting = sift(curator, parts, desk.fetch, generation=index, rng=streams(index, "curation"))
                training = held.gather(index, pieces)
                if desk.extras and curator.remembers:
                    held.add(index, concatenate(desk.extras))
        model = _fit(learner, training, base=base, previous=model, rng=streams(index, "fit"))
        sample = held.keep(index, _tidy(model, _write(curator, model, n, rng=streams(index, "sample"))))
        if curator is not None:
            curator.note(index, sample)
        if pooling:
            pool.append(sample)
        yield Generation(index, model, training, sample, sifting)


def _writer(model: Model | None) -> Model:
    if model is None:
        raise ConfigError("a curator needs the model of the generation before, which wasn't kept", hint="give Needs.of the curator")
    return model


def _write(curator: Curator | None, model: Model, n: int, *, rng: np.random.Generator) -> Batch:
    return model.sample(n, rng=rng) if curator is None else curator.write(model, n, rng=rng)


def _remind(curator: Curator, at: Standing) -> None:
    """Note everything that was noted up to where the chain stands, in the same order."""
    if curator.remembers:
        for index, sample in enumerate(at.pool):
            extra = at.extras[index] if at.extras else None
            if extra is not None:
                curator.note(index - 1, extra)
            curator.note(index, sample)


@dataclass(frozen=True, slots=True, eq=False)
class _Desk:
    """Hands a curator its candidates: first as the mix says, then, where some were rejected, further ones."""

    curator: Curator
    model: Model
    shelves: _Shelves
    rng: np.random.Generator
    extras: list[Batch] = field(default_factory=list)

    def fetch(self, part: Part, came: int) -> tuple[Batch, ...]:
        """See ``studbook.recursion.curated.Fetch``."""
        if part.origin is Origin.GENERATED and came:
            extra = _tidy(self.model, self.curator.write(self.model, part.n or 0, rng=self.rng))
            self.curator.note(self.shelves.generation - 1, extra)
            self.extras.append(extra)
            return (extra,)
        limits = {Origin.ORIGINAL: len(self.shelves.original), Origin.PREVIOUS: len(self.shelves.previous)}
        if part.n is not None and part.origin in limits:
            part = replace(part, n=min(part.n, limits[part.origin]))
        return self.shelves.fetch(part, rng=self.rng, after=came)


def _fit(learner: Learner, training: Batch, *, base: Model | None, previous: Model | None, rng: np.random.Generator) -> Model:
    """A generation's model: from nothing, from the base, or from the generation before."""
    if isinstance(learner, Continuing):
        start = starting_point(learner, base=base, previous=previous)
        if start is not None:
            return learner.fit_from(start, training, rng=rng)
    return learner.fit(training, rng=rng)


def starting_point(learner: Continuing, *, base: Model | None, previous: Model | None) -> Model | None:
    """The model that a fit starts from; ``None`` is from scratch.

    Args:
        learner: Its ``training.start`` decides.
        base: The base model, where there is one.
        previous: The model of the generation before; ``None`` for generation 0.

    Raises:
        ConfigError: The learner asks for a base, and there is none; or its ``start`` is none that is known.
    """
    start = learner.training.start
    if start == "base" and base is None:
        raise ConfigError('learner.training.start is "base", but there is no base model', hint=NO_BASE_HINT)
    choices = {"scratch": None, "base": base, "auto": base, "previous": base if previous is None else previous}
    if start not in choices:
        raise ConfigError(f"learner.training.start is {start!r}, expected one of {', '.join(choices)}")
    return choices[start]


def _tidy(model: Model, sample: Batch) -> Batch:
    """The sample as it would be read from a disk: sums over an array depend on how it lies in memory."""
    return replace(sample, values=np.ascontiguousarray(sample.values)) if isinstance(model, Storable) else sample


def _compose(parts: tuple[Part, ...], shelves: _Shelves, *, rng: np.random.Generator) -> list[Batch]:
    """The batches that make up a training set, in order."""
    return [_weigh(part, batch) for part in parts for batch in shelves.fetch(part, rng=rng)]


@dataclass(frozen=True, slots=True)
class _Shelves:
    """Where the parts of one generation's training set are taken from."""

    original: Batch
    previous: Batch
    generated: Batch
    pool: tuple[Batch, ...]
    fresh: FreshSupply | None
    generation: int
    mix: Mix

    def fetch(self, part: Part, *, rng: np.random.Generator, after: int = 0) -> tuple[Batch, ...]:
        if part.origin is Origin.GENERATED:
            # A random subset, not the first records: a regression's sample comes in the order of its design.
            whole = part.n == len(self.generated)
            return (self.generated,) if whole else _draw_across((self.generated,), part.n, rng=rng)
        if part.origin is Origin.FRESH:
            if self.fresh is None:
                raise ConfigError("the mix asks for fresh real records, but none were set aside", hint="set data.reserve")
            return (self.fresh.take(self.generation, part.n or 0, rng=rng, after=after),)
        if part.origin is Origin.OUTSIDE:
            if not isinstance(self.mix, Poisoned):
                raise ConfigError("the mix asks for outside records, but makes none", hint="give it outside(original, n, *, rng)")
            return (self.mix.outside(self.original, part.n or 0, rng=rng),)
        if part.origin is Origin.POOL:
            return _draw_across(self.pool, part.n, rng=rng)
        return _draw_across((self.original if part.origin is Origin.ORIGINAL else self.previous,), part.n, rng=rng)


def _draw_across(batches: tuple[Batch, ...], n: int | None, *, rng: np.random.Generator) -> tuple[Batch, ...]:
    """``n`` records drawn without replacement from several batches, without putting these together first."""
    if n is None:
        return batches
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
    return (concatenate(taken) if taken else batches[0].take(rows),)


def _weigh(part: Part, batch: Batch) -> Batch:
    return batch if part.weight == 1.0 else batch.with_weight(part.weight)
