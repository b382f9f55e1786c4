"""The laws that models and sources have in closed form, for many replicates at once.

Every array has a leading replicate axis of length R (1 for a single law), so that one vectorised step serves all runs of a study.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Floats, Ints
from studbook.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class GaussianLaw:
    """Normal distributions on d numbers.

    Attributes:
        mean: ``(R, d)``.
        covariance: ``(R, d, d)``, symmetric and positive semi-definite; zero is a collapsed law.
    """

    mean: Floats
    covariance: Floats

    @property
    def n_replicates(self) -> int:
        """R."""
        return len(self.mean)

    def moments(self) -> tuple[Floats, Floats]:
        """Mean ``(R, d)`` and covariance ``(R, d, d)``."""
        return self.mean, self.covariance

    def sample(self, n: int, *, rng: np.random.Generator) -> Floats:
        """``n`` draws of a single law (R = 1): ``(n, d)``."""
        _require_single(self.n_replicates)
        draws: Floats = self.mean[0] + rng.standard_normal((n, self.mean.shape[1])) @ matrix_root(self.covariance)[0].T
        return draws


@dataclass(frozen=True, slots=True, eq=False)
class PoissonLaw:
    """Poisson distributions.

    Attributes:
        rate: ``(R,)``, 0 or more; 0 is extinct.
    """

    rate: Floats

    @property
    def n_replicates(self) -> int:
        """R."""
        return len(self.rate)

    def moments(self) -> tuple[Floats, Floats]:
        """Mean ``(R, 1)`` and covariance ``(R, 1, 1)``."""
        return self.rate[:, None], self.rate[:, None, None]

    def sample(self, n: int, *, rng: np.random.Generator) -> Ints:
        """``n`` draws of a single law (R = 1): ``(n,)``."""
        _require_single(self.n_replicates)
        return rng.poisson(self.rate[0], n)


@dataclass(frozen=True, slots=True, eq=False)
class CategoricalLaw:
    """Distributions on K unordered states; a Bernoulli law is the case K = 2 (state 1 is success).

    Attributes:
        probabilities: ``(R, K)``, rows sum to 1.
    """

    probabilities: Floats

    @property
    def n_replicates(self) -> int:
        """R."""
        return len(self.probabilities)

    def sample(self, n: int, *, rng: np.random.Generator) -> Ints:
        """``n`` draws of a single law (R = 1), in random order: ``(n,)``."""
        _require_single(self.n_replicates)
        cumulative = np.cumsum(self.probabilities[0])
        cumulative /= cumulative[-1]
        return np.searchsorted(cumulative, rng.random(n), side="right").astype(np.int64)


Law: TypeAlias = GaussianLaw | PoissonLaw | CategoricalLaw


def matrix_root(covariance: Floats) -> Floats:
    """A matrix ``A`` with ``A @ A.T == covariance`` for each of ``(R, d, d)``, singular ones included.

    One dimension takes the square root; otherwise the symmetric eigen-decomposition, with rounding errors below zero clipped.
    """
    if covariance.shape[-1] == 1:
        return np.sqrt(np.maximum(covariance, 0.0))
    eigenvalues, vectors = np.linalg.eigh(covariance)
    root: AnyArray = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))[..., None, :]
    return root


def repeat_law(law: Law, n_replicates: int) -> Law:
    """A single law (R = 1) for ``n_replicates`` replicates, without copying."""
    return type(law)(*[np.broadcast_to(array, (n_replicates, *array.shape[1:])) for array in _arrays(law)])


def mean_law(laws: Sequence[Law], weights: Floats) -> Law:
    """The law whose parameters are the weighted mean of several laws' of one family.

    Of states, and of no other family, it is the mixture of the laws.

    Args:
        laws: One or more, for R replicates each.
        weights: ``(len(laws),)`` shares that sum to 1.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory.laws import PoissonLaw, mean_law
        >>> mean_law([PoissonLaw(np.array([2.0])), PoissonLaw(np.array([4.0]))], np.array([0.75, 0.25])).rate.tolist()
        [2.5]
    """
    kinds = {type(law) for law in laws}
    if len(kinds) != 1 or len(weights) != len(laws):
        raise DataError(f"the mean of laws of {len(kinds)} families by {len(weights)} weights, expected one family and {len(laws)}")
    counted = [(share, _arrays(law)) for share, law in zip(weights, laws, strict=True) if share]
    columns = zip(*([share * array for array in arrays] for share, arrays in counted), strict=True)
    return kinds.pop()(*(functools.reduce(np.add, parts) for parts in columns))


def first_law(law: Law) -> Law:
    """The first replicate of a law (R = 1)."""
    return type(law)(*[array[:1] for array in _arrays(law)])


def _arrays(law: Law) -> list[AnyArray]:
    return [getattr(law, name) for name in law.__dataclass_fields__]


def _require_single(n_replicates: int) -> None:
    if n_replicates != 1:
        raise DataError(f"samples are drawn from a single law, this one holds {n_replicates} replicates")
