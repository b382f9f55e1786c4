"""What holds for every composition, law and situation."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from studbook.theory import (
    CategoricalLaw,
    Composition,
    GaussianLaw,
    PoissonLaw,
    Renewal,
    Situation,
    coalescence,
    expected_moments,
    golden_weight,
    kept_share,
    predict,
    smallest_fresh,
    survival_probability,
)

counts = st.integers(0, 40)
METRICS = (
    "mean",
    "drift",
    "variance",
    "std",
    "w2",
    "w2_squared",
    "support",
    "support_share",
    "heterozygosity",
    "extinct",
    "weight_error",
    "kl",
)
MIXES = {
    "replace": {},
    "accumulate": {},
    "subsample": {},
    "keep": {"share": 0.2},
    "fresh": {"fresh": 2},
    "blend": {"alpha": 0.5, "beta": 0.2, "gamma": 0.3},
    "weighted": {"weight": "golden", "fresh": 0},
}


@st.composite
def compositions(draw: st.DrawFn) -> tuple[Composition, int]:
    """A composition, with a size of the original that it doesn't exceed."""
    generated, fresh, original, previous = (draw(counts) for _ in range(4))
    kind = draw(st.sampled_from(["parts", "pool", "weighted"]))
    n_original = draw(st.integers(max(original, previous, 1), 80))
    if kind == "pool":
        return Composition(generated + 1, pool=draw(st.integers(0, generated + 1))), n_original
    if kind == "weighted":
        return Composition(generated + 1, fresh=fresh + 1, original=original, real_share=draw(st.floats(0.01, 0.99))), n_original
    return Composition(generated, fresh, original, max(previous, 1 - generated - fresh - original)), n_original


@given(compositions(), st.booleans())
def test_what_variance_loses_drift_gains(case: tuple[Composition, int], sampled: bool) -> None:
    """Two draws either share an ancestor or not: E σ² + E (μ − μ₀)² = σ₀², whatever the mix."""
    composition, n_original = case
    # One finite record has no variance to keep.
    sampled = sampled or n_original == 1
    path = expected_moments(composition, n_original, 12, sampled=sampled, variance=3.0)
    assert np.allclose(path.variance + path.drift, 3.0, rtol=1e-12)
    assert path.drift.min() >= -1e-12
    assert path.variance.min() >= 0.0


@given(st.integers(2, 500), st.integers(0, 500), st.integers(0, 300))
def test_more_fresh_records_keep_more(n: int, fresh: int, generation: int) -> None:
    fresh = min(fresh, n - 1)
    assert kept_share(fresh + 1, n, generation) >= kept_share(fresh, n, generation) - 1e-12


@given(st.integers(2, 10**6), st.floats(0.001, 0.999), st.one_of(st.none(), st.integers(0, 10**5)))
def test_the_dose_is_the_smallest(n: int, keep: float, generation: int | None) -> None:
    keep *= 1.0 - 1.0 / n
    fresh = smallest_fresh(keep, n, generation)
    assert kept_share(fresh, n, generation) >= keep * (1.0 - 1e-9)
    assert fresh == 0 or kept_share(fresh - 1, n, generation) < keep * (1.0 + 1e-9)


@given(st.floats(1e-9, 1e9))
def test_golden_weight_solves_its_equation(ratio: float) -> None:
    weight = golden_weight(ratio)
    assert 0.0 < weight <= 1.0
    # k(1 − w) = w² in the form that keeps its digits: w = k(1 − w)/w.
    assert np.isclose(weight + weight * weight / ratio, 1.0, rtol=1e-9)


@given(st.integers(1, 30), st.integers(0, 10), st.floats(1e-6, 1.0))
@settings(deadline=None)
def test_survival_is_a_probability_that_falls(n: int, fresh: int, probability: float) -> None:
    alive = survival_probability(np.array([probability]), Renewal(n, fresh=fresh), n + fresh, np.arange(8))[:, 0]
    assert alive.min() >= 0.0
    assert alive.max() <= 1.0
    # From the law onwards: each generation is at most as rich as the one before it, migration included.
    assert np.all(np.diff(alive) <= 1e-9)


@given(compositions())
def test_coalescence_is_a_probability(case: tuple[Composition, int]) -> None:
    loss = coalescence(case[0], case[1], 10)
    assert loss[0] == 1.0 / case[1]
    assert loss.min() >= 0.0
    assert loss.max() <= 1.0 + 1e-12


@given(
    learner=st.sampled_from(["gaussian", "bernoulli", "poisson", "categorical", "gmm", "kde", "ngram", "ols", "another"]),
    mix=st.sampled_from([*MIXES, "another"]),
    metric=st.sampled_from(METRICS),
    law=st.sampled_from(["gaussian", "poisson", "categorical", "none"]),
    sampled=st.booleans(),
    sizes=st.tuples(st.integers(2, 12), st.integers(12, 30)),
    ddof=st.integers(0, 3),
    initial=st.dictionaries(st.sampled_from(METRICS), st.floats(0.0, 10.0)),
    generations=st.lists(st.integers(0, 30), max_size=4),
)
@settings(deadline=None, max_examples=300)
def test_predictions_are_curves_or_nothing(
    learner: str,
    mix: str,
    metric: str,
    law: str,
    sampled: bool,
    sizes: tuple[int, int],
    ddof: int,
    initial: dict[str, float],
    generations: list[int],
) -> None:
    """No situation, however odd, makes the theory raise, or give a number that isn't one."""
    laws = {
        "gaussian": GaussianLaw(np.zeros((1, 2)), np.diag([1.0, 4.0])[None]),
        "poisson": PoissonLaw(np.array([1.5])),
        "categorical": CategoricalLaw(np.array([[0.5, 0.5, 0.0]])),
        "none": None,
    }
    situation = Situation(learner, {"ddof": ddof}, mix, MIXES.get(mix, {}), *sizes, laws[law], sampled, 2, initial)
    curve = predict(situation, metric, np.array(generations, dtype=np.int64))
    if curve is None:
        return
    assert curve.mean.shape == (len(generations),)
    assert np.all(np.isfinite(curve.mean))
    assert curve.median is None or np.all(np.isfinite(curve.median))
    assert curve.source
    assert curve.formula
