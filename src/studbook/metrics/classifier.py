"""Class shares of generated pictures, under a classifier trained once on the real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Ints, Kind
from studbook.errors import ConfigError, MetricError
from studbook.metrics import estimators, features, views
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import share_stderr
from studbook.records import Measurement
from studbook.rng import stream


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """Principal components and a support vector machine with a radial kernel; some 99 % right on unseen scikit-learn digits.

    Attributes:
        classes: ``(C,)`` the labels, ascending.
        pipeline: The fitted scikit-learn pipeline, or ``None`` where there is only one class.
    """

    classes: Ints
    pipeline: Any

    @classmethod
    def train(cls, records: Batch, components: int) -> Classifier:
        """The classifier of labelled ``records``; equal records give an equal classifier."""
        labels: AnyArray = np.asarray(records.labels)
        classes = np.unique(labels)
        if len(classes) == 1:
            return cls(classes, None)
        from sklearn.decomposition import PCA
        from sklearn.pipeline import make_pipeline
        from sklearn.svm import SVC

        flat = views.table("class_shares", records)
        reduction = PCA(min(components, *flat.shape), random_state=0)
        return cls(classes, make_pipeline(reduction, SVC(C=10.0, random_state=0)).fit(flat, labels))

    def predict(self, values: Floats) -> Ints:
        """The class ``(n,)`` of each of ``(n, d)`` records."""
        if self.pipeline is None:
            return np.full(len(values), self.classes[0])
        return np.asarray(self.pipeline.predict(values), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class ClassShares:
    """``class_shares.L`` for each label L of the original, and ``class_shares.entropy`` of these shares in nats.

    The label is what a small classifier says that was trained once on the original records and their labels; its mistakes aren't part
    of the standard errors. Shares have binomial standard errors (with Jeffreys' half record); the entropy is Miller and Madow's with
    its own (see ``studbook.metrics.diversity.Entropy``).

    Attributes:
        components: Principal components that the classifier sees, 1 or more.
        limit: At most so many original records train it, and at most so many generated ones are classified, drawn at random.
        by: ``svm``, a support vector machine on principal components, or ``network``, the convolutional classifier of
            ``studbook.metrics.features``: better on pictures of more than some 12 pixels.
        network: Which network, see there.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import images
        >>> from studbook.metrics.classifier import ClassShares
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> pixels = np.repeat([0.0, 1.0], 20)[:, None, None] * np.ones((1, 2, 2))
        >>> original = images(pixels, (0.0, 1.0), np.repeat([0, 1], 20))
        >>> seen = Observation(original.take(np.arange(20)), original, model=None, base=None)
        >>> [(m.metric, m.value) for m in ClassShares().measure(Reference(original, None), seen, rng=np.random.default_rng(0))]
        [('class_shares.0', 1.0), ('class_shares.1', 0.0), ('class_shares.entropy', 0.0)]
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.IMAGES})
    components: int = 40
    limit: int = 5000
    by: Literal["svm", "network"] = "svm"
    network: str = ""

    def __post_init__(self) -> None:
        views.require_range("class_shares.components", self.components, 1, 10_000)
        views.require_range("class_shares.limit", self.limit, 1, 100_000)
        if self.network and self.by == "svm":
            raise ConfigError(
                'metrics.class_shares.network is given, but its classifier is "svm"', hint='set metrics.class_shares.by = "network"'
            )

    def check_reference(self, reference: Reference) -> None:
        """See ``studbook.metrics.protocols.CheckedMetric``."""
        if self.by == "network":
            features.check_network("class_shares", reference, self.network, classes=True)
        else:
            _labelled(reference)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("class_shares", observation.sample, self.kinds)
        classes, places = self._classified(reference, views.thin(observation.sample, self.limit, rng=rng))
        n = len(places)
        counts = np.bincount(places, minlength=len(classes))
        shares = [
            views.measured(f"class_shares.{label}", count / n, share_stderr(count, n), n)
            for label, count in zip(classes, counts.tolist(), strict=True)
        ]
        entropy = views.measured("class_shares.entropy", float(estimators.entropy(counts)), estimators.entropy_stderr(counts), n)
        return (*shares, entropy)

    def _classified(self, reference: Reference, chosen: Batch) -> tuple[tuple[int, ...], Ints]:
        """The classes, and the place among them that each record is given."""
        values = views.table("class_shares", chosen)
        if self.by == "network":
            network = features.classifier_of("class_shares", reference, self.network)
            return network.classes, network.probabilities(chosen).argmax(axis=1)
        classifier = reference.memo(f"classifier:{self.components}:{self.limit}", lambda: self._train(reference))
        return tuple(classifier.classes.tolist()), np.searchsorted(classifier.classes, classifier.predict(values))

    def _train(self, reference: Reference) -> Classifier:
        chosen = views.thin(_labelled(reference), self.limit, rng=stream(0, "metrics", "classifier"))
        return Classifier.train(chosen, self.components)


def _labelled(reference: Reference) -> Batch:
    """The original records, which have labels."""
    if reference.records is None or reference.records.labels is None:
        raise MetricError(
            "metric class_shares needs labels on the original records, and there are none",
            hint="use data with labels, or drop the metric",
        )
    return reference.records
