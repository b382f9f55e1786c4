"""What recursion asks of a model family. Learners conform by shape; nothing is inherited."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from studbook.arrays import Batch, Ints, Space
from studbook.curation import Judged
from studbook.mixing import Origin
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


@runtime_checkable
class Storable(Protocol):
    """A model that can be written to disk and read again, without a loss, by its learner's ``load``."""

    def save(self, folder: Path) -> None:
        """Write the model to ``folder``, which is replaced, whole or not at all.

        Raises:
            StorageError: The disk refused.
        """
        ...


@runtime_checkable
class Restoring(Protocol):
    """A learner that reads what its models' ``save`` wrote; a unit of such a learner keeps a journal and goes on where it was killed."""

    def load(self, folder: Path, space: Space) -> Model:
        """The saved model, to the bit.

        Raises:
            CheckpointError: It can't be read, was changed, or doesn't fit the learner or the space.
        """
        ...


class StartOptions(Protocol):
    """The one option of a learner's ``training`` that the loop looks at."""

    @property
    def start(self) -> str:
        """What a generation's fit starts from: ``"auto"``, ``"scratch"``, ``"base"`` or ``"previous"``."""
        ...


@runtime_checkable
class Continuing(Restoring, Protocol):
    """A learner whose fit can start from a model that is there, instead of from nothing.

    It may also have ``check_base(space) -> bool``: whether ``own_base`` would give a model, found out without loading it, and with the
    errors that loading it would raise.
    """

    @property
    def training(self) -> StartOptions: ...
    def fit(self, data: Batch, *, rng: np.random.Generator) -> Model: ...

    # The start is a model of this learner's own family; a Protocol can't say so.
    def fit_from(self, start: Any, data: Batch, *, rng: np.random.Generator) -> Model:
        """The model fitted to ``data``, starting from ``start``, which stays as it is.

        Raises:
            FitError: As ``fit``.
        """
        ...

    def own_base(self, space: Space) -> Model | None:
        """The base model that the learner itself names, or ``None``.

        Raises:
            CheckpointError: It can't be read, or doesn't fit.
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


class Curator(Protocol):
    """What stands between the candidates and a training set.

    Attributes:
        refill: Whether rejected candidates are replaced by further ones, so that the training set keeps its size.
        candidates: At most so many candidates are seen for each record of the training set.
        remembers: Whether verdicts depend on what was noted before.
    """

    @property
    def refill(self) -> bool: ...
    @property
    def candidates(self) -> int: ...
    @property
    def remembers(self) -> bool: ...

    def write(self, model: Model, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` records of the model, as those publish them who mark what they generate."""
        ...

    def note(self, generation: int, sample: Batch) -> None:
        """Take note of what the model of a generation published. The same notes in the same order give the same verdicts."""
        ...

    def judge(self, candidates: Batch, origin: Origin, *, rng: np.random.Generator) -> Judged:
        """A verdict on each candidate.

        Args:
            candidates: Records of one origin.
            origin: Where they come from. Only an ideal screen, and whoever attacks a screen, may look at it.
            rng: The random stream.
        """
        ...


@runtime_checkable
class LawCurator(Protocol):
    """A curator whose verdicts don't depend on what a record is, only on where it comes from."""

    @property
    def refill(self) -> bool: ...
    @property
    def candidates(self) -> int: ...
    @property
    def reason(self) -> str:
        """Its only reason."""
        ...

    def rejection(self, origin: Origin) -> float:
        """Probability that a record of that origin is rejected."""
        ...


@runtime_checkable
class SizedDraws(Protocol):
    """A learner in law whose replicates may have training sets of different sizes."""

    # As ``LawLearner.draw``, for models of its own family; a Protocol can't say so.
    def draw_each(self, model: Any, sizes: Ints, *, rng: np.random.Generator) -> Any:
        """The statistics of ``sizes[r]`` records of replicate r's law: ``(R,)``, 0 or more."""
        ...
