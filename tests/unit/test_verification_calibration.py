"""Limits from honest runs: what they promise, what they refuse, and what the sequential test gets wrong. Seeded; rates stated."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from studbook.errors import CalibrationError, ConfigError
from studbook.records import Calibration, Environment, Feature, Level, Rate, Sequential, TextSampling
from studbook.theory import clopper_pearson
from studbook.verification.calibration import (
    LEAST_SCALE_UNITS,
    Observation,
    Target,
    calibrate_level,
    calibrate_tokens,
    decide,
    level_for,
    more_tokens,
    rate_of,
    score_of,
    sizes_up_to,
    split_units,
    total_units,
)
from studbook.verification.measure import Measured, TextTrace, measure_text

NOBODY = Rate("", 0, 1, 0.0, 1.0)


def sequential(**changes: float) -> Sequential:
    fields = {
        "cheat": "int4", "honest_mean": -4.0, "cheat_mean": -3.0, "deviation": 0.8, "inflation": 1.0, "error": 0.05,
        "honest_wrong": NOBODY, "cheat_missed": NOBODY, "median_tokens": 0,
    }  # fmt: skip
    return Sequential(**{**fields, **changes})


# Tolerance limits


@pytest.mark.parametrize(
    "false_alarm, confidence, needed",
    [(0.01, 0.95, 299), (0.05, 0.95, 59), (0.1, 0.9, 22), (0.5, 0.5, 1), (0.3, 0.8, 5), (0.001, 0.99, 4603)],
)
def test_how_many_units_are_needed(false_alarm: float, confidence: float, needed: int) -> None:
    """Wilks: the smallest n with 1 − (1 − p)ⁿ of at least the confidence; in exact arithmetic below."""
    target = Target(false_alarm, confidence)
    assert target.units_needed() == needed
    assert 1 - (1 - false_alarm) ** needed >= confidence - 1e-12 > 1 - (1 - false_alarm) ** (needed - 1)


@pytest.mark.parametrize(
    "false_alarm, confidence", [(0.0, 0.9), (1.0, 0.9), (0.1, 0.0), (0.1, 1.0), (math.nan, 0.9), (0.1, math.nan), (-1, 2)]
)
def test_impossible_targets_are_refused(false_alarm: float, confidence: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        Target(false_alarm, confidence)


@pytest.mark.parametrize("target", [Target(0.05, 0.95), Target(0.3, 0.8), Target(0.1, 0.5)], ids=str)
def test_thin_data_are_refused_and_the_message_says_how_many_more(target: Target) -> None:
    needed = target.units_needed()
    scores = np.arange(needed, dtype=float)
    assert target.limit(scores) >= 0
    for n in range(needed):
        with pytest.raises(CalibrationError, match=f"^{n} honest units") as caught:
            target.limit(scores[:n])
        assert caught.value.hint is not None and caught.value.hint.startswith(f"{needed - n} more are needed")


def test_the_limit_is_the_order_statistic_of_the_tables() -> None:
    """Of n observations the (e + 1)-th largest: Wilks' numbers for 95 % / 95 % (59, 93, 124, 153) and 99 % / 95 % (299, 473, 628)."""
    for target, table in ((Target(0.05, 0.95), (59, 93, 124, 153)), (Target(0.01, 0.95), (299, 473, 628))):
        for beyond, n in enumerate(table):
            scores = np.random.default_rng(n).permutation(n).astype(float)
            assert target.limit(scores) == n - 1 - beyond
            if n - 1 >= target.units_needed():
                assert target.limit(np.arange(n - 1.0)) == n - 2 - (beyond - 1)


@pytest.mark.parametrize(
    "target, n", [(Target(0.05, 0.95), 59), (Target(0.05, 0.95), 150), (Target(0.3, 0.8), 20), (Target(0.2, 0.6), 40)], ids=str
)
def test_the_limit_covers_as_often_as_it_says(target: Target, n: int) -> None:
    """4,000 samples of uniform scores, for which the false-alarm rate of a limit is one less the limit: how often it is above the target is
    P(Bin(n, p) ≤ e) exactly, at most one less the confidence. Two-sided binomial at level 1e-7 in four tests: false alarm 4e-7."""
    rng = np.random.default_rng(17)
    limits = np.array([target.limit(rng.uniform(size=n)) for _ in range(4000)])
    missed = int((1 - limits > target.false_alarm).sum())
    beyond = max(e for e in range(n) if stats.binom.cdf(e, n, target.false_alarm) <= 1 - target.confidence)
    exact = float(stats.binom.cdf(beyond, n, target.false_alarm))
    assert exact <= 1 - target.confidence
    assert stats.binomtest(missed, 4000, exact).pvalue > 1e-7


