"""How well generated pictures (or vectors) cover the real ones, and whether they are copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from studbook.arrays import Floats, Kind
from studbook.errors import MetricError
from studbook.metrics import features, views
from studbook.metrics.manifolds import overlap, scores, squared_radii
from studbook.metrics.neighbours import nearest_squared, neighbour_table
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import mean_stderr
from studbook.records import Measurement
from studbook.rng import stream

POINTS = frozenset({Kind.IMAGES, Kind.NUMBERS})


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """``precision``, ``recall`` (Kynkäänniemi et al. 2019), ``density``, ``coverage`` (Naeem et al. 2020): the sample against the original.

    A record's ball reaches to its k-th nearest neighbour in its own set. Precision: share of generated records in some real ball.
    Recall: share of real records in some generated ball. Density: real balls that a generated record lies in, over k; may exceed 1.
    Coverage: share of real balls that hold a generated record. Distances are Euclidean between flat pixels, or
    between features (``space``). A sample of equal records has balls of radius 0: its recall is 0.

    Standard errors take the original as given: binomial for precision, of a mean for density, delete-a-group jackknife for recall and
    coverage, which errs upwards (by up to a factor of 2 where these are near 1).

    Attributes:
        neighbours: k, 1 or more.
        limit: At most so many records of each set are compared, drawn at random; the original's are the same every time.
        space: ``features`` compares what a network makes of the pictures, the published way.
        network: Which network, see ``studbook.metrics.features``.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.metrics.images import PrecisionRecall
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> rng = np.random.default_rng(0)
        >>> original, collapsed = numbers(rng.normal(size=(500, 2))), numbers(np.zeros((500, 2)))
        >>> seen = Observation(collapsed, original, model=None, base=None)
        >>> {m.metric: round(m.value, 2) for m in PrecisionRecall().measure(Reference(original, None), seen, rng=rng)}["recall"]
        0.0
    """

    kinds: ClassVar[frozenset[Kind]] = POINTS
    neighbours: int = 5
    limit: int = 2000
    space: Literal["pixels", "features"] = "pixels"
    network: str = ""

    def __post_init__(self) -> None:
        views.require_range("prdc.neighbours", self.neighbours, 1, 1000)
        views.require_range("prdc.limit", self.limit, self.neighbours + 1, 50_000)
        features.require_network_space("prdc", self.space, self.network)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("prdc", observation.sample, self.kinds)
        if self.space == "features":
            real = features.real_features("prdc", reference, self.network, self.limit, "original")
            fake = features.sample_features("prdc", reference, observation.sample, self.network, self.limit)
        else:
            real = views.original_table("prdc", reference, self.limit)
            fake = views.table("prdc", views.thin(observation.sample, self.limit, rng=rng))
        smallest = min(len(real), len(fake))
        if smallest <= self.neighbours:
            raise MetricError(
                f"metric prdc looks at {self.neighbours} neighbours, but there are only {smallest} records in a set",
                hint="lower metrics.prdc.neighbours or raise study.samples",
            )
        radii = reference.memo(
            f"radii:{self.limit}:{self.neighbours}:{self.space}:{self.network}", lambda: squared_radii(real, self.neighbours)
        )
        found = scores(overlap(real, radii, fake, self.neighbours), self.neighbours)
        return tuple(views.measured(name, value, stderr, len(fake)) for name, (value, stderr) in found.items())


@dataclass(frozen=True, slots=True)
class NearestTraining:
    """``nearest_training``: how near generated records lie to the model's training set, compared with real records among real ones.

    The mean Euclidean distance of generated records to their nearest training record, over that of real records to the nearest of *as
    many* original records (after Meehan, Chaudhuri and Dasgupta 2020): a nearest neighbour is the nearer, the more there are to choose
    from. About 1 says that the samples are as new as real ones; 0 that they are copies. The real records are those held out; where
    there are none, the original ones, each compared with others alone (one fewer than the training set has, where it is as large as
    the original). A training set larger than the original, a pool say, is thinned to its size: of a sample of copies the records left
    out then don't count as such, and the value is above 0. 1 where both distances are 0, infinite where only the real one is.

    Standard error: delta method for the ratio of two means of independent distances, given the training set and the original;
    infinite for an infinite value.

    Attributes:
        limit: At most so many records of each set are compared, drawn at random; the real ones are the same every time.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.metrics.images import NearestTraining
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> rng = np.random.default_rng(0)
        >>> original = numbers(rng.normal(size=(100, 2)))
        >>> copies = Observation(original, original, model=None, base=None)
        >>> round(NearestTraining().measure(Reference(original, None), copies, rng=rng)[0].value, 6)
        0.0
    """

    kinds: ClassVar[frozenset[Kind]] = POINTS
    limit: int = 2000

    def __post_init__(self) -> None:
        views.require_range("nearest_training.limit", self.limit, 2, 50_000)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        name = "nearest_training"
        views.require_kind(name, observation.sample, self.kinds)
        original = views.original_table(name, reference, self.limit)
        size = min(len(observation.training), len(original))
        training = views.table(name, views.thin(observation.training, size, rng=rng))
        ours = distances(views.table(name, views.thin(observation.sample, self.limit, rng=rng)), training)
        theirs = reference.memo(f"real_distances:{self.limit}:{size}", lambda: self._among_real(reference, original, size))
        value, stderr = ratio_of_means(ours, theirs)
        return (views.measured(name, value, stderr, len(ours)),)

    def _among_real(self, reference: Reference, original: Floats, size: int) -> Floats:
        """Distances of real records to the nearest of ``size`` original records."""
        rng, name = stream(0, "metrics", "nearest_training"), "nearest_training"
        shuffled = original[rng.permutation(len(original))]
        if reference.heldout is not None and len(reference.heldout):
            return distances(views.table(name, views.thin(reference.heldout, self.limit, rng=rng)), shuffled[:size])
        if len(original) < 2:
            raise MetricError(f"metric {name} needs two original records or more where none are held out", hint="set data.heldout")
        return distances_to_others(shuffled, min(size, len(original) - 1))


def ratio_of_means(ours: Floats, theirs: Floats) -> tuple[float, float]:
    """Ratio of two means of independent distances and its standard error; 1 where both are 0, infinite where only the second is."""
    near, real = float(ours.mean()), float(theirs.mean())
    if real == 0.0:
        return (1.0, 0.0) if near == 0.0 else (float("inf"), float("inf"))
    value = near / real
    return value, float(np.hypot(mean_stderr(ours), value * mean_stderr(theirs))) / real


def distances_to_others(records: Floats, size: int) -> Floats:
    """Distance of each record to the nearest of ``size`` others, 1 to n − 1: the first of them, leaving out the record itself."""
    within = np.sqrt(neighbour_table(records[: size + 1], 1)[1][:, 0])
    rest = records[size + 1 :]
    return np.concatenate([within, distances(rest, records[:size])]) if len(rest) else within


def distances(rows: Floats, targets: Floats) -> Floats:
    """Distance ``(n,)`` of each row to its nearest target."""
    return np.sqrt(nearest_squared(rows, targets))
