"""How metrics look at records, laws and models: the checks and conversions that they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from studbook.arrays import Batch, Floats, Ints, Kind
from studbook.errors import ConfigError, MetricError
from studbook.metrics.protocols import LawMetric, Reference
from studbook.records import Measurement
from studbook.rng import stream
from studbook.theory.laws import CategoricalLaw, GaussianLaw, Law, PoissonLaw

VECTORS = frozenset({Kind.NUMBERS, Kind.IMAGES, Kind.COUNTS})
"""Kinds whose records have moments, images as flat vectors."""
DISCRETE = frozenset({Kind.STATES, Kind.COUNTS, Kind.TEXT})
"""Kinds whose records are symbols, text as a stream of tokens."""


@runtime_checkable
class HasMoments(Protocol):
    """A model that knows its own mean ``(1, d)`` and covariance ``(1, d, d)``."""

    def moments(self) -> tuple[Floats, Floats]: ...


def require_kind(metric: str, batch: Batch, kinds: frozenset[Kind]) -> None:
    """Refuse records of a kind that the metric can't measure, or no records at all.

    Raises:
        MetricError: Names the metric, the kind got and the kinds expected.
    """
    if batch.space.kind not in kinds:
        expected = ", ".join(sorted(kind.value for kind in kinds))
        raise MetricError(
            f"metric {metric} got records of kind {batch.space.kind.value}, expected {expected}",
            hint="choose a metric for this kind of data; `studbook catalog` lists them",
        )
    if not len(batch):
        raise MetricError(f"metric {metric} got no records, expected at least one", hint="raise study.samples")


def require_range(field: str, value: float, low: float, high: float) -> None:
    """Refuse a parameter outside ``[low, high]``.

    Raises:
        ConfigError: Says what was got and what is allowed.
    """
    if not low <= value <= high:
        raise ConfigError(f"metrics.{field} is {value}, expected a value from {low:g} to {high:g}")


def table(metric: str, batch: Batch) -> Floats:
    """The records as finite numbers, ``(n, d)`` float64.

    Raises:
        MetricError: A record holds NaN or an infinity; the message has its row.
    """
    values: Floats = np.asarray(batch.flat, dtype=np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argmin(finite.all(axis=1)))
        raise MetricError(f"metric {metric} got NaN or an infinity in record {row}, expected finite numbers", hint="the model has diverged")
    return values


def measured(metric: str, value: float, stderr: float | None, n: int) -> Measurement:
    """A measurement that is never NaN.

    Raises:
        MetricError: The value or its standard error is NaN: the numbers are beyond what float64 can hold.
    """
    if np.isnan(value) or (stderr is not None and np.isnan(stderr)):
        raise MetricError(f"metric {metric} has no value on these records: they overflow double precision", hint="rescale the data")
    return Measurement(metric, float(value), None if stderr is None else float(stderr), n)


def law_of(model: object) -> Law | None:
    """The closed-form law of a model, or ``None``."""
    law = getattr(model, "law", None)
    return law if isinstance(law, GaussianLaw | PoissonLaw | CategoricalLaw) else None


def from_law(metric: LawMetric, reference: Reference, model: object) -> tuple[Measurement, ...] | None:
    """The exact measurements of a model that has a law, or ``None`` where there is no closed form."""
    law = law_of(model)
    values = None if law is None else metric.of_law(reference, law)
    return None if values is None else exact(values)


def exact(values: Mapping[str, Floats]) -> tuple[Measurement, ...]:
    """Exact measurements from the values ``(1,)`` of a single law."""
    return tuple(measured(name, float(column[0]), None, 0) for name, column in values.items())


def original_table(metric: str, reference: Reference, limit: int) -> Floats:
    """At most ``limit`` original records as ``(n, d)`` numbers, the same at every call.

    Where only the law is known, ``limit`` records are drawn from it.
    """
    return reference.memo(f"original_table:{limit}", lambda: _original_table(metric, reference, limit))


def _original_table(metric: str, reference: Reference, limit: int) -> Floats:
    if reference.records is not None:
        return table(metric, thin(reference.records, limit, rng=stream(0, "metrics", "original")))
    if isinstance(reference.law, GaussianLaw):
        return reference.law.sample(limit, rng=stream(0, "metrics", "original"))
    raise MetricError(f"metric {metric} needs the original records, and this reference has none", hint="measure samples, not laws")


def thin(batch: Batch, limit: int, *, rng: np.random.Generator) -> Batch:
    """The batch itself, or ``limit`` of its records drawn without replacement, in their order."""
    if len(batch) <= limit:
        return batch
    rows: Ints = np.sort(rng.choice(len(batch), size=limit, replace=False))
    return batch.take(rows)
