"""A network against the structured coalescent. Every test draws its numbers from a fixed seed; its chance to fail, had it been drawn anew,
is stated: |z| < 5 for each of k comparisons fails with probability below k · 6e-7 (t-like tails at 200+ replicates: below k · 2e-6).
"""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import numbers, states
from studbook.data import Normal, Zipf
from studbook.errors import ConfigError
from studbook.learners import Categorical, Gaussian
from studbook.mixing import Fresh, Keep, Replace, Weighted
from studbook.recursion import FreshLaw, Network, pool_laws, run_network, run_network_in_law
from studbook.rng import stream
from studbook.theory import Composition, Exchange, composition_of, effective_size, expected_moments, network_moments

NETWORKS = [
    Network("independent", 3),
    Network("pool", 3),
    Network("published", 3),
    Network("ring", 4, migration=0.2),
    Network("graph", 4, 0.4, ((0, 1), (1, 2), (1, 3))),
]
MIXES = [("replace", {}, Replace()), ("fresh", {"fresh": 4}, Fresh(4)), ("keep", {"share": 0.2}, Keep(0.2))]
MIXES += [("weighted", {"weight": 0.3, "fresh": 10}, Weighted(0.3, 10))]


def exchange_of(network, mix, parameters, n, n_original):
    c = composition_of(mix, parameters, n, n_original)
    return Exchange(network.counts(c.generated), c.fresh, c.original, c.real_share, network.kind == "published")


def z_score(values, expected):
    return (values.mean() - expected) / (values.std(ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize(("mix", "parameters", "carried_out"), MIXES)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.kind)
def test_heterozygosity_within_and_of_the_pool(network, mix, parameters, carried_out):
    n, n_original, last, replicates = 40, 50, 12, 400
    data, learner = Zipf(states=20).load(), Categorical()
    rng = stream(11, network.kind, mix)
    real = learner.from_law(type(data.law)(np.repeat(data.law.probabilities, replicates, axis=0)), data.space)
    originals = [learner.draw(real, n_original, rng=rng) for _ in range(network.nodes)]
    chain = run_network_in_law(
        learner, carried_out, originals, data.space, network=network, n=n, n_original=n_original, last=last, real=real, rng=rng
    )
    models = list(chain)[-1].models
    p = data.law.probabilities[0]
    path = network_moments(exchange_of(network, mix, parameters, n, n_original), n_original, last, variance=float(1 - p @ p))
    laws = [model.law.probabilities for model in models]
    for node, law in enumerate(laws):
        assert abs(z_score(1 - (law**2).sum(axis=1), path.within[-1, node])) < 5
    pooled = pool_laws([model.law for model in models]).probabilities
    assert abs(z_score(1 - (pooled**2).sum(axis=1), path.pool[-1])) < 5


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.kind)
def test_variance_and_drift_of_normal_models(network, ddof):
    from studbook.theory import divisor_fit

    n, last, replicates = 30, 8, 1000
    data, learner = Normal().load(), Gaussian(ddof)
    rng = stream(12, network.kind, ddof)
    law = data.law
    real = learner.from_law(type(law)(np.repeat(law.mean, replicates, axis=0), np.repeat(law.covariance, replicates, axis=0)), data.space)
    originals = [learner.draw(real, n, rng=rng) for _ in range(network.nodes)]
    chain = run_network_in_law(learner, Fresh(3), originals, data.space, network=network, n=n, n_original=n, last=last, real=real, rng=rng)
    if network.kind == "published":  # moments aren't closed under subsampling
        with pytest.raises(ConfigError, match="no closed form"):
            list(chain)
        return
    models = list(chain)[-1].models
    exchange = exchange_of(network, "fresh", {"fresh": 3}, n, n)
    path = network_moments(exchange, n, last, variance=float(law.covariance[0, 0, 0]), fit=divisor_fit(ddof))
    for node, model in enumerate(models):
        assert abs(z_score(model.law.covariance[:, 0, 0], path.within[-1, node])) < 5
        assert abs(z_score((model.law.mean[:, 0] - law.mean[0, 0]) ** 2, path.drift[-1, node])) < 5
    pooled = pool_laws([model.law for model in models])
    assert abs(z_score(pooled.covariance[:, 0, 0], path.pool[-1])) < 5
    assert abs(z_score((pooled.mean[:, 0] - law.mean[0, 0]) ** 2, path.pool_drift[-1])) < 5


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.kind)
def test_records_and_law_agree(network):
    """The long way against the recursion, on a law's records: what is drawn record by record has the same expectation."""
    data, learner, n, last = Zipf(states=8).load(), Categorical(), 20, 4
    real = learner.from_law(data.law, data.space)
    p = data.law.probabilities[0]
    path = network_moments(exchange_of(network, "fresh", {"fresh": 2}, n, n), n, last, variance=float(1 - p @ p))
    pooled, within = [], []
    for replicate in range(250):
        original = real.sample(n * network.nodes, rng=stream(13, replicate))
        chain = run_network(
            learner, Fresh(2), original, network=network, n=n, last=last, fresh=FreshLaw(real),
            streams=lambda g, use, r=replicate: stream(14, r, g, use),
        )  # fmt: skip
        laws = np.array([model.law.probabilities[0] for model in list(chain)[-1].model.models])
        within.append((1 - (laws**2).sum(axis=1)).mean())
        pooled.append(1 - (laws.mean(axis=0) ** 2).sum())
    assert abs(z_score(np.array(within), path.node[-1])) < 5
    assert abs(z_score(np.array(pooled), path.pool[-1])) < 5


