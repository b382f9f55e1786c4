"""Normal distributions with a full covariance, exact in law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studbook.arrays import Batch, Floats, Kind, Space
from studbook.errors import ConfigError, FitError
from studbook.learners._normal import Whitener, covariance_root
from studbook.learners.checks import record_weights, require_fittable, require_kind, require_single, require_size, require_varied, wrong_law
from studbook.learners.statistics import GaussianMoments, require_records
from studbook.theory.laws import GaussianLaw, Law

_KINDS = (Kind.NUMBERS, Kind.IMAGES)


@dataclass(frozen=True, slots=True, eq=False)
class GaussianModel:
    """Fitted normal distributions, one a replicate.

    Attributes:
        law: Mean ``(R, d)`` and covariance ``(R, d, d)``; a variance of 0 is a collapsed model.
        space: What a record is.
    """

    law: GaussianLaw
    space: Space

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` independent records of a single model (R = 1).

        Raises:
            FitError: The model holds several replicates.
        """
        require_size(n, "n")
        require_single(self.law.n_replicates)
        return Batch(self.law.sample(n, rng=rng).reshape(n, *self.space.shape), self.space)

    def log_prob(self, batch: Batch) -> Floats:
        """Natural log of the density ``(n,)``; of a singular law the density on the subspace where it lives, 0 off it."""
        require_single(self.law.n_replicates)
        return Whitener.of(self.law.covariance[0]).log_density(batch.flat - self.law.mean[0])


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Fits the sample mean and covariance; any dimension, pictures as vectors of pixels.

    With all samples replaced, a generation is one normal vector and one Wishart matrix (Bartlett 1933), whatever the number of
    samples: in one dimension ``σ² ← σ² χ²_{N−1} / (N − ddof)``.

    Attributes:
        ddof: The covariance is the scatter divided by the total weight less this. 0 is maximum likelihood, 1 is unbiased.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.learners.gaussian import Gaussian
        >>> rng = np.random.default_rng(0)
        >>> model = Gaussian(ddof=1).fit(numbers(np.array([1.0, 2.0, 3.0])), rng=rng)
        >>> model.law.mean.item(), model.law.covariance.item()
        (2.0, 1.0)
        >>> Gaussian().refit(model, 10**12, rng=rng).law.covariance.shape  # in microseconds
        (1, 1, 1)
    """

    ddof: int = 0

    def __post_init__(self) -> None:
        if self.ddof < 0:
            raise ConfigError(f"ddof is {self.ddof}, expected 0 or more", hint="0 is maximum likelihood, 1 is unbiased")

    def check_original(self, data: Batch) -> None:
        """Refuse original data without variance.

        Raises:
            FitError: One record, or a constant column; the message names it.
        """
        require_fittable(data, _KINDS, "gaussian")
        require_varied(data, "gaussian")

    def fit(self, data: Batch, *, rng: np.random.Generator) -> GaussianModel:
        """The normal distribution with the data's mean and covariance.

        Raises:
            FitError: Wrong kind, no records, NaN or infinity, or a total weight of ``ddof`` or less.
        """
        return self.estimate(self.summarise(data), data.space)

    def summarise(self, data: Batch) -> GaussianMoments:
        """Total weight, mean and scatter of real records (R = 1).

        Raises:
            FitError: As ``fit``, the check of ``ddof`` apart.
        """
        require_fittable(data, _KINDS, "gaussian")
        weights = record_weights(data)
        total = weights.sum()
        mean = (weights @ data.flat) / total
        deviations = data.flat - mean
        # The second pass removes what rounding left of the mean: equal records have a scatter of exactly 0.
        slip = (weights @ deviations) / total
        deviations -= slip
        scatter = (deviations * weights[:, None]).T @ deviations
        return GaussianMoments(total[None], (mean + slip)[None], 0.5 * (scatter + scatter.T)[None])

    def draw(self, model: GaussianModel, n: int, *, rng: np.random.Generator) -> GaussianMoments:
        """The moments of ``n`` records of each replicate's law: a normal mean and an independent Wishart scatter."""
        require_size(n, "n")
        law = model.law
        weight = np.full(law.n_replicates, float(n))
        if n == 0:
            return GaussianMoments(weight, np.zeros_like(law.mean), np.zeros_like(law.covariance))
        if law.mean.shape[1] == 1:
            return GaussianMoments(weight, *_draw_single(law, n, rng))
        root = covariance_root(law.covariance)
        noise = rng.standard_normal((*law.mean.shape, 1))
        mean = law.mean + (root @ noise)[..., 0] / np.sqrt(n)
        factor = root @ wishart_factor(law.n_replicates, law.mean.shape[1], n - 1, rng=rng)
        return GaussianMoments(weight, mean, factor @ factor.swapaxes(1, 2))

    def estimate(self, statistics: GaussianMoments, space: Space) -> GaussianModel:
        """The fitted models for R training sets.

        Raises:
            FitError: A training set's total weight is ``ddof`` or less.
        """
        require_records(statistics.weight, "gaussian")
        spare = statistics.weight - self.ddof
        if spare.min() <= 0:
            raise FitError(
                f"gaussian with ddof = {self.ddof} got records with a total weight of {statistics.weight.min():g}",
                hint="give it more records or a smaller ddof",
            )
        return GaussianModel(GaussianLaw(statistics.mean, statistics.scatter / spare[:, None, None]), space)

    def from_law(self, law: Law, space: Space) -> GaussianModel:
        """The model whose law is ``law``.

        Raises:
            FitError: It isn't a ``GaussianLaw``, or the space isn't numbers or images.
        """
        require_kind(space, _KINDS, "gaussian")
        if not isinstance(law, GaussianLaw):
            raise wrong_law("gaussian", law)
        return GaussianModel(law, space)

    def refit(self, model: GaussianModel, n: int, *, rng: np.random.Generator) -> GaussianModel:
        """``estimate(draw(model, n))``: the next generation under replacement, with the same random numbers."""
        if model.law.mean.shape[1] != 1 or n <= self.ddof:
            return self.estimate(self.draw(model, n, rng=rng), model.space)
        mean, scatter = _draw_single(model.law, n, rng)
        scatter /= n - self.ddof
        return GaussianModel(GaussianLaw(mean, scatter), model.space)


