"""Robust fits: right at the normal law, hardly moved by outside records, and no help against a model's own output.

All comparisons are at |z| < 5 (6e-7 each) unless a test says otherwise: the file raises a false alarm in fewer than one in ten thousand
choices of the seed, and never twice with the same one.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from studbook.arrays import numbers
from studbook.learners import Gaussian, RobustGaussian
from studbook.mixing import Poison, Replace
from studbook.recursion import run_generations
from studbook.rng import stream

Z = 5.0
LOCATIONS = ["median", "geometric_median", "spectral"]


@pytest.mark.parametrize("distance", [6.0, 10.0, 100.0])
def test_ten_per_cent_of_poison_in_64_dimensions(distance: float) -> None:
    """The filtered mean errs at most 1.5 times what the clean mean does, √(64/2000); the plain one by share times distance.

    With the 1,800 real records alone the square of the error is χ²₆₄/1800, which is above the bound in 3 of 10⁶ seeds.
    """
    values = stream(0, "real", int(distance)).normal(size=(2000, 64))
    direction = np.full(64, 1 / 8)
    values[:200] += distance * direction
    batch = numbers(values).take(stream(1).permutation(2000))
    filtered = RobustGaussian("spectral", contamination=0.2).fit(batch, rng=stream(0)).law
    plain = Gaussian().fit(batch, rng=stream(0)).law
    assert np.linalg.norm(filtered.mean) < 1.5 * np.sqrt(64 / 2000)
    assert abs(plain.mean[0] @ direction - 0.1 * distance) < Z / np.sqrt(2000)
    assert np.linalg.eigvalsh(filtered.covariance[0])[-1] < 1.7
    assert np.linalg.eigvalsh(plain.covariance[0])[-1] > 1 + 0.08 * distance**2


@pytest.mark.parametrize("location", LOCATIONS)
def test_medians_err_by_a_bounded_amount(location: str) -> None:
    """Ten per cent however far: each coordinate's median moves to the 5/9 quantile of the real ones at most, .14, and noise on top."""
    values = stream(2).normal(size=(4000, 8))
    values[:400] += 1e4
    law = RobustGaussian(location, contamination=0.2).fit(numbers(values), rng=stream(0)).law  # type: ignore[arg-type]
    assert np.abs(law.mean).max() < 0.14 + Z * np.sqrt(np.pi / 2 / 3600)


@pytest.mark.parametrize(("dimension", "n", "replicates"), [(1, 50, 1500), (1, 400, 600), (4, 100, 500), (16, 400, 60)])
def test_expected_covariance_is_that_of_the_plain_fit(dimension: int, n: int, replicates: int) -> None:
    """(1 − 1/n)σ² in expectation, to half of 1/n and |z| < 5 of the difference to the plain fit of the same records."""
    rng = stream(3, dimension, n)
    excess = []
    for _ in range(replicates):
        batch = numbers(rng.normal(size=(n, dimension)))
        robust, plain = (learner.fit(batch, rng=rng).law.covariance[0] for learner in (RobustGaussian(), Gaussian()))
        excess.append(np.trace(robust - plain) / dimension)
    assert abs(np.mean(excess)) < 0.5 / n + Z * np.std(excess) / np.sqrt(replicates)


def test_every_entry_of_the_covariance_is_consistent() -> None:
    """With 50,000 correlated records of uneven spread, each within 5 standard errors of a fit to 40,000."""
    root = np.array([[1.0, 0.0, 0.0], [30.0, 10.0, 0.0], [-0.01, 0.02, 0.05]])
    covariance, n = root @ root.T, 50_000
    law = RobustGaussian().fit(numbers(stream(4).normal(size=(n, 3)) @ root.T + 7.0), rng=stream(0)).law
    variance = covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))
    assert (np.abs(law.covariance[0] - covariance) < Z * np.sqrt(variance / (0.8 * n))).all()
    assert (np.abs(law.mean[0] - 7.0) < Z * np.sqrt(np.diag(covariance) / (0.8 * n))).all()


@pytest.mark.parametrize("location", LOCATIONS)
def test_against_own_output_a_robust_fit_does_nothing(location: str) -> None:
    """Under replacement the expected variance falls by 1 − 1/N a generation, and the mean drifts as far as the plain one, or farther.

    Exact for the plain fit: variance (1 − 1/N)^(g+1), squared drift 1 − (1 − 1/N)^(g+1). A median drifts π/2 times as fast.
    """
    n, last, replicates, dimension = 60, 15, 60, 4
    learner = RobustGaussian(location)  # type: ignore[arg-type]
    variances, drifts = [], []
    for replicate in range(replicates):
        original = numbers(stream(5, replicate).normal(size=(n, dimension)))
        *_, end = run_generations(learner, Replace(), original, n=n, last=last, fresh=None, streams=partial(stream, 6, replicate))
        variances.append(np.trace(end.model.law.covariance[0]) / dimension)
        drifts.append((end.model.law.mean**2).mean())
    kept = (1 - 1 / n) ** (last + 1)
    slower = np.pi / 2 if location == "median" else 1.0
    assert abs(np.mean(variances) - kept) < Z * np.std(variances) / np.sqrt(replicates)
    assert np.mean(variances) < 0.95
    assert abs(np.mean(drifts) - slower * (1 - kept)) < Z * np.std(drifts) / np.sqrt(replicates)


def test_a_poisoned_mean_follows_its_closed_form_and_a_filtered_one_stays() -> None:
    """With shares s outside and a generated, the plain mean goes to distance·s(1 − a^g)/(1 − a), in standard deviations of the original."""
    mix, n, last, replicates, distance = Poison(0.1, keep=0.3, distance=12.0), 400, 6, 25, 12.0
    ends: dict[object, list[float]] = {Gaussian(): [], RobustGaussian(): []}
    for learner, found in ends.items():
        for replicate in range(replicates):
            original = numbers(stream(7, replicate).normal(size=n))
            *_, end = run_generations(learner, mix, original, n=n, last=last, fresh=None, streams=partial(stream, 8, replicate))  # type: ignore[arg-type]
            found.append(float((end.model.law.mean.item() - original.values.mean()) / original.values.std()))  # type: ignore[attr-defined]
    expected = distance * 0.1 * (1 - 0.6**last) / 0.4
    plain, filtered = ends.values()
    assert abs(np.mean(plain) - expected) < Z * np.std(plain) / np.sqrt(replicates)
    assert abs(np.mean(filtered)) < 0.02 * expected + Z * np.std(filtered) / np.sqrt(replicates)
