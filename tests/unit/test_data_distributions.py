"""Distributions in place of data."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import Kind
from studbook.data import Coin, Normal, PoissonCounts, Uniform, Zipf, unigram_probabilities
from studbook.errors import ConfigError, DataError


def test_normal_is_isotropic():
    dataset = Normal(mean=-1.0, std=2.0, dimension=3).load()
    assert dataset.records is None
    assert dataset.space.kind is Kind.NUMBERS
    assert dataset.space.shape == (3,)
    np.testing.assert_array_equal(dataset.law.mean, [[-1.0, -1.0, -1.0]])
    np.testing.assert_array_equal(dataset.law.covariance, 4.0 * np.eye(3)[None])


def test_poisson_has_its_rate():
    dataset = PoissonCounts(rate=2.5).load()
    assert dataset.space.kind is Kind.COUNTS
    assert dataset.law.rate.tolist() == [2.5]


def test_a_coin_has_success_in_state_one():
    assert Coin(probability=0.25).load().law.probabilities.tolist() == [[0.75, 0.25]]


@pytest.mark.parametrize(("states", "exponent"), [(2, 1.0), (1_000, 1.0), (1_000, 0.5), (1_000_000, 1.3)])
def test_zipf_follows_its_power_law(states, exponent):
    law = Zipf(states=states, exponent=exponent).load().law
    p = law.probabilities[0]
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(p[[1, states - 1]] / p[0], [2.0**-exponent, float(states) ** -exponent], rtol=1e-12)


def test_zipf_with_exponent_zero_is_uniform():
    np.testing.assert_allclose(Zipf(states=7, exponent=0.0).load().law.probabilities, Uniform(states=7).load().law.probabilities)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Normal(std=0.0),
        lambda: Normal(std=-1.0),
        lambda: Normal(std=float("nan")),
        lambda: Normal(std=float("inf")),
        lambda: Normal(mean=float("nan")),
        lambda: Normal(dimension=0),
        lambda: Normal(dimension=10**9),
        lambda: PoissonCounts(rate=0.0),
        lambda: PoissonCounts(rate=float("inf")),
        lambda: PoissonCounts(rate=1e300),
        lambda: Coin(probability=0.0),
        lambda: Coin(probability=1.0),
        lambda: Coin(probability=float("nan")),
        lambda: Uniform(states=0),
        lambda: Uniform(states=1),
        lambda: Uniform(states=-5),
        lambda: Uniform(states=10**12),
        lambda: Zipf(states=1_000_001),
        lambda: Zipf(states=10, exponent=-1.0),
        lambda: Zipf(states=10, exponent=float("nan")),
    ],
)
def test_parameters_out_of_range_are_refused_at_once(make):
    with pytest.raises(ConfigError, match="expected"):
        make()


def test_digests_tell_distributions_apart():
    sources = [Normal(), Normal(std=2.0), Normal(dimension=2), PoissonCounts(1.0), Coin(), Uniform(2), Uniform(3), Zipf(3)]
    digests = [source.load().digest for source in sources]
    # A fair coin and two uniform states are the same law.
    assert digests[4] == digests[5]
    assert len(set(digests)) == len(sources) - 1


def test_frequencies_of_a_law_on_states_are_the_law():
    dataset = Zipf(states=9).load()
    assert unigram_probabilities(dataset) is dataset.law


@pytest.mark.parametrize("source", [Normal(), PoissonCounts(1.0)])
def test_frequencies_of_an_endless_law_are_refused(source):
    with pytest.raises(DataError, match="no finite list of states"):
        unigram_probabilities(source.load())
