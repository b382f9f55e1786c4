"""Sufficient statistics of R training sets at once, in memory that doesn't depend on their size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError, FitError


@dataclass(frozen=True, slots=True, eq=False)
class GaussianMoments:
    """Weight, mean and scatter: all that a Gaussian fit looks at.

    Attributes:
        weight: ``(R,)`` total weight of the records.
        mean: ``(R, d)`` weighted mean; 0 where the weight is 0.
        scatter: ``(R, d, d)`` weighted sum of the squared deviations from ``mean``.

    Examples:
        >>> import numpy as np
        >>> a = GaussianMoments(np.array([2.0]), np.array([[1.0]]), np.array([[[2.0]]]))  # records 0 and 2
        >>> b = GaussianMoments(np.array([1.0]), np.array([[4.0]]), np.array([[[0.0]]]))  # record 4
        >>> pooled = a.merge(b)  # records 0, 2 and 4
        >>> pooled.mean.item(), pooled.scatter.item()
        (2.0, 8.0)
    """

    weight: Floats
    mean: Floats
    scatter: Floats

    @property
    def n_replicates(self) -> int:
        """R."""
        return len(self.weight)

    def merge(self, other: GaussianMoments) -> GaussianMoments:
        """Both training sets together (Chan, Golub and LeVeque 1983, eq. 2.1)."""
        weight = self.weight + other.weight
        share = other.weight / np.where(weight > 0.0, weight, 1.0)
        step = other.mean - self.mean
        between = (self.weight * share)[:, None, None] * (step[:, :, None] * step[:, None, :])
        return GaussianMoments(weight, self.mean + share[:, None] * step, self.scatter + other.scatter + between)

    def scaled(self, weight: float) -> GaussianMoments:
        """Every record's weight times ``weight``."""
        require_weight(weight)
        return GaussianMoments(self.weight * weight, self.mean, self.scatter * weight)

    def repeat(self, n_replicates: int) -> GaussianMoments:
        """One training set for ``n_replicates`` replicates."""
        require_one(self.n_replicates)
        return GaussianMoments(*(np.repeat(part, n_replicates, axis=0) for part in (self.weight, self.mean, self.scatter)))


@dataclass(frozen=True, slots=True, eq=False)
class PoissonTotals:
    """Weight and weighted sum of counts: all that a Poisson fit looks at.

    Attributes:
        weight: ``(R,)`` total weight of the records.
        total: ``(R,)`` weighted sum of the counts.
    """

    weight: Floats
    total: Floats

    @property
    def n_replicates(self) -> int:
        """R."""
        return len(self.weight)

    def merge(self, other: PoissonTotals) -> PoissonTotals:
        """Both training sets together."""
        return PoissonTotals(self.weight + other.weight, self.total + other.total)

    def scaled(self, weight: float) -> PoissonTotals:
        """Every record's weight times ``weight``."""
        require_weight(weight)
        return PoissonTotals(self.weight * weight, self.total * weight)

    def repeat(self, n_replicates: int) -> PoissonTotals:
        """One training set for ``n_replicates`` replicates."""
        require_one(self.n_replicates)
        return PoissonTotals(np.repeat(self.weight, n_replicates), np.repeat(self.total, n_replicates))


