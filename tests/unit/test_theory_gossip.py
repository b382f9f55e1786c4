"""The theory of nodes that average with each other: closed forms against each other, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.errors import ConfigError
from studbook.protocols import Gossip, Local, complete, metropolis_weights, ring
from studbook.theory import contraction, pair_contraction, predict_spread, second_eigenvalue, spread_bound, steady_spread


def test_steady_spread_of_a_symmetric_matrix_is_the_sum_over_eigenvalues():
    weights, noise, decay = metropolis_weights(ring(9)), 2.0, 0.95
    values = np.sort(np.abs(np.linalg.eigvalsh(weights)))[:-1]
    expected = noise / 9 * np.sum(values**2 / (1 - decay**2 * values**2))
    assert steady_spread([weights], noise=noise, decay=decay)[0] == pytest.approx(expected, rel=1e-8)


def test_random_pairs_meet_the_bound():
    stack, rho = Gossip(complete(8)).mixing(8), pair_contraction(8)
    assert steady_spread(stack, noise=3.0, decay=0.9)[0] == pytest.approx(spread_bound(rho, 8, noise=3.0, decay=0.9), rel=1e-8)


def test_predictions_tend_to_the_steady_spread():
    schedule = Gossip(ring(6)).mixing(6)
    curve = predict_spread(schedule, 400, noise=1.0, decay=0.9)
    assert curve[-1] == pytest.approx(steady_spread(schedule, noise=1.0, decay=0.9)[0], rel=1e-6)


def test_without_noise_the_spread_shrinks_by_rho_at_most():
    weights = metropolis_weights(ring(10))
    curve = predict_spread([weights], 30, noise=0.0, start=1.0)
    assert (curve[1:] / curve[:-1] <= contraction(weights) + 1e-12).all()
    assert curve[-1] / curve[-2] == pytest.approx(second_eigenvalue(weights) ** 2, rel=1e-2)


def test_local_averages_grow_and_fall_to_nothing():
    curve = predict_spread(Local(3).mixing(4), 7, noise=1.0)
    assert curve.tolist() == pytest.approx([0.75, 1.5, 0.0, 0.75, 1.5, 0.0, 0.75])


def test_noise_without_contact_piles_up():
    assert steady_spread([np.eye(3)], noise=1.0)[0] == np.inf
    assert steady_spread([np.eye(3)], noise=0.0)[0] == 0.0


def test_drift_adds_to_the_bound():
    assert spread_bound(0.5, 8, noise=1.0, drift=0.1) > spread_bound(0.5, 8, noise=1.0)
    assert spread_bound(0.25, 8, drift=1.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "weights",
    [np.ones((2, 2)), np.ones((2, 3)), np.ones(3), np.array([[1.5, -0.5], [-0.5, 1.5]]), np.full((2, 2), np.nan), np.zeros((0, 0))],
)
def test_not_a_mixing_matrix(weights):
    with pytest.raises(ConfigError):
        contraction(weights)


@pytest.mark.parametrize("change", [{"noise": -1.0}, {"noise": np.nan}, {"decay": 1.5}, {"start": -1.0}, {"steps": -1}, {"schedule": []}])
def test_numbers_out_of_range(change):
    settings = {"schedule": [np.eye(2)], "steps": 2, "noise": 1.0, **change}
    with pytest.raises(ConfigError):
        predict_spread(settings.pop("schedule"), settings.pop("steps"), **settings)


def test_matrices_for_different_numbers_of_nodes():
    with pytest.raises(ConfigError, match="different numbers"):
        predict_spread([np.eye(2), np.eye(3)], 2, noise=1.0)


def test_bounds_out_of_range():
    with pytest.raises(ConfigError):
        spread_bound(1.0, 8, noise=1.0)
    with pytest.raises(ConfigError):
        pair_contraction(1)
