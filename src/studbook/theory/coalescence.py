"""One recursion for every mix: how variance turns into drift from generation to generation.

Two independent draws of generation t's model descend from the same real draw with probability F_t: the inbreeding coefficient of
population genetics (Wright 1931; Malécot 1948). A model that matches mean and second moment keeps the share 1 − F_t of the variance
and of the heterozygosity in expectation, and its mean has drifted by σ₀²·F_t.

The recursion works with expectations of squares of means and of pooled variances. Each part's mean is a base (the model's mean, the
original's, the law's or the pool's) plus sampling noise of its own; parts that share ancestors share a base, so their covariance is
carried along. The pooled variance is what lies within the parts plus what lies between them, never a difference of two second moments:
a variance of 1e-40 keeps all its digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from studbook.arrays import Floats
from studbook.theory.composition import Composition

Fit: TypeAlias = Callable[[Floats], tuple[Floats, Floats]]
"""How a fitted model's variance v follows from the pooled variance V (divisor N) of N records: from sizes to (a, b) with v = a·V + b."""


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """Expected squares over generations 0 to G, in units of the data squared.

    Attributes:
        drift: ``(G + 1,)`` E (μ_t − μ₀)².
        variance: ``(G + 1,)`` E σ_t², the model's variance.
    """

    drift: Floats
    variance: Floats


def match_moments(sizes: Floats) -> tuple[Floats, Floats]:
    """The fit that matches mean and second moment: v = V (maximum likelihood of a Gaussian or categorical model, EM of a mixture)."""
    return np.ones_like(sizes), np.zeros_like(sizes)


def expected_moments(
    composition: Composition,
    n_original: int,
    last: int,
    *,
    sampled: bool = True,
    variance: float = 1.0,
    fit: Fit = match_moments,
) -> Path:
    """Expected drift of the mean and expected variance of one coordinate, over generations 0 to ``last``.

    Exact for every law with a variance and every model that samples independently, whose mean is its training set's (weighted) mean
    and whose variance is an affine function of the pooled variance.

    Args:
        composition: What each generation ≥ 1 trains on.
        n_original: Size of the original data, which generation 0 is fitted to.
        last: Last generation, 0 or more.
        sampled: The original is ``n_original`` draws of a law, new for each replicate; else it is one finite set of records, taken as
            the truth: ``variance`` and the mean that drift is counted from are its own.
        variance: Variance of the law, or of the finite set (divisor n).
        fit: How the model's variance follows from the pooled variance.

    Returns:
        The path.

    References:
        S. Wright, Genetics 16 (1931); G. Malécot, "Les mathématiques de l'hérédité" (1948); for models: Q. Bertrand et al., "On the
        Stability of Iterative Retraining" (2024), S. Alemohammad et al., "Self-Consuming Generative Models Go MAD" (2024).

    Examples:
        >>> from studbook.theory import Composition, expected_moments
        >>> path = expected_moments(Composition(generated=95, fresh=5), 100, 2000)
        >>> round(float(path.variance[-1]), 4)
        0.9065
    """
    start = _Original.of(n_original, variance, sampled=sampled)
    walk = _walk_parts if composition.pool is None else _walk_pool
    return walk(composition, start, last, fit)


def coalescence(composition: Composition, n_original: int, last: int, *, sampled: bool = True) -> Floats:
    """F_t for generations 0 to ``last``: the probability that two draws of the model descend from the same real draw.

    Args:
        composition: What each generation ≥ 1 trains on.
        n_original: Size of the original data.
        last: Last generation, 0 or more.
        sampled: The original is ``n_original`` draws of a law (F₀ = 1/n_original); else a finite set that counts as the truth (F₀ = 0).

    Returns:
        ``(last + 1,)`` values in [0, 1].

    References:
        S. Wright, "Evolution in Mendelian populations", Genetics 16 (1931).

    Examples:
        >>> from studbook.theory import Composition, coalescence
        >>> coalescence(Composition(generated=10), 10, 2).round(4).tolist()
        [0.1, 0.19, 0.271]
    """
    return expected_moments(composition, n_original, last, sampled=sampled).drift


