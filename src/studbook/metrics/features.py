"""Features that pictures are compared by: of a network that knows the real ones.

A metric's ``network`` says which:

- ``""``: a small convolutional classifier, trained once on the real labelled records (the background where the data are some classes of
  a source, else the original) and kept in the user's cache. Without labels, or with one class alone, the same network is trained to tell
  in which of four orientations a picture is shown (Gidaris, Singh and Komodakis 2018).
- a folder: a classifier that ``studbook.neural.classifier.save`` wrote.
- a file: the weights of the Inception network in the variant that published Fréchet distances use (see ``studbook.neural.inception``).

Number vectors are their own features. Every set of records is looked at in one fixed random order, so that all metrics of a generation
share its features, and so that groups of a jackknife are random groups.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from studbook.arrays import Batch, Floats, Ints, Kind
from studbook.errors import CheckpointError, ConfigError, MetricError
from studbook.metrics import views
from studbook.metrics.protocols import Reference
from studbook.metrics.text_tables import held
from studbook.neural.options import require_extra
from studbook.rng import stream

POINTS = frozenset({Kind.IMAGES, Kind.NUMBERS})
LIMIT = 5_000
"""Records whose features are worked out at once, for all metrics that ask for no more."""
MAX_TRAINING = 20_000
"""Records that the classifier is trained on, at most."""

Against: TypeAlias = Literal["auto", "heldout", "original"]
"""Which real records a metric compares with: ``auto`` are those held out where there are any, else the original."""


class FeatureNetwork(Protocol):
    """From pictures to vectors."""

    def features(self, batch: Batch) -> Floats:
        """``(n, d)`` float64."""
        ...


class LabelNetwork(FeatureNetwork, Protocol):
    """A feature network that also tells classes apart."""

    @property
    def classes(self) -> tuple[int, ...]:
        """Its labels, ascending; none where it was trained without."""
        ...

    def probabilities(self, batch: Batch) -> Floats:
        """``(n, C)``."""
        ...


def check_parameters(metric: str, limit: int, most: int = 50_000) -> None:
    """Refuse a limit out of range.

    Raises:
        ConfigError: Says what was got and what is allowed.
    """
    views.require_range(f"{metric}.limit", limit, 2, most)


def check_network(metric: str, reference: Reference, network: str, *, classes: bool = False) -> None:
    """Refuse a network that can't be loaded, or data that none can be trained on; ``classes`` says that it has to tell them apart.

    Raises:
        CheckpointError: Nothing is there, or something else.
        MetricError: Says what the data lack.
    """
    records = reference.background if reference.background is not None else reference.records
    if network:
        found = network_of(metric, reference, network)
        if classes and not getattr(found, "classes", ()):
            raise _without_classes(metric)
    elif classes and (records is None or records.labels is None or len(set(records.labels.tolist())) < 2):
        raise _without_classes(metric)


def _without_classes(metric: str) -> MetricError:
    return MetricError(
        f"metric {metric} needs a network that tells classes apart, and this one knows none",
        hint="use real data with labels of two classes or more, or set its network to a classifier's folder",
    )


def network_of(metric: str, reference: Reference, network: str) -> FeatureNetwork:
    """The network that ``network`` means, loaded (or trained) once for this reference.

    Raises:
        MissingExtraError: PyTorch isn't installed.
        CheckpointError: Nothing is there, or something else.
        MetricError: It would be trained on the original records, and there are none.
    """
    require_extra()
    return reference.memo(f"network:{network}", partial(_load_or_train, metric, reference, network))


def classifier_of(metric: str, reference: Reference, network: str) -> LabelNetwork:
    """The same, for metrics that need to know classes.

    Raises:
        MetricError: The network knows none.
    """
    found = network_of(metric, reference, network)
    if not getattr(found, "classes", ()):
        raise _without_classes(metric)
    return found  # type: ignore[return-value]


def sample_features(metric: str, reference: Reference, batch: Batch, network: str, limit: int) -> Floats:
    """Features ``(n, d)`` of at most ``limit`` records, kept until other records are asked for.

    Raises:
        MetricError: Records that aren't finite, or none.
    """
    size = max(limit, LIMIT)
    build = partial(_features, metric, reference, batch, network, size)
    return held(reference, f"features:{network}:{size}", (batch,), build)[:limit]


def training_features(metric: str, reference: Reference, batch: Batch, network: str, limit: int) -> Floats:
    """The same, remembered apart: a generation's training set beside its sample."""
    build = partial(_features, metric, reference, batch, network, limit)
    return held(reference, f"training_features:{network}:{limit}", (batch,), build)


def real_features(metric: str, reference: Reference, network: str, limit: int, against: Against = "auto") -> Floats:
    """Features ``(n, d)`` of at most ``limit`` real records, worked out once.

    Raises:
        MetricError: There are no such records.
    """
    batch = real_records(metric, reference, against)
    kind = "heldout" if batch is reference.heldout else "original"
    size = max(limit, LIMIT)
    return reference.memo(f"real_features:{kind}:{network}:{size}", partial(_features, metric, reference, batch, network, size))[:limit]


def real_records(metric: str, reference: Reference, against: Against) -> Batch:
    """The real records that ``against`` means."""
    if against != "original" and reference.heldout is not None and len(reference.heldout):
        return reference.heldout
    if against == "heldout":
        raise MetricError(f"metric {metric} compares with held-out records, and there are none", hint="set data.heldout")
    if reference.records is None:
        raise MetricError(f"metric {metric} needs the original records, and this reference has none", hint="measure samples, not laws")
    return reference.records


def chosen_rows(n: int, limit: int) -> Ints:
    """At most ``limit`` of ``n`` rows in random order, the same at every call."""
    return stream(0, "metrics", "features").permutation(n)[:limit]


def require_network_space(metric: str, space: str, network: str) -> None:
    """Refuse a network where pixels are compared.

    Raises:
        ConfigError: Says what to set.
    """
    if network and space == "pixels":
        raise ConfigError(
            f"metrics.{metric}.network is given, but {metric} compares pixels", hint=f'set metrics.{metric}.space = "features"'
        )


def _features(metric: str, reference: Reference, batch: Batch, network: str, limit: int) -> Floats:
    views.require_kind(metric, batch, POINTS)
    chosen = batch.take(chosen_rows(len(batch), limit))
    values = views.table(metric, chosen)
    return values if chosen.space.kind is Kind.NUMBERS else network_of(metric, reference, network).features(chosen)


def _load_or_train(metric: str, reference: Reference, network: str) -> FeatureNetwork:
    from studbook.neural import classifier, inception

    if not network:
        records = reference.background if reference.background is not None else reference.records
        if records is None:
            raise MetricError(f"metric {metric} needs real records to train its network on", hint="measure samples, not laws")
        return classifier.trained_once(views.thin(records, MAX_TRAINING, rng=stream(0, "metrics", "network")))
    path = Path(network).expanduser()
    if path.is_dir():
        return classifier.load(path)
    if path.is_file():
        return inception.load(path)
    raise CheckpointError(
        f"metrics.{metric}.network: there is nothing at {network[:200]}",
        hint="leave it out for a network trained on the data, or give a classifier's folder or the file of the Inception weights",
    )
