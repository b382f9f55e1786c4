"""Graphs of nodes, and the weights by which they average."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.errors import ConfigError
from studbook.protocols import Gossip, Graph, complete, create_graph, metropolis_weights, pair_weights, ring, star
from studbook.theory import contraction, pair_contraction, predict_spread, second_eigenvalue


@pytest.mark.parametrize(("graph", "edges"), [(ring(2), 1), (ring(3), 3), (ring(8), 8), (complete(8), 28), (star(8), 7)])
def test_edges(graph, edges):
    assert len(graph.edges) == edges


@pytest.mark.parametrize("make", [ring, complete, star])
def test_one_node_is_no_graph(make):
    with pytest.raises(ConfigError, match="1 node, expected 2"):
        make(1)


def test_a_disconnected_graph_is_refused_and_named():
    with pytest.raises(ConfigError, match=r"disconnected: no path joins node 0 and nodes 2, 3 \(2 parts\)"):
        Graph.of([(0, 1), (2, 3)])
    with pytest.raises(ConfigError, match="disconnected"):
        Graph.of([(0, 1)], n=3)


@pytest.mark.parametrize("edges", [[(0, 0)], [(0, 1, 2)], [(0, -1)], [(0, "1")], [(0, 1.5)]])
def test_impossible_edges(edges):
    with pytest.raises(ConfigError):
        Graph.of(edges)


def test_edges_from_a_file(tmp_path):
    file = tmp_path / "edges.txt"
    file.write_text("# a path\n0 1\n2, 1  # and back\n\n1 2\n")
    assert create_graph(str(file), 3).edges == ((0, 1), (1, 2))


@pytest.mark.parametrize(
    ("text", "match"), [("0 1\n1\n", "line 2"), ("0 x\n", "line 1"), ("0 99999999\n", "line 1"), ("0 5\n", "disconn|can't")]
)
def test_files_that_are_no_graph(tmp_path, text, match):
    file = tmp_path / "edges.txt"
    file.write_text(text)
    with pytest.raises(ConfigError, match=match):
        Graph.read(file, 6)
    with pytest.raises(ConfigError, match="can't be read"):
        Graph.read(tmp_path / "nowhere")


def test_unknown_graph():
    with pytest.raises(ConfigError, match="no graph 'torus'"):
        create_graph("torus", 8)


@pytest.mark.parametrize("graph", [ring(5), ring(8), complete(7), complete(8), star(6), Graph.of([(0, 1), (1, 2), (2, 3), (1, 3)])])
def test_a_matching_pairs_nobody_twice_and_leaves_no_edge_free(graph):
    rng = np.random.default_rng(0)
    for _ in range(50):
        pairs = graph.matching(range(graph.n), rng=rng)
        used = [node for pair in pairs for node in pair]
        assert len(used) == len(set(used))
        assert set(pairs) <= set(graph.edges)
        assert not [edge for edge in graph.edges if not set(edge) & set(used)]


def test_a_matching_among_those_who_are_left():
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert {node for pair in complete(6).matching([1, 2, 5], rng=rng) for node in pair} <= {1, 2, 5}
        assert ring(6).matching([0, 2, 4], rng=rng) == []


def test_random_pairs_are_uniform():
    # Each of 15 pairs of 6 nodes in a share of 1/5 of the steps: chi-square with 14 degrees, false alarm below 1e-4 (limit 44).
    rng, n = np.random.default_rng(1), 3000
    counts = np.zeros((6, 6))
    for _ in range(n):
        for i, j in complete(6).matching(range(6), rng=rng):
            counts[i, j] += 1
    seen = counts[np.triu_indices(6, 1)]
    assert np.square(seen - n / 5).sum() / (n / 5) < 44


@pytest.mark.parametrize("graph", [ring(7), complete(5), star(9)])
def test_metropolis_weights_are_symmetric_and_doubly_stochastic(graph):
    weights = metropolis_weights(graph)
    assert np.allclose(weights, weights.T)
    assert np.allclose(weights.sum(axis=0), 1.0)
    assert weights.min() >= 0.0
    assert second_eigenvalue(weights) < 1.0
    assert contraction(weights) == pytest.approx(second_eigenvalue(weights) ** 2)


def test_metropolis_weights_of_a_ring_have_the_known_eigenvalue():
    assert second_eigenvalue(metropolis_weights(ring(12))) == pytest.approx((1 + 2 * np.cos(2 * np.pi / 12)) / 3)


def test_metropolis_weights_among_those_who_are_left():
    weights = metropolis_weights(ring(4), [0, 1, 3])
    assert weights.shape == (3, 3)
    assert weights[1, 2] == 0.0
    assert np.allclose(weights.sum(axis=1), 1.0)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9, 16])
def test_random_pairs_contract_as_the_closed_form_says(n):
    (stack,) = Gossip(complete(n)).mixing(n)
    assert contraction(stack) == pytest.approx(pair_contraction(n), abs=1e-11)
    off_diagonal = stack.mean(axis=0)[~np.eye(n, dtype=bool)]
    assert np.ptp(off_diagonal) < 1e-12


@pytest.mark.parametrize("n", [4, 7])
def test_random_pairs_spread_as_all_rounds_of_a_tournament_do(n):
    """Everybody meets everybody once in the rounds of a tournament: the second moments of random pairs, by another way."""
    turning = n - 1 + n % 2
    rounds = []
    for k in range(turning):
        pairs = [(k, turning), *(((k + i) % turning, (k - i) % turning) for i in range(1, (turning + 1) // 2))]
        rounds.append(pair_weights(n, [pair for pair in pairs if max(pair) < n]))
    expected = predict_spread([np.eye(n), np.stack(rounds)], 20, noise=1.0, decay=0.9, start=2.0)
    found = predict_spread(Gossip(complete(n), every=2).mixing(n), 20, noise=1.0, decay=0.9, start=2.0)
    assert found == pytest.approx(expected, rel=1e-10)


def test_pair_weights_are_a_projection():
    weights = pair_weights(5, [(0, 3), (1, 2)])
    assert np.allclose(weights @ weights, weights)
