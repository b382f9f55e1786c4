"""Gaussian, Bernoulli, Poisson and categorical learners: values worked out by hand, collapsed models, log-probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from studbook.arrays import Kind, Space, counts, images, numbers, states
from studbook.errors import ConfigError, FitError
from studbook.learners.bernoulli import Bernoulli
from studbook.learners.categorical import Categorical
from studbook.learners.gaussian import Gaussian, wishart_factor
from studbook.learners.poisson import Poisson
from studbook.rng import stream
from studbook.theory.laws import CategoricalLaw, GaussianLaw, PoissonLaw

RNG = stream(0, "tests")


@pytest.mark.parametrize("ddof", [0, 1])
def test_gaussian_agrees_with_numpy(ddof: int) -> None:
    values = stream(1).normal(size=(40, 3))
    law = Gaussian(ddof=ddof).fit(numbers(values), rng=RNG).law
    np.testing.assert_allclose(law.mean[0], values.mean(axis=0))
    np.testing.assert_allclose(law.covariance[0], np.cov(values.T, ddof=ddof))


def test_gaussian_weights_count_records() -> None:
    data = numbers(np.array([1.0, 4.0]))
    weighted = Gaussian(ddof=1).summarise(type(data)(data.values, data.space, weights=np.array([3.0, 1.0])))
    repeated = Gaussian(ddof=1).summarise(numbers(np.array([1.0, 1.0, 1.0, 4.0])))
    space = data.space
    one, two = Gaussian(ddof=1).estimate(weighted, space).law, Gaussian(ddof=1).estimate(repeated, space).law
    np.testing.assert_allclose(one.covariance, two.covariance)
    assert one.mean.item() == two.mean.item() == 1.75


def test_gaussian_is_precise_far_from_zero() -> None:
    values = 1e9 + np.array([0.0, 1.0, 2.0])
    assert Gaussian().fit(numbers(values), rng=RNG).law.covariance.item() == pytest.approx(2 / 3, rel=1e-12)


def test_gaussian_collapses_without_an_error() -> None:
    equal = numbers(np.full(1000, 0.1))
    model = Gaussian().fit(equal, rng=RNG)
    assert model.law.covariance.item() == 0.0
    assert model.sample(5, rng=RNG).values.tolist() == [[0.1]] * 5
    refitted = Gaussian().refit(model, 10, rng=RNG).law
    assert (refitted.mean.item(), refitted.covariance.item()) == (pytest.approx(0.1), 0.0)


def test_gaussian_draws_from_a_singular_covariance() -> None:
    along = np.array([1.0, 2.0, -1.0])
    model = Gaussian().from_law(GaussianLaw(np.zeros((1, 3)), np.outer(along, along)[None]), Space(Kind.NUMBERS, (3,)))
    assert np.linalg.matrix_rank(model.sample(50, rng=stream(2)).values, tol=1e-6) == 1
    scatter = Gaussian().draw(model, 50, rng=stream(3)).scatter[0]
    assert np.linalg.matrix_rank(scatter, tol=1e-6) == 1
    np.testing.assert_allclose(scatter / scatter[0, 0], np.outer(along, along), atol=1e-6)


def test_gaussian_of_one_record_has_no_variance() -> None:
    assert Gaussian().fit(numbers(np.array([[3.0, 4.0]])), rng=RNG).law.covariance.tolist() == [[[0.0, 0.0], [0.0, 0.0]]]
    model = Gaussian().fit(numbers(stream(0).normal(size=(9, 2))), rng=RNG)
    assert Gaussian().refit(model, 1, rng=RNG).law.covariance.tolist() == [[[0.0, 0.0], [0.0, 0.0]]]
    with pytest.raises(FitError, match="ddof = 1 got records with a total weight of 1"):
        Gaussian(ddof=1).refit(model, 1, rng=RNG)
    line = Gaussian().fit(numbers(stream(0).normal(size=9)), rng=RNG)
    assert Gaussian().refit(line, 1, rng=RNG).law.covariance.item() == 0.0
    with pytest.raises(FitError, match="ddof = 1"):
        Gaussian(ddof=1).refit(line, 1, rng=RNG)


def test_wishart_factor_is_singular_below_full_rank() -> None:
    for degrees in (0, 1, 2, 3, 9):
        factor = wishart_factor(4, 3, degrees, rng=stream(degrees))
        assert {int(np.linalg.matrix_rank(f)) for f in factor} == {min(degrees, 3)}


def test_gaussian_log_prob_agrees_with_scipy() -> None:
    values = stream(4).normal(size=(30, 3)) @ np.diag([1.0, 5.0, 0.01])
    model = Gaussian().fit(numbers(values), rng=RNG)
    expected = stats.multivariate_normal(model.law.mean[0], model.law.covariance[0]).logpdf(values)
    np.testing.assert_allclose(model.log_prob(numbers(values)), expected)


def test_gaussian_log_prob_of_a_singular_law() -> None:
    along = np.array([3.0, 4.0])
    model = Gaussian().from_law(GaussianLaw(np.ones((1, 2)), np.outer(along, along)[None]), Space(Kind.NUMBERS, (2,)))
    on, off = model.log_prob(numbers(np.array([[4.0, 5.0], [4.0, 5.1]])))
    assert on == pytest.approx(stats.norm(0, 5).logpdf(5))
    assert off == -np.inf


def test_gaussian_fits_pictures() -> None:
    batch = images(stream(5).uniform(size=(20, 2, 3)), (0.0, 1.0))
    model = Gaussian().fit(batch, rng=RNG)
    assert model.law.mean.shape == (1, 6)
    assert model.sample(4, rng=RNG).values.shape == (4, 2, 3)


def test_gaussian_takes_hundreds_of_dimensions() -> None:
    model = Gaussian().from_law(GaussianLaw(np.zeros((1, 200)), np.eye(200)[None]), Space(Kind.NUMBERS, (200,)))
    law = Gaussian(ddof=1).refit(model, 10**12, rng=stream(6)).law
    assert np.abs(law.covariance[0] - np.eye(200)).max() < 1e-4


def test_bernoulli_counts() -> None:
    model = Bernoulli().fit(states(np.array([1, 0, 1, 1]), 2), rng=RNG)
    assert model.law.probabilities.tolist() == [[0.25, 0.75]]
    np.testing.assert_allclose(model.log_prob(states(np.array([0, 1]), 2)), np.log([0.25, 0.75]))


def test_bernoulli_fixation_is_no_error() -> None:
    model = Bernoulli().fit(states(np.ones(5, int), 2), rng=RNG)
    assert Bernoulli().refit(model, 10, rng=RNG).law.probabilities.tolist() == [[0.0, 1.0]]
    assert model.sample(3, rng=RNG).values.tolist() == [1, 1, 1]
    assert model.log_prob(states(np.array([0, 1]), 2)).tolist() == [-np.inf, 0.0]


def test_poisson_log_prob_and_extinction() -> None:
    model = Poisson().fit(counts(np.array([1, 2, 3])), rng=RNG)
    np.testing.assert_allclose(model.log_prob(counts(np.arange(9))), stats.poisson(2.0).logpmf(np.arange(9)))
    extinct = Poisson().fit(counts(np.zeros(4, int)), rng=RNG)
    assert extinct.law.rate.item() == Poisson().refit(extinct, 10, rng=RNG).law.rate.item() == 0.0
    assert extinct.log_prob(counts(np.array([0, 1]))).tolist() == [0.0, -np.inf]


def test_categorical_keeps_only_living_states() -> None:
    model = Categorical().fit(states(np.array([7, 7, 2, 7]), 1000), rng=RNG)
    assert model.alive.states.tolist() == [2, 7]
    assert model.law.probabilities[0, [2, 7]].tolist() == [0.25, 0.75]
    assert set(model.sample(50, rng=RNG).values.tolist()) == {2, 7}
    assert model.log_prob(states(np.array([7, 3]), 1000)).tolist() == [np.log(0.75), -np.inf]


def test_categorical_takes_a_million_states() -> None:
    weights = 1.0 / np.arange(1, 1_000_001)
    model = Categorical().from_law(CategoricalLaw(weights[None] / weights.sum()), Space(Kind.STATES, (), 1_000_000))
    drawn = Categorical().draw(model, 10**5, rng=stream(7))
    assert drawn.counts.sum() == 10**5
    assert len(drawn.states) < 10**5
    assert np.all(np.diff(drawn.states) > 0)


@pytest.mark.parametrize("n", [0, 1, 7, 100, 20_000, 10**9, 10**12])
def test_categorical_draws_exactly_n(n: int) -> None:
    probabilities = np.array([[0.5, 0.0, 0.5 - 1e-9, 1e-9], [0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.0, 1.0]])
    model = Categorical().from_law(CategoricalLaw(probabilities), Space(Kind.STATES, (), 4))
    drawn = Categorical().draw(model, n, rng=stream(8)).dense()
    assert drawn.sum(axis=1).tolist() == [n] * 3
    assert not drawn[probabilities == 0].any()


def test_ties_to_the_law_are_checked() -> None:
    with pytest.raises(FitError, match="gaussian can't use a PoissonLaw"):
        Gaussian().from_law(PoissonLaw(np.ones(1)), Space(Kind.NUMBERS, (1,)))
    with pytest.raises(FitError, match="poisson can't use a CategoricalLaw"):
        Poisson().from_law(CategoricalLaw(np.ones((1, 1))), Space(Kind.COUNTS))
    with pytest.raises(FitError, match="categorical can't use"):
        Categorical().from_law(CategoricalLaw(np.ones((1, 1))), Space(Kind.STATES, (), 2))
    with pytest.raises(FitError, match="bernoulli models 2 states, the data have 3"):
        Bernoulli().from_law(CategoricalLaw(np.ones((1, 3)) / 3), Space(Kind.STATES, (), 3))


def test_samples_come_from_one_replicate() -> None:
    model = Poisson().from_law(PoissonLaw(np.ones(2)), Space(Kind.COUNTS))
    with pytest.raises(FitError, match="holds 2 replicates"):
        model.sample(3, rng=RNG)


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="ddof is -1"):
        Gaussian(ddof=-1)
    with pytest.raises(ConfigError, match="n is -2"):
        Gaussian().fit(numbers(np.arange(3.0)), rng=RNG).sample(-2, rng=RNG)