def test_the_limit_holds_for_scores_with_ties() -> None:
    """Half of the scores are 0, as where most outputs are the same to the last bit; a score beyond the limit is one strictly above it."""
    target, rng = Target(0.1, 0.9), np.random.default_rng(18)
    missed = 0
    for _ in range(3000):
        scores = np.floor(rng.uniform(0, 8, size=40)) * (rng.uniform(size=40) < 0.5)
        limit = target.limit(scores)
        missed += 0.5 * (7 - limit) / 8 > 0.1 + 1e-12
    assert missed <= stats.binom.ppf(1 - 1e-7, 3000, 0.1)


# Levels


def observations(n: int, settings: dict[str, float], seed: int = 0) -> list[Observation]:
    """One feature of each finding; a setting's number is added to an exponential."""
    rng = np.random.default_rng(seed)
    return [
        Observation(
            unit, name, not name.startswith("cheat"),
            (
                Measured("execution", "token disagreement", shift * 0.1 + float(rng.exponential(0.1)), 8),
                Measured("identity", "mean activation distance", shift + float(rng.exponential()), 8),
            ),
        )
        for unit in range(n)
        for name, shift in settings.items()
    ]  # fmt: skip


def test_a_level_bounds_the_worst_honest_environment() -> None:
    """By simulation, 300 calibrations of 5 + 8 units with Target(0.3, 0.8): fresh units are beyond the limit with probability above 0.3 in
    at most a fifth of them. Each rate is taken from 400 fresh units; binomial at level 1e-7, with 0.04 for the noise of a rate (1.7 σ)."""
    target, settings = Target(0.3, 0.8), {"own": 0.0, "bf16": 0.5}
    fresh: dict[int, list[Observation]] = {}
    for each in observations(400, settings, seed=999):
        fresh.setdefault(each.unit, []).append(each)
    missed = 0
    for i in range(300):
        level = calibrate_level(8, observations(total_units(target), settings, seed=i), target)
        rate = np.mean([max(score_of(level.features, each.features) for each in unit) > level.limit for unit in fresh.values()])
        missed += rate > 0.34
    assert missed <= stats.binom.ppf(1 - 1e-7, 300, 0.2)


def test_rates_are_counted_beyond_the_scale_units_alone() -> None:
    target = Target(0.3, 0.8)
    found = observations(40, {"own": 0.0, "bf16": 0.5, "cheat far": 50.0, "cheat near": 0.0})
    level = calibrate_level(8, found, target)
    kept = 40 - split_units(40)
    assert [(each.name, each.units) for each in (*level.honest, *level.cheats)] == [
        ("own", kept), ("bf16", kept), ("cheat far", kept), ("cheat near", kept),
    ]  # fmt: skip
    assert level.cheats[0].events == kept
    for each in (*level.honest, *level.cheats):
        assert (each.lower, each.upper) == pytest.approx(clopper_pearson(each.events, each.units, 0.8))
    far = [replace(each, features=tuple(replace(m, value=1e6) for m in each.features)) for each in found]
    changed = [b if a.unit < split_units(40) and not a.honest else a for a, b in zip(found, far, strict=True)]
    again = calibrate_level(8, changed, target)
    assert (again.features, again.limit, again.cheats) == (level.features, level.limit, level.cheats)


def test_cheats_do_not_move_the_limit() -> None:
    target = Target(0.3, 0.8)
    honest = observations(30, {"own": 0.0})
    found = calibrate_level(8, honest, target)
    cheats = [Observation(u, "cheat", False, tuple(replace(m, value=m.value * 9) for m in honest[u].features)) for u in range(30)]
    again = calibrate_level(8, [*honest, *cheats], target)
    assert (again.limit, again.features) == (found.limit, found.features)


def test_identical_honest_runs_leave_room_for_a_bit_of_difference() -> None:
    same = [Observation(u, "own", True, (Measured("execution", "phash distance in bits", 0.0, 64),)) for u in range(20)]
    level = calibrate_level(1, same, Target(0.3, 0.8))
    assert level.features[0].spread == 0.5 and level.limit == 0.0


def test_too_few_units_and_no_honest_ones_are_refused() -> None:
    target = Target(0.3, 0.8)
    with pytest.raises(CalibrationError, match="4 honest units") as caught:
        calibrate_level(8, observations(total_units(target) - 1, {"own": 0.0}), target)
    assert "1 more are needed" in str(caught.value)
    with pytest.raises(CalibrationError, match="no honest outputs"):
        calibrate_level(8, observations(30, {"cheat": 0.0}), target)


@pytest.mark.parametrize("target", [Target(0.3, 0.8), Target(0.05, 0.95), Target(0.01, 0.95), Target(0.5, 0.5)], ids=str)
def test_the_total_is_the_smallest_that_suffices(target: Target) -> None:
    total = total_units(target)
    assert total - split_units(total) >= target.units_needed()
    assert total == target.units_needed() + LEAST_SCALE_UNITS or total - 1 - split_units(total - 1) < target.units_needed()


