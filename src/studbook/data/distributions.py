"""Distributions in place of data: every original record is a draw, and theory knows the law."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import Kind, Space
from studbook.data._digest import digest_of_law
from studbook.data.dataset import Dataset
from studbook.errors import ConfigError
from studbook.theory.laws import CategoricalLaw, GaussianLaw, Law, PoissonLaw

MAX_STATES = 1_000_000
MAX_DIMENSION = 4_096
MAX_RATE = 1e12


@dataclass(frozen=True, slots=True)
class Normal:
    """An isotropic normal distribution: the numbers of a record are independent, with one mean and one standard deviation.

    Args:
        mean: Mean of every coordinate.
        std: Standard deviation of every coordinate, above 0.
        dimension: Numbers a record, 1 to 4,096.

    Raises:
        ConfigError: A parameter out of range.

    Examples:
        >>> from studbook.data import Normal
        >>> dataset = Normal(mean=2.0, std=3.0).load()
        >>> dataset.law.covariance.tolist()
        [[[9.0]]]
    """

    mean: float = 0.0
    std: float = 1.0
    dimension: int = 1

    record_kind: ClassVar[str] = "numbers"
    origin: ClassVar[str] = "A normal distribution; no data, no licence."

    def __post_init__(self) -> None:
        _require(math.isfinite(self.mean), "mean", self.mean, "a finite number")
        _require(0 < self.std < 1e150, "std", self.std, "a number above 0 and below 1e150")
        _require(1 <= self.dimension <= MAX_DIMENSION, "dimension", self.dimension, f"1 to {MAX_DIMENSION:,}")

    def load(self) -> Dataset:
        """The distribution as a data set without records."""
        mean = np.full((1, self.dimension), float(self.mean))
        law = GaussianLaw(mean, np.eye(self.dimension)[None] * float(self.std) ** 2)
        return _dataset("normal", law, Space(Kind.NUMBERS, (self.dimension,)), self.origin)


@dataclass(frozen=True, slots=True)
class PoissonCounts:
    """A Poisson distribution.

    Args:
        rate: Expected count, above 0 and at most 1e12.

    Raises:
        ConfigError: The rate is out of range.

    Examples:
        >>> from studbook.data import PoissonCounts
        >>> PoissonCounts(rate=4.0).load().law.rate.tolist()
        [4.0]
    """

    rate: float

    record_kind: ClassVar[str] = "counts"
    origin: ClassVar[str] = "A Poisson distribution; no data, no licence."

    def __post_init__(self) -> None:
        _require(0 < self.rate <= MAX_RATE, "rate", self.rate, f"a number above 0, at most {MAX_RATE:g}")

    def load(self) -> Dataset:
        """The distribution as a data set without records."""
        return _dataset("poisson", PoissonLaw(np.array([float(self.rate)])), Space(Kind.COUNTS), self.origin)


@dataclass(frozen=True, slots=True)
class Coin:
    """A Bernoulli distribution: state 1 (success) with a given probability, else state 0.

    Args:
        probability: Probability of state 1, above 0 and below 1.

    Raises:
        ConfigError: The probability is out of range.

    Examples:
        >>> from studbook.data import Coin
        >>> Coin(probability=0.25).load().law.probabilities.tolist()
        [[0.75, 0.25]]
    """

    probability: float = 0.5

    record_kind: ClassVar[str] = "states"
    origin: ClassVar[str] = "A Bernoulli distribution; no data, no licence."

    def __post_init__(self) -> None:
        _require(0 < self.probability < 1, "probability", self.probability, "a number above 0 and below 1")

    def load(self) -> Dataset:
        """The distribution as a data set without records."""
        return _categorical("bernoulli", np.array([1.0 - self.probability, self.probability]), self.origin)


@dataclass(frozen=True, slots=True)
class Uniform:
    """A uniform distribution on unordered states.

    Args:
        states: Number of states, 2 to 1,000,000.

    Raises:
        ConfigError: The number is out of range; nothing is allocated before.

    Examples:
        >>> from studbook.data import Uniform
        >>> Uniform(states=4).load().law.probabilities.tolist()
        [[0.25, 0.25, 0.25, 0.25]]
    """

    states: int

    record_kind: ClassVar[str] = "states"
    origin: ClassVar[str] = "A uniform distribution; no data, no licence."

    def __post_init__(self) -> None:
        _require_states(self.states)

    def load(self) -> Dataset:
        """The distribution as a data set without records."""
        return _categorical("uniform", np.ones(self.states), self.origin)


@dataclass(frozen=True, slots=True)
class Zipf:
    """Zipf's law on finitely many states: the state of rank k has a probability proportional to k to the power of minus ``exponent``.

    It is how often words are used (Zipf, *Human Behavior and the Principle of Least Effort*, 1949): a few states hold most of the
    mass, and most states are rare.

    Args:
        states: Number of states, 2 to 1,000,000.
        exponent: 0 (uniform) to 20; 1 is the classical law.

    Raises:
        ConfigError: A parameter out of range; nothing is allocated before.

    Examples:
        >>> from studbook.data import Zipf
        >>> Zipf(states=3, exponent=1.0).load().law.probabilities.round(4).tolist()
        [[0.5455, 0.2727, 0.1818]]
    """

    states: int
    exponent: float = 1.0

    record_kind: ClassVar[str] = "states"
    origin: ClassVar[str] = "Zipf's law; no data, no licence."

    def __post_init__(self) -> None:
        _require_states(self.states)
        _require(0 <= self.exponent <= 20, "exponent", self.exponent, "a number from 0 to 20")

    def load(self) -> Dataset:
        """The distribution as a data set without records."""
        ranks = np.arange(1, self.states + 1, dtype=np.float64)
        return _categorical("zipf", ranks ** -float(self.exponent), self.origin)


def _categorical(name: str, weights: np.ndarray[tuple[int], np.dtype[np.float64]], origin: str) -> Dataset:
    law = CategoricalLaw((weights / weights.sum())[None])
    return _dataset(name, law, Space(Kind.STATES, (), len(weights)), origin)


def _dataset(name: str, law: Law, space: Space, origin: str) -> Dataset:
    return Dataset(name, space, digest_of_law(law, space), law=law, origin=origin)


def _require_states(states: int) -> None:
    _require(2 <= states <= MAX_STATES, "states", states, f"2 to {MAX_STATES:,}")


def _require(holds: bool, name: str, got: object, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {got}, expected {expected}", hint=f"set data.{name}")
