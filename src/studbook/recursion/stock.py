"""Where a chain keeps its records: in memory, or on disk (see ``journal``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from studbook.arrays import Batch, concatenate
from studbook.mixing import Mix, Origin
from studbook.recursion.protocols import Curator, Model
from studbook.recursion.schedule import all_parts


class Stock(Protocol):
    """Holds the records of a chain. What it gives back has the same values as what it was given, wherever they lie."""

    def gather(self, generation: int, parts: Sequence[Batch]) -> Batch:
        """A generation's training set, put together from its parts."""
        ...

    def keep(self, generation: int, sample: Batch) -> Batch:
        """What a generation generated."""
        ...

    def add(self, generation: int, extra: Batch) -> None:
        """What the model before a generation generated beyond its sample, to replace candidates that a curator rejected."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryStock:
    """Everything stays in memory."""

    def gather(self, generation: int, parts: Sequence[Batch]) -> Batch:
        """See ``Stock``."""
        return concatenate(parts)

    def keep(self, generation: int, sample: Batch) -> Batch:
        """See ``Stock``."""
        return sample

    def add(self, generation: int, extra: Batch) -> None:
        """See ``Stock``: nobody will ask for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """Where a chain stands: all that its next generation needs of the ones before.

    Attributes:
        index: The last finished generation.
        model: Its model; ``None`` where no generation starts from the one before.
        training: Its training set; where no generation takes records of the one before, any batch of the space.
        sample: What it generated.
        pool: What all generations so far generated, in order; empty where no generation draws from the pool and no curator remembers.
        extras: For each generation so far what the model before it generated beyond its sample, for a curator that remembers.
    """

    index: int
    model: Model | None
    training: Batch
    sample: Batch
    pool: tuple[Batch, ...] = ()
    extras: tuple[Batch | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Needs:
    """What generations take from the ones before, beside the newest sample.

    Attributes:
        pool: All earlier samples.
        training: The training set of the generation before.
        model: The model of the generation before.
        history: All that was generated, for a curator that remembers.
    """

    pool: bool = False
    training: bool = False
    model: bool = False
    history: bool = False

    @property
    def samples(self) -> bool:
        """Whether earlier samples are needed at all."""
        return self.pool or self.history

    @classmethod
    def of(cls, learner: object, mix: Mix, *, n: int, n_original: int, last: int, curator: Curator | None = None) -> Needs:
        """The needs of a chain, whichever of its generations has them."""
        origins = {part.origin for part in all_parts(mix, last, n, n_original)}
        start = getattr(getattr(learner, "training", None), "start", "")
        model = start == "previous" or curator is not None
        return cls(Origin.POOL in origins, Origin.PREVIOUS in origins, model, curator is not None and curator.remembers)