def test_sizes_double_up_to_the_largest() -> None:
    assert sizes_up_to(64) == (8, 16, 32, 64)
    assert sizes_up_to(65) == (8, 16, 32, 64, 65)
    assert sizes_up_to(8) == (8,) and sizes_up_to(3) == (3,)


def calibration(sizes: tuple[int, ...]) -> Calibration:
    levels = tuple(Level(size, 1.0, (Feature("execution", "x", 0.0, 1.0),), (), (), ()) for size in sizes)
    return Calibration(
        kind="text", model="sha256:" + 64 * "0", false_alarm=0.1, confidence=0.9, sampling=TextSampling(max_new=64), units=30,
        requests="sha256:" + 64 * "1", scale_units=8, verifier=Environment(), environments=(Environment(),), levels=levels, sequential=(),
        radii=(), seed=0, code="x", made="2026-01-31T12:00:00Z",
    )  # fmt: skip


def test_a_short_text_is_refused_and_the_message_says_how_many_more_tokens() -> None:
    for size in range(1, 8):
        with pytest.raises(CalibrationError, match=f"the text has {size} tokens, the calibration begins at 8") as caught:
            level_for(calibration((8, 16)), size)
        assert caught.value.hint is not None and caught.value.hint.startswith(f"{8 - size} more")
    assert [level_for(calibration((8, 16)), size).size for size in (8, 15, 16)] == [8, 8, 16]


def test_a_text_longer_than_any_that_was_calibrated_is_refused() -> None:
    for size in (17, 18, 1 << 17):
        with pytest.raises(CalibrationError, match=f"the text has {size} tokens, the calibration ends at 16") as caught:
            level_for(calibration((8, 16)), size)
        assert caught.value.hint == f"calibrate longer texts: --max-new {size}"


@pytest.mark.parametrize("longest", [8, 9, 16, 23, 64, 65, 100])
def test_every_token_of_every_length_counts(longest: int) -> None:
    """One token of a text is wrong, by each of the numbers that are measured; whichever it is, of any length from the smallest level to the
    largest, what is measured is more than of an honest text: first and last ``size`` tokens leave none out."""
    limits = calibration(sizes_up_to(longest))
    for length in range(8, longest + 1):
        size = level_for(limits, length).size
        assert size <= length <= 2 * size
        for place in range(length):
            wrong = np.arange(length) == place
            found = {each.name: each for each in measure_text(TextTrace(wrong, 3.0 * wrong, 0.5 * wrong), size)}
            assert all(each.n == size for each in found.values())
            assert found["token disagreement"].value == 1 / size
            assert found["mean token margin"].value == 3.0 / size and found["largest token margin"].value == 3.0
            assert found["mean activation distance"].value == 0.5 / size and found["largest activation distance"].value == 0.5


def test_a_text_is_as_bad_as_its_worse_end() -> None:
    """First half honest, second half not: the mean over all of it would hide a part of that."""
    rng = np.random.default_rng(23)
    honest, cheat = rng.uniform(0, 0.1, 12), rng.uniform(0.5, 1.0, 12)
    for order in ([honest, cheat], [cheat, honest]):
        distances = np.concatenate(order)
        found = {each.name: each.value for each in measure_text(TextTrace(distances > 0.3, distances, distances), 12)}
        assert found["token disagreement"] == 1.0
        assert found["mean activation distance"] == pytest.approx(cheat.mean()) and found["largest activation distance"] == cheat.max()


def test_the_first_tokens_of_a_text_are_a_text() -> None:
    trace = TextTrace(np.arange(9) == 2, np.arange(9.0), np.arange(9.0) / 9)
    part = trace.first(4)
    assert [len(each) for each in (part.differs, part.margins, part.distances)] == [4, 4, 4]
    assert part.features(0, 4) == trace.features(0, 4) == trace.first(99).features(0, 4)


@pytest.mark.parametrize("events, units", [(0, 20), (20, 20), (3, 17)])
def test_a_rate_has_the_exact_interval(events: int, units: int) -> None:
    rate = rate_of("x", events, units, 0.9)
    assert rate.rate == events / units
    assert (rate.lower, rate.upper) == clopper_pearson(events, units, 0.9)


# Wald's test


