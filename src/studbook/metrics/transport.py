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
    """P discrete distributions on the line, with the same probabilities.

    Attributes:
        values: ``(P, m)``, each row ascending.
        cumulative: ``(m,)`` probability of a value up to and with each; the last is 1.
    """

    values: Floats
    cumulative: Floats

    @classmethod
    def of_sorted(cls, values: Floats) -> Steps:
        """The empirical distributions of records ``(P, n)``, each row ascending."""
        n = values.shape[1]
        return cls(values, np.arange(1, n + 1) / n)

    def quantile(self, levels: Floats) -> Floats:
        """The values ``(P, L)`` at levels ``(L,)`` in [0, 1]."""
        rows = np.searchsorted(self.cumulative, levels, side="right")
        return np.asarray(self.values[:, np.minimum(rows, len(self.cumulative) - 1)])

    def pick(self, rows: slice) -> Steps:
        """Some of the P."""
        return Steps(self.values[rows], self.cumulative)

    def gaussian_match(self) -> tuple[Floats, Floats, Floats]:
        """Mean m, c = ∫ Q(u) Φ⁻¹(u) du, and s² − c² ≥ 0, each ``(P,)``: all that W₂ to any normal law depends on.

        W₂²(N(μ, σ²), this) = (μ − m)² + (σ − c)² + (s² − c²).
        """
        from scipy.special import ndtri

        # Jumps of the normal density at the levels between the steps; they sum to 0, so centring the values costs no precision.
        inner = np.clip(self.cumulative[:-1], 0.0, 1.0)
        density = np.concatenate(([0.0], np.exp(-0.5 * ndtri(inner) ** 2) / np.sqrt(2 * np.pi), [0.0]))
        weights = np.diff(self.cumulative, prepend=0.0)
        means = self.values @ weights
        centred = self.values - means[:, None]
        slopes = centred @ -np.diff(density)
        return means, slopes, np.maximum(centred**2 @ weights - slopes**2, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """P normal distributions on the line: ``mean`` ``(P,)``, and ``std`` ``(P,)``, which may be 0."""

    mean: Floats
    std: Floats

    def quantile(self, levels: Floats) -> Floats:
        """The values ``(P, L)`` at levels ``(L,)`` in (0, 1)."""
        from scipy.special import ndtri

        return np.asarray(self.mean[:, None] + self.std[:, None] * ndtri(levels))

    def pick(self, rows: slice) -> Normal:
        """Some of the P."""
        return Normal(self.mean[rows], self.std[rows])


def squared_distance(first: Steps, second: Steps | Normal) -> Floats:
    """W₂² ``(P,)`` between P pairs of distributions.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.transport import Steps, squared_distance
        >>> a, b = (Steps.of_sorted(np.array([x])) for x in ([0.0, 1.0], [1.0, 2.0, 3.0]))
        >>> squared_distance(a, b).round(6).tolist()
        [2.5]
    """
    if isinstance(second, Normal):
        means, slopes, rest = first.gaussian_match()
        return np.asarray((second.mean - means) ** 2 + (second.std - slopes) ** 2 + rest)
    if np.array_equal(first.cumulative, second.cumulative):
        return np.asarray((first.values - second.values) ** 2 @ np.diff(first.cumulative, prepend=0.0))
    edges = np.sort(np.concatenate((first.cumulative, second.cumulative)), kind="stable")
    starts = np.concatenate(([0.0], edges[:-1]))
    return np.asarray((first.quantile(starts) - second.quantile(starts)) ** 2 @ (edges - starts))


def potential(records: Floats, target: Steps | Normal) -> Floats:
    """The influence of each record on W₂² to the target, up to a constant: the Kantorovich potential.

    It grows by (x′ − x)(x + x′ − 2y) from one ascending record x to the next x′, where y is the target's quantile at the level between
    them; W₂² is then asymptotically normal with the variance of the potential over n (del Barrio and Loubes 2019).

    Args:
        records: ``(P, n)``, each row ascending.
        target: What they are compared with.

    Returns:
        ``(P, n)``, in the records' order.
    """
    n = records.shape[1]
    partners = target.quantile(np.arange(1, n) / n)
    grown = np.zeros_like(records)
    np.cumsum(np.diff(records, axis=1) * (records[:, 1:] + records[:, :-1] - 2 * partners), axis=1, out=grown[:, 1:])
    return grown
