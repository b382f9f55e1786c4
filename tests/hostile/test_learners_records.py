"""Records that no model can be fitted to are refused by name; collapsed ones are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from studbook.arrays import Batch, Kind, Space, counts, images, numbers, states
from studbook.errors import FitError
from studbook.learners.bernoulli import Bernoulli
from studbook.learners.categorical import Categorical
from studbook.learners.gaussian import Gaussian
from studbook.learners.gmm import GaussianMixture
from studbook.learners.kde import KernelDensity
from studbook.learners.ols import LeastSquares
from studbook.learners.poisson import Poisson
from studbook.rng import stream

NUMERIC = [Gaussian(), GaussianMixture(), KernelDensity(), LeastSquares()]
ALL = [*NUMERIC, Bernoulli(), Categorical(), Poisson()]


def spoiled(rows: list[int], value: float = np.nan) -> Batch:
    table = stream(0).normal(size=(50, 3))
    table[rows, 1] = value
    return numbers(table)


@pytest.mark.parametrize("learner", NUMERIC, ids=str)
def test_nan_and_infinity_are_named(learner: Any) -> None:
    with pytest.raises(FitError, match=r"record 7 holds NaN or infinity \(drop or repair it\)"):
        learner.fit(spoiled([7]), rng=stream(0))
    with pytest.raises(FitError, match="records 1, 2, 3, 4, 5 and 3 more hold NaN or infinity"):
        learner.fit(spoiled([1, 2, 3, 4, 5, 6, 7, 8], -np.inf), rng=stream(0))


@pytest.mark.parametrize("learner", ALL, ids=str)
def test_the_wrong_kind_is_named(learner: Any) -> None:
    words = Batch(np.zeros((4, 2), np.int32), Space(Kind.TEXT, (2,), 3, ("a", "b", "c")))
    with pytest.raises(FitError, match="the data hold text"):
        learner.fit(words, rng=stream(0))


@pytest.mark.parametrize("learner", [Bernoulli(), Categorical()], ids=str)
def test_states_out_of_range_are_named(learner: Any) -> None:
    with pytest.raises(FitError, match="records 1, 3 hold a state outside 0 … 1"):
        learner.fit(states(np.array([0, 2, 1, -1]), 2), rng=stream(0))


def test_negative_counts_are_named() -> None:
    with pytest.raises(FitError, match="record 2 holds a negative count"):
        Poisson().fit(counts(np.array([0, 3, -3])), rng=stream(0))


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_impossible_weights_are_named(weight: float) -> None:
    data = Batch(np.arange(4.0)[:, None], Space(Kind.NUMBERS, (1,)), weights=np.array([1.0, weight, 1.0, 1.0]))
    with pytest.raises(FitError, match="record 1 holds a weight that isn't a positive number"):
        Gaussian().fit(data, rng=stream(0))


def test_a_space_without_states_is_refused() -> None:
    with pytest.raises(FitError, match="a space of no states"):
        Categorical().fit(states(np.zeros(0, int), 0), rng=stream(0))


@pytest.mark.parametrize("learner", [Gaussian(), GaussianMixture(), KernelDensity()], ids=str)
class TestOriginalData:
    def test_constant_columns_are_named(self, learner: Any) -> None:
        table = stream(0).normal(size=(20, 3))
        table[:, 2] = 4.0
        with pytest.raises(FitError, match="column 2 is constant in the original data"):
            learner.check_original(numbers(table))
        with pytest.raises(FitError, match="column 'age' is constant"):
            learner.check_original(numbers(table, ("x", "y", "age")))
        table[:, 0] = 0.0
        with pytest.raises(FitError, match="columns 0, 2 are constant"):
            learner.check_original(numbers(table))

    def test_one_record_has_no_variance(self, learner: Any) -> None:
        with pytest.raises(FitError, match=r"got 1 (original )?record"):
            learner.check_original(numbers(np.array([[1.0, 2.0]])))

    def test_the_same_data_are_a_collapsed_model_later(self, learner: Any) -> None:
        table = stream(0).normal(size=(20, 3))
        table[:, 2] = 4.0
        sample = learner.fit(numbers(table), rng=stream(0)).sample(10, rng=stream(1)).values
        np.testing.assert_allclose(sample[:, 2], 4.0, atol=0.02)

    def test_pictures_may_have_constant_pixels(self, learner: Any) -> None:
        pixels = stream(0).uniform(size=(20, 3, 3))
        pixels[:, 0, 0] = 0.0
        learner.check_original(images(pixels, (0.0, 1.0)))
        with pytest.raises(FitError, match="every pixel is constant"):
            learner.check_original(images(np.ones((20, 3, 3)), (0.0, 1.0)))

    def test_good_data_pass(self, learner: Any) -> None:
        learner.check_original(spoiled([]))
        with pytest.raises(FitError, match="record 3"):
            learner.check_original(spoiled([3]))