@pytest.mark.parametrize("error", [0.2, 0.05, 0.01])
@pytest.mark.parametrize("truth", ["honest", "cheat"])
def test_the_sequential_test_errs_as_rarely_as_it_says(error: float, truth: str) -> None:
    """3,000 texts of independent normal logarithms: by Ville's inequality the wrong side is reached with probability error / (1 − error) at
    most. Binomial at level 1e-8 in six tests: false alarm 6e-8. And it does decide: 400 tokens are plenty."""
    test = sequential(error=error)
    mean = test.honest_mean if truth == "honest" else test.cheat_mean
    logs = np.random.default_rng(19).normal(mean, test.deviation, (3000, 400))
    verdicts = [decide(test, np.exp(row))[0] for row in logs]
    wrong = verdicts.count("cheat" if truth == "honest" else "honest")
    assert verdicts.count("undecided") == 0
    assert wrong <= stats.binom.ppf(1 - 1e-8, 3000, error / (1 - error))


def test_the_decision_is_the_first_crossing() -> None:
    test = sequential()
    bound = math.log(0.95 / 0.05)
    rng = np.random.default_rng(20)
    for _ in range(50):
        logs = rng.normal(-3.5, 0.8, 200)
        total, expected = 0.0, ("undecided", 200)
        for i, value in enumerate(logs):
            total += stats.norm.logpdf(value, -3.0, 0.8) - stats.norm.logpdf(value, -4.0, 0.8)
            if abs(total) >= bound:
                expected = ("cheat" if total > 0 else "honest", i + 1)
                break
        assert decide(test, np.exp(logs)) == expected


def test_inflation_divides_the_evidence() -> None:
    rng = np.random.default_rng(21)
    texts = np.exp(rng.normal(-3.0, 0.8, (200, 400)))
    plain = [decide(sequential(), row)[1] for row in texts]
    slow = [decide(sequential(inflation=4.0), row)[1] for row in texts]
    assert all(b >= a for a, b in zip(plain, slow, strict=True)) and np.mean(slow) > 2.5 * np.mean(plain)


def test_correlated_tokens_are_not_taken_for_independent_ones() -> None:
    """Each log is repeated eight times. Calibrated on such texts, the inflation is near 8 and the errors stay: 600 fresh honest texts,
    binomial at level 1e-8 above a rate of 0.05 (the normal approximation is checked, not assumed)."""
    rng = np.random.default_rng(22)

    def traces(mean: float, n: int) -> list[TextTrace]:
        logs = np.repeat(rng.normal(mean, 0.8, (n, 32)), 8, axis=1)
        return [TextTrace(np.zeros(256, bool), np.zeros(256), np.exp(row)) for row in logs]

    found = calibrate_tokens(
        {"own": traces(-4.0, 200), "cheat": traces(-3.0, 200)}, ["own"], target=Target(0.05, 0.95), error=0.02
    )  # fmt: skip
    assert len(found) == 1 and 4 < found[0].inflation < 16
    wrong = sum(decide(found[0], each.distances)[0] == "cheat" for each in traces(-4.0, 600))
    assert wrong <= stats.binom.ppf(1 - 1e-8, 600, 0.05)
    assert found[0].cheat_missed.rate < 0.5


def test_a_cheat_that_is_nearer_than_honest_runs_is_never_decided() -> None:
    test = sequential(cheat_mean=-5.0)
    distances = np.exp(np.full(50, -5.0))
    assert decide(test, distances) == ("undecided", 50)
    assert more_tokens(test, distances) == 1 << 30


def test_how_many_more_tokens() -> None:
    test = sequential()
    middle = np.exp(np.full(3, -3.5))
    assert decide(test, middle) == ("undecided", 3)
    drift = 0.5 / 0.64
    assert more_tokens(test, middle) == more_tokens(test, np.exp(np.full(100, -3.5))) == math.ceil(math.log(19) / drift)
    assert more_tokens(test, np.exp(np.full(300, -3.0))) == 0
    # What speaks for one side has first to be made up for, if the other is true.
    for log in (-3.1, -3.9):
        assert decide(test, np.exp([log])) == ("undecided", 1)
        assert more_tokens(test, np.exp([log])) == math.ceil((math.log(19) + 0.4 / 0.64) / drift)


def test_so_many_more_tokens_do_decide_on_average() -> None:
    """400 honest texts and 400 cheats: the expected overshoot and the wrong side's way aside, no more tokens are needed on average than
    were said after the first five. Seeded."""
    rng, test = np.random.default_rng(24), sequential()
    for mean in (test.honest_mean, test.cheat_mean):
        needed, said = [], []
        for logs in rng.normal(mean, test.deviation, (400, 300)):
            if decide(test, np.exp(logs[:5]))[0] == "undecided":
                said.append(more_tokens(test, np.exp(logs[:5])))
                needed.append(decide(test, np.exp(logs))[1] - 5)
        assert len(said) > 50 and np.mean(needed) < np.mean(said)


def test_distances_of_zero_are_no_infinite_evidence() -> None:
    test = sequential(honest_mean=-9.0, cheat_mean=-3.0, deviation=3.0)
    verdict, tokens = decide(test, np.zeros(100))
    assert verdict == "honest" and tokens >= 1
