"""Distances between two sets of feature vectors: Fréchet distance and kernel distance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import AnyArray, Floats, Kind
from studbook.errors import MetricError
from studbook.metrics import features, views
from studbook.metrics.features import POINTS, Against
from studbook.metrics.neighbours import blocks
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import groups_of, jackknife_stderr
from studbook.records import Measurement

N_GROUPS = 20
N_GROUPS_LARGE = 5
LARGE = 256
"""Features beyond which the jackknife has ``N_GROUPS_LARGE`` groups: each costs some d³ operations."""


@dataclass(frozen=True, slots=True)
class FrechetDistance:
    """``fid``: Fréchet distance of two Gaussians with the features' moments (Heusel et al. 2017), and ``fid.unbiased``.

    ‖μ₁ − μ₂‖² + tr(S₁ + S₂ − 2 (S₁ S₂)^½) with the covariances' divisor n − 1 and no shrinkage, of generated against real records: those
    held out where there are any, else the original (``against``). Number vectors are their own features.

    ``fid`` is biased upwards: from two samples of one law it is about proportional to 1/n₁ + 1/n₂, and the more so the more features
    there are. Compare it at equal sizes only. ``fid.unbiased`` takes the bias of first order in both sizes away by the delete-a-group
    jackknife, which is what an extrapolation in 1/n does (Chong and Forsyth 2020): it is sound where both sizes are well above the number
    of features, and may be below 0.

    Standard error: delete-a-group jackknife over both sets, 20 groups each (5 beyond 256 features: then its own relative error is some
    30 %). Where the laws agree it errs upwards.

    Attributes:
        network: See ``studbook.metrics.features``.
        limit: At most so many records of each set, drawn at random, the same every time.
        against: Which real records.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.metrics.frechet import FrechetDistance
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> rng = np.random.default_rng(0)
        >>> real, moved = numbers(rng.normal(size=(2000, 2))), numbers(rng.normal(size=(2000, 2)) + [1.0, 0.0])
        >>> seen = Observation(moved, real, model=None, base=None)
        >>> found = FrechetDistance().measure(Reference(real, None), seen, rng=rng)[0]
        >>> abs(found.value - 1.0) < 3 * found.stderr
        True
    """

    kinds: ClassVar[frozenset[Kind]] = POINTS
    network: str = ""
    limit: int = 5000
    against: Against = "auto"

    def __post_init__(self) -> None:
        features.check_parameters("fid", self.limit)

    def check_reference(self, reference: Reference) -> None:
        """See ``studbook.metrics.protocols.CheckedMetric``."""
        features.real_records("fid", reference, self.against)
        features.check_network("fid", reference, self.network)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("fid", observation.sample, self.kinds)
        real, fake = _both("fid", reference, observation, self.network, self.limit, self.against)
        n_groups = N_GROUPS if real.shape[1] <= LARGE else N_GROUPS_LARGE
        value, corrected, stderr = jackknifed_distance(Moments.of(real), Moments.of(fake), n_groups)
        return (views.measured("fid", value, stderr, len(fake)), views.measured("fid.unbiased", corrected, stderr, len(fake)))


@dataclass(frozen=True, slots=True)
class KernelDistance:
    """``kid``: squared maximum mean discrepancy of the features under the kernel (x·y/d + 1)³ (Bińkowski et al. 2018).

    The U-statistic: unbiased at any size, 0 on average where the laws agree, and then below 0 about as often as above. The real records
    are as for ``fid``. Standard error: delete-a-group jackknife over both sets, 20 groups each; it errs upwards where the laws agree.

    Attributes:
        network: See ``studbook.metrics.features``.
        limit: At most so many records of each set.
        against: Which real records.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.metrics.frechet import KernelDistance
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> rng = np.random.default_rng(0)
        >>> real, same = (numbers(rng.normal(size=(500, 2))) for _ in range(2))
        >>> found = KernelDistance().measure(Reference(real, None), Observation(same, real, None, None), rng=rng)[0]
        >>> abs(found.value) < 3 * found.stderr
        True
    """

    kinds: ClassVar[frozenset[Kind]] = POINTS
    network: str = ""
    limit: int = 2000
    against: Against = "auto"

    def __post_init__(self) -> None:
        features.check_parameters("kid", self.limit)

    def check_reference(self, reference: Reference) -> None:
        """See ``studbook.metrics.protocols.CheckedMetric``."""
        features.real_records("kid", reference, self.against)
        features.check_network("kid", reference, self.network)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("kid", observation.sample, self.kinds)
        real, fake = _both("kid", reference, observation, self.network, self.limit, self.against)
        key = f"kid:{self.network}:{self.limit}:{self.against}"
        among_real = reference.memo(key, lambda: kernel_sums(real, real))
        value, stderr = mean_discrepancy(among_real, kernel_sums(real, fake), kernel_sums(fake, fake), (len(real), len(fake)))
        return (views.measured("kid", value, stderr, len(fake)),)


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Feature vectors, centred on their mean.

    Attributes:
        mean: ``(d,)``.
        centred: ``(n, d)``.
    """

    mean: Floats
    centred: Floats

    @classmethod
    def of(cls, table: Floats) -> Moments:
        """The moments of ``(n, d)``."""
        mean = np.asarray(table.mean(axis=0))
        return cls(mean, table - mean)

    def covariance(self) -> Floats:
        """``(d, d)``, divisor n − 1."""
        return np.asarray(self.centred.T @ self.centred / max(len(self.centred) - 1, 1))

    def without_groups(self, n_groups: int) -> Iterator[tuple[Floats, Floats]]:
        """Mean and covariance without each group of records in turn."""
        scatter, n = self.centred.T @ self.centred, len(self.centred)
        groups = groups_of(n, n_groups)
        for group in range(int(groups[-1]) + 1):
            part = self.centred[groups == group]
            left = n - len(part)
            shift = -part.sum(axis=0) / max(left, 1)
            rest = scatter - part.T @ part - left * np.outer(shift, shift)
            yield self.mean + shift, rest / max(left - 1, 1)


