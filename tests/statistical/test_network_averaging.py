"""Nodes that average their parameters, against the closed form. Every test draws its numbers from a fixed seed; had they been drawn anew,
|z| < 5 for each of k comparisons would fail with probability below k · 6e-7 (t-like tails at 200+ replicates: below k · 2e-6).
"""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import states
from studbook.data import Normal, Zipf
from studbook.learners import Categorical, Gaussian
from studbook.mixing import Fresh, Replace, Weighted
from studbook.recursion import FreshLaw, Network, pool_laws, run_network, run_network_in_law
from studbook.rng import stream
from studbook.theory import (
    Averaging,
    Exchange,
    averaged_size,
    composition_of,
    divisor_fit,
    effective_records,
    effective_size,
    expected_heterozygosity,
    neighbour_weights,
    network_moments,
)
from studbook.theory.laws import repeat_law

NETWORKS = [
    Network("averaged", 3),
    Network("averaged", 5, rounds=1),
    Network("averaged", 5, rounds=3),
    Network("averaged", 4, edges=((0, 1), (1, 2), (1, 3)), rounds=1),
]
MIXES = [("replace", {}, Replace()), ("fresh", {"fresh": 4}, Fresh(4)), ("weighted", {"weight": 0.3, "fresh": 10}, Weighted(0.3, 10))]


def exchange_of(network, mix, parameters, n):
    c = composition_of(mix, parameters, n, n)
    return Exchange(network.counts(c.generated), c.fresh, c.original, c.real_share)


def z_score(values, expected):
    return (values.mean() - expected) / (values.std(ddof=1) / np.sqrt(len(values)))


def chain_of(learner, data, network, mix, *, n, last, replicates, rng):
    real = learner.from_law(repeat_law(data.law, replicates), data.space)
    originals = [learner.draw(real, n, rng=rng) for _ in range(network.nodes)]
    return run_network_in_law(learner, mix, originals, data.space, network=network, n=n, n_original=n, last=last, real=real, rng=rng)


@pytest.mark.parametrize(("mix", "parameters", "carried_out"), MIXES)
@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_heterozygosity_in_law(network, mix, parameters, carried_out):
    """12 cases of up to 6 comparisons: a fair run fails with probability below 2e-4."""
    n, last, data = 40, 12, Zipf(states=20).load()
    chain = chain_of(Categorical(), data, network, carried_out, n=n, last=last, replicates=500, rng=stream(21, repr(network), mix))
    laws = [model.law for model in list(chain)[-1].models]
    p, averaging = data.law.probabilities[0], Averaging(network.weights())
    path = network_moments(exchange_of(network, mix, parameters, n), n, last, variance=float(1 - p @ p), averaging=averaging)
    for node, law in enumerate(laws):
        assert abs(z_score(1 - (law.probabilities**2).sum(axis=1), path.within[-1, node])) < 5
    pooled = pool_laws(laws).probabilities
    assert abs(z_score(1 - (pooled**2).sum(axis=1), path.pool[-1])) < 5


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_variance_and_drift_of_normal_models(network, ddof):
    """8 cases of up to 12 comparisons: a fair run fails with probability below 2e-4."""
    n, last, data = 30, 8, Normal().load()
    chain = chain_of(Gaussian(ddof), data, network, Fresh(3), n=n, last=last, replicates=1000, rng=stream(22, repr(network), ddof))
    models = list(chain)[-1].models
    averaging = Averaging(network.weights(), mixture=False)
    exchange = exchange_of(network, "fresh", {"fresh": 3}, n)
    path = network_moments(exchange, n, last, variance=data.law.covariance.item(), fit=divisor_fit(ddof), averaging=averaging)
    for node, model in enumerate(models):
        assert abs(z_score(model.law.covariance[:, 0, 0], path.within[-1, node])) < 5
        assert abs(z_score((model.law.mean[:, 0] - data.law.mean.item()) ** 2, path.drift[-1, node])) < 5
    pooled = pool_laws([model.law for model in models])
    assert abs(z_score(pooled.covariance[:, 0, 0], path.pool[-1])) < 5
    assert abs(z_score((pooled.mean[:, 0] - data.law.mean.item()) ** 2, path.pool_drift[-1])) < 5


