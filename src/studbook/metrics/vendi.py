"""How many different records a sample is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import Floats, Kind
from studbook.metrics import features, views
from studbook.metrics.features import POINTS
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import groups_of, jackknife_stderr
from studbook.records import Measurement

N_GROUPS = 20


@dataclass(frozen=True, slots=True)
class VendiScore:
    """``vendi``: the effective number of different records in the sample (Friedman and Dieng 2023).

    exp of the entropy of the eigenvalues of K/n, where K holds the cosines between the records' features: 1 for equal records, n for
    records that have nothing in common. It needs no real records, but grows with the sample: compare samples of one size. Number vectors
    are their own features.

    Standard error: delete-a-group jackknife over 20 groups.

    Attributes:
        network: See ``studbook.metrics.features``.
        limit: At most so many records, drawn at random.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> from studbook.metrics.vendi import VendiScore
        >>> three = numbers(np.repeat(np.eye(3), 10, axis=0))
        >>> seen = Observation(three, three, model=None, base=None)
        >>> round(VendiScore().measure(Reference(three, None), seen, rng=np.random.default_rng(0))[0].value, 6)
        3.0
    """

    kinds: ClassVar[frozenset[Kind]] = POINTS
    network: str = ""
    limit: int = 5000

    def __post_init__(self) -> None:
        features.check_parameters("vendi", self.limit)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("vendi", observation.sample, self.kinds)
        table = features.sample_features("vendi", reference, observation.sample, self.network, self.limit)
        value, stderr = vendi(table)
        return (views.measured("vendi", value, stderr, len(table)),)


def vendi(table: Floats) -> tuple[float, float]:
    """The score of feature vectors ``(n, d)`` under the cosine kernel, and its standard error.

    The d × d matrix of second moments has the same eigenvalues as K/n, and is the smaller one.
    """
    directions = _directions(table)
    groups = groups_of(len(table), N_GROUPS)
    if len(directions) < directions.shape[1]:
        kernel = directions @ directions.T
        left_out = [_effective(kernel[np.ix_(groups != g, groups != g)]) for g in range(int(groups[-1]) + 1)]
        return _effective(kernel), jackknife_stderr(np.array(left_out))
    scatter = directions.T @ directions
    parts = (directions[groups == group] for group in range(int(groups[-1]) + 1))
    return _effective(scatter), jackknife_stderr(np.array([_effective(scatter - part.T @ part) for part in parts]))


def _directions(table: Floats) -> Floats:
    """Vectors of length 1; those of length 0 get a direction of their own."""
    size = np.abs(table).max(axis=1, keepdims=True)
    scaled = table / np.where(size > 0, size, 1.0)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    if (length > 0).all():
        return np.asarray(scaled / length)
    return np.hstack([scaled / np.where(length > 0, length, 1.0), (length == 0).astype(np.float64)])


def _effective(matrix: Floats) -> float:
    """The exponential of the entropy of the eigenvalues' shares."""
    from scipy.special import entr

    eigenvalues = np.maximum(np.linalg.eigvalsh(matrix), 0.0)
    total = float(eigenvalues.sum())
    return float(np.exp(entr(eigenvalues / total).sum())) if total > 0 else 1.0
