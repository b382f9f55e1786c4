"""What each mix asks for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studbook.errors import ConfigError
from studbook.mixing import Accumulate, Blend, Fresh, Keep, Origin, Replace, Subsample, Weighted

SIZED = [
    Replace(),
    Subsample(),
    Keep(0.1),
    Keep(0.0),
    Keep(1.0),
    Fresh(0),
    Fresh(7),
    Fresh(100),
    Blend(0.5, 0.3, 0.2),
    Blend(1 / 3, 1 / 3, 1 / 3),
]


@pytest.mark.parametrize("mix", SIZED, ids=str)
def test_training_set_has_n_records(mix):
    assert sum(part.n for part in mix.parts(100, 100)) == 100


@given(n=st.integers(1, 10_000), alpha=st.floats(0, 1), split=st.floats(0, 1))
def test_blend_always_adds_up(n, alpha, split):
    beta = (1 - alpha) * split
    parts = Blend(alpha, beta, max(0.0, 1 - alpha - beta)).parts(n, n)
    assert sum(part.n for part in parts) == n
    assert all(part.n > 0 for part in parts)


def test_accumulate_takes_the_whole_pool():
    (part,) = Accumulate().parts(10, 50)
    assert part.origin is Origin.POOL
    assert part.n is None


@given(n=st.integers(1, 10**9), real=st.integers(1, 10**9))
def test_golden_weight_keeps_the_total(n, real):
    parts = Weighted("golden", fresh=real).parts(n, n)
    total = sum(part.n * part.weight for part in parts)
    k = real / n
    assert math.isclose(total, n + real, rel_tol=1e-9)
    share = 2 * k / (math.sqrt(k * k + 4 * k) + k)  # (sqrt(k^2 + 4k) - k) / 2, without its cancellation for large k
    assert math.isclose(parts[0].n * parts[0].weight / total, share, rel_tol=1e-9)


def test_golden_weight_of_very_many_real_records():
    _, generated = Weighted("golden").parts(10, 10**12)
    assert math.isclose(generated.weight, 1.0, rel_tol=1e-6)


def test_weighted_without_fresh_takes_the_whole_original():
    real, generated = Weighted(0.5).parts(20, 60)
    assert (real.origin, real.n, generated.n) == (Origin.ORIGINAL, None, 20)
    assert math.isclose(real.weight * 60, generated.weight * 20)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Keep(1.5), "mix.share is 1.5"),
        (lambda: Keep(-0.1), "mix.share is -0.1"),
        (lambda: Keep(float("nan")), "mix.share is nan"),
        (lambda: Fresh(-1), "mix.fresh is -1"),
        (lambda: Blend(0.5, 0.5, 0.5), "is 1.5, expected 1"),
        (lambda: Blend(-0.5, 1.0, 0.5), "mix.alpha is -0.5"),
        (lambda: Weighted(1.0), "mix.weight is 1.0"),
        (lambda: Weighted(0.5, fresh=-2), "mix.fresh is -2"),
        (lambda: Fresh(11).parts(10, 10), "mix.fresh is 11, but a generation has 10"),
        (lambda: Keep(0.5).parts(100, 10), "asks for 50 original records a generation, the original data have 10"),
        (lambda: Blend(0.1, 0.8, 0.1).parts(100, 10), "the original data have 10"),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
