"""Whether generated pictures are copies of the training set, as a network sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import Floats, Kind
from studbook.errors import MetricError
from studbook.metrics import features, views
from studbook.metrics.features import POINTS
from studbook.metrics.images import distances, distances_to_others, ratio_of_means
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import share_stderr
from studbook.records import Measurement

QUANTILE = 0.01


@dataclass(frozen=True, slots=True)
class Memorisation:
    """``memorisation``: ``nearest_training`` on features, and ``memorisation.share``: the share of generated records that are copies.

    The value is the mean distance of generated records to their nearest training record over that of real records to the nearest of as
    many original ones (see ``studbook.metrics.images.NearestTraining``): about 1 for samples as new as real ones, 0 for copies. A copy is
    a record nearer to a training record than all but 1 % of real records are to an original one (after Meehan, Chaudhuri and Dasgupta
    2020): a model that copies nothing has a share of about .01. The real records are those held out; where there are none, the original
    ones among each other. The training set is this generation's own, so that it may be generated itself. One that is
    larger than ``limit`` or than the original is thinned: copies of the records left out aren't seen, and the share of a model that only
    copies is then about that of the records looked at.

    Standard errors: delta method for the ratio; binomial (with Jeffreys' half record) for the share, the quantile taken as given: with m
    real records its level is known to √(.01/m) only.

    Attributes:
        network: See ``studbook.metrics.features``.
        limit: At most so many records of each set, drawn at random.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.metrics.memorisation import Memorisation
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> original = numbers(np.random.default_rng(0).normal(size=(100, 2)))
        >>> copies = Observation(original, original, model=None, base=None)
        >>> found = Memorisation().measure(Reference(original, None), copies, rng=np.random.default_rng(0))
        >>> [round(m.value, 6) for m in found]
        [0.0, 1.0]
    """

    kinds: ClassVar[frozenset[Kind]] = POINTS
    network: str = ""
    limit: int = 2000

    def __post_init__(self) -> None:
        features.check_parameters("memorisation", self.limit)

    def check_reference(self, reference: Reference) -> None:
        """See ``studbook.metrics.protocols.CheckedMetric``."""
        features.check_network("memorisation", reference, self.network)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        name = "memorisation"
        views.require_kind(name, observation.sample, self.kinds)
        original = features.real_features(name, reference, self.network, self.limit, "original")
        size = min(len(observation.training), len(original))
        training = features.training_features(name, reference, observation.training, self.network, self.limit)[:size]
        fake = features.sample_features(name, reference, observation.sample, self.network, self.limit)
        ours = distances(fake, training)
        key = f"memorisation:{self.network}:{self.limit}:{size}"
        theirs = reference.memo(key, lambda: self._among_real(reference, original, size))
        value, stderr = ratio_of_means(ours, theirs)
        # Rounding leaves some 1e-8 between equal features: below that the nearest real records are copies, too.
        limit = np.sort(theirs)[max(int(np.ceil(QUANTILE * len(theirs))) - 1, 0)] + 1e-7 * float(np.abs(original).max())
        copies, n = int(np.count_nonzero(ours <= limit)), len(ours)
        return (views.measured(name, value, stderr, n), views.measured("memorisation.share", copies / n, share_stderr(copies, n), n))

    def _among_real(self, reference: Reference, original: Floats, size: int) -> Floats:
        """Distances of real records to the nearest of ``size`` original records."""
        if reference.heldout is not None and len(reference.heldout):
            return distances(features.real_features("memorisation", reference, self.network, self.limit, "heldout"), original[:size])
        if len(original) < 2:
            raise MetricError("metric memorisation needs two original records or more where none are held out", hint="set data.heldout")
        return distances_to_others(original, min(size, len(original) - 1))