def expected_variance(composition: Composition, n_original: int, last: int, *, sampled: bool = True, variance: float = 1.0) -> Floats:
    """E σ_t² = σ₀²(1 − F_t) for generations 0 to ``last``: ``(last + 1,)``.

    Arguments as in ``expected_moments``, for a model that matches mean and second moment.

    References:
        S. Wright, Genetics 16 (1931); accumulation: M. Gerstgrasser et al. (2024), J. Kazdan et al. (2025).

    Examples:
        >>> from studbook.theory import Composition, expected_variance
        >>> expected_variance(Composition(generated=10), 10, 2, variance=4.0).round(3).tolist()
        [3.6, 3.24, 2.916]
    """
    return expected_moments(composition, n_original, last, sampled=sampled, variance=variance).variance


def expected_drift(composition: Composition, n_original: int, last: int, *, sampled: bool = True, variance: float = 1.0) -> Floats:
    """E (μ_t − μ₀)² = σ₀²·F_t for generations 0 to ``last``: ``(last + 1,)``.

    Arguments as in ``expected_moments``, for a model that matches mean and second moment.

    References:
        S. Wright, Genetics 16 (1931).

    Examples:
        >>> from studbook.theory import Composition, expected_drift
        >>> expected_drift(Composition(generated=10, pool=0), 10, 2).round(4).tolist()
        [0.1, 0.1225, 0.1322]
    """
    return expected_moments(composition, n_original, last, sampled=sampled, variance=variance).drift


def expected_heterozygosity(
    composition: Composition, n_original: int, last: int, *, sampled: bool = True, heterozygosity: float = 1.0
) -> Floats:
    """E (1 − Σp²) = H₀(1 − F_t) for generations 0 to ``last``: ``(last + 1,)``.

    Arguments as in ``expected_moments``; ``heterozygosity`` is H₀ of the law, or of the finite set of records.

    References:
        S. Wright, Genetics 16 (1931); J. Crow and M. Kimura, "An Introduction to Population Genetics Theory" (1970), section 7.3.

    Examples:
        >>> from studbook.theory import Composition, expected_heterozygosity
        >>> expected_heterozygosity(Composition(generated=100), 100, 1, heterozygosity=0.5).round(5).tolist()
        [0.495, 0.49005]
    """
    # The indicator of each state is a coordinate with variance p(1 − p), and these sum to H₀.
    return expected_variance(composition, n_original, last, sampled=sampled, variance=heterozygosity)


@dataclass(frozen=True, slots=True)
class _Original:
    """Expectations of the original data: size, law's variance, pooled variance (divisor n), and variance of their mean."""

    n: int
    law: float
    pooled: float
    mean: float

    @classmethod
    def of(cls, n: int, variance: float, *, sampled: bool) -> _Original:
        return cls(n, variance, variance * (n - 1) / n, variance / n) if sampled else cls(n, variance, variance, 0.0)


def _subset_noise(pooled: float, size: int, draw: int) -> float:
    """Variance of the mean of ``draw`` records, taken without replacement from ``size`` ones, around the mean of all."""
    return pooled * (size - draw) / (draw * (size - 1)) if size > 1 and draw else 0.0


def _subset_within(pooled: float, size: int, draw: int) -> float:
    """Expected variance (divisor ``draw``) within such a subset."""
    return pooled * size * (draw - 1) / ((size - 1) * draw) if size > 1 and draw else 0.0


