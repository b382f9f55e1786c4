"""Partitions and slices under any labels, sizes and keys: nothing is lost, nothing comes twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from studbook.protocols.objectives._layout import Layout
from studbook.protocols.partition import split_by_document, split_by_label, split_by_size


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=80),
    share=st.floats(0.0, 1.0),
    alpha=st.floats(0.001, 1000.0),
    exponent=st.floats(0.0, 8.0),
    seed=st.integers(0, 1000),
)
def test_every_row_goes_to_one_client_and_every_client_has_one(labels, share, alpha, exponent, seed) -> None:
    column = np.array(labels)
    n = max(1, round(share * len(column)))
    n_documents = min(n, len(np.unique(column)))
    for parts, clients in (
        (split_by_label(column, n, alpha=alpha, rng=np.random.default_rng(seed)), n),
        (split_by_size(len(column), n, exponent=exponent, rng=np.random.default_rng(seed)), n),
        (split_by_document(column, n_documents, rng=np.random.default_rng(seed)), n_documents),
    ):
        assert len(parts) == clients
        assert all(len(rows) and (np.diff(rows) > 0).all() for rows in parts)
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(column)))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_what_is_taken_is_put_back_into_place(data, seed) -> None:
    layout = Layout({"words": 7, "neurons": 5}, {"inner": ("words", "neurons"), "bias": ("neurons",), "deep": ("neurons", None, "words")})
    rng = np.random.default_rng(seed)
    whole = {name: rng.normal(size=shape).astype(np.float32) for name, shape in (("inner", (7, 5)), ("bias", (5,)), ("deep", (5, 2, 7)))}
    whole["rest"] = rng.normal(size=3).astype(np.float32)
    keys = {
        group: np.array(sorted(chosen))
        for group, size in layout.sizes.items()
        if (chosen := data.draw(st.sets(st.integers(0, size - 1), max_size=size)))
    }
    update, covered = layout.scatter(layout.take(whole, keys), keys, whole)
    for name, value in whole.items():
        assert set(np.unique(covered[name])) <= {0.0, 1.0}
        np.testing.assert_array_equal(update[name], value * covered[name])
