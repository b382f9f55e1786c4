"""Stated standard errors of metrics on features against the spread of the values over independent samples.

120 runs know the spread of a normal value to 6.5 %: a calibrated error leaves [.72, 1.4] by over four of its deviations. Where the laws
agree, the jackknife errs upwards (degenerate statistics), by up to 1.6 here. Number vectors are their own features: no network is needed.
"""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import numbers
from studbook.metrics.frechet import FrechetDistance, KernelDistance
from studbook.metrics.memorisation import Memorisation
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.vendi import VendiScore

RUNS, N, D = 120, 250, 5
MAP = np.random.default_rng(0).normal(size=(D, D)) * 0.6


def ratios(metric, *, far: bool) -> dict[str, float]:
    rng = np.random.default_rng(1)
    training = numbers(rng.normal(size=(N, D)))
    values: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    for _ in range(RUNS):
        real, sample = rng.normal(size=(N, D)), rng.normal(size=(N, D))
        seen = Observation(numbers(sample @ MAP + 0.4 if far else sample), training, None, None)
        for m in metric.measure(Reference(training, None, numbers(real)), seen, rng=rng):
            values.setdefault(m.metric, []).append(m.value)
            errors.setdefault(m.metric, []).append(m.stderr)
    return {name: float(np.sqrt(np.mean(np.square(errors[name]))) / np.std(v, ddof=1)) for name, v in values.items()}


@pytest.mark.parametrize("metric", [FrechetDistance(), KernelDistance(), VendiScore(), Memorisation()], ids=lambda m: type(m).__name__)
def test_errors_far_from_the_original(metric) -> None:
    for name, ratio in ratios(metric, far=True).items():
        # The quantile that copies are told by is taken as given.
        assert (0.5 if name == "memorisation.share" else 0.72) < ratio < 1.4, (name, ratio)


@pytest.mark.parametrize("metric", [FrechetDistance(), KernelDistance(), VendiScore()], ids=lambda m: type(m).__name__)
def test_errors_where_the_laws_agree(metric) -> None:
    for name, ratio in ratios(metric, far=False).items():
        assert 0.72 < ratio < 2.0, (name, ratio)


def test_the_share_of_copies_of_a_model_that_copies_nothing() -> None:
    """One in a hundred on average, (1 + 3)/(300 + 1) at most with 300 held-out records; |z| < 5."""
    rng, found = np.random.default_rng(2), []
    for _ in range(100):
        original, held, sample = (numbers(rng.normal(size=(300, 3))) for _ in range(3))
        metric, seen = Memorisation(), Observation(sample, original, None, None)
        found.append({m.metric: m.value for m in metric.measure(Reference(original, None, held), seen, rng=rng)})
    shares, values = ([f[name] for f in found] for name in ("memorisation.share", "memorisation"))
    assert abs(np.mean(shares) - 3 / 301) < 5 * np.std(shares, ddof=1) / 10
    assert abs(np.mean(values) - 1) < 5 * np.std(values, ddof=1) / 10
