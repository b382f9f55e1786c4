"""Predictions against the product's own loops: learners, mixes and both ways of running."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from studbook import learners, mixing
from studbook.arrays import Batch, Floats, Kind, Space, numbers
from studbook.recursion import run_generations, run_generations_in_law
from studbook.rng import stream
from studbook.theory import GaussianLaw, Situation, predict

LAST = 4
MIXES = {
    "replace": {},
    "accumulate": {},
    "fresh": {"fresh": 2},
    "weighted": {"weight": "golden", "fresh": 0},
}
TYPES = {"replace": mixing.Replace, "accumulate": mixing.Accumulate, "fresh": mixing.Fresh, "weighted": mixing.Weighted}
LAW = GaussianLaw(np.array([[1.0, -2.0]]), np.array([[[4.0, 1.0], [1.0, 1.0]]]))


def z_scores(values: Floats, expected: Floats) -> Floats:
    """``values`` ``(G, R)`` against ``expected`` ``(G,)``."""
    error = values.std(axis=1) / np.sqrt(values.shape[1])
    gap = values.mean(axis=1) - expected
    return np.divide(gap, error, out=np.where(np.abs(gap) < 1e-9, 0.0, np.inf), where=error > 1e-14)


def measure(mean: Floats, covariance: Floats, origin: Floats) -> dict[str, Floats]:
    """Metrics of R laws, each ``(R,)``."""
    diagonal = np.diagonal(covariance, axis1=1, axis2=2)
    return {
        "mean": mean.mean(axis=1),
        "drift": ((mean - origin) ** 2).mean(axis=1),
        "variance": diagonal.mean(axis=1),
        "std": np.sqrt(diagonal).mean(axis=1),
    }


def run_law(mix: str, ddof: int, law: GaussianLaw, original: Any, n: int, n_original: int, replicates: int) -> dict[str, Floats]:
    learner, space = learners.Gaussian(ddof=ddof), Space(Kind.NUMBERS, law.mean.shape[1:])
    many = GaussianLaw(np.repeat(law.mean, replicates, axis=0), np.repeat(law.covariance, replicates, axis=0))
    real = learner.from_law(many, space)
    start = learner.draw(real, n_original, rng=stream(0, "original")) if original is None else original.repeat(replicates)
    chain = run_generations_in_law(
        learner,
        TYPES[mix](**MIXES[mix]),
        start,
        space,
        n=n,
        n_original=n_original,
        last=LAST,
        real=real,
        rng=stream(1, "law"),
    )
    rows = [measure(*generation.model.law.moments(), law.mean[0]) for generation in chain]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def check(measured: dict[str, Floats], situation: Situation) -> None:
    for metric, values in measured.items():
        curve = predict(situation, metric, np.arange(LAST + 1))
        assert curve is not None, metric
        if curve.exact:
            assert np.abs(z_scores(values, curve.mean)).max() < 5.0, metric
        else:
            # Jensen's inequality: a bound from above, and not far away.
            assert np.all(z_scores(values, curve.mean) < 5.0), metric
            assert np.all(values.mean(axis=1) > 0.9 * curve.mean), metric


@pytest.mark.parametrize("mix", list(MIXES))
@pytest.mark.parametrize("ddof", [0, 1])
def test_gaussians_of_a_source(mix: str, ddof: int) -> None:
    """Two dimensions, 20,000 replicates in law; |z| < 5 for 20 numbers in eight cases: false alarms in 1e-4 of all seeds."""
    measured = run_law(mix, ddof, LAW, None, 12, 15, 20_000)
    check(measured, Situation("gaussian", {"ddof": ddof}, mix, MIXES[mix], 12, 15, LAW, True, 2, {}))


@pytest.mark.parametrize("mix", ["replace", "accumulate", "weighted"])
@pytest.mark.parametrize("ddof", [0, 1])
def test_gaussians_of_real_records(mix: str, ddof: int) -> None:
    """The original is one finite set, and the law is generation 0's; |z| < 5 for 20 numbers in six cases: 9e-5."""
    records = numbers(np.random.default_rng(3).exponential(size=(15, 2)))
    learner = learners.Gaussian(ddof=ddof)
    law = learner.fit(records, rng=stream(0)).law
    measured = run_law(mix, ddof, law, learner.summarise(records), 12, 15, 20_000)
    check(measured, Situation("gaussian", {"ddof": ddof}, mix, MIXES[mix], 12, 15, law, False, 2, {}))


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("records", [True, False])
def test_squared_distance(ddof: int, records: bool) -> None:
    """Against a normal law, and against real records; |z| < 5 for five numbers in four cases: 1e-5."""
    from studbook.metrics import WassersteinSquared
    from studbook.metrics.protocols import Reference

    learner = learners.Gaussian(ddof=ddof)
    original = numbers(np.random.default_rng(5).exponential(size=15))
    source = GaussianLaw(np.zeros((1, 1)), np.full((1, 1, 1), 4.0))
    law = learner.fit(original, rng=stream(0)).law if records else source
    many = learner.from_law(GaussianLaw(np.repeat(law.mean, 20_000, axis=0), np.repeat(law.covariance, 20_000, axis=0)), original.space)
    start = learner.summarise(original).repeat(20_000) if records else learner.draw(many, 15, rng=stream(2))
    chain = run_generations_in_law(
        learner,
        mixing.Replace(),
        start,
        original.space,
        n=12,
        n_original=15,
        last=LAST,
        real=many,
        rng=stream(3, "law"),
    )
    reference = Reference(original, None) if records else Reference(None, source)
    values = np.array([WassersteinSquared().of_law(reference, generation.model.law)["w2_squared"] for generation in chain])
    initial = {"w2_squared": float(values[0].mean())} if records else {}
    situation = Situation("gaussian", {"ddof": ddof}, "replace", {}, 12, 15, law, not records, 1, initial)
    check({"w2_squared": values}, situation)


