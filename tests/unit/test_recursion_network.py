"""Networks of nodes: who gets whose records, and what is refused before any work."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import numbers, states
from studbook.errors import ConfigError
from studbook.learners import Categorical, Gaussian
from studbook.mixing import Accumulate, Fresh, Heal, Keep, Replace
from studbook.recursion import FreshReserve, Ledger, MemoryStock, Network, Standing, run_network
from studbook.recursion.society import Society
from studbook.rng import stream
from studbook.study.config import expand
from studbook.study.plan import prepare

PATH = ((0, 1), (1, 2), (2, 3))


def streams(generation: int, purpose: str) -> np.random.Generator:
    return stream(0, generation, purpose)


@pytest.mark.parametrize("n", [100, 101, 7, 1000])
@pytest.mark.parametrize(
    "network",
    [
        Network("independent", 5),
        Network("pool", 5),
        Network("published", 5),
        Network("ring", 5, migration=0.4),
        Network("graph", 4, 0.5, PATH),
        Network("gossip", 5),
    ],
)
def test_every_node_gets_all_its_records(network, n):
    counts = network.counts(n)
    assert counts.min() >= 0
    assert (counts.sum(axis=1) == n).all()
    if network.kind != "graph":
        assert (counts.sum(axis=0) == n).all()


def test_graph_without_regular_degrees():
    assert Network("graph", 4, 0.5, PATH).counts(100).tolist() == [[50, 50, 0, 0], [25, 50, 25, 0], [0, 25, 50, 25], [0, 0, 50, 50]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "pool", "nodes": 1}, "expected 2 to 256"),
        ({"kind": "pool", "nodes": 1000}, "expected 2 to 256"),
        ({"kind": "ring", "nodes": 3}, "needs migration"),
        ({"kind": "pool", "nodes": 3, "migration": 0.1}, "has no migration"),
        ({"kind": "ring", "nodes": 3, "migration": 0.0}, "above 0"),
        ({"kind": "ring", "nodes": 3, "migration": float("nan")}, "above 0"),
        ({"kind": "graph", "nodes": 3, "migration": 0.1}, "needs edges"),
        ({"kind": "ring", "nodes": 3, "migration": 0.1, "edges": ((0, 1),)}, "has no edges"),
        ({"kind": "graph", "nodes": 3, "migration": 0.1, "edges": ((0, 3),)}, "two different nodes"),
        ({"kind": "graph", "nodes": 3, "migration": 0.1, "edges": ((1, 1),)}, "two different nodes"),
        ({"kind": "graph", "nodes": 4, "migration": 0.1, "edges": ((0, 1), (2, 3))}, "falls into parts: node 2"),
        ({"kind": "gossip", "nodes": 4, "edges": ((0, 1), (2, 3))}, "falls into parts: node 2"),
        ({"kind": "local", "nodes": 4}, "needs every"),
        ({"kind": "pool", "nodes": 4, "every": 3}, "has no every"),
        ({"kind": "local", "nodes": 4, "every": 0}, "steps between averages"),
        ({"kind": "rings", "nodes": 4}, "expected"),
        ({"kind": "federated", "nodes": 4}, "needs clients"),
        ({"kind": "federated", "nodes": 4, "clients": 5}, "clients is 5, expected 1 to 4"),
        ({"kind": "federated", "nodes": 4, "clients": 0}, "clients is 0, expected 1 to 4"),
        ({"kind": "federated", "nodes": 4, "clients": 2, "epochs": 0}, "passes of a client"),
        ({"kind": "federated", "nodes": 4, "clients": 2, "server": "adam"}, "needs a rate"),
        ({"kind": "federated", "nodes": 4, "clients": 2, "server_rate": float("nan")}, "a rate above 0"),
        ({"kind": "federated", "nodes": 4, "clients": 2, "server": "rmsprop"}, "expected"),
        ({"kind": "federated", "nodes": 4, "clients": 2, "every": 2}, "has no every"),
        ({"kind": "gossip", "nodes": 4, "clients": 2}, "has no clients"),
    ],
)
def test_impossible_networks(settings, message):
    with pytest.raises(ConfigError, match=message):
        Network(**settings)


@pytest.mark.parametrize(
    ("network", "mix", "n", "message"),
    [
        (Network("ring", 4, migration=0.01), Replace(), 20, "less than one record each"),
        (Network("graph", 4, 1.0, PATH), Replace(), 3, "more than there are"),
        (Network("pool", 8), Replace(), 5, "less than one of each node"),
        (Network("pool", 4), Accumulate(), 50, "on pool ones"),
        (Network("pool", 4), Heal(share=0.5, until=2), 50, "changes"),
        (Network("pool", 4), Fresh(50), 50, "a mix with generated records"),
    ],
)
def test_shares_that_do_not_fit(network, mix, n, message):
    with pytest.raises(ConfigError, match=message):
        Ledger.of(network, mix, n=n, n_original=50)


def test_every_record_goes_to_one_node():
    data = numbers(np.arange(40.0))
    first, second = run_network(Gaussian(), Replace(), data, network=Network("ring", 4, 0.5), n=8, last=1, fresh=None, streams=streams)
    ledger = Ledger.of(Network("ring", 4, 0.5), Replace(), n=8, n_original=10)
    owns = [set(batch.values[:, 0]) for batch in ledger.trainings(first.training, 0)]
    assert set().union(*owns) == set(range(40))
    assert sum(map(len, owns)) == 40
    made = [set(batch.values[:, 0]) for batch in ledger.samples(first.sample)]
    for node, batch in enumerate(ledger.trainings(second.training, 1)):
        got = set(batch.values[:, 0])
        assert [len(got & other) for other in made] == ledger.counts[node].tolist()
    assert set(second.training.values[:, 0]) == set(first.sample.values[:, 0])


def test_published_records_may_train_several_nodes():
    data = numbers(np.arange(40.0))
    chain = run_network(Gaussian(), Replace(), data, network=Network("published", 4), n=10, last=1, fresh=None, streams=streams)
    first, second = chain
    ledger = Ledger.of(Network("published", 4), Replace(), n=10, n_original=10)
    made = set(first.sample.values[:, 0])
    got = [batch.values[:, 0] for batch in ledger.trainings(second.training, 1)]
    assert all(len(set(batch)) == 10 and set(batch) <= made for batch in got)
    assert len(set().union(*map(set, got))) < 40


def test_mixes_of_real_records_stay_with_their_nodes():
    data = states(np.repeat(np.arange(4), 25), 5)
    fresh = FreshReserve(states(np.full(60, 4), 5))
    chain = list(run_network(Categorical(), Fresh(5), data, network=Network("pool", 4), n=25, last=3, fresh=fresh, streams=streams))
    ledger = Ledger.of(Network("pool", 4), Fresh(5), n=25, n_original=25)
    assert all((batch.values[:5] == 4).all() for batch in ledger.trainings(chain[1].training, 1))
    with pytest.raises(ConfigError, match="reserve has 60"):
        list(run_network(Categorical(), Fresh(5), data, network=Network("pool", 4), n=25, last=4, fresh=fresh, streams=streams))
    with pytest.raises(ConfigError, match="none were set aside"):
        list(run_network(Categorical(), Fresh(5), data, network=Network("pool", 4), n=25, last=1, fresh=None, streams=streams))
    numbered = numbers(np.arange(100.0))
    first, second = run_network(Gaussian(), Keep(0.2), numbered, network=Network("pool", 4), n=25, last=1, fresh=None, streams=streams)
    ledger = Ledger.of(Network("pool", 4), Keep(0.2), n=25, n_original=25)
    for own, batch in zip(ledger.trainings(first.training, 0), ledger.trainings(second.training, 1), strict=True):
        assert set(batch.values[:5, 0]) <= set(own.values[:, 0])


def test_goes_on_where_it_stood():
    data = numbers(stream(1).normal(size=60))
    options = {"network": Network("pool", 3), "n": 20, "fresh": None, "streams": streams}
    whole = list(run_network(Gaussian(), Replace(), data, last=4, **options))
    at = Standing(2, None, data, whole[2].sample)
    rest = list(run_network(Gaussian(), Replace(), data, last=4, after=at, stock=MemoryStock(), **options))
    assert [g.index for g in rest] == [3, 4]
    assert np.array_equal(rest[-1].sample.values, whole[-1].sample.values)


def test_society_samples_every_node():
    data = states(np.repeat(np.arange(3), 20), 3)
    chain = run_network(Categorical(), Replace(), data, network=Network("independent", 3), n=20, last=0, fresh=None, streams=streams)
    society = next(iter(chain)).model
    assert isinstance(society, Society)
    sample = society.sample(500, rng=stream(2))
    assert len(sample) == 500
    assert sorted(set(sample.values.tolist())) == [0, 1, 2]


STUDY = {
    "study": {"name": "nets", "generations": 2, "samples": 20},
    "data": {"source": "zipf", "states": 30},
    "learner": {"kind": "categorical", "protocol": {"kind": "pool", "nodes": 4}},
    "mix": {"kind": "replace"},
    "metrics": {"names": ["heterozygosity"]},
}


GAUSSIAN = {"kind": "gaussian", "protocol": {"kind": "pool", "nodes": 250}}


def changed(**sections):
    return {**STUDY, **{name: {**STUDY[name], **values} if name in STUDY else values for name, values in sections.items()}}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (changed(learner={"protocol": {"kind": "pool", "nodes": 1}}), "expected 2 to 256"),
        (changed(learner={"protocol": {"kind": "pool"}}), "needs 'nodes'"),
        (changed(learner={"protocol": {"kind": "pool", "nodes": 4, "node": 3}}), "no parameter 'node'"),
        (changed(learner={"protocol": "pool"}), "expected a table"),
        (changed(learner={"protocol": {"kind": "federated", "nodes": 4, "clients": 2, "select": {"m": 3}}}), "can't be sliced"),
        (changed(learner={"protocol": {"kind": "federated", "nodes": 4, "clients": 5}}), "clients is 5, expected 1 to 4"),
        (changed(learner={"protocol": {"kind": "gossip", "nodes": 4}}), "which Categorical doesn't"),
        (changed(study={"samples": 3}), "less than one of each node"),
        (changed(curation={"kind": "ideal", "tpr": 0.9, "fpr": 0.1}, mix={"kind": "fresh", "fresh": 5}), "a curation"),
        (
            changed(data={"source": "digits", "heldout": 0.95}, learner=GAUSSIAN, metrics={"names": ["variance"]}),
            "250 nodes can't share 90",
        ),
    ],
)
def test_a_study_refuses_before_any_work(table, message):
    if "heldout" in table["data"]:
        del table["data"]["states"]
    with pytest.raises(ConfigError, match=message):
        prepare(expand(table), table)


def test_one_kind_means_no_network():
    table = changed(learner={"protocol": {"kind": "none"}})
    plain = {**STUDY, "learner": {"kind": "categorical"}}
    assert prepare(expand(table), table).digest == prepare(expand(plain), plain).digest
    assert "protocol" not in prepare(expand(plain), plain).jobs[0].resolved()
    assert prepare(expand(STUDY), STUDY).jobs[0].resolved()["protocol"] == {
        "kind": "pool", "nodes": 4, "migration": None, "edges": (), "every": None, "rounds": None,
        "clients": None, "epochs": None, "server": None, "server_rate": None,
    }  # fmt: skip