def distance_of_moments(mean: Floats, root: Floats, other_mean: Floats, other: Floats) -> float:
    """The Fréchet distance, from the root of one covariance and the other covariance.

    tr (S₁ S₂)^½ is the sum of the roots of the eigenvalues of S₁^½ S₂ S₁^½, which is symmetric: no complex numbers arise, and
    eigenvalues that rounding leaves of a rank below d count as 0.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.frechet import distance_of_moments
        >>> round(distance_of_moments(np.zeros(2), np.eye(2), np.array([3.0, 0.0]), 4.0 * np.eye(2)), 6)  # 3² + 2 (1 − 2)²
        11.0
    """
    inner = root @ other @ root
    eigenvalues = np.linalg.eigvalsh((inner + inner.T) / 2)
    noise = len(inner) * np.finfo(np.float64).eps * max(float(eigenvalues[-1]), 0.0)
    overlap = np.sqrt(eigenvalues[eigenvalues > noise]).sum()
    between = float(((mean - other_mean) ** 2).sum())
    return float(between + (root**2).sum() + np.trace(other) - 2.0 * overlap)


def root_of(covariance: Floats) -> Floats:
    """The symmetric root of a positive semidefinite matrix; what rounding leaves below 0 counts as 0."""
    eigenvalues, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(eigenvalues, 0.0))) @ vectors.T)


def jackknifed_distance(real: Moments, fake: Moments, n_groups: int) -> tuple[float, float, float]:
    """Fréchet distance, the same without its bias of first order, and the standard error."""
    covariances = real.covariance(), fake.covariance()
    roots = root_of(covariances[0]), root_of(covariances[1])
    value = distance_of_moments(real.mean, roots[0], fake.mean, covariances[1])
    corrected, variance = value, 0.0
    for others, mean, root in ((fake, real.mean, roots[0]), (real, fake.mean, roots[1])):
        without = np.array([distance_of_moments(mean, root, *moments) for moments in others.without_groups(n_groups)])
        corrected -= (len(without) - 1) * (float(without.mean()) - value)
        variance += jackknife_stderr(without) ** 2
    return value, corrected, float(np.sqrt(variance))


def kernel_sums(rows: Floats, columns: Floats) -> Floats:
    """Sums ``(G, H)`` of the cubic kernel over pairs of groups; of one set with itself without the pairs of a record and itself."""
    row_groups, column_groups = groups_of(len(rows), N_GROUPS), groups_of(len(columns), N_GROUPS)
    starts = np.searchsorted(column_groups, np.arange(int(column_groups[-1]) + 1))
    sums = np.zeros((int(row_groups[-1]) + 1, len(starts)))
    for block in blocks(len(rows)):
        kernel = rows[block] @ columns.T
        kernel /= rows.shape[1]
        kernel += 1.0
        kernel *= kernel * kernel
        if rows is columns:
            kernel[np.arange(block.stop - block.start), np.arange(block.start, block.stop)] = 0.0
        np.add.at(sums, row_groups[block], np.add.reduceat(kernel, starts, axis=1))
    return sums


def mean_discrepancy(among_real: Floats, across: Floats, among_fake: Floats, sizes: tuple[int, int]) -> tuple[float, float]:
    """The unbiased squared discrepancy and its jackknife standard error, from sums over pairs of groups and the numbers of records."""
    real, fake = (np.bincount(groups_of(n, N_GROUPS)).astype(np.float64) for n in sizes)
    whole_real, whole_fake = _mean_pair(among_real.sum(), real.sum()), _mean_pair(among_fake.sum(), fake.sum())
    value = whole_real + whole_fake - 2 * across.sum() / (real.sum() * fake.sum())
    left_real, left_fake = real.sum() - real, fake.sum() - fake
    no_real = _mean_pair(_without_group(among_real), left_real) + whole_fake
    no_real = no_real - 2 * (across.sum() - across.sum(axis=1)) / (np.maximum(left_real, 1) * fake.sum())
    no_fake = _mean_pair(_without_group(among_fake), left_fake) + whole_real
    no_fake = no_fake - 2 * (across.sum() - across.sum(axis=0)) / (np.maximum(left_fake, 1) * real.sum())
    return float(value), float(np.hypot(jackknife_stderr(no_real), jackknife_stderr(no_fake)))


def _without_group(sums: Floats) -> Floats:
    return np.asarray(sums.sum() - sums.sum(axis=0) - sums.sum(axis=1) + np.diagonal(sums))


def _mean_pair(total: AnyArray, n: AnyArray) -> AnyArray:
    return np.asarray(total / np.maximum(n * (n - 1), 1))


def _both(metric: str, reference: Reference, observation: Observation, network: str, limit: int, against: Against) -> tuple[Floats, Floats]:
    real = features.real_features(metric, reference, network, limit, against)
    fake = features.sample_features(metric, reference, observation.sample, network, limit)
    smallest = min(len(real), len(fake))
    if smallest < 2:
        raise MetricError(f"metric {metric} needs two records or more of each set, got {smallest}", hint="raise study.samples")
    return real, fake
