"""Any connected graph: its weights are doubly stochastic, mix, and keep the mean; messages come back for any fields."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from studbook.protocols import Graph, Message, metropolis_weights, pair_weights
from studbook.theory import contraction, second_eigenvalue


@st.composite
def graphs(draw) -> Graph:
    n = draw(st.integers(2, 12))
    tree = [(draw(st.integers(0, i - 1)), i) for i in range(1, n)]  # a random tree joins all
    more = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda pair: pair[0] != pair[1]), max_size=15))
    return Graph.of([*tree, *more], n)


@settings(deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_weights_mix_and_keep_the_mean(graph, seed):
    weights = metropolis_weights(graph)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((graph.n, 3))
    apart = np.square(x - x.mean(axis=0)).sum()
    for matrix in (weights, pair_weights(graph.n, graph.matching(range(graph.n), rng=rng))):
        mixed = matrix @ x
        assert np.allclose(mixed.mean(axis=0), x.mean(axis=0))
        assert np.square(mixed - mixed.mean(axis=0)).sum() <= contraction(matrix) * apart + 1e-9
    assert second_eigenvalue(weights) < 1.0 - 1e-6
    assert graph.parts(range(graph.n)) == [list(range(graph.n))]


@settings(deadline=None)
@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.floats(allow_nan=False)),
    st.dictionaries(st.text(max_size=5), st.lists(st.integers(0, 4), max_size=3), max_size=3),
)
def test_messages_come_back(fields, shapes):
    arrays = {name: {"w": np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)} for name, shape in shapes.items()}
    read = Message.decode(Message("kind", fields, arrays).encode(), "it")
    assert read.fields == fields
    assert {name: part["w"].shape for name, part in read.arrays.items()} == {name: tuple(shape) for name, shape in shapes.items()}
    assert all(np.array_equal(read.arrays[name]["w"], part["w"]) for name, part in arrays.items())
