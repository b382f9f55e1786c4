"""Mixes by quotas against all subsets of small corpora."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studbook.errors import ConfigError, QuotaError
from studbook.mixing import NO_MODEL, Quotas, choose_mix

SHARES = st.sampled_from([0.0, 0.1, 0.2, 0.25, 1 / 3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0])
RECORDS = st.lists(st.tuples(st.integers(-2, 3), st.integers(0, 6)), min_size=1, max_size=9)


def arrays(records):
    kinds, clusters = (np.array(column, dtype=np.int64) for column in zip(*records, strict=True))
    return kinds == -2, np.where(kinds < 0, NO_MODEL, kinds), clusters


def keeps(human, models, clusters, rows, quotas):
    n = len(rows)
    held = models[list(rows)]
    return (
        len(set(clusters[list(rows)].tolist())) == n
        and human[list(rows)].sum() >= math.ceil(quotas.human * n - 1e-9)
        and all((held == model).sum() <= math.floor(quotas.most_per_model * n + 1e-9) for model in set(held[held >= 0].tolist()))
    )


def feasible_sizes(human, models, clusters, quotas):
    n = len(human)
    return {k for k in range(1, n + 1) for rows in itertools.combinations(range(n), k) if keeps(human, models, clusters, rows, quotas)}


@settings(max_examples=150, deadline=None)
@given(RECORDS, SHARES, SHARES, st.integers(0, 3))
def test_every_feasible_size_is_found_and_no_other(records, share, most, seed):
    human, models, clusters = arrays(records)
    quotas = Quotas(share, most)
    feasible = feasible_sizes(human, models, clusters, quotas)
    for size in [None, *range(1, len(records) + 2)]:
        rng = np.random.default_rng(seed)
        if (size is None and not feasible) or (size is not None and size not in feasible):
            with pytest.raises(QuotaError, match="asked at least"):
                choose_mix(human, models, clusters, quotas, rng=rng, size=size)
            continue
        chosen = choose_mix(human, models, clusters, quotas, rng=rng, size=size)
        assert chosen.largest == max(feasible)
        assert chosen.rows.size == (max(feasible) if size is None else size)
        assert keeps(human, models, clusters, chosen.rows.tolist(), quotas)
        assert chosen.human == human[chosen.rows].sum()
        assert sum(chosen.per_model.values()) == (models[chosen.rows] >= 0).sum()
        assert chosen.weights.mean() == pytest.approx(1.0)


def test_the_seed_decides_and_weights_give_back_the_shares_of_all():
    rng = np.random.default_rng(0)
    models = rng.integers(-1, 3, 3000)
    human = (models == -1) & (rng.random(3000) < 0.4)
    first, again, other = (
        choose_mix(human, models, np.arange(3000), Quotas(0.5, 0.1), rng=np.random.default_rng(seed), size=400) for seed in (1, 1, 2)
    )
    assert (first.rows == again.rows).all()
    assert not np.array_equal(first.rows, other.rows)
    weighted = first.weights[human[first.rows]].sum() / first.weights.sum()
    assert weighted == pytest.approx(human.mean())
    for model in range(3):
        assert first.weights[models[first.rows] == model].sum() / 400 == pytest.approx((models == model).mean())


def test_a_million_records_are_chosen_exactly():
    models = np.repeat([NO_MODEL, 0, 1, 2], [300_000, 500_000, 150_000, 50_000])
    human = np.arange(1_000_000) < 100_000
    chosen = choose_mix(human, models, np.arange(1_000_000), Quotas(0.2, 0.25), rng=np.random.default_rng(0))
    # 500,000 = 100,000 / 0.2 would need all human ones; 300,000 free + min(125,000, .) + 125,000 + 50,000 are more than enough.
    assert (chosen.largest, chosen.human) == (500_000, 100_000)
    assert max(chosen.per_model.values()) <= 125_000


def test_refusals_say_the_numbers():
    human, models = np.arange(10_000) < 1_200, np.full(10_000, NO_MODEL)
    with pytest.raises(QuotaError, match=r"among 10,000 records, there are 1,200 human ones: at most 2,400") as caught:
        choose_mix(human, models, np.arange(10_000), Quotas(0.5, 0.1), rng=np.random.default_rng(0), size=10_000)
    assert caught.value.exit_code == 3
    assert "2,400" in caught.value.hint
    with pytest.raises(QuotaError, match="any one model"):
        choose_mix(~human, np.where(human, 0, NO_MODEL), np.arange(10_000), Quotas(0.0, 0.1), rng=np.random.default_rng(0), size=10_000)


def test_impossible_arguments_are_refused():
    with pytest.raises(ConfigError, match="expected a share"):
        Quotas(50, 0.1)
    with pytest.raises(ConfigError, match="one length"):
        choose_mix(np.ones(2, bool), np.zeros(3, int), np.arange(2), Quotas(0, 1), rng=np.random.default_rng(0))
    with pytest.raises(ConfigError, match="size is 0"):
        choose_mix(np.ones(2, bool), np.full(2, -1), np.arange(2), Quotas(0, 1), rng=np.random.default_rng(0), size=0)
