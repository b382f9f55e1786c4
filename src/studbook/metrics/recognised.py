"""Whether generated pictures are still taken for what they are meant to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import Batch, Ints, Kind
from studbook.errors import MetricError
from studbook.metrics import features, views
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import mean_stderr, share_stderr
from studbook.records import Measurement


@dataclass(frozen=True, slots=True)
class Recognised:
    """``recognised``: share of generated pictures that a classifier of real ones assigns to the class they are meant to be.

    The class is a picture's own label where the model gives it one, else the original's only class. The classifier is trained on the real
    labelled records, of all the source's classes where the original is one of them; what it gets wrong isn't part of the standard errors.
    ``recognised.confidence`` is the mean probability that it gives to that class.

    Standard errors: binomial (with Jeffreys' half record) and of a mean.

    Attributes:
        network: See ``studbook.metrics.features``; it has to know the classes.
        limit: At most so many pictures, drawn at random.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.IMAGES})
    network: str = ""
    limit: int = 5000

    def __post_init__(self) -> None:
        features.check_parameters("recognised", self.limit)

    def check_reference(self, reference: Reference) -> None:
        """See ``studbook.metrics.protocols.CheckedMetric``."""
        features.check_network("recognised", reference, self.network, classes=True)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``.

        Raises:
            MetricError: Nothing says what the pictures are meant to be, or the classifier doesn't know it.
        """
        name = "recognised"
        views.require_kind(name, observation.sample, self.kinds)
        chosen = observation.sample.take(features.chosen_rows(len(observation.sample), self.limit))
        views.table(name, chosen)
        meant = _meant(chosen, reference)
        classifier = features.classifier_of(name, reference, self.network)
        places = np.searchsorted(classifier.classes, meant)
        known = np.asarray(classifier.classes)[np.minimum(places, len(classifier.classes) - 1)] == meant
        if not known.all():
            unknown = int(meant[np.argmin(known)])
            message = f"the classifier of metric recognised doesn't know class {unknown}, its classes are {list(classifier.classes)[:20]}"
            raise MetricError(message, hint="train it on data that hold every class")
        probabilities = classifier.probabilities(chosen)
        hits = int(np.count_nonzero(probabilities.argmax(axis=1) == places))
        sure, n = probabilities[np.arange(len(chosen)), places], len(chosen)
        return (
            views.measured(name, hits / n, share_stderr(hits, n), n),
            views.measured("recognised.confidence", float(sure.mean()), mean_stderr(sure), n),
        )


def _meant(sample: Batch, reference: Reference) -> Ints:
    """The class ``(n,)`` that each picture is meant to be."""
    if sample.labels is not None:
        return np.asarray(sample.labels, dtype=np.int64)
    known = None if reference.records is None or reference.records.labels is None else np.unique(reference.records.labels)
    if known is None or len(known) != 1:
        got = "the original has no labels" if known is None else f"the original has {len(known)} classes and the pictures no labels"
        raise MetricError(
            f"metric recognised can't tell what the pictures are meant to be: {got}",
            hint="use data of one class, or a model that is conditional on the class; class_shares needs neither",
        )
    return np.full(len(sample), int(known[0]), dtype=np.int64)