@dataclass(frozen=True, slots=True, eq=False)
class BinaryCounts:
    """How often each of two states occurs.

    Attributes:
        counts: ``(R, 2)`` weighted counts of state 0 and state 1.
    """

    counts: Floats

    @property
    def n_replicates(self) -> int:
        """R."""
        return len(self.counts)

    def merge(self, other: BinaryCounts) -> BinaryCounts:
        """Both training sets together."""
        return BinaryCounts(self.counts + other.counts)

    def scaled(self, weight: float) -> BinaryCounts:
        """Every record's weight times ``weight``."""
        require_weight(weight)
        return BinaryCounts(self.counts * weight)

    def repeat(self, n_replicates: int) -> BinaryCounts:
        """One training set for ``n_replicates`` replicates."""
        require_one(self.n_replicates)
        return BinaryCounts(np.repeat(self.counts, n_replicates, axis=0))

    def subsample(self, n: int, *, rng: np.random.Generator) -> BinaryCounts:
        """``n`` records without replacement: hypergeometric.

        Raises:
            FitError: Records are weighted, or there are fewer than ``n``.
        """
        from studbook.learners._count_kernels import hypergeometric

        whole = require_subsample(self.counts, self.counts.sum(axis=1), n)
        successes = hypergeometric(whole[:, 1].copy(), whole[:, 0].copy(), n, rng)
        return BinaryCounts(np.stack([n - successes, successes], axis=1).astype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class CategoricalCounts:
    """How often each of K states occurs; states that don't occur take no memory and no time.

    Replicate ``r`` owns the entries ``starts[r]:starts[r + 1]`` of ``states`` and ``counts``.

    Attributes:
        starts: ``(R + 1,)``.
        states: ``(E,)`` the states that occur, ascending in each replicate.
        counts: ``(E,)`` their weighted counts, above 0.
        n_states: K.

    Examples:
        >>> import numpy as np
        >>> a = CategoricalCounts.from_dense(np.array([[3.0, 0.0, 1.0]]))
        >>> b = CategoricalCounts.from_dense(np.array([[0.0, 0.0, 2.0]]))
        >>> a.merge(b).dense().tolist()
        [[3.0, 0.0, 3.0]]
    """

    starts: Ints
    states: Ints
    counts: Floats
    n_states: int

    @property
    def n_replicates(self) -> int:
        """R."""
        return len(self.starts) - 1

    @classmethod
    def from_dense(cls, counts: Floats) -> CategoricalCounts:
        """From ``(R, K)`` counts or probabilities."""
        from studbook.learners._count_kernels import compress_rows

        starts, states, alive = compress_rows(np.ascontiguousarray(counts, dtype=np.float64))
        return cls(starts, states, alive, counts.shape[1])

    def dense(self) -> Floats:
        """The counts with the zeros put back: ``(R, K)``."""
        table = np.zeros((self.n_replicates, self.n_states))
        rows = np.repeat(np.arange(self.n_replicates), np.diff(self.starts))
        table[rows, self.states] = self.counts
        return table

    def totals(self) -> Floats:
        """Total weight of each training set: ``(R,)``."""
        from studbook.learners._count_kernels import row_totals

        return row_totals(self.starts, self.counts)  # type: ignore[no-any-return]

    def merge(self, other: CategoricalCounts) -> CategoricalCounts:
        """Both training sets together."""
        from studbook.learners._count_kernels import merge_rows

        if (self.n_replicates, self.n_states) != (other.n_replicates, other.n_states):
            raise FitError(
                f"statistics of {other.n_replicates} replicates on {other.n_states} states don't merge with {self.n_replicates} on"
                f" {self.n_states}",
                hint="repeat the statistics of a single training set first",
            )
        mine, theirs = (self.starts, self.states, self.counts), (other.starts, other.states, other.counts)
        starts, states, counts = merge_rows(*mine, *theirs)
        return CategoricalCounts(starts, states, counts, self.n_states)

    def scaled(self, weight: float) -> CategoricalCounts:
        """Every record's weight times ``weight``."""
        require_weight(weight)
        return replace(self, counts=self.counts * weight)

    def repeat(self, n_replicates: int) -> CategoricalCounts:
        """One training set for ``n_replicates`` replicates."""
        require_one(self.n_replicates)
        starts = np.arange(n_replicates + 1) * len(self.states)
        return CategoricalCounts(starts, np.tile(self.states, n_replicates), np.tile(self.counts, n_replicates), self.n_states)

    def subsample(self, n: int, *, rng: np.random.Generator) -> CategoricalCounts:
        """``n`` records without replacement: multivariate hypergeometric.

        Raises:
            FitError: Records are weighted, or there are fewer than ``n``.
        """
        from studbook.learners._count_kernels import hypergeometric_rows

        require_subsample(self.counts, self.totals(), n)
        starts, states, counts = hypergeometric_rows(self.starts, self.states, self.counts, n, rng)
        return CategoricalCounts(starts, states, counts, self.n_states)


def require_subsample(counts: Floats, totals: Floats, n: int) -> Ints:
    """The counts as integers, or a ``FitError`` where ``n`` records can't be drawn from them without replacement."""
    whole = counts.astype(np.int64)
    if not np.array_equal(whole, counts):
        raise FitError("a draw without replacement needs whole records, these are weighted", hint="subsample before weighting")
    if n < 0 or n > totals.min():
        raise FitError(f"can't draw {n} of {totals.min():.0f} records without replacement", hint="draw no more than there are")
    return whole


def require_weight(weight: float) -> None:
    """Refuse a weight that isn't a positive number."""
    if not (np.isfinite(weight) and weight > 0):
        raise ConfigError(f"the weight of a record is {weight}, expected a number above 0", hint="leave the records out instead")


def require_one(n_replicates: int) -> None:
    """Refuse to repeat what is already several."""
    if n_replicates != 1:
        raise FitError(f"only a single training set can be repeated, these are {n_replicates}", hint="merge them as they are")


def require_records(weight: Floats, learner: str) -> None:
    """Refuse an empty training set."""
    if len(weight) == 0 or weight.min() <= 0:
        raise FitError(f"{learner} got no records", hint="give it at least one record")