@pytest.mark.parametrize("finite", [False, True])
def test_records_follow_the_same_law(finite):
    """Record by record, from a law and from a finite set that is divided: 4 comparisons."""
    data, learner, network, n, last = Zipf(states=8).load(), Categorical(), Network("averaged", 4, rounds=1), 20, 3
    values = np.repeat(np.arange(8), [40, 20, 10, 6, 2, 1, 1, 0])
    real = learner.from_law(data.law, data.space)
    p = np.bincount(values, minlength=8) / len(values) if finite else data.law.probabilities[0]
    exchange, population = Exchange(network.counts(n)), len(values) if finite else None
    path = network_moments(exchange, n, last, population=population, variance=float(1 - p @ p), averaging=Averaging(network.weights()))
    pooled, within = [], []
    for replicate in range(250):
        original = states(values, 8) if finite else real.sample(n * network.nodes, rng=stream(23, replicate))
        chain = run_network(
            learner, Replace(), original, network=network, n=n, last=last, fresh=FreshLaw(real),
            streams=lambda g, use, r=replicate: stream(24, r, g, use),
        )  # fmt: skip
        laws = np.array([model.law.probabilities[0] for model in list(chain)[-1].model.models])
        within.append((1 - (laws**2).sum(axis=1)).mean())
        pooled.append(1 - (laws.mean(axis=0) ** 2).sum())
    assert abs(z_score(np.array(within), path.node[-1])) < 5
    assert abs(z_score(np.array(pooled), path.pool[-1])) < 5


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_the_effective_number_of_records_is_that_of_the_error(network):
    """Generation 0's drift is v·ΣW²/n: 5000 squares a node, whose relative error is 2 %; 17 comparisons."""
    n, data = 25, Normal().load()
    chain = chain_of(Gaussian(), data, network, Replace(), n=n, last=0, replicates=5000, rng=stream(25, repr(network)))
    expected = data.law.covariance.item() / effective_records(network.weights(), n)
    for model, variance in zip(next(iter(chain)).models, expected, strict=True):
        assert abs(z_score((model.law.mean[:, 0] - data.law.mean.item()) ** 2, variance)) < 5


def test_between_islands_and_one_model():
    n, last = 100, 4000
    diagonal = Exchange(np.diag([n] * 8))
    whole = network_moments(diagonal, n, last, averaging=Averaging(np.full((8, 8), 1 / 8)))
    np.testing.assert_allclose(whole.pool, expected_heterozygosity(composition_of("replace", {}, 8 * n, 8 * n), 8 * n, last), rtol=1e-9)
    np.testing.assert_allclose(whole.node, whole.pool, rtol=1e-12)
    alone, islands = network_moments(diagonal, n, last, averaging=Averaging(np.eye(8))), network_moments(diagonal, n, last)
    np.testing.assert_array_equal(alone.pool, islands.pool)
    sizes = [effective_size(diagonal, Averaging(Network("averaged", 8, rounds=rounds).weights())) for rounds in (1, 2, 5)]
    assert sizes == sorted(sizes, reverse=True)
    assert effective_size(diagonal, Averaging(np.eye(8))) == np.inf
    for rounds, size in zip((1, 2, 5), sizes, strict=True):
        averaging = Averaging(Network("averaged", 8, rounds=rounds).weights())
        path = network_moments(diagonal, n, last, averaging=averaging)
        assert 1 - path.pool[-1] / path.pool[-2] == pytest.approx(1 / size, rel=1e-6)
        assert size == pytest.approx(8 * n / (1 - path.fixation[-1]), rel=1e-6)
        assert averaged_size(averaging.weights, n) - 8 * n == pytest.approx(size - 8 * n, rel=0.01)


def test_normal_models_keep_their_mean_but_lose_variance_like_one_node():
    """What the mean of covariances leaves out is the spread of the means."""
    exchange, averaging = Exchange(np.diag([50] * 4)), Averaging(neighbour_weights(4, [(0, 1), (1, 2), (2, 3)]), mixture=False)
    path = network_moments(exchange, 50, 100, averaging=averaging)
    np.testing.assert_allclose(path.node, (1 - 1 / 50) ** np.arange(1, 102), rtol=1e-12)
    alone = network_moments(exchange, 50, 100)
    assert path.pool_drift[-1] == pytest.approx(alone.pool_drift[-1], rel=1e-12)
    assert path.drift[-1].max() < 0.3 * alone.drift[-1].max()
