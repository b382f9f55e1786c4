"""From all pairs of hashes to error rates with bounds that know that pairs which share a picture aren't independent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.hamming import within
from studbook.theory import ClusteredRate, PairedTrials, cluster_bootstrap, upper_bound

How: TypeAlias = Literal["Clopper-Pearson", "cluster bootstrap", "per-image counts", "disjoint pairs"]
"""Where a bound comes from; see ``Bound``."""

LISTED = 1_000_000
"""Most close pairs of a scheme and setting that are listed."""
_BOOTSTRAPPED, _RESAMPLES = 100_000, 400


@dataclass(frozen=True, slots=True)
class Bound:
    """An error rate and what it is at most.

    Attributes:
        events: How often it happened.
        trials: Comparisons, or pictures.
        upper: One-sided upper bound of the rate.
        how: ``Clopper-Pearson``: each picture is a trial of its own. Of comparisons of different recipes, which share pictures:
            ``cluster bootstrap`` over pictures (``studbook.theory.cluster_bootstrap``); ``per-image counts``: the same variance by
            leaving out one picture at a time, and Clopper and Pearson on the effective number of trials; ``disjoint pairs``: Hoeffding's
            bound for as many comparisons as share no picture, where close pairs are too many to be listed.
    """

    events: int
    trials: int
    upper: float
    how: How

    @property
    def rate(self) -> float:
        """Events over trials."""
        return self.events / self.trials


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Which pictures may be compared as different recipes.

    Attributes:
        classes: ``(n,)`` place of each picture's class.
        same: Of one class, or of two.
    """

    classes: Ints
    same: bool

    @property
    def sizes(self) -> Ints:
        """Pictures of each class."""
        return np.bincount(self.classes)

    @property
    def partners(self) -> Ints:
        """``(n,)`` with how many others each picture is compared, once in each direction."""
        own: Ints = self.sizes[self.classes]
        return own - 1 if self.same else len(self.classes) - own

    @property
    def n_comparisons(self) -> int:
        """Comparisons of a picture of the reference with one of the setting."""
        return int(self.partners.sum())

    @property
    def n_disjoint(self) -> int:
        """Pairs of which no two share a picture."""
        if self.same:
            return int((self.sizes // 2).sum())
        return int(min(len(self.classes) // 2, len(self.classes) - self.sizes.max()))


@dataclass(frozen=True, slots=True, eq=False)
class ClosePairs:
    """Comparisons of different recipes within a radius, of one scheme and setting.

    Attributes:
        rows: ``(m,)`` picture of the reference.
        columns: ``(m,)`` picture of the setting.
        distances: ``(m,)`` in bits.
        reach: All comparisons of at most this distance are listed; -1: none.
    """

    rows: Ints
    columns: Ints
    distances: Ints
    reach: int

    def of(self, design: Design) -> ClosePairs:
        """Those of one class, or of two."""
        kept = (design.classes[self.rows] == design.classes[self.columns]) == design.same
        return ClosePairs(self.rows[kept], self.columns[kept], self.distances[kept], self.reach)


def list_close(reference: AnyArray, other: AnyArray, counts: Ints, *, threads: int, limit: int = LISTED) -> ClosePairs:
    """The closest comparisons of different recipes, to the largest distance to which all of them are within the limit.

    Args:
        reference: ``(n, n_bytes)`` hashes.
        other: ``(n, n_bytes)`` those of the same recipes in another setting.
        counts: ``(3, n_bits + 1)`` their histograms by group, see ``studbook.hamming.grouped_histogram``.
        threads: Of the CPU.
        limit: Most comparisons.
    """
    reach = int(np.searchsorted(np.cumsum(counts.sum(axis=0)), limit, side="right")) - 1
    if reach < 0:
        none = np.empty(0, np.int64)
        return ClosePairs(none, none, none, -1)
    reach = min(reach, counts.shape[1] - 1)
    found = within(reference, other, radius_bits=reach, threads=threads, limit=limit)
    wrong = found.rows != found.columns
    return ClosePairs(found.rows[wrong], found.columns[wrong], found.distances[wrong].astype(np.int64), reach)


def bound_missed(worst: Ints, radius: int, confidence: float) -> Bound:
    """How often an honest picture is beyond the radius in the worst of its environments: each recipe is a trial of its own."""
    events = int((worst > radius).sum())
    return Bound(events, len(worst), upper_bound(events, len(worst), confidence), "Clopper-Pearson")


def bound_accepted(distances: AnyArray, radius: int, confidence: float) -> Bound:
    """How often a picture is within the radius of the one that was promised."""
    events = int((distances <= radius).sum())
    return Bound(events, len(distances), upper_bound(events, len(distances), confidence), "Clopper-Pearson")


def collision_curve(close: ClosePairs, design: Design, counts: Ints, confidence: float) -> list[Bound]:
    """How often pictures of different recipes are within each radius 0 … ``n_bits``, of one setting.

    Args:
        close: The comparisons of this group that are listed.
        design: The group.
        counts: ``(n_bits + 1,)`` histogram of the group.
        confidence: Of each bound on its own.
    """
    n, total, curve = len(design.classes), design.n_comparisons, []
    degrees, by_distance = np.zeros(n), np.argsort(close.distances.astype(np.int16), kind="stable")
    ends = np.searchsorted(close.distances[by_distance], np.arange(len(counts)), side="right")
    events = start = 0
    for radius, count in enumerate(counts):
        events += int(count)
        if radius <= close.reach:
            added = by_distance[start : ends[radius]]
            start = int(ends[radius])
            degrees += np.bincount(close.rows[added], minlength=n) + np.bincount(close.columns[added], minlength=n)
            variance = float(np.square(degrees - 2.0 * events / total * design.partners).sum()) / total**2
            curve.append(Bound(events, total, _upper(events, design, variance, confidence), "per-image counts"))
        else:
            curve.append(_without_list(events, design, confidence))
    return curve


def bootstrap_collisions(
    close: ClosePairs, design: Design, radius: int, by_counts: Bound, *, confidence: float, rng: np.random.Generator
) -> Bound:
    """The bound at one radius by the bootstrap over pictures, or ``by_counts`` where pairs aren't listed or are too many for it.

    Classes are resampled one by one where pictures are compared within their class: that they are equally many was chosen, not drawn.
    """
    kept = close.distances <= radius
    if radius > close.reach or kept.sum() > _BOOTSTRAPPED:
        return by_counts
    rows, columns = close.rows[kept], close.columns[kept]
    if not design.same:
        # The bootstrap's trials are all pairs; those of one class can't be events, and their number is the design's.
        n = len(design.classes)
        variance = _bootstrap_variance(rows, columns, n, confidence, rng) * (n * (n - 1) / design.n_comparisons) ** 2
    else:
        variance = 0.0
        for label, size in enumerate(design.sizes.tolist()):
            members, own = np.flatnonzero(design.classes == label), design.classes[rows] == label
            first, second = np.searchsorted(members, rows[own]), np.searchsorted(members, columns[own])
            share = size * (size - 1) / design.n_comparisons
            variance += share**2 * _bootstrap_variance(first, second, size, confidence, rng)
    return Bound(len(rows), design.n_comparisons, _upper(len(rows), design, variance, confidence), "cluster bootstrap")


def _bootstrap_variance(rows: Ints, columns: Ints, n: int, confidence: float, rng: np.random.Generator) -> float:
    """Variance of the share of all comparisons of n pictures, once in each direction, that are events."""
    if not len(rows):
        return 0.0
    pairs, events = np.unique(np.minimum(rows, columns) * n + np.maximum(rows, columns), return_counts=True)
    # Each picture has two outputs, the reference's and the setting's: of the four comparisons of two pictures, half are made.
    trials = PairedTrials.complete(pairs // n, pairs % n, np.full(n, 2), events)
    found = cluster_bootstrap(trials, confidence, rng=rng, resamples=_RESAMPLES)
    return 4.0 * found.rate * (1.0 - found.rate) / found.effective_trials


def _upper(events: int, design: Design, variance: float, confidence: float) -> float:
    """Clopper and Pearson on the effective number of trials, and never below what no event among disjoint pairs would say."""
    total = design.n_comparisons
    rate = events / total
    effective = min(float(total), rate * (1.0 - rate) / variance) if variance > 0.0 else float(total)
    return max(upper_bound(rate * effective, effective, confidence), upper_bound(0, design.n_disjoint, confidence))


def _without_list(events: int, design: Design, confidence: float) -> Bound:
    total, n_disjoint = design.n_comparisons, design.n_disjoint
    known = ClusteredRate(events, total, len(design.classes), n_disjoint, float(n_disjoint), confidence, 0.0, 1.0)
    return Bound(events, total, known.distribution_free_upper if events < total else 1.0, "disjoint pairs")


def worst_of(bounds: Sequence[Bound]) -> Bound:
    """The one with the largest upper bound, the first among equals."""
    return max(bounds, key=lambda bound: bound.upper)
