"""Intervals over a few repeats hold what they say; a bootstrap of so few wouldn't."""

from __future__ import annotations

import numpy as np

from studbook.protocols.diagnose_growth import geometric_mean, growth_of, mean_of

N_TRIALS = 1500
FALSE_ALARM_SPREADS = 4.0
"""Each assertion on a coverage fails by chance less than once in 15,000 runs of other seeds; the seeds are fixed."""


def spread(coverage: float) -> float:
    return FALSE_ALARM_SPREADS * np.sqrt(coverage * (1.0 - coverage) / N_TRIALS)


def test_students_interval_of_five_repeats_covers_and_the_bootstrap_does_not():
    rng = np.random.default_rng(1)
    numbers = rng.normal(3.0, 2.0, (N_TRIALS, 5))
    ours = np.array([mean_of(row.tolist(), 0.95) for row in numbers], dtype=object)
    covered = np.mean([mean.low <= 3.0 <= mean.high for mean in ours])
    assert abs(covered - 0.95) < spread(0.95)
    resampled = numbers[:, rng.integers(0, 5, (400, 5))].mean(axis=2)
    low, high = np.quantile(resampled, (0.025, 0.975), axis=1)
    assert abs(np.mean((low <= 3.0) & (high >= 3.0)) - 0.84) < spread(0.84) + 0.01


def test_the_exponent_of_noisy_powers_is_covered():
    rng = np.random.default_rng(2)
    steps = (0, 1, 2, 4, 8, 16, 32, 64)
    age = np.array(steps[1:], np.float64)
    hits = powers = 0
    for _ in range(N_TRIALS // 3):
        exponents = rng.normal(1.5, 0.2, 5)
        rows = 1e-8 * age ** exponents[:, None] * np.exp(rng.normal(0.0, 0.1, (5, len(age))))
        found = growth_of(steps, np.hstack([np.zeros((5, 1)), rows]), (1,) * 5, 0.95)
        powers += found.shape == "power"
        hits += found.shape == "power" and found.rate.low <= 1.5 <= found.rate.high
    assert powers == N_TRIALS // 3
    assert abs(hits / powers - 0.95) < np.sqrt(3.0) * spread(0.95)


def test_geometric_means_are_covered():
    rng = np.random.default_rng(3)
    drawn = np.exp(rng.normal(-12.0, 1.0, (N_TRIALS, 4)))
    found = [geometric_mean(row.tolist(), 0.9) for row in drawn]
    covered = np.mean([mean.low <= np.exp(-12.0) <= mean.high for mean in found])
    assert abs(covered - 0.9) < spread(0.9)
