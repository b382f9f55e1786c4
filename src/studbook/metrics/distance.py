"""Wasserstein distance to the original."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import Floats, Kind
from studbook.errors import MetricError
from studbook.metrics import views
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import mean_stderr
from studbook.metrics.transport import Normal, Steps, potential, squared_distance
from studbook.records import Measurement
from studbook.rng import stream
from studbook.theory.laws import GaussianLaw, Law, PoissonLaw, matrix_root

CHUNK = 1 << 20
"""Projected numbers that are held at once."""


@dataclass(frozen=True, slots=True)
class WassersteinSquared:
    """``w2_squared``: squared 2-Wasserstein distance to the original, in the data's unit squared.

    The original is the source's law where it is known, else the original records. Exact, without sampling error, are: a Gaussian
    against a Gaussian law in any dimension, ‖μ−μ₀‖² + tr(Σ + Σ₀ − 2(Σ₀^½ Σ Σ₀^½)^½) (Dowson and Landau 1982); a Gaussian law against
    records, and a Poisson law against a Poisson law, by quantile functions. On the line a sample is compared by quantile functions (any
    two sizes). In more dimensions, unless both sides are Gaussian laws, the distance is *sliced*: the mean of W₂² over one-dimensional
    projections (Bonneel et al. 2015), for two equal-shaped spreads about 1/d of the full one. The directions are the same for all
    generations and studies.

    On a sample the standard error is the delta method's, by the Kantorovich potential (see
    ``studbook.metrics.transport.potential``); the original and the directions are taken as given. Near 0 the error isn't normal:
    there the stated one is up to about √2 too large, and the value itself exceeds the law's by about the variance over n, as every
    plug-in distance does.

    Attributes:
        projections: Number of directions of the sliced distance, 1 to 100,000.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.distance import WassersteinSquared
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.theory.laws import GaussianLaw
        >>> source, law = (GaussianLaw(np.array([[m]]), np.array([[[s * s]]])) for m, s in ((0.0, 1.0), (3.0, 5.0)))
        >>> WassersteinSquared().of_law(Reference(None, source), law)["w2_squared"].tolist()
        [25.0]
    """

    kinds: ClassVar[frozenset[Kind]] = views.VECTORS
    projections: int = 64

    def __post_init__(self) -> None:
        views.require_range("w2_squared.projections", self.projections, 1, 100_000)

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        values = _squared_of_law(reference, law, self.projections)
        return None if values is None else {"w2_squared": values}

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("w2_squared", observation.sample, self.kinds)
        known = views.from_law(self, reference, observation.model)
        if known is not None:
            return known
        value, stderr, n = _squared_of_sample("w2_squared", reference, observation, self.projections)
        return (views.measured("w2_squared", value, stderr, n),)


@dataclass(frozen=True, slots=True)
class Wasserstein:
    """``w2``: 2-Wasserstein distance to the original, in the data's unit; ``WassersteinSquared`` says how its square is computed.

    The standard error is the squared distance's over 2·W₂ (delta method); it is 0 where the sample equals the original record by record.

    Attributes:
        projections: Number of directions of the sliced distance, 1 to 100,000.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.metrics.distance import Wasserstein
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> original, sample = (numbers(np.array(x)) for x in ([0.0, 1.0, 2.0], [3.0, 4.0, 5.0]))
        >>> seen = Observation(sample, original, model=None, base=None)
        >>> Wasserstein().measure(Reference(original, None), seen, rng=np.random.default_rng(0))[0].value
        3.0
    """

    kinds: ClassVar[frozenset[Kind]] = views.VECTORS
    projections: int = 64

    def __post_init__(self) -> None:
        views.require_range("w2.projections", self.projections, 1, 100_000)

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        values = _squared_of_law(reference, law, self.projections)
        return None if values is None else {"w2": np.sqrt(values)}

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("w2", observation.sample, self.kinds)
        known = views.from_law(self, reference, observation.model)
        if known is not None:
            return known
        value, stderr, n = _squared_of_sample("w2", reference, observation, self.projections)
        root = float(np.sqrt(value))
        return (views.measured("w2", root, stderr / (2 * root) if root else 0.0, n),)


def _squared_of_law(reference: Reference, law: Law, projections: int) -> Floats | None:
    if isinstance(law, GaussianLaw):
        if isinstance(reference.law, GaussianLaw):
            return _between_gaussians(reference, reference.law, law)
        return None if reference.records is None or reference.law is not None else _gaussians_to_records(reference, law, projections)
    if isinstance(law, PoissonLaw) and isinstance(reference.law, PoissonLaw):
        target = _target("w2", reference, projections, 1)
        return np.array([squared_distance(poisson_steps(rate), target)[0] for rate in law.rate])
    return None


def _between_gaussians(reference: Reference, source: GaussianLaw, law: GaussianLaw) -> Floats:
    """Squared Bures–Wasserstein distance of R Gaussian laws to the source's."""
    shift = law.mean - source.mean[0]
    if law.mean.shape[1] == 1:
        spread = np.sqrt(np.maximum(law.covariance[:, 0, 0], 0.0)) - np.sqrt(source.covariance[0, 0, 0])
        return np.asarray(shift[:, 0] ** 2 + spread**2)
    root = reference.memo("covariance_root", lambda: _symmetric_root(source.covariance[0]))
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ law.covariance @ root), 0.0)).sum(axis=1)
    traces = np.trace(law.covariance, axis1=1, axis2=2) + np.trace(source.covariance[0])
    squared: Floats = (shift**2).sum(axis=1) + np.maximum(traces - 2 * cross, 0.0)
    return squared


