"""Medians, and the records that a filter keeps: what robust fits are made of. Records are rows; weights are positive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Floats

MAD_FACTOR = 1.4826022185056018
"""1/Φ⁻¹(3/4): makes the median absolute deviation a standard deviation at the normal law."""
TAIL = 0.01
"""Share of normal records that lie beyond the filter's limit, along all directions together."""
_SMALL_SAMPLE = 1.2  # times 1/n, what the noise of the limit costs the variance: measured 1.5 in one dimension, 1.1 in 8, .8 in 64
_DEAD = 1e-9  # a direction whose scale is this much smaller than the widest has none
_MAD_NOISE = 1.86  # std of log(variance / MAD²) times √n at the normal law: 2·√((1/(2·.3675) − 1/2)), efficiency .3675
_NOISE_LIMIT = 4.0
_MAX_ROUNDS = 64
_MAX_PASSES = 2
_FEW = 3 * TAIL
_MAX_STEPS = 500
_TOLERANCE = 1e-10


def weighted_median(values: Floats, weights: Floats) -> Floats:
    """The coordinate-wise median of ``(n, d)`` with weights ``(n,)``: ``(d,)``; the middle of the two where half the weight is below.

    Examples:
        >>> import numpy as np
        >>> weighted_median(np.array([[0.0], [1.0], [5.0]]), np.array([1.0, 1.0, 2.0])).tolist()
        [3.0]
    """
    if weights.min() == weights.max():
        return np.median(values, axis=0)
    order = np.argsort(values, axis=0, kind="stable")
    ranked = np.take_along_axis(values, order, axis=0)
    below = np.cumsum(weights[order], axis=0)
    half, slack = 0.5 * below[-1], 1e-12 * below[-1]
    columns = np.arange(values.shape[1])
    low, high = (below < half - slack).sum(axis=0), (below <= half + slack).sum(axis=0)
    return 0.5 * ranked[low, columns] + 0.5 * ranked[np.minimum(high, len(values) - 1), columns]  # type: ignore[no-any-return]


def median_deviation(values: Floats, centre: Floats, weights: Floats) -> Floats:
    """The median absolute deviation of each column, as a standard deviation at the normal law: ``(d,)``."""
    return MAD_FACTOR * weighted_median(np.abs(values - centre), weights)


def column_scales(values: Floats, centre: Floats, weights: Floats) -> Floats:
    """A positive unit for each column: its median absolute deviation, where that is 0 its mean one, else 1."""
    scales = median_deviation(values, centre, weights)
    mean = weights @ np.abs(values - centre) / weights.sum()
    return np.where(scales > 0, scales, np.where(mean > 0, mean, 1.0))


def geometric_median(values: Floats, weights: Floats) -> Floats:
    """The point with the smallest weighted sum of distances to the records ``(n, d)``: ``(d,)``.

    Weiszfeld's iteration in the form of Vardi and Zhang (2000), which goes on where a step lands on a record, from the coordinate-wise
    median. It stops where a step is below 1e-10 of the median distance, or after 500 steps.

    Examples:
        >>> import numpy as np
        >>> corners = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> geometric_median(corners, np.ones(4)).round(6).tolist()
        [1.0, 1.0]
    """
    at = weighted_median(values, weights)
    if values.shape[1] == 1:
        return at  # the same point, without an iteration that is slow on a line
    for _ in range(_MAX_STEPS):
        step = _vardi_zhang_step(values, weights, at)
        at = at + step
        if np.abs(step).max() <= _TOLERANCE * np.median(np.abs(values - at).max(axis=1)):
            break
    return at


