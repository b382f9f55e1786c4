"""What a metric is, and what it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np

from studbook.arrays import Batch, Floats, Kind
from studbook.records import Measurement
from studbook.theory.laws import Law

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What a generation is compared with: the original.

    Attributes:
        records: The original data; ``None`` in a run that is exact in law, where the law stands for them.
        law: The law that the original data come from, where it is known.
        heldout: Real records that no generation is trained on, where some were set aside.
        background: Labelled real records of more classes than the original has, where it is one part of a source: classifiers and
            feature networks are trained on them.
    """

    records: Batch | None
    law: Law | None
    heldout: Batch | None = None
    background: Batch | None = None
    _memory: dict[str, Any] = field(default_factory=dict, repr=False)

    def memo(self, key: str, build: Callable[[], T]) -> T:
        """``build()``, computed once for this reference: a neighbour index, a classifier, quantiles."""
        if key not in self._memory:
            self._memory[key] = build()
        return self._memory[key]  # type: ignore[no-any-return]


class Scorer(Protocol):
    """A model that gives probabilities."""

    def log_prob(self, batch: Batch) -> Floats:
        """Natural log of the probability (density) of each record: ``(n,)``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One generation as a metric sees it.

    Attributes:
        sample: What the generation's model generated.
        training: What the model was trained on.
        model: The model; it may have ``log_prob`` (see ``Scorer``) or ``law``.
        base: Generation 0's model.
    """

    sample: Batch
    training: Batch
    model: object
    base: object


@runtime_checkable
class Metric(Protocol):
    """A measured quantity: a frozen dataclass with its parameters.

    Attributes:
        kinds: The kinds of records that it can measure.
    """

    kinds: ClassVar[frozenset[Kind]]

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """The value on one generation; several named values where the quantity is a distribution."""
        ...


@runtime_checkable
class CheckedMetric(Protocol):
    """A metric that can say before anything is trained that it has no value on a study's data."""

    def check_reference(self, reference: Reference) -> None:
        """Refuse a reference that no generation could be measured with.

        Raises:
            MetricError: Says what it lacks.
        """
        ...


@runtime_checkable
class LawMetric(Protocol):
    """A metric that is a function of the law, so that it has no sampling error."""

    kinds: ClassVar[frozenset[Kind]]

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """The values ``(R,)`` by name, or ``None`` where this law (or this reference) has no closed form."""
        ...
