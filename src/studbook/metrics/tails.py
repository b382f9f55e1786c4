"""Mass in the tails: what collapse takes first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import Floats, Kind
from studbook.errors import ConfigError, MetricError
from studbook.metrics import views
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import mean_stderr
from studbook.records import Measurement
from studbook.theory.laws import GaussianLaw, Law, PoissonLaw


@dataclass(frozen=True, slots=True)
class TailMass:
    """``tail_mass.low``, ``tail_mass.high`` and their sum ``tail_mass``: mass beyond the original's outer quantiles, a share from 0 to 1.

    Strictly below the original's q quantile and strictly above its 1 − q quantile, averaged over the coordinates. The original is the
    source's law where it is known, else the original records; for a continuous law the values start at q, q and 2q, for a discrete one
    somewhat below. Exact for Gaussian and Poisson laws. On a sample the standard error is that of a mean of the records' shares,
    computed as if there were one more record with one coordinate beyond (or, where more than half of the mass is beyond, all but one),
    so that a sample with none beyond doesn't claim certainty, and neither does one with nothing within.

    Attributes:
        quantile: q, above 0 and below 0.5.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.metrics.tails import TailMass
        >>> from studbook.theory.laws import GaussianLaw
        >>> source, half = (GaussianLaw(np.zeros((1, 1)), np.array([[[s * s]]])) for s in (1.0, 0.5))
        >>> {name: round(float(value[0]), 8) for name, value in TailMass().of_law(Reference(None, source), half).items()}
        {'tail_mass': 3.28e-06, 'tail_mass.low': 1.64e-06, 'tail_mass.high': 1.64e-06}
    """

    kinds: ClassVar[frozenset[Kind]] = views.VECTORS
    quantile: float = 0.01

    def __post_init__(self) -> None:
        if not 0.0 < self.quantile < 0.5:
            raise ConfigError(
                f"metrics.tail_mass.quantile is {self.quantile}, expected a share above 0 and below 0.5", hint="0.01 takes 1 %"
            )

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        if isinstance(law, GaussianLaw):
            low, high = self._bounds(reference)
            stds = np.sqrt(np.maximum(np.diagonal(law.covariance, axis1=1, axis2=2), 0.0))
            masses = _gaussian_above(low - law.mean, stds).mean(axis=1), _gaussian_above(law.mean - high, stds).mean(axis=1)
        elif isinstance(law, PoissonLaw):
            low, high = self._bounds(reference)
            masses = _poisson_outside(law.rate, float(low[0]), float(high[0]))
        else:
            return None
        both = np.minimum(masses[0] + masses[1], 1.0)  # the sum of two rounded shares can pass 1
        return {"tail_mass": both, "tail_mass.low": masses[0], "tail_mass.high": masses[1]}

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("tail_mass", observation.sample, self.kinds)
        known = views.from_law(self, reference, observation.model)
        if known is not None:
            return known
        values = views.table("tail_mass", observation.sample)
        low, high = self._bounds(reference)
        beyond = {"tail_mass": (values < low) | (values > high), "tail_mass.low": values < low, "tail_mass.high": values > high}
        return tuple(_mean_share(name, hits.mean(axis=1), values.shape[1]) for name, hits in beyond.items())

    def _bounds(self, reference: Reference) -> tuple[Floats, Floats]:
        return reference.memo(f"tail_bounds:{self.quantile}", lambda: _bounds(reference, self.quantile))


def _mean_share(name: str, shares: Floats, dimension: int) -> Measurement:
    """The mean of the records' shares ``(n,)``, its error as if one more record were a coordinate away from the nearer end of [0, 1]."""
    value = float(shares.mean())
    one_more = 1.0 / dimension if value <= 0.5 else 1.0 - 1.0 / dimension
    return views.measured(name, value, mean_stderr(np.append(shares, one_more)), len(shares))


def _bounds(reference: Reference, quantile: float) -> tuple[Floats, Floats]:
    """The original's quantiles q and 1 − q of each coordinate, two times ``(d,)``."""
    levels = np.array([quantile, 1.0 - quantile])
    if isinstance(reference.law, GaussianLaw):
        from scipy.special import ndtri

        reach = np.sqrt(np.diagonal(reference.law.covariance[0])) * ndtri(levels)[:, None]
        bounds = reference.law.mean[0] + reach
    elif isinstance(reference.law, PoissonLaw):
        from scipy.stats import poisson

        bounds = np.asarray(poisson.ppf(levels, reference.law.rate[0]))[:, None]
    elif reference.records is not None:
        bounds = np.quantile(views.table("tail_mass", reference.records), levels, axis=0)
    else:
        raise MetricError("metric tail_mass needs the original records or a Gaussian or Poisson law, and this reference has neither")
    return bounds[0], bounds[1]


def _gaussian_above(margins: Floats, stds: Floats) -> Floats:
    """P(margin + std·Z > 0); a collapsed law is a step."""
    from scipy.special import ndtr

    certain = np.where(margins > 0, np.inf, -np.inf)
    mass: Floats = ndtr(np.divide(margins, stds, out=certain, where=stds > 0))
    return mass


def _poisson_outside(rates: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """P(X < low) and P(X > high) for each rate."""
    from scipy.special import pdtr, pdtrc

    below = np.asarray(pdtr(np.ceil(low) - 1, rates)) if low > 0 else np.zeros_like(rates)
    return below, np.asarray(pdtrc(np.floor(high), rates))
