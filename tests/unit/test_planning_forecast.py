"""Forecasts of series whose future is known."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest

from studbook.errors import ConfigError, DataError
from studbook.planning import forecast
from studbook.planning._decay import fit_walk
from studbook.planning._drift import _inverse_trigamma, first_passage
from studbook.planning._tables import Run


def run_of(values, stderr=None, generations=None) -> Run:
    values = np.asarray(values, dtype=float)
    error = np.zeros(len(values)) if stderr is None else np.broadcast_to(np.asarray(stderr, dtype=float), values.shape)
    generations = np.arange(len(values), dtype=float) if generations is None else np.asarray(generations, dtype=float)
    return Run(generations, values, error, np.arange(len(values)))


def table(values, metric="variance", generations=None, **columns):
    generations = list(range(len(values))) if generations is None else generations
    return {"generation": generations, "metric": [metric] * len(values), "value": list(values), **columns}


def chain(n, generations, shrink=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([[1.0], np.cumprod((1 - shrink) ** 2 * rng.chisquare(n - 1, generations) / n)])


def test_without_measurement_errors_predictions_are_students():
    """The mixture must be the t law of a random walk with drift, whose quantiles have a closed form."""
    from scipy.special import stdtrit

    values = chain(80, 7, seed=4)
    steps = np.diff(np.log(values))
    posterior = fit_walk((run_of(values),), 1.0)
    ahead = np.array([1.0, 5.0, 30.0])
    quantiles = posterior.quantiles(ahead, np.array([0.05, 0.5, 0.95]))
    spread = steps.std(ddof=1) * np.sqrt(ahead + ahead**2 / len(steps))
    for p, row in zip((0.05, 0.5, 0.95), quantiles, strict=True):
        expected = np.log(values[-1]) + ahead * steps.mean() + stdtrit(len(steps) - 1, p) * spread
        assert row == pytest.approx(expected, abs=2e-3 * spread.max())


def test_gaps_count_by_their_length():
    """Two steps of lengths 1 and 3: drift total/4, its variance given τ² is τ²/4."""
    posterior = fit_walk((run_of(np.exp([0.0, -0.1, -0.5]), generations=[0, 1, 4]),), 1.0)
    assert posterior.drift == pytest.approx(np.full(len(posterior.drift), -0.125))
    assert posterior.drift_variance == pytest.approx(posterior.walk / 4.0)


def test_measurement_errors_are_solved_as_the_full_covariance_does():
    """Generalised least squares with dense matrices gives the same μ and the same latent last value."""
    rng = np.random.default_rng(2)
    values, stderr = chain(60, 9, seed=1) * np.exp(0.05 * rng.standard_normal(10)), 0.05
    posterior = fit_walk((run_of(values, stderr * values),), 1.0)
    logs, times = np.log(values / values[0]), np.arange(10.0)
    for i in (0, 60, 199):
        walk = posterior.walk[i] * (1.0 + np.minimum(times[:, None], times[None, :]))
        precision = np.linalg.inv(walk + stderr**2 * np.eye(10))
        design = np.stack([np.ones(10), times], axis=1)
        covariance = np.linalg.inv(design.T @ precision @ design)
        beta = covariance @ design.T @ precision @ logs
        latent = beta[0] + 9 * beta[1] + walk[-1] @ precision @ (logs - design @ beta)
        assert posterior.drift[i] == pytest.approx(beta[1], rel=1e-6)
        assert posterior.drift_variance[i] == pytest.approx(covariance[1, 1], rel=1e-6)
        assert posterior.level[i] == pytest.approx(latent, rel=1e-6)


def test_a_long_measured_run_gives_size_bias_and_half_life():
    """The mean of 3,000 steps has a standard error of 0.0026; four of them are allowed: false alarm 6e-5."""
    values = chain(100, 3_000, shrink=0.02, seed=7)
    answer = forecast(table(values), gaussian=True)["variance"]
    assert answer.exact
    assert answer.model == "drift"
    assert answer.effective_sample_size.low < 100 < answer.effective_sample_size.high
    assert answer.effective_sample_size.median == pytest.approx(100, rel=0.1)
    assert answer.bias.median == pytest.approx(1 - 0.98**2, abs=0.0104)
    assert answer.half_life.median == pytest.approx(math.log(2) / (0.0404 + 0.0202), rel=0.25)


def test_std_and_variance_of_one_pipeline_say_the_same():
    values = chain(100, 10, shrink=0.02, seed=3)
    variance, std = forecast(table(values), gaussian=True)["variance"], forecast(table(np.sqrt(values), "std"), gaussian=True)["std"]
    assert std.effective_sample_size.median == pytest.approx(variance.effective_sample_size.median, rel=0.05)
    assert std.half_life.median == pytest.approx(2 * variance.half_life.median, rel=0.05)
    assert std.curve[3].value.median == pytest.approx(np.sqrt(variance.curve[3].value.median), rel=1e-6)


def test_levels_already_reached_are_certain():
    answer = forecast(table([1.0, 0.8, 0.45, 0.4], generations=[3, 5, 9, 12]), levels=(0.9, 0.5, 0.1))["variance"]
    assert [one.reached for one in answer.remaining] == [True, True, False]
    assert answer.remaining[1].generation.median == answer.remaining[1].generation.high == 9
    assert answer.remaining[2].generation.low > 12
    assert (answer.first_generation, answer.last_generation) == (3, 12)


def test_what_does_not_decay_never_halves():
    answer = forecast(table([1.0, 1.1, 1.19, 1.33, 1.45, 1.6]))["variance"]
    assert math.isinf(answer.half_life.median)
    assert math.isinf(answer.remaining[1].generation.high)
    assert answer.loss.median < 0.0


def test_a_perfect_exponential_is_continued():
    values = 0.9 ** np.arange(6)
    answer = forecast(table(values), horizon=4)["variance"]
    assert [point.generation for point in answer.curve] == [6, 7, 8, 9]
    assert answer.curve[-1].value.low == pytest.approx(0.9**9, rel=1e-3)
    assert answer.half_life.median == pytest.approx(math.log(2) / -math.log(0.9), rel=1e-3)
    assert forecast(table([2.0, 2.0, 2.0, 2.0]))["variance"].curve[0].value.median == pytest.approx(2.0, rel=1e-3)


def test_rows_in_any_order_cells_and_replicates():
    rng = np.random.default_rng(0)
    rows = [
        {"cell": cell, "replicate": r, "generation": g, "metric": metric, "value": value, "stderr": None, "note": "x"}
        for cell, shrink in ((0, 0.0), (1, 0.05))
        for metric, power in (("variance", 1.0), ("std", 0.5))
        for r in range(4)
        for g, value in enumerate(chain(200, 6, shrink, seed=r) ** power)
    ]
    shuffled = pl.DataFrame(rows)[rng.permutation(len(rows))]
    answer = forecast(shuffled)
    keys = {(one.metric, one.cell): one for one in answer.series}
    assert set(keys) == {("variance", "0"), ("variance", "1"), ("std", "0"), ("std", "1")}
    assert all(one.n_runs == 4 for one in answer.series)
    assert keys["variance", "1"].bias.low > 0.05 > keys["variance", "0"].bias.high
    again = forecast(pl.DataFrame(rows), metric="std")
    assert {one.cell: one.half_life for one in again.series} == {cell: keys["std", cell].half_life for cell in ("0", "1")}


def test_more_replicates_narrow_the_interval_of_the_half_life():
    runs = [chain(100, 5, 0.03, seed=s) for s in range(50)]
    few, many = (
        forecast(table(np.concatenate(runs[:n]), generations=list(range(6)) * n, replicate=np.repeat(np.arange(n), 6)))["variance"]
        for n in (2, 50)
    )
    assert many.half_life.high - many.half_life.low < (few.half_life.high - few.half_life.low) / 3


def settled(seed=0, generations=400, keep=0.8, n=100):
    """Variances of a pipeline whose training sets hold a fifth of real records."""
    rng, value, values = np.random.default_rng(seed), 1.0, [1.0]
    for _ in range(generations):
        value = (1 - keep + keep * value) * rng.chisquare(n - 1) / n
        values.append(value)
    return np.array(values)


def test_heterozygosity_puts_all_loss_on_drift():
    """The size is known to about its root of 2/15 from 15 steps; the band is twice that."""
    rng, p = np.random.default_rng(4), np.full(50, 1 / 50)
    values = [1 - np.sum(p**2)]
    for _ in range(15):
        p = rng.multinomial(200, p) / 200
        values.append(1 - np.sum(p**2))
    answer = forecast(table(values, "heterozygosity"))["heterozygosity"]
    assert (answer.exact, answer.bias, answer.model) == (False, None, "drift")
    assert answer.effective_sample_size.low < 200 < answer.effective_sample_size.high
    assert answer.effective_sample_size.median == pytest.approx(200, rel=0.7)
    assert all(0 <= point.value.low <= point.value.median <= point.value.high < 0.99 for point in answer.curve)


def test_scatter_that_drift_cannot_have_leaves_no_interval():
    rng = np.random.default_rng(1)
    values = np.clip(0.5 + 0.2 * rng.standard_normal(12), 0.05, 0.9) * np.tile([1.0, 0.1], 6)
    answer = forecast(table(values, "heterozygosity"))["heterozygosity"]
    assert answer.curve[0].value.low is None
    assert "no calibrated interval" in answer.caveat


@pytest.mark.parametrize("metric", ["support", "entropy", "types_share", "perplexity"])
def test_what_has_no_law_has_no_interval(metric):
    values = 50 * 0.9 ** np.arange(6)
    answer = forecast(table(values, metric), horizon=4)[metric]
    assert (answer.effective_sample_size, answer.bias, answer.exact) == (None, None, False)
    assert (answer.half_life.low, answer.half_life.high, answer.curve[0].value.low) == (None, None, None)
    assert answer.half_life.median == pytest.approx(math.log(2) / -math.log(0.9))
    assert answer.curve[-1].value.median == pytest.approx(50 * 0.9**9, rel=1e-3)
    assert [one.generation.median for one in answer.remaining] == [1, 7, 22]
    assert "no calibrated interval" in answer.caveat


def test_a_pipeline_that_settles_is_told_from_one_that_drifts():
    answer = forecast(table(settled()), horizon=400)["variance"]
    assert (answer.model, answer.bias, answer.exact) == ("equilibrium", None, False)
    assert math.isinf(answer.half_life.median)
    assert answer.curve[-1].value.median == pytest.approx(0.95, abs=0.15)
    assert answer.effective_sample_size.median == pytest.approx(100, rel=0.3)
    drifting = forecast(table(chain(100, 400, seed=1)))["variance"]
    assert (drifting.model, drifting.bias is None) == ("drift", False)


def test_what_the_caller_knows_decides_between_the_models():
    values = settled(generations=10)
    assert forecast(table(values), gaussian=True)["variance"].model == "drift"
    assert forecast(table(values), real_data=True)["variance"].model == "equilibrium"
    with pytest.raises(ConfigError, match="both true"):
        forecast(table(values), gaussian=True, real_data=True)


def test_equilibrium_with_gaps_and_errors_of_measurement():
    """Every fourth generation of a long run, seen with 5 % error, has the same equilibrium."""
    rng, values = np.random.default_rng(2), settled(seed=5, generations=800)[::4]
    seen = values * np.exp(0.05 * rng.standard_normal(len(values)))
    generations = list(range(0, 801, 4))
    answer = forecast(table(seen, generations=generations, stderr=0.05 * seen), real_data=True, horizon=300)["variance"]
    assert answer.curve[-1].value.median == pytest.approx(0.95, abs=0.2)
    assert answer.effective_sample_size.low < 100 < answer.effective_sample_size.high


@pytest.mark.parametrize(
    ("learner", "mix", "shape", "exact", "model"),
    [
        ("gaussian", {"kind": "replace"}, [1], True, "drift"),
        ("gaussian", {"kind": "fresh", "fresh": 10}, [1], False, "equilibrium"),
        ("gaussian", {"kind": "keep", "share": 0.1}, [1], False, "equilibrium"),
        ("gaussian", {"kind": "replace"}, [3], False, None),
        ("kde", {"kind": "replace"}, [1], False, None),
    ],
)
def test_a_manifest_says_what_the_pipeline_is(tmp_path, learner, mix, shape, exact, model):
    cell = {"index": 0, "learner": {"kind": learner}, "mix": mix, "data": {"shape": shape}}
    (tmp_path / "manifest.json").write_text(json.dumps({"cells": [cell]}))
    frame = pl.DataFrame(table(chain(100, 12, seed=2), cell=[0] * 13))
    frame.write_parquet(tmp_path / "measurements.parquet")
    answer = forecast(tmp_path)["variance"]
    assert answer.exact == exact == (answer.caveat == "")
    assert model in (None, answer.model)
    assert (answer.effective_sample_size is None) == (shape != [1])


def test_levels_are_reached_beyond_doubt_only():
    values = [1.0, 0.8, 0.52, 0.49, 0.51]
    doubtful = forecast(table(values, stderr=[0.05] * 5))["variance"].remaining[1]
    assert not doubtful.reached
    assert doubtful.generation.low >= 4
    certain = forecast(table(values, stderr=[0.0] * 5))["variance"].remaining[1]
    assert (certain.reached, certain.generation.median) == (True, 3)
    late = forecast(table([1.0, 0.8, 0.52, 0.49, 0.3], stderr=[0.02] * 5))["variance"].remaining[1]
    assert late.reached
    assert (late.generation.median, late.generation.low, late.generation.high) == (3, 2, 4)


def test_metrics_that_cannot_be_fitted_are_listed_and_the_others_forecast():
    rows = {"generation": [0, 1, 2] * 2, "metric": ["kl"] * 3 + ["std"] * 3, "value": [0.0, 0.1, 0.2, 1.0, 0.9, 0.85]}
    answer = forecast(rows)
    assert [one.metric for one in answer.series] == ["std"]
    assert answer.skipped[0][0] == "kl"
    assert "row 0" in answer.skipped[0][2]
    with pytest.raises(DataError, match="row 0"):
        forecast(rows, metric="kl")
    with pytest.raises(KeyError):
        answer["kl"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"confidence": float("nan")}, "confidence is nan"),
        ({"levels": (0.5, 1.5)}, "levels holds 1.5"),
        ({"horizon": 0}, "horizon is 0"),
        ({"metric": "varience"}, "did you mean 'variance'"),
    ],
)
def test_arguments_that_cannot_be_meant(change, words):
    with pytest.raises(ConfigError, match=words):
        forecast(table([1.0, 0.9, 0.8]), **change)


def test_trigamma_is_inverted():
    from scipy.special import polygamma

    half = np.geomspace(0.05, 1e8, 40)
    assert _inverse_trigamma(polygamma(1, half)) == pytest.approx(half, rel=1e-6)


@pytest.mark.parametrize(("drift", "scatter"), [(-0.05, 0.05), (-0.02, 0.2), (0.02, 0.1)])
def test_first_passage_is_that_of_walks_watched_each_generation(drift, scatter):
    """Median and reach of 4,000 walks within 5 binomial standard errors and half a generation: false alarm below 1e-5."""
    rng, n, horizon = np.random.default_rng(11), 4_000, 400
    walks = np.cumsum(drift + scatter * rng.standard_normal((n, horizon)), axis=1)
    crossed = walks <= -0.5
    simulated = np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1.0, np.inf)
    drawn = first_passage(np.full(n, 0.5), np.full(n, drift), np.full(n, scatter**2), rng=rng)
    for within in (5, 10, 20, 100, 400):
        share = float(np.mean(simulated <= within))
        bounds = [float(np.mean(drawn <= within + shift)) for shift in (-0.5, 0.5)]
        margin = 5 * np.sqrt(2 * max(share * (1 - share), 1e-3) / n) + 0.01
        assert bounds[0] - margin <= share <= bounds[1] + margin