def run_records(learner: Any, mix: Any, originals: list[Batch], n: int) -> list[list[Any]]:
    """Models by generation and replicate, drawing every record."""
    runs = [
        [
            generation.model
            for generation in run_generations(
                learner, mix, original, n=n, last=LAST, fresh=None, streams=lambda g, use, r=r: stream(4, r, g, use)
            )
        ]
        for r, original in enumerate(originals)
    ]
    return [list(column) for column in zip(*runs, strict=True)]


@pytest.mark.parametrize(
    ("kind", "learner", "parameters"),
    [
        ("kde", learners.KernelDensity(bandwidth=0.4), {"bandwidth": 0.4}),
        ("kde", learners.KernelDensity(bandwidth="scott"), {"bandwidth": "scott"}),
        ("kde", learners.KernelDensity(bandwidth="silverman"), {"bandwidth": "silverman"}),
    ],
)
@pytest.mark.parametrize("mix", ["replace", "accumulate", "weighted"])
@pytest.mark.parametrize("real", [True, False])
def test_kernel_densities(kind: str, learner: Any, parameters: dict[str, object], mix: str, real: bool) -> None:
    """The learners' own bandwidth rules in two dimensions; |z| < 5 for 15 numbers in 18 cases: false alarms in 2e-4 of all seeds."""
    check_mixture(kind, learner, parameters, mix, real, replicates=120)


@pytest.mark.slow
@pytest.mark.parametrize("mix", ["replace", "accumulate"])
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("regularisation", [1e-6, 0.3])
def test_mixtures(mix: str, real: bool, regularisation: float) -> None:
    """EM matches mean and second moment, its regularisation apart; |z| < 5 for 15 numbers in eight cases: 9e-5."""
    learner = learners.GaussianMixture(components=2, regularisation=regularisation)
    check_mixture("gmm", learner, {"regularisation": regularisation}, mix, real, replicates=60)


def check_mixture(kind: str, learner: Any, parameters: dict[str, object], mix: str, real: bool, replicates: int) -> None:
    rng, n = np.random.default_rng(6), 20
    records = rng.exponential(size=(n, 2))
    originals = [numbers(records if real else LAW.sample(n, rng=rng)) for _ in range(replicates)]
    generations = run_records(learner, TYPES[mix](**MIXES[mix]), originals, n)
    origin = records.mean(axis=0) if real else LAW.mean[0]
    rows = [measure(*(np.concatenate(x) for x in zip(*(m.moments() for m in models), strict=True)), origin) for models in generations]
    measured = {name: np.array([row[name] for row in rows]) for name in ("mean", "drift", "variance")}
    initial = {name: float(values[0].mean()) for name, values in measured.items()} if real else {}
    check(measured, Situation(kind, parameters, mix, MIXES[mix], n, n, None if real else LAW, not real, 2, initial))


@pytest.mark.parametrize("noise", [0.5, "residual"])
@pytest.mark.parametrize("mix", ["replace", "accumulate"])
@pytest.mark.parametrize("real", [True, False])
def test_regression(noise: float | str, mix: str, real: bool) -> None:
    """The learner keeps the original's features; |z| < 5 for five numbers in eight cases: false alarms in 3e-5 of all seeds."""
    rng, n = np.random.default_rng(7), 14
    joint = GaussianLaw(np.zeros((1, 3)), np.array([[[2.0, 0.5, 1.0], [0.5, 1.0, 0.2], [1.0, 0.2, 1.0]]]))
    records = rng.exponential(size=(n, 3))
    originals = [numbers(records if real else joint.sample(n, rng=rng)) for _ in range(120)]
    generations = run_records(learners.LeastSquares(noise=noise), TYPES[mix](), originals, n)
    features = records[:, :2].T @ records[:, :2] / n if real else joint.covariance[0, :2, :2]
    truth = generations[0][0].weights if real else np.linalg.solve(features, joint.covariance[0, :2, 2])
    errors = np.array([[(m.weights - truth) @ features @ (m.weights - truth) for m in models] for models in generations])
    situation = Situation("ols", {"noise": noise}, mix, {}, n, n, None if real else joint, not real, 3, {})
    curve = predict(situation, "weight_error", np.arange(LAST + 1))
    if real and noise == "residual":
        assert curve is None
        return
    assert curve is not None
    assert curve.exact is not (mix == "accumulate" and noise == "residual")
    if curve.exact:
        assert np.abs(z_scores(errors, curve.mean)).max() < 5.0
    else:
        assert errors.mean(axis=1) == pytest.approx(curve.mean, rel=0.25)
