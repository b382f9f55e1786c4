"""All metrics of a cell on one generation of one replicate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from studbook.metrics import LawMetric, Observation, Reference
from studbook.records import Measurement
from studbook.study.catalog import ChosenMetric


def measure(
    metrics: tuple[ChosenMetric, ...], reference: Reference, seen: Observation, streams: Callable[[str], np.random.Generator]
) -> list[Measurement]:
    """All metrics on one generation, each with a stream of its own; one computation serves all names that share a metric."""
    found: list[Measurement] = []
    done: dict[Any, tuple[Measurement, ...]] = {}
    for chosen in metrics:
        if chosen.metric not in done:
            done[chosen.metric] = _of_model(chosen.metric, reference, seen, streams(type(chosen.metric).__name__))
        found.extend(m for m in done[chosen.metric] if chosen.wants(m.metric))
    return found


def _of_model(metric: Any, reference: Reference, seen: Observation, rng: np.random.Generator) -> tuple[Measurement, ...]:
    """From the law where the model has one and the metric knows it, else from the sample."""
    law = getattr(seen.model, "law", None)
    values = metric.of_law(reference, law) if law is not None and isinstance(metric, LawMetric) else None
    if values is not None:
        return tuple(Measurement(name, float(value[0]), None, 0) for name, value in values.items())
    measured: tuple[Measurement, ...] = metric.measure(reference, seen, rng=rng)
    return measured
