"""The shipped contract, kept by every learner that ships; and it catches the faults that it is there for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from studbook.arrays import Batch, counts, images, numbers, states
from studbook.learners.bernoulli import Bernoulli
from studbook.learners.categorical import Categorical
from studbook.learners.gaussian import Gaussian
from studbook.learners.gmm import GaussianMixture
from studbook.learners.kde import KernelDensity
from studbook.learners.ols import LeastSquares
from studbook.learners.poisson import Poisson
from studbook.learners.robust import RobustGaussian
from studbook.testing import learners as contract

RNG = np.random.default_rng(20)
LINE = numbers(RNG.normal(2.0, 3.0, 300))
PLANE = numbers(RNG.normal(size=(300, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.2], [0.0, 0.0, 2.0]]))
PICTURES = images(RNG.uniform(size=(200, 3, 2)), (0.0, 1.0))
LABELLED = numbers(np.column_stack([(x := RNG.normal(size=(200, 2))), x @ [1.0, -2.0] + RNG.normal(size=200)]))

CASES = [
    (Gaussian(), LINE),
    (Gaussian(ddof=1), PLANE),
    (Gaussian(), PICTURES),
    (RobustGaussian(), LINE),
    (RobustGaussian(location="median"), PLANE),
    (RobustGaussian(location="geometric_median", contamination=0.1), PLANE),
    (RobustGaussian(), PICTURES),
    (Bernoulli(), states(RNG.integers(0, 2, 200), 2)),
    (Poisson(), counts(RNG.poisson(4.0, 200))),
    (Categorical(), states(RNG.integers(0, 9, 200), 12)),
    (GaussianMixture(components=2), LINE),
    (GaussianMixture(components=3, covariance="diag"), PICTURES),
    (GaussianMixture(components=2, covariance="tied"), PLANE),
    (GaussianMixture(components=2, covariance="spherical", restarts=2), PLANE),
    (KernelDensity(), LINE),
    (KernelDensity(bandwidth=0.3), PLANE),
    (KernelDensity(bandwidth="silverman"), PICTURES),
    (LeastSquares(), LABELLED),
    (LeastSquares(noise=1.0, intercept=True), LABELLED),
]


@pytest.mark.parametrize(
    ("learner", "batch", "check"),
    [
        pytest.param(learner, batch, check, id=f"{learner}-{check.__name__}")
        for learner, batch in CASES
        for check in contract.learner_checks(learner)
    ],
)
def test_shipped_learners_keep_the_contract(learner: Any, batch: Batch, check: contract.Check) -> None:
    check(learner, batch)


def test_law_learners_are_recognised() -> None:
    assert len(contract.learner_checks(Gaussian())) > len(contract.learner_checks(KernelDensity()))


@dataclass(frozen=True, slots=True)
class Faulty:
    """A mixture with one of the faults that bias a study without a sound."""

    fault: str

    def fit(self, data: Batch, *, rng: np.random.Generator) -> Any:
        return FaultyModel(self.fault, GaussianMixture(components=2).fit(data, rng=rng), data)


@dataclass(frozen=True, slots=True)
class FaultyModel:
    fault: str
    model: Any
    data: Batch

    @property
    def space(self) -> Any:
        return self.model.space

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        if self.fault == "seeded":
            return self.model.sample(n, rng=np.random.default_rng(7))
        if self.fault == "global":
            return self.model.sample(n, rng=np.random.default_rng(np.random.randint(9)))  # noqa: NPY002
        sample = self.model.sample(n, rng=rng)
        if self.fault == "narrow":
            return replace(sample, values=sample.values.astype(np.float32))
        return sample.take(np.argsort(sample.values[:, 0] > 0))


@pytest.mark.parametrize(
    ("fault", "check", "message"),
    [
        ("seeded", contract.check_calls_are_independent, "keeps a seed"),
        ("sorted", contract.check_order_is_random, "sorted samples"),
        ("global", contract.check_is_reproducible, "different samples|global generator"),
        ("narrow", contract.check_sample_fits_the_space, "float32"),
    ],
)
def test_the_contract_catches_faults(fault: str, check: contract.Check, message: str) -> None:
    batch = numbers(np.concatenate([RNG.normal(-5, 1, 100), RNG.normal(5, 1, 100)]))
    with pytest.raises(AssertionError, match=message):
        check(Faulty(fault), batch)