def _symmetric_root(covariance: Floats) -> Floats:
    eigenvalues, vectors = np.linalg.eigh(covariance)
    root: Floats = (vectors * np.sqrt(np.maximum(eigenvalues, 0.0))) @ vectors.T
    return root


def _gaussians_to_records(reference: Reference, law: GaussianLaw, projections: int) -> Floats:
    """R Gaussian laws to the original records; each projection of a Gaussian is normal, so each slice is in closed form."""
    d = law.mean.shape[1]
    directions = _directions(d, projections)
    matches = reference.memo(f"w2_matches:{projections}", lambda: _matches(reference, projections, d))
    means = law.mean @ directions
    stds = np.sqrt(np.maximum(((law.covariance @ directions) * directions).sum(axis=1), 0.0))
    slices = (means - matches[:, 0]) ** 2 + (stds - matches[:, 1]) ** 2 + matches[:, 2]
    return np.asarray(slices.mean(axis=1))


def _matches(reference: Reference, projections: int, d: int) -> Floats:
    target = _target("w2", reference, projections, d)
    return np.stack(target.gaussian_match(), axis=1) if isinstance(target, Steps) else np.empty((0, 3))


def _squared_of_sample(metric: str, reference: Reference, observation: Observation, projections: int) -> tuple[float, float, int]:
    """W₂² (sliced in more than one dimension), its standard error, and the number of records."""
    values = views.table(metric, observation.sample)
    n, d = values.shape
    directions, target = _directions(d, projections), _target(metric, reference, projections, d)
    n_lines = directions.shape[1]
    total = 0.0
    influence = np.zeros(n)
    step = max(CHUNK // n, 1)
    for rows in (slice(start, start + step) for start in range(0, n_lines, step)):
        lines = np.ascontiguousarray((values @ directions[:, rows]).T)
        order = np.argsort(lines, axis=1)
        ascending = np.take_along_axis(lines, order, axis=1)
        total += float(squared_distance(Steps.of_sorted(ascending), target.pick(rows)).sum())
        np.put_along_axis(lines, order, potential(ascending, target.pick(rows)), axis=1)
        influence += lines.sum(axis=0)
    return total / n_lines, mean_stderr(influence / n_lines), n


def _target(metric: str, reference: Reference, projections: int, d: int) -> Steps | Normal:
    """The original on each direction."""
    return reference.memo(f"w2_target:{projections}", lambda: _build_target(metric, reference, projections, d))


def _build_target(metric: str, reference: Reference, projections: int, d: int) -> Steps | Normal:
    directions = _directions(d, projections)
    if isinstance(reference.law, GaussianLaw):
        root = matrix_root(reference.law.covariance)[0]
        return Normal(reference.law.mean[0] @ directions, np.sqrt(((root.T @ directions) ** 2).sum(axis=0)))
    if isinstance(reference.law, PoissonLaw):
        return poisson_steps(float(reference.law.rate[0]))
    if reference.records is None:
        raise MetricError(f"metric {metric} needs the original records or a Gaussian or Poisson law, and this reference has neither")
    return Steps.of_sorted(np.sort(np.ascontiguousarray((views.table(metric, reference.records) @ directions).T), axis=1))


def _directions(d: int, projections: int) -> Floats:
    """Unit vectors ``(d, P)``, uniform on the sphere and the same at every call; the line has one."""
    if d == 1:
        return np.ones((1, 1))
    normals = stream(0, "metrics", "directions").standard_normal((projections, d)).T
    return np.asarray(normals / np.sqrt((normals**2).sum(axis=0)))


def poisson_steps(rate: float) -> Steps:
    """A Poisson law as steps; what lies beyond 12 standard deviations (less than 1e-16 of it) is left out."""
    from scipy.special import pdtr

    reach = 12 * np.sqrt(rate) + 30 * (rate > 0)
    values = np.arange(max(int(rate - reach), 0), int(rate + reach) + 1, dtype=np.float64)
    cumulative = np.asarray(pdtr(values, rate))
    cumulative[-1] = 1.0
    return Steps(values[None], cumulative)
