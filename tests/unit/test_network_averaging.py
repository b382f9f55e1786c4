"""What nodes that average their parameters refuse, and what they share."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.errors import ConfigError, DataError
from studbook.learners import Gpt, KernelDensity
from studbook.recursion import Network
from studbook.study.networks import check_network
from studbook.theory import Averaging, Exchange, averaged_size, effective_records, effective_size, neighbour_weights
from studbook.theory.laws import CategoricalLaw, PoissonLaw, mean_law


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "averaged", "nodes": 4, "rounds": 0}, "expected 1 to"),
        ({"kind": "averaged", "nodes": 4, "every": 2}, "has no every"),
        ({"kind": "averaged", "nodes": 4, "edges": ((0, 1), (1, 2), (2, 3))}, "needs rounds"),
        ({"kind": "averaged", "nodes": 4, "edges": ((0, 1), (2, 3)), "rounds": 1}, "falls into parts"),
        ({"kind": "pool", "nodes": 4, "rounds": 2}, "has no rounds"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        Network(**settings)


@pytest.mark.parametrize("learner", [Gpt(), KernelDensity()])
def test_learners_without_mean_parameters_are_refused(learner):
    with pytest.raises(ConfigError, match="take the mean of parameters") as told:
        check_network(Network("averaged", 3), learner)
    assert "categorical" in told.value.hint


@pytest.mark.parametrize("weights", [np.eye(3)[:2], np.full((2, 2), 0.6), np.array([[1.5, -0.5], [0.0, 1.0]])])
def test_weights_that_are_none(weights):
    for ask in (Averaging, lambda w: effective_records(w, 5), lambda w: averaged_size(w, 5)):
        with pytest.raises(ConfigError):
            ask(weights)


def test_more_than_sizes_can_be():
    with pytest.raises(ConfigError, match="1 or more records"):
        effective_records(np.eye(2), 0)
    with pytest.raises(ConfigError, match="symmetric"):
        averaged_size(np.array([[0.5, 0.5], [0.2, 0.8]]), 10)


@pytest.mark.parametrize("n", [2, 3, 12, 24])
def test_models_that_only_change_places_never_become_one(n):
    """A permutation has eigenvalues of size 1 beside the first, whose sizes come out above 1 by rounding."""
    weights = np.roll(np.eye(n), 1, axis=1)
    assert effective_size(Exchange(100 * np.eye(n, dtype=int)), Averaging(weights)) == np.inf
    if n == 2:
        assert averaged_size(weights, 100) == np.inf


def test_edges_count_once_whichever_way():
    there, back = (Network("averaged", 3, edges=edges, rounds=2).weights() for edges in (((0, 1), (1, 2)), ((2, 1), (1, 0), (0, 1))))
    np.testing.assert_array_equal(there, back)
    np.testing.assert_allclose(there, np.linalg.matrix_power(neighbour_weights(3, [(0, 1), (1, 2)]), 2))
    np.testing.assert_allclose(there.sum(axis=0), 1.0)


def test_the_mean_of_different_families_is_no_law():
    with pytest.raises(DataError, match="2 families"):
        mean_law([PoissonLaw(np.ones(1)), CategoricalLaw(np.ones((1, 1)))], np.array([0.5, 0.5]))
