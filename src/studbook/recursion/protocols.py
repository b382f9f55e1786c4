"""What recursion asks of a model family. Learners conform by shape; nothing is inherited."""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

import numpy as np

from studbook.arrays import Batch, Space
from studbook.theory.laws import Law


class Model(Protocol):
    """A fitted model of one space."""

    @property
    def space(self) -> Space:
        """The space of the records that it generates."""
        ...

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` independent records, in random order."""
        ...


@runtime_checkable
class LawModel(Protocol):
    """A model whose law is known in closed form, for R replicates at once."""

    @property
    def space(self) -> Space: ...
    @property
    def law(self) -> Law: ...
    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` records of a single law (R = 1)."""
        ...


class Learner(Protocol):
    """A model family with its hyper-parameters: a frozen dataclass."""

    def fit(self, data: Batch, *, rng: np.random.Generator) -> Model:
        """The model fitted to ``data``.

        Raises:
            FitError: The data can't be fitted; the message says which records.
        """
        ...


class Statistics(Protocol):
    """Sufficient statistics of R training sets (one a replicate), in memory independent of their size."""

    @property
    def n_replicates(self) -> int:
        """R."""
        ...

    def merge(self, other: Self) -> Self:
        """The statistics of the two training sets put together."""
        ...

    def scaled(self, weight: float) -> Self:
        """The statistics with every record's weight multiplied by ``weight``."""
        ...

    def repeat(self, n_replicates: int) -> Self:
        """One training set's statistics (R = 1) for ``n_replicates`` replicates."""
        ...


@runtime_checkable
class Subsampled(Protocol):
    """Statistics that know the law of a draw without replacement (counts: multivariate hypergeometric)."""

    def subsample(self, n: int, *, rng: np.random.Generator) -> Self:
        """The statistics of ``n`` records drawn without replacement."""
        ...


@runtime_checkable
class LawLearner(Protocol):
    """A learner that is exact in law: training sets are drawn as sufficient statistics, never as records."""

    def fit(self, data: Batch, *, rng: np.random.Generator) -> LawModel: ...

    def summarise(self, data: Batch) -> Statistics:
        """The sufficient statistics of real records (R = 1).

        Raises:
            FitError: As ``fit``.
        """
        ...

    def draw(self, model: LawModel, n: int, *, rng: np.random.Generator) -> Statistics:
        """The sufficient statistics of ``n`` independent records of each replicate's law, in time independent of ``n``."""
        ...

    def estimate(self, statistics: Statistics, space: Space) -> LawModel:
        """The fitted models for R training sets."""
        ...

    def from_law(self, law: Law, space: Space) -> LawModel:
        """The model whose law is ``law`` (a source's), to draw real records from."""
        ...

    def refit(self, model: LawModel, n: int, *, rng: np.random.Generator) -> LawModel:
        """``estimate(draw(model, n))``: the next generation under replacement."""
        ...
