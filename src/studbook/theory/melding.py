"""Confidence distributions of rates, drawn on a fixed lattice, so that intervals of what follows from several rates need no luck."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Floats

POINTS = 1 << 14
_MANY = 400.0
_REACH = 6.0
_NODES = 193


@lru_cache(maxsize=8)
def lattice(dimensions: int, points: int = POINTS) -> Floats:
    """Points that fill the unit cube evenly ``(points, dimensions)``: multiples of powers of the generalised golden ratio.

    References:
        M. Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018), after H. Niederreiter's Kronecker sequences.
    """
    ratio = 2.0
    for _ in range(64):
        ratio = (1.0 + ratio) ** (1.0 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1)
    cube: Floats = (0.5 + np.arange(1, points + 1)[:, None] * steps) % 1.0
    cube.setflags(write=False)
    return cube


def rate_draws(events: float, trials: float, uniform: Floats) -> Floats:
    """Draws of a rate from its mid-p confidence distribution, one for each uniform number.

    Half of them come from Beta(x, n − x + 1), whose quantiles are Clopper and Pearson's lower ends, half from Beta(x + 1, n − x) with the
    upper ones: what is drawn is neither pushed up nor down by the jumps of the binomial law. Quantiles are interpolated between nodes.
    """
    from scipy.special import betaincinv, ndtr, ndtri

    nodes = np.linspace(-_REACH, _REACH, _NODES)
    shares = ndtr(nodes)
    low = betaincinv(events, trials - events + 1, shares) if events > 0 else np.zeros(_NODES)
    high = betaincinv(events + 1, trials - events, shares) if events < trials else np.ones(_NODES)
    lower = uniform < 0.5
    places = ndtri(np.where(lower, 2.0 * uniform, 2.0 * uniform - 1.0))
    found: Floats = np.where(lower, np.interp(places, nodes, low), np.interp(places, nodes, high))
    return found


def count_draws(trials: Floats, rate: Floats, uniform: Floats) -> Floats:
    """Binomial counts, one for each uniform number; with a variance above 400 by the normal law with its first correction for skewness."""
    from scipy.special import ndtri
    from scipy.stats import binom

    found: Floats = _by_skewness(trials * rate, trials * rate * (1.0 - rate), 1.0 - 2.0 * rate, ndtri(uniform))
    few = (trials * rate * (1.0 - rate) < _MANY) & (trials >= 0.0)
    if few.any():
        found[few] = binom.ppf(uniform[few], np.rint(trials[few]), rate[few])
    return np.clip(found, 0.0, trials)


def miss_draws(hits: Floats, rate: Floats, uniform: Floats) -> Floats:
    """How many were missed where ``hits`` were hit, each with probability ``rate``: the mid-p confidence distribution of that count.

    Half of the draws are negative binomial until the last hit, half until the one after it.
    """
    from scipy.special import ndtri
    from scipy.stats import nbinom

    late = uniform >= 0.5
    uniform = np.where(late, 2.0 * uniform - 1.0, 2.0 * uniform)
    hits = hits + late
    odds = (1.0 - rate) / rate
    variance = hits * odds / rate
    found: Floats = _by_skewness(hits * odds, variance, (2.0 - rate) / rate, ndtri(uniform))
    few = (variance < _MANY) & (hits > 0.0)
    if few.any():
        found[few] = nbinom.ppf(uniform[few], hits[few], rate[few])
    return np.where(hits > 0.0, np.maximum(found, 0.0), 0.0)


def _by_skewness(mean: Floats, variance: Floats, skew: Floats, normal: Floats) -> Floats:
    found: Floats = mean + np.sqrt(np.maximum(variance, 0.0)) * normal + skew * (normal**2 - 1.0) / 6.0
    return found


@dataclass(frozen=True, slots=True, eq=False)
class CorpusDraws:
    """What a corpus's hits may stand for, draw by draw.

    Attributes:
        generated: Generated records among those looked at; may be below 0 or above their number.
        false_hits: Human records among the hits; may be more than the hits.
        misses: Generated records among the others; below 0 where there were too many false hits.
        told: Whether the draw tells anything, its TPR being above its FPR.
    """

    generated: Floats
    false_hits: Floats
    misses: Floats
    told: NDArray[np.bool_]


def corpus_draws(hits: int, records: int, tpr: Floats, fpr: Floats, uniform: Floats) -> CorpusDraws:
    """Split hits and others of a given corpus by origin: false hits are drawn from the human records, misses from the generated ones.

    Args:
        hits: Records that were hit.
        records: Records that were looked at.
        tpr: Draws of the rate among generated records ``(k,)``.
        fpr: Among human ones.
        uniform: Numbers of the unit square ``(k, 2)``.
    """
    told = tpr > fpr
    first = np.clip((hits - records * fpr) / np.where(told, tpr - fpr, 1.0), 0.0, records)
    false_hits = count_draws(records - first, fpr, uniform[:, 0])
    true_hits = hits - false_hits
    rate = np.where(told, tpr, 1.0)
    # Uncut: sums over several tests would be too high if each were kept from being negative.
    misses = miss_draws(np.maximum(true_hits, 0.0), rate, uniform[:, 1]) + np.minimum(true_hits, 0.0) * (1.0 / rate - 1.0)
    # Where more were generated than supposed, fewer are human and make fewer false hits, so that still more were generated: the error is
    # that of false hits and misses over TPR − FPR, not over TPR.
    more = fpr * (true_hits + misses - first) * np.where(told, tpr / np.where(told, tpr - fpr, 1.0), 1.0)
    false_hits, true_hits, misses = false_hits - more, true_hits + more, misses + more * (1.0 / rate - 1.0)
    return CorpusDraws(true_hits + misses, false_hits, misses, told)


def ends(low: Floats, high: Floats, confidence: float, weights: Floats | None = None) -> tuple[float, float]:
    """Ends of the central interval: a quantile of ``low`` and one of ``high``, which differ where a draw leaves the value open."""
    side = (1.0 - confidence) / 2.0
    return quantile(low, side, weights), quantile(high, 1.0 - side, weights)


def quantile(values: Floats, share: float, weights: Floats | None = None) -> float:
    """The value below which a share of the (weighted) draws lies."""
    order = np.argsort(values, kind="stable")
    mass = np.ones(values.size) if weights is None else weights[order]
    total = np.cumsum(mass)
    place = int(np.searchsorted(total, share * total[-1], side="left"))
    return float(values[order[min(place, values.size - 1)]])
