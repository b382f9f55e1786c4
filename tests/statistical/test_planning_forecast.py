"""Coverage: of simulated pipelines, the stated share must end up inside the forecast's intervals.

A nominal 90 % interval over n pipelines covers within 4 binomial standard errors (false alarm 6e-5 a figure) and one point of slack,
because a log χ² step is only nearly normal. Times are whole generations and sizes are bounded below, so those may cover more. Of the
equilibrium and of the heterozygosity, whose laws are approximated, the slack is five points, and only too little coverage fails.
"""

from __future__ import annotations

import numpy as np
import pytest

from studbook.planning import forecast


def pipeline(rng, n, generations, shrink):
    """Variances of a Gaussian refitted to n of its own draws, each generation's std multiplied by 1 - shrink."""
    steps = (1.0 - shrink) ** 2 * rng.chisquare(n - 1, generations) / n
    return np.concatenate([[1.0], np.cumprod(steps)])


def coverage(*, n, observed, shrink, ahead, pipelines, metric="variance", replicates=1, noise=0.0):
    rng = np.random.default_rng(n + observed)
    power = 0.5 if metric == "std" else 1.0
    true_bias = 1.0 - (1.0 - shrink) ** (2 * power)
    inside = dict.fromkeys(("end", "middle", "half", "size", "bias"), 0)
    for seed in range(pipelines):
        # The last one is the run that is forecast: the only one, or one more like those measured.
        paths = [pipeline(rng, n, observed - 1 + max(ahead, 1_000), shrink) ** power for _ in range(replicates + (replicates > 1))]
        seen = np.concatenate([path[:observed] for path in paths[:replicates]])
        error = noise * rng.standard_normal(len(seen))
        table = {
            "generation": np.tile(np.arange(observed), replicates),
            "replicate": np.repeat(np.arange(replicates), observed),
            "metric": [metric] * len(seen),
            "value": seen * np.exp(error),
            "stderr": noise * seen,
        }
        answer = forecast(table, horizon=ahead, seed=seed, gaussian=True)[metric]
        future = paths[-1] * (1.0 if replicates == 1 else answer.first_value)
        for name, point in (("middle", answer.curve[len(answer.curve) // 4]), ("end", answer.curve[-1])):
            value = future[point.generation] * np.exp(noise * rng.standard_normal())
            inside[name] += point.value.low <= value <= point.value.high
        half = answer.remaining[1].generation
        threshold = 0.5 * (table["value"][0] if replicates == 1 else answer.first_value)
        reached = np.flatnonzero(future <= threshold)
        inside["half"] += half.low <= (reached[0] if len(reached) else np.inf) <= half.high
        inside["size"] += answer.effective_sample_size.low <= n <= answer.effective_sample_size.high
        inside["bias"] += answer.bias.low <= true_bias <= answer.bias.high
    return {name: count / pipelines for name, count in inside.items()}


def check(covered, pipelines):
    margin = 4.0 * np.sqrt(0.9 * 0.1 / pipelines) + 0.01
    assert min(covered.values()) >= 0.9 - margin, covered
    assert max(covered["end"], covered["middle"], covered["bias"]) <= min(0.9 + margin, 0.999), covered


def test_intervals_cover():
    """100 pipelines with truncated decoding; see the module for the false-alarm rate."""
    check(coverage(n=100, observed=8, shrink=0.02, ahead=16, pipelines=100), 100)


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        {"n": 50, "observed": 5, "shrink": 0.0, "ahead": 10},
        {"n": 50, "observed": 12, "shrink": 0.02, "ahead": 48},
        {"n": 500, "observed": 8, "shrink": 0.02, "ahead": 24},
        {"n": 500, "observed": 5, "shrink": 0.0, "ahead": 20},
        {"n": 100, "observed": 3, "shrink": 0.0, "ahead": 6},
        {"n": 100, "observed": 8, "shrink": 0.02, "ahead": 24, "metric": "std"},
        {"n": 100, "observed": 6, "shrink": 0.02, "ahead": 12, "replicates": 5},
        {"n": 200, "observed": 10, "shrink": 0.02, "ahead": 30, "noise": 0.05},
        {"n": 200, "observed": 8, "shrink": 0.0, "ahead": 16, "replicates": 4, "noise": 0.05},
    ],
)
def test_intervals_cover_in_many_settings(setting):
    """400 pipelines each; see the module for the false-alarm rate."""
    check(coverage(**setting, pipelines=400), 400)


def mixed(rng, n, fresh, generations):
    """Variances of a Gaussian refitted to n - fresh of its own draws and fresh real ones."""
    mean, variance, values = 0.0, 1.0, [1.0]
    for _ in range(generations):
        records = np.concatenate([mean + np.sqrt(variance) * rng.standard_normal(n - fresh), rng.standard_normal(fresh)])
        mean, variance = records.mean(), records.var()
        values.append(variance)
    return np.array(values)


def drifting(rng, states, n, generations):
    """Heterozygosities of equally frequent states that are drawn again n at a time."""
    p, values = np.full(states, 1.0 / states), [1.0 - 1.0 / states]
    for _ in range(generations):
        p = rng.multinomial(n, p) / n
        values.append(1.0 - np.sum(p**2))
    return np.array(values)


def check_predictions(run, metric, *, observed, ahead, pipelines, replicates=1, **known):
    """Counts futures inside the intervals a quarter of the way and at the horizon; returns the middle medians at the horizon."""
    rng, inside, medians, used = np.random.default_rng(observed), np.zeros(2), [], 0
    for seed in range(pipelines):
        paths = [run(rng, observed - 1 + ahead) for _ in range(replicates + (replicates > 1))]
        seen = np.concatenate([path[:observed] for path in paths[:replicates]])
        if np.any(seen <= 0.0):
            continue
        table = {
            "generation": np.tile(np.arange(observed), replicates),
            "replicate": np.repeat(np.arange(replicates), observed),
            "metric": [metric] * len(seen),
            "value": seen,
        }
        answer = forecast(table, horizon=ahead, seed=seed, **known)[metric]
        used += 1
        for i, point in enumerate((answer.curve[len(answer.curve) // 4], answer.curve[-1])):
            inside[i] += point.value.low <= paths[-1][point.generation] + 1e-9 and paths[-1][point.generation] <= point.value.high + 1e-9
        medians.append(answer.curve[-1].value.median)
    assert used > 0.9 * pipelines
    assert (inside / used).min() >= 0.85 - 4.0 * np.sqrt(0.9 * 0.1 / used), inside / used
    return np.median(medians)


def test_heterozygosity_and_equilibrium_cover():
    """40 pipelines each; see the module for the false-alarm rate."""
    check_predictions(lambda rng, g: drifting(rng, 50, 200, g), "heterozygosity", observed=15, ahead=45, pipelines=40)
    check_predictions(lambda rng, g: mixed(rng, 50, 10, g), "variance", observed=15, ahead=30, pipelines=40, real_data=True)


@pytest.mark.slow
@pytest.mark.parametrize(("states", "n", "replicates"), [(50, 200, 1), (2, 200, 1), (50, 60, 1), (2, 60, 1), (50, 60, 5)])
def test_heterozygosity_covers(states, n, replicates):
    """100 pipelines each, 15 generations measured, 45 ahead; see the module for the false-alarm rate."""
    check_predictions(
        lambda rng, g: drifting(rng, states, n, g), "heterozygosity", observed=15, ahead=45, pipelines=100, replicates=replicates
    )


@pytest.mark.slow
@pytest.mark.parametrize(("known", "low", "high"), [({}, 0.55, 1.2), ({"real_data": True}, 0.65, 1.1)])
def test_pipelines_with_fresh_records_cover(known, low, high):
    """100 pipelines, 31 generations measured, 90 ahead. The typical median forecast is near the true 0.91, not the walk's 0.46."""
    typical = check_predictions(lambda rng, g: mixed(rng, 50, 5, g), "variance", observed=31, ahead=90, pipelines=100, **known)
    assert low < typical < high


@pytest.mark.slow
def test_a_drift_that_nobody_said_is_one_covers():
    """100 pipelines without real records, for which both models are weighed; see the module for the false-alarm rate."""
    check_predictions(lambda rng, g: pipeline(rng, 50, g, 0.0), "variance", observed=15, ahead=45, pipelines=100)