def _draw_single(law: GaussianLaw, n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Mean ``(R, 1)`` and scatter ``(R, 1, 1)`` in one dimension: one normal and one chi-square a replicate."""
    mean = rng.standard_normal((law.n_replicates, 1))
    mean *= np.sqrt(law.covariance[:, :, 0] / n)
    mean += law.mean
    if n == 1:
        return mean, np.zeros_like(law.covariance)
    scatter = rng.standard_gamma(0.5 * (n - 1), (law.n_replicates, 1, 1))
    scatter *= law.covariance
    scatter *= 2.0
    return mean, scatter


def wishart_factor(n_replicates: int, dimension: int, degrees: int, *, rng: np.random.Generator) -> Floats:
    """Lower trapezoids ``T`` with ``T @ T.T`` Wishart of unit scale (Bartlett's decomposition).

    Args:
        n_replicates: R.
        dimension: d.
        degrees: Degrees of freedom m, 0 or more. With m < d the matrix is singular: only the first m columns aren't 0, which is
            the LQ factor of a ``(d, m)`` normal matrix.
        rng: Stream.

    Returns:
        ``(R, d, d)``: below the diagonal normal, on it the root of a chi-square with m, m − 1, … degrees of freedom.
    """
    rank = min(dimension, degrees)
    factor = np.zeros((n_replicates, dimension, dimension))
    below = np.tril_indices(dimension, -1)
    rows, columns = below[0][below[1] < rank], below[1][below[1] < rank]
    factor[:, rows, columns] = rng.standard_normal((n_replicates, len(rows)))
    diagonal = np.arange(rank)
    factor[:, diagonal, diagonal] = np.sqrt(rng.chisquare(degrees - diagonal, (n_replicates, rank)))
    return factor