def _vardi_zhang_step(values: Floats, weights: Floats, at: Floats) -> Floats:
    """From a point to the next one; 0 at the geometric median."""
    deviations = values - at
    with np.errstate(over="ignore"):
        distances = np.sqrt(np.einsum("nd,nd->n", deviations, deviations))
    apart = distances > 0
    pulls = np.divide(weights, distances, out=np.zeros_like(distances), where=apart)
    if not pulls.any():
        return np.zeros_like(at)
    towards: Floats = pulls @ deviations
    held, force = float(weights[~apart].sum()), float(np.linalg.norm(towards))
    if held >= force:
        return np.zeros_like(at)
    return towards * ((1.0 - held / force) / float(pulls.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What a filter keeps.

    Attributes:
        rows: ``(n,)`` bool.
        correction: What the covariance of the kept records is multiplied by, to be that of all at the normal law; 1 or more.
    """

    rows: NDArray[np.bool_]
    correction: float


def keep_records(values: Floats, weights: Floats, contamination: float) -> Kept:
    """Leave out what is far away, and what makes a direction wider than it may be.

    1. Coordinates: the eigenvectors of the spatial signs' covariance about the median (Locantore et al. 1999; Visuri, Koivunen and Oja
       2000), each with its median and its median absolute deviation.
    2. Distance: a record goes if its squared distance in these coordinates, scaled so that their median is the chi-square's, is beyond
       the chi-square's quantile at 1 − ``TAIL``.
    3. Spectrum (Diakonikolas et al. 2017, 2019): while the covariance of what is left has eigenvalues above (1 + √(d/n))² times a margin
       for the noise of the scales, the records far out along these eigenvectors go. The rule stops where no eigenvalue is above the bound,
       no record is far out, or the records that may go are used up.
    4. Where more than three per cent went, all once more, in the coordinates of those that are left: outside records tilt the first.

    Args:
        values: ``(n, d)``, finite.
        weights: ``(n,)``.
        contamination: Largest share of outside records; this share of the weight and ``TAIL`` may go, the farthest first.
    """
    total = float(weights.sum())
    kept, rank = np.ones(len(values), bool), 0
    for _ in range(_MAX_PASSES):
        white, found = _whiten(values, weights, kept)
        if found == 0:
            break
        rank = found
        kept = _filter(white, weights, (contamination + TAIL) * total, rank)
        if float(weights[~kept].sum()) <= _FEW * total:
            break
    return Kept(kept, _correct(weights, rank) if rank else 1.0)


def _correct(weights: Floats, rank: int) -> float:
    """The normal law's variance over that of its part within the limit (Croux and Haesbroeck 1999), and for small samples a little more."""
    from scipy.special import chdtr, chdtri

    limit = float(chdtri(rank, TAIL))
    small = 1.0 + _SMALL_SAMPLE * float(weights @ weights) / float(weights.sum()) ** 2
    return small * float(chdtr(rank, limit) / chdtr(rank + 2, limit))


def _filter(white: Floats, weights: Floats, budget: float, rank: int) -> NDArray[np.bool_]:
    """Steps 2 and 3: the rows that are kept."""
    kept = np.ones(len(white), bool)
    budget -= _drop_by_distance(kept, white, weights, budget, rank)
    for _ in range(_MAX_ROUNDS):
        gone = _drop_along_spectrum(kept, white, weights, budget, rank)
        if gone == 0.0:
            break
        budget -= gone
    return kept


def _whiten(everything: Floats, all_weights: Floats, rows: NDArray[np.bool_]) -> tuple[Floats, int]:
    """Coordinates ``(n, d)`` in which the records at ``rows`` have unit scale, and in how many directions they have a scale."""
    values, weights = everything[rows], all_weights[rows]
    centre = weighted_median(values, weights)
    units = column_scales(values, centre, weights)
    scaled = (values - centre) / units
    # By the largest coordinate first: the square of a far one would leave the range of doubles.
    largest = np.abs(scaled).max(axis=1, keepdims=True)
    signs = np.divide(scaled, largest, out=np.zeros_like(scaled), where=largest > 0)
    signs /= np.maximum(np.linalg.norm(signs, axis=1, keepdims=True), 1.0)
    axes = np.linalg.eigh((signs * weights[:, None]).T @ signs)[1]
    along = scaled @ axes
    middle = weighted_median(along, weights)
    scales = median_deviation(along, middle, weights)
    alive = scales > _DEAD * scales.max(initial=0.0)
    if not alive.any():
        return everything, 0
    along = (everything - centre) / units @ axes - middle
    along[:, ~alive] = np.where(np.abs(along[:, ~alive]) > _DEAD * scales.max(), along[:, ~alive], 0.0)
    # Where over half of the records are equal, the usual scale says how far out the others are.
    return along / np.where(alive, scales, np.median(scales[alive])), int(alive.sum())


def _drop_by_distance(kept: NDArray[np.bool_], white: Floats, weights: Floats, budget: float, rank: int) -> float:
    """The weight of what went from ``kept``."""
    from scipy.special import chdtri

    with np.errstate(over="ignore"):
        squares = np.einsum("nd,nd->n", white, white)
    middle = float(weighted_median(squares[:, None], weights)[0])
    if middle == 0.0:  # over half of the records are equal
        return 0.0
    limit = middle * float(chdtri(rank, TAIL) / chdtri(rank, 0.5))
    return _drop(kept, np.arange(len(squares)), squares, limit, weights, budget)


def _drop_along_spectrum(kept: NDArray[np.bool_], white: Floats, weights: Floats, budget: float, rank: int) -> float:
    """One round: the weight of what went from ``kept``."""
    from scipy.special import chdtri

    rows = np.flatnonzero(kept)
    points, shares = white[rows], weights[rows] / weights[rows].sum()
    deviations = points - shares @ points
    eigenvalues, vectors = np.linalg.eigh((deviations * shares[:, None]).T @ deviations)
    n = 1.0 / float(shares @ shares)
    high = eigenvalues > (1.0 + np.sqrt(rank / n)) ** 2 * (1.0 + _NOISE_LIMIT * _MAD_NOISE / np.sqrt(n))
    if not high.any():
        return 0.0
    along = deviations @ vectors[:, high]
    middle = weighted_median(along, shares)
    scales = median_deviation(along, middle, shares)
    far = np.abs(along - middle) / np.where(scales > 0, scales, 1.0)
    return _drop(kept, rows, far.max(axis=1) ** 2, float(chdtri(1, TAIL / high.sum())), weights, budget)


def _drop(kept: NDArray[np.bool_], rows: NDArray[np.int64], scores: Floats, limit: float, weights: Floats, budget: float) -> float:
    """Take the rows with scores above the limit out of ``kept``, the highest first, as far as the budget goes: the weight that went."""
    beyond = np.flatnonzero(scores > limit)
    beyond = beyond[np.argsort(-scores[beyond], kind="stable")]
    spent = np.cumsum(weights[rows[beyond]])
    fits = int(np.searchsorted(spent, budget, side="right"))
    kept[rows[beyond[:fits]]] = False
    return float(spent[fits - 1]) if fits else 0.0
