"""Updates of slices, gathered as they come in: their mean and spread are those of the whole models, whatever the slices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studbook.protocols import spread_of
from studbook.protocols.objectives import open_objective
from studbook.protocols.select import Gathering

HIDDEN = 6
MLP = open_objective("mlp", {"hidden": HIDDEN, "limit": 50})
LIKE = MLP.initial(rng=np.random.default_rng(0))
KEYS = st.sets(st.integers(0, HIDDEN - 1), min_size=1).map(lambda keys: {"neurons": np.array(sorted(keys))})


@settings(max_examples=60, deadline=None)
@given(keys=st.lists(st.none() | KEYS, min_size=1, max_size=5), seed=st.integers(0, 2**32 - 1), coverage=st.booleans())
def test_mean_and_spread_are_those_of_the_whole_models(keys, seed, coverage) -> None:
    rng = np.random.default_rng(seed)
    gathering = Gathering(MLP, LIKE, "coverage" if coverage else "clients")
    weights = rng.integers(1, 50, len(keys)).astype(float)
    wholes, covers = [], []
    for chosen, weight in zip(keys, weights, strict=True):
        part = LIKE if chosen is None else MLP.take(LIKE, chosen)
        update = {name: rng.standard_normal(value.shape).astype(np.float32) for name, value in part.items()}
        gathering.add(update, chosen or {}, weight)
        ones = {name: np.ones_like(value) for name, value in LIKE.items()}
        whole, cover = (update, ones) if chosen is None else MLP.scatter(update, chosen, LIKE)
        wholes.append(whole)
        covers.append(cover)
    found = gathering.mean()
    for name in LIKE:
        total = sum(weight * whole[name].astype(np.float64) for weight, whole in zip(weights, wholes, strict=True))
        share = sum(weight * cover[name] for weight, cover in zip(weights, covers, strict=True)) if coverage else weights.sum()
        np.testing.assert_allclose(found[name], total / np.where(share > 0, share, 1.0), rtol=1e-5, atol=1e-6)
    assert gathering.spread() == pytest.approx(spread_of(wholes), rel=1e-9, abs=1e-9)
    if len(keys) == 1:
        assert gathering.spread() == 0.0