def test_drift_of_normal_records():
    """Record by record; 800 squares of a normal mean, whose z-score is nearly normal: |z| < 5 fails with probability below 1e-5 each."""
    data, learner, network, n, last = Normal().load(), Gaussian(), Network("pool", 4), 20, 3
    real = learner.from_law(data.law, data.space)
    path = network_moments(exchange_of(network, "fresh", {"fresh": 3}, n, n), n, last)
    means = []
    for replicate in range(800):
        original = real.sample(n * network.nodes, rng=stream(16, replicate))
        chain = run_network(
            learner, Fresh(3), original, network=network, n=n, last=last, fresh=FreshLaw(real),
            streams=lambda g, use, r=replicate: stream(17, r, g, use),
        )  # fmt: skip
        means.append([model.law.mean[0, 0] for model in list(chain)[-1].model.models])
    assert abs(z_score(np.mean(means, axis=1) ** 2, path.pool_drift[-1])) < 5
    assert abs(z_score(np.mean(np.square(means), axis=1), path.drift[-1].mean())) < 5


def test_a_finite_set_divided_among_nodes():
    values, n, last = np.repeat(np.arange(6), [40, 20, 10, 6, 3, 1]), 20, 3
    original, learner = states(values, 6), Categorical()
    shares = np.bincount(values) / len(values)
    network = Network("ring", 4, migration=0.2)
    exchange = exchange_of(network, "replace", {}, n, n)
    path = network_moments(exchange, n, last, population=len(values), variance=float(1 - shares @ shares))
    found = []
    for replicate in range(300):
        chain = run_network(
            learner,
            Replace(),
            original,
            network=network,
            n=n,
            last=last,
            fresh=None,
            streams=lambda g, use, r=replicate: stream(15, r, g, use),
        )
        laws = [np.array([model.law.probabilities[0] for model in g.model.models]) for g in chain]
        found.append([(1 - (t**2).sum(axis=1)).mean() for t in laws] + [1 - (t.mean(axis=0) ** 2).sum() for t in laws])
    expected = [*path.node, *path.pool]
    assert path.pool[0] == pytest.approx(1 - shares @ shares)
    for column, value in zip(np.array(found).T, expected, strict=True):
        assert column.std() < 1e-12 or abs(z_score(column, value)) < 5


@pytest.mark.parametrize(
    "composition", [Composition(100), Composition(95, fresh=5), Composition(90, original=10), Composition(100, 20, real_share=0.3)]
)
def test_one_node_is_one_model(composition):
    mine = network_moments(
        Exchange(np.array([[composition.generated]]), composition.fresh, composition.original, composition.real_share),
        150,
        60,
        variance=2.0,
    )
    known = expected_moments(composition, 150, 60, variance=2.0)
    np.testing.assert_allclose(mine.pool, known.variance, rtol=1e-12)
    np.testing.assert_allclose(mine.drift[:, 0], known.drift, rtol=1e-12)


def test_what_mixes_collapses_as_one_and_what_does_not_keeps_its_differences():
    pool = network_moments(Exchange(Network("pool", 8).counts(100)), 100, 2000)
    one = expected_moments(Composition(800), 800, 2000)
    islands = network_moments(Exchange(Network("independent", 8).counts(100)), 100, 2000)
    np.testing.assert_allclose(pool.pool[::200], one.variance[::200], rtol=0.03)
    assert islands.node[-1] < 1e-8
    assert islands.pool[-1] == pytest.approx(7 / 8)
    assert islands.fixation[-1] == pytest.approx(1.0)


def test_effective_sizes():
    """N_e = nN/(1 − F_ST) for migration that conserves every node's size (Wright 1943; Nagylaki 1980), and it falls with migration."""
    sizes = []
    for migration in (0.02, 0.1, 0.5):
        exchange = Exchange(Network("ring", 6, migration=migration).counts(100))
        path = network_moments(exchange, 100, 4000)
        sizes.append(effective_size(exchange))
        assert sizes[-1] == pytest.approx(600 / (1 - path.fixation[-1]), rel=1e-6)
        assert 1 - path.pool[-1] / path.pool[-2] == pytest.approx(1 / sizes[-1], rel=1e-6)
    assert sizes[0] > sizes[1] > sizes[2] > 600
    large = Exchange(Network("ring", 24, migration=0.1).counts(100))
    assert effective_size(large) == pytest.approx(2400 / (1 - network_moments(large, 100, 8000).fixation[-1]), rel=1e-4)


def test_a_published_pool_costs_twice():
    """Nodes that draw on one published pool, each on its own, collapse nearly twice as fast as nodes that divide it."""
    counts = Network("pool", 8).counts(500)
    published = Exchange(counts, published=True)
    path = network_moments(published, 500, 100)
    assert effective_size(published) == pytest.approx(4000 / (2 - 1 / 8), rel=0.01)
    assert 1 - path.pool[-1] / path.pool[-2] == pytest.approx(1 / effective_size(published), rel=1e-3)
    assert effective_size(Exchange(counts)) > 4000


def test_a_nearly_fixed_network_keeps_its_digits():
    path = network_moments(Exchange(Network("pool", 2).counts(2)), 2, 400)
    ratio = path.pool[1:] / path.pool[:-1]
    assert path.pool[-1] < 1e-36
    np.testing.assert_allclose(ratio[100:], ratio[-1], rtol=1e-9)


def test_numbers_are_divided_whole():
    chain = run_network(
        Gaussian(),
        Replace(),
        numbers(np.arange(10.0)),
        network=Network("pool", 3),
        n=9,
        last=0,
        fresh=None,
        streams=lambda g, use: stream(0, g, use),
    )
    assert len(next(iter(chain)).training) == 9  # the tenth record belongs to nobody
