"""Many unordered states, exact in law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studbook.arrays import Batch, Floats, Ints, Kind, Space
from studbook.errors import FitError
from studbook.learners.checks import record_weights, require_fittable, require_kind, require_single, require_size, wrong_law
from studbook.learners.statistics import CategoricalCounts, require_records
from studbook.theory.laws import CategoricalLaw, Law


@dataclass(frozen=True, slots=True, eq=False)
class CategoricalModel:
    """Fitted probabilities of the states that are alive, one law a replicate.

    Attributes:
        alive: The living states of each replicate, with weights that their probabilities are proportional to.
        space: What a record is.
    """

    alive: CategoricalCounts
    space: Space

    @property
    def law(self) -> CategoricalLaw:
        """The probabilities of all states ``(R, K)``, dead ones included; built at each call."""
        table = self.alive.dense()
        table /= self.alive.totals()[:, None]
        return CategoricalLaw(table)

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` independent records of a single model (R = 1), in random order.

        Raises:
            FitError: The model holds several replicates.
        """
        require_size(n, "n")
        require_single(self.alive.n_replicates)
        cumulative = np.cumsum(self.alive.counts)
        rows = np.searchsorted(cumulative[:-1] / cumulative[-1], rng.random(n), side="right")
        return Batch(self.alive.states[rows], self.space)

    def log_prob(self, batch: Batch) -> Floats:
        """Natural log of the probability of each record: ``(n,)``; minus infinity for a state that died."""
        require_single(self.alive.n_replicates)
        with np.errstate(divide="ignore"):
            return np.log(self.law.probabilities[0])[batch.values]  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Categorical:
    """Fits the share of each state; up to some 10⁶ states.

    A generation is one multinomial vector: the Wright–Fisher model of genetic drift. A state that isn't drawn is lost for good,
    and costs nothing from then on.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import states
        >>> from studbook.learners.categorical import Categorical
        >>> model = Categorical().fit(states(np.array([0, 2, 2, 2]), 4), rng=np.random.default_rng(0))
        >>> model.law.probabilities.tolist()
        [[0.25, 0.0, 0.75, 0.0]]
    """

    def fit(self, data: Batch, *, rng: np.random.Generator) -> CategoricalModel:
        """The share of each state.

        Raises:
            FitError: Wrong kind, no records, no states, or a record that is none of the states.
        """
        return self.estimate(self.summarise(data), data.space)

    def summarise(self, data: Batch) -> CategoricalCounts:
        """The counts of real records (R = 1).

        Raises:
            FitError: As ``fit``.
        """
        require_kind(data.space, (Kind.STATES,), "categorical")
        if data.space.n_states < 1:
            raise FitError("categorical got a space of no states", hint="set the space's n_states")
        require_fittable(data, (Kind.STATES,), "categorical")
        counts = np.bincount(data.values, record_weights(data), minlength=data.space.n_states)
        return CategoricalCounts.from_dense(counts[None].astype(np.float64))

    def draw(self, model: CategoricalModel, n: int, *, rng: np.random.Generator) -> CategoricalCounts:
        """The counts of ``n`` records of each replicate's law: multinomial."""
        require_size(n, "n")
        return self.draw_each(model, np.full(model.alive.n_replicates, n), rng=rng)

    def draw_each(self, model: CategoricalModel, sizes: Ints, *, rng: np.random.Generator) -> CategoricalCounts:
        """As ``draw``, with a number of records of its own for each replicate: ``sizes`` ``(R,)``, 0 or more."""
        from studbook.learners._count_kernels import multinomial_rows

        alive = model.alive
        # The kernel runs its own stream, four times faster than calls of the generator that seeds it.
        state = rng.integers(0, 2**64, 4, dtype=np.uint64)
        starts, states, counts = multinomial_rows(alive.starts, alive.states, alive.counts, sizes, state)
        return CategoricalCounts(starts, states, counts, alive.n_states)

    def estimate(self, statistics: CategoricalCounts, space: Space) -> CategoricalModel:
        """The fitted models for R training sets.

        Raises:
            FitError: A training set is empty.
        """
        require_records(np.diff(statistics.starts), "categorical")
        return CategoricalModel(statistics, space)

    def from_law(self, law: Law, space: Space) -> CategoricalModel:
        """The model whose law is ``law``.

        Raises:
            FitError: It isn't a ``CategoricalLaw`` on the space's states.
        """
        require_kind(space, (Kind.STATES,), "categorical")
        if not isinstance(law, CategoricalLaw) or law.probabilities.shape[1] != space.n_states:
            raise wrong_law("categorical", law)
        return CategoricalModel(CategoricalCounts.from_dense(law.probabilities), space)

    def refit(self, model: CategoricalModel, n: int, *, rng: np.random.Generator) -> CategoricalModel:
        """``estimate(draw(model, n))``: the next generation under replacement."""
        return self.estimate(self.draw(model, n, rng=rng), model.space)
