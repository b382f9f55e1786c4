"""Counts, exact in law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studbook.arrays import Batch, Floats, Kind, Space
from studbook.learners.checks import record_weights, require_fittable, require_kind, require_single, require_size, wrong_law
from studbook.learners.statistics import PoissonTotals, require_records
from studbook.theory.laws import Law, PoissonLaw


@dataclass(frozen=True, slots=True, eq=False)
class PoissonModel:
    """Fitted rates, one a replicate.

    Attributes:
        law: Rates ``(R,)``; 0 is extinct.
        space: What a record is.
    """

    law: PoissonLaw
    space: Space

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` independent records of a single model (R = 1).

        Raises:
            FitError: The model holds several replicates.
        """
        require_size(n, "n")
        require_single(self.law.n_replicates)
        return Batch(self.law.sample(n, rng=rng), self.space)

    def log_prob(self, batch: Batch) -> Floats:
        """Natural log of the probability of each record: ``(n,)``; an extinct law gives all of it to 0."""
        from scipy.special import gammaln, xlogy

        require_single(self.law.n_replicates)
        rate = self.law.rate[0]
        return xlogy(batch.values, rate) - rate - gammaln(batch.values + 1.0)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Poisson:
    """Fits the mean count.

    The sum of n counts is Poisson again, so a generation is one Poisson number: a Galton–Watson process that dies out for certain.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import counts
        >>> from studbook.learners.poisson import Poisson
        >>> Poisson().fit(counts(np.array([0, 3, 3])), rng=np.random.default_rng(0)).law.rate.tolist()
        [2.0]
    """

    def fit(self, data: Batch, *, rng: np.random.Generator) -> PoissonModel:
        """The mean count.

        Raises:
            FitError: Wrong kind, no records, or a negative count.
        """
        return self.estimate(self.summarise(data), data.space)

    def summarise(self, data: Batch) -> PoissonTotals:
        """Total weight and sum of real records (R = 1).

        Raises:
            FitError: As ``fit``.
        """
        require_fittable(data, (Kind.COUNTS,), "poisson")
        weights = record_weights(data)
        return PoissonTotals(weights.sum()[None], (weights @ data.values)[None])

    def draw(self, model: PoissonModel, n: int, *, rng: np.random.Generator) -> PoissonTotals:
        """The sum of ``n`` records of each replicate's law: Poisson with ``n`` times the rate."""
        require_size(n, "n")
        total = rng.poisson(n * model.law.rate).astype(np.float64)
        return PoissonTotals(np.full(len(total), float(n)), total)

    def estimate(self, statistics: PoissonTotals, space: Space) -> PoissonModel:
        """The fitted models for R training sets.

        Raises:
            FitError: A training set is empty.
        """
        require_records(statistics.weight, "poisson")
        return PoissonModel(PoissonLaw(statistics.total / statistics.weight), space)

    def from_law(self, law: Law, space: Space) -> PoissonModel:
        """The model whose law is ``law``.

        Raises:
            FitError: It isn't a ``PoissonLaw``.
        """
        require_kind(space, (Kind.COUNTS,), "poisson")
        if not isinstance(law, PoissonLaw):
            raise wrong_law("poisson", law)
        return PoissonModel(law, space)

    def refit(self, model: PoissonModel, n: int, *, rng: np.random.Generator) -> PoissonModel:
        """``estimate(draw(model, n))``: the next generation under replacement."""
        return self.estimate(self.draw(model, n, rng=rng), model.space)