def _walk_pool(composition: Composition, original: _Original, last: int, fit: Fit) -> Path:
    """The original and all generated records together, or a draw from them.

    The model's mean is the pool's mean plus ``scatter``, the noise of the draw, which is uncorrelated with the pool's mean.
    """
    new, draw = composition.generated, composition.pool or 0
    sizes = original.n + new * np.arange(last + 1)
    trained = np.where(np.arange(last + 1) == 0, original.n, draw) if draw else sizes
    slopes, offsets = (column.tolist() for column in fit(trained.astype(np.float64)))
    mean, pooled, scatter = original.mean, original.pooled, 0.0
    drift, variance = np.empty(last + 1), np.empty(last + 1)
    drift[0], variance[0] = mean, slopes[0] * pooled + offsets[0]
    model = float(variance[0])
    for index, size in enumerate(sizes[1:].tolist(), start=1):
        share, apart = new / size, scatter + model / new
        pooled = (1 - share) * pooled + share * model * (new - 1) / new + share * (1 - share) * apart
        mean += share * share * apart
        scatter = _subset_noise(pooled, size, draw)
        within = _subset_within(pooled, size, draw) if draw else pooled
        model = slopes[index] * within + offsets[index]
        drift[index], variance[index] = mean + scatter, model
    return Path(drift, variance)


def _walk_parts(composition: Composition, original: _Original, last: int, fit: Fit) -> Path:
    """Parts that are put together anew in each generation."""
    step = _Step.of(composition, original)
    trained = np.where(np.arange(last + 1) == 0, original.n, composition.size)
    slopes, offsets = (column.tolist() for column in fit(trained.astype(np.float64)))
    mean = shared = original.mean
    pooled, size = original.pooled, original.n
    model = slopes[0] * pooled + offsets[0]
    drift, variance = [mean], [model]
    for index in range(1, last + 1):
        mean, shared, pooled = step.advance(mean, shared, pooled, model, size)
        size = composition.size
        model = slopes[index] * pooled + offsets[index]
        drift.append(mean)
        variance.append(model)
    return Path(np.array(drift), np.array(variance))


@dataclass(frozen=True, slots=True)
class _Step:
    """One generation's composition with everything that doesn't change from generation to generation."""

    parts: Composition
    shares: tuple[float, float, float, float]
    original_mean: float
    law: float
    fresh_noise: float
    original_noise: float
    real_within: float

    @classmethod
    def of(cls, parts: Composition, original: _Original) -> _Step:
        _, fresh, kept, _ = shares = parts.shares
        within = fresh * original.law * (parts.fresh - 1) / parts.fresh if parts.fresh else 0.0
        within += kept * _subset_within(original.pooled, original.n, parts.original)
        return cls(
            parts,
            shares,
            original.mean,
            original.law,
            original.law / parts.fresh if parts.fresh else 0.0,
            _subset_noise(original.pooled, original.n, parts.original),
            within,
        )

    def advance(self, mean: float, shared: float, pooled: float, model: float, size: int) -> tuple[float, float, float]:
        """From one generation to the next.

        Args:
            mean: E (μ − μ₀)² of the model.
            shared: Covariance of the model's mean and the original's mean.
            pooled: Expected variance of the training set of ``size`` records.
            model: Expected variance of the model.
            size: Records in the training set.

        Returns:
            ``mean``, ``shared`` and ``pooled`` of the next training set.
        """
        parts = self.parts
        new, fresh, kept, old = self.shares
        own = new + old
        new_noise = model / parts.generated if parts.generated else 0.0
        old_noise = _subset_noise(pooled, size, parts.previous)
        noise = (new_noise, self.fresh_noise, self.original_noise, old_noise)
        within = self.real_within + old * _subset_within(pooled, size, parts.previous)
        if parts.generated:
            within += new * model * (parts.generated - 1) / parts.generated
        between = sum(share * (1 - share) * value for share, value in zip(self.shares, noise, strict=True))
        from_original = mean + self.original_mean - 2 * shared
        between += own * kept * from_original + own * fresh * mean + kept * fresh * self.original_mean
        drift = own * own * mean + kept * kept * self.original_mean + 2 * own * kept * shared
        drift += sum(share * share * value for share, value in zip(self.shares, noise, strict=True))
        return drift, own * shared + kept * self.original_mean, within + between
