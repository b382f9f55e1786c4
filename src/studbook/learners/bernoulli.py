"""Two states, exact in law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studbook.arrays import Batch, Floats, Kind, Space
from studbook.errors import FitError
from studbook.learners.checks import record_weights, require_fittable, require_kind, require_single, require_size, wrong_law
from studbook.learners.statistics import BinaryCounts, require_records
from studbook.theory.laws import CategoricalLaw, Law


@dataclass(frozen=True, slots=True, eq=False)
class BernoulliModel:
    """Fitted probabilities of success, one a replicate.

    Attributes:
        law: Probabilities ``(R, 2)`` of failure and success; 0 or 1 is a collapsed model.
        space: What a record is.
    """

    law: CategoricalLaw
    space: Space

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` independent records of a single model (R = 1).

        Raises:
            FitError: The model holds several replicates.
        """
        require_size(n, "n")
        require_single(self.law.n_replicates)
        return Batch((rng.random(n) < self.law.probabilities[0, 1]).astype(np.int64), self.space)

    def log_prob(self, batch: Batch) -> Floats:
        """Natural log of the probability of each record: ``(n,)``; minus infinity for a state that died."""
        require_single(self.law.n_replicates)
        with np.errstate(divide="ignore"):
            return np.log(self.law.probabilities[0])[batch.values]  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Bernoulli:
    """Fits the share of successes: a coin that learns from its own throws.

    A generation is one binomial number: the Wright–Fisher model of one gene with two alleles.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import states
        >>> from studbook.learners.bernoulli import Bernoulli
        >>> model = Bernoulli().fit(states(np.array([0, 1, 1, 1]), 2), rng=np.random.default_rng(0))
        >>> model.law.probabilities.tolist()
        [[0.25, 0.75]]
    """

    def fit(self, data: Batch, *, rng: np.random.Generator) -> BernoulliModel:
        """The share of successes.

        Raises:
            FitError: Not two states, no records, or a record that is neither 0 nor 1.
        """
        return self.estimate(self.summarise(data), data.space)

    def summarise(self, data: Batch) -> BinaryCounts:
        """The counts of real records (R = 1).

        Raises:
            FitError: As ``fit``.
        """
        _require_two_states(data.space)
        require_fittable(data, (Kind.STATES,), "bernoulli")
        return BinaryCounts(np.bincount(data.values, record_weights(data), minlength=2)[None].astype(np.float64))

    def draw(self, model: BernoulliModel, n: int, *, rng: np.random.Generator) -> BinaryCounts:
        """The counts of ``n`` records of each replicate's law: binomial."""
        require_size(n, "n")
        successes = rng.binomial(n, np.clip(model.law.probabilities[:, 1], 0.0, 1.0))
        counts = np.empty((len(successes), 2))
        counts[:, 1] = successes
        counts[:, 0] = n - successes
        return BinaryCounts(counts)

    def estimate(self, statistics: BinaryCounts, space: Space) -> BernoulliModel:
        """The fitted models for R training sets.

        Raises:
            FitError: A training set is empty.
        """
        totals = statistics.counts.sum(axis=1)
        require_records(totals, "bernoulli")
        return BernoulliModel(CategoricalLaw(statistics.counts / totals[:, None]), space)

    def from_law(self, law: Law, space: Space) -> BernoulliModel:
        """The model whose law is ``law``.

        Raises:
            FitError: It isn't a ``CategoricalLaw`` on two states.
        """
        _require_two_states(space)
        if not isinstance(law, CategoricalLaw) or law.probabilities.shape[1] != 2:
            raise wrong_law("bernoulli", law)
        return BernoulliModel(law, space)

    def refit(self, model: BernoulliModel, n: int, *, rng: np.random.Generator) -> BernoulliModel:
        """``estimate(draw(model, n))``: the next generation under replacement."""
        return self.estimate(self.draw(model, n, rng=rng), model.space)


def _require_two_states(space: Space) -> None:
    require_kind(space, (Kind.STATES,), "bernoulli")
    if space.n_states != 2:
        raise FitError(f"bernoulli models 2 states, the data have {space.n_states}", hint="choose the learner 'categorical'")
