"""Discrete records as counts, and the original as probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Ints, Kind
from studbook.errors import MetricError
from studbook.metrics.protocols import Reference
from studbook.metrics.stderr import groups_of, jackknife_stderr
from studbook.theory.laws import CategoricalLaw, PoissonLaw

N_GROUPS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often each value occurs.

    Attributes:
        values: ``(K,)`` the distinct values, ascending: states, counts or token ids.
        counts: ``(K,)`` how often each occurs, 1 or more.
    """

    values: Ints
    counts: Ints

    @classmethod
    def of_batch(cls, batch: Batch) -> Histogram:
        """All symbols of a batch; a text counts its tokens."""
        symbols: AnyArray = batch.values.ravel()
        if batch.space.kind is Kind.COUNTS:
            return cls(*np.unique(symbols, return_counts=True))
        occurrences = np.bincount(symbols, minlength=batch.space.n_states)
        values = np.flatnonzero(occurrences)
        return cls(values, occurrences[values])

    @property
    def total(self) -> int:
        """Number of symbols."""
        return int(self.counts.sum())

    @property
    def shares(self) -> Floats:
        """Relative frequencies ``(K,)``."""
        return np.asarray(self.counts / self.counts.sum())


def blocks_stderr(batch: Batch, histogram: Histogram, statistic: Callable[[Ints], AnyArray]) -> float:
    """Delete-a-group jackknife over the blocks of a text, whose tokens aren't independent.

    Args:
        batch: The text.
        histogram: Its tokens.
        statistic: From counts ``(G, K)`` to values ``(G,)``.

    Returns:
        The standard error; infinite for a single block.
    """
    return jackknife_stderr(statistic(_without_each_group(batch, histogram))) if len(batch) > 1 else float("inf")


def _without_each_group(batch: Batch, histogram: Histogram) -> Ints:
    """Counts ``(G, K)`` without each group of blocks in turn."""
    groups = groups_of(len(batch), N_GROUPS)
    n_groups = int(groups[-1]) + 1
    ranks = np.searchsorted(histogram.values, batch.values.ravel())
    cells = np.repeat(groups, batch.space.dimension) * len(histogram.values) + ranks
    inside = np.bincount(cells, minlength=n_groups * len(histogram.values)).reshape(n_groups, -1)
    return histogram.counts - inside


def original_probabilities(metric: str, reference: Reference, values: Ints) -> Floats:
    """The original's probability of each of ``values``: its law's where that is known, else the relative frequency in its records."""
    if isinstance(reference.law, CategoricalLaw):
        return np.asarray(reference.law.probabilities[0][values])
    if isinstance(reference.law, PoissonLaw):
        return poisson_probabilities(values, float(reference.law.rate[0]))
    original = original_histogram(metric, reference)
    rows = np.minimum(np.searchsorted(original.values, values), len(original.values) - 1)
    return np.where(original.values[rows] == values, original.shares[rows], 0.0)


def original_histogram(metric: str, reference: Reference) -> Histogram:
    """The original records' histogram, counted once."""
    return reference.memo("histogram", lambda: _count_original(metric, reference))


def _count_original(metric: str, reference: Reference) -> Histogram:
    if reference.records is None:
        raise MetricError(f"metric {metric} needs the original records or their law, and this reference has neither")
    return Histogram.of_batch(reference.records)


def poisson_probabilities(values: AnyArray, rate: float) -> Floats:
    """Poisson probabilities; a rate of 0 is a point mass at 0."""
    from scipy.special import gammaln, xlogy

    probabilities: Floats = np.exp(xlogy(values, rate) - rate - gammaln(values + 1.0))
    return probabilities
