"""Optimal transport on the line: W₂² by quantile functions, in closed form.

On the line the best coupling matches equal quantiles, so W₂² = ∫₀¹ (Q₁(u) − Q₂(u))² du (Villani 2003, theorem 2.18). Records have step
quantile functions, so the integral is a finite sum; against a normal law each step integrates to a difference of normal densities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studbook.arrays import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """A discrete distribution on the line.

    Attributes:
        values: ``(m,)`` ascending.
        cumulative: ``(m,)`` probability of a value up to and with each; the last is 1.
    """

    values: Floats
    cumulative: Floats

    @classmethod
    def of_records(cls, values: Floats) -> Steps:
        """The empirical distribution of ``(n,)`` records."""
        n = len(values)
        return cls(np.sort(values), np.arange(1, n + 1) / n)

    def quantile(self, levels: Floats) -> Floats:
        """The value at each level in [0, 1]."""
        rows = np.searchsorted(self.cumulative, levels, side="right")
        return self.values[np.minimum(rows, len(self.values) - 1)]

    def gaussian_match(self) -> tuple[float, float, float]:
        """Mean m, c = ∫ Q(u) Φ⁻¹(u) du, and s² − c² ≥ 0: all that W₂ to any normal law depends on.

        W₂²(N(μ, σ²), this) = (μ − m)² + (σ − c)² + (s² − c²).
        """
        from scipy.special import ndtri

        # Jumps of the normal density at the levels between the steps; they sum to 0, so centring the values costs no precision.
        inner = np.clip(self.cumulative[:-1], 0.0, 1.0)
        density = np.concatenate(([0.0], np.exp(-0.5 * ndtri(inner) ** 2) / np.sqrt(2 * np.pi), [0.0]))
        weights = np.diff(self.cumulative, prepend=0.0)
        mean = float(self.values @ weights)
        centred = self.values - mean
        slope = float(centred @ -np.diff(density))
        return mean, slope, max(float(centred**2 @ weights) - slope**2, 0.0)


@dataclass(frozen=True, slots=True)
class Normal:
    """A normal distribution on the line; ``std`` may be 0."""

    mean: float
    std: float

    def quantile(self, levels: Floats) -> Floats:
        """The value at each level in (0, 1)."""
        from scipy.special import ndtri

        return self.mean + self.std * np.asarray(ndtri(levels))


def squared_distance(first: Steps, second: Steps | Normal) -> float:
    """W₂² between records and either records or a normal law.

    Example:
        >>> import numpy as np
        >>> from studbook.metrics.transport import Steps, squared_distance
        >>> a, b = (Steps.of_records(np.array(x)) for x in ([0.0, 1.0], [1.0, 2.0, 3.0]))
        >>> round(squared_distance(a, b), 6)
        2.5
    """
    if isinstance(second, Normal):
        mean, slope, rest = first.gaussian_match()
        return (second.mean - mean) ** 2 + (second.std - slope) ** 2 + rest
    if np.array_equal(first.cumulative, second.cumulative):
        return float(((first.values - second.values) ** 2) @ np.diff(first.cumulative, prepend=0.0))
    edges = np.sort(np.concatenate((first.cumulative, second.cumulative)), kind="stable")
    starts = np.concatenate(([0.0], edges[:-1]))
    return float((first.quantile(starts) - second.quantile(starts)) ** 2 @ (edges - starts))


def potential(records: Floats, target: Steps | Normal) -> Floats:
    """The influence of each record on W₂² to the target, up to a constant: the Kantorovich potential.

    It grows by (x′ − x)(x + x′ − 2y) from one ascending record x to the next x′, where y is the target's quantile at the level between
    them; W₂² is then asymptotically normal with the variance of the potential over n (del Barrio and Loubes 2019).

    Args:
        records: ``(n,)`` ascending.
        target: What they are compared with.

    Returns:
        ``(n,)``, in the records' order.
    """
    n = len(records)
    partner = target.quantile(np.arange(1, n) / n)
    growth = np.diff(records) * (records[1:] + records[:-1] - 2 * partner)
    return np.concatenate(([0.0], np.cumsum(growth)))
