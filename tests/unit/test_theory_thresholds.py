"""Thresholds: chosen on some records, borne out by others."""

from __future__ import annotations

import math

import numpy as np
import pytest

from studbook.errors import CalibrationError, ConfigError
from studbook.theory import clopper_pearson
from studbook.theory.thresholds import choose_threshold, records_needed, require_promise, require_records


@pytest.mark.parametrize("false_alarm", [0.3, 0.05, 0.01])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_as_many_records_as_are_needed_bear_out_a_few_hits(false_alarm, confidence):
    n = records_needed(false_alarm, confidence)
    assert clopper_pearson(4, n, confidence)[1] <= false_alarm < clopper_pearson(4, n - 1, confidence)[1]
    require_records(2 * n, false_alarm, confidence, "texts")
    with pytest.raises(CalibrationError, match=rf"1 more are needed \({2 * n:,} in all\)"):
        require_records(2 * n - 1, false_alarm, confidence, "texts")


def test_the_threshold_lies_above_all_but_a_few():
    scores = np.random.default_rng(0).standard_normal(2000)
    spared = [(scores >= choose_threshold(scores, 2000, rate, 0.95)).sum() for rate in (0.01, 0.05, 0.2)]
    assert 0 < spared[0] < 20 < spared[1] < 100 < spared[2] < 400
    assert choose_threshold([1.0, 2.0, 3.0], 3, 0.01, 0.95) == math.nextafter(3.0, math.inf)


def test_scores_that_are_equal_are_all_below():
    threshold = choose_threshold(np.repeat([0.0, 1.0], 500), 1000, 0.05, 0.95)
    assert threshold == math.nextafter(1.0, math.inf)


def test_not_a_number_is_lower_than_any_score():
    with_gaps = [*range(500), *[math.nan] * 500]
    assert choose_threshold(with_gaps, 1000, 0.05, 0.95) == choose_threshold([*range(500), *[-1] * 500], 1000, 0.05, 0.95)
    with pytest.raises(CalibrationError, match="no human record has a score"):
        choose_threshold([math.nan] * 5, 5, 0.05, 0.95)
    with pytest.raises(CalibrationError, match="no human record has a score"):
        choose_threshold([], 5, 0.05, 0.95)


def test_a_promise_that_is_not_borne_out_says_what_it_takes():
    require_promise(4, records_needed(0.05, 0.95), 0.05, 0.95, "texts")
    with pytest.raises(CalibrationError, match=r"5 of 202 untouched human texts are hits.*would do"):
        require_promise(5, 202, 0.05, 0.95, "texts")
    with pytest.raises(CalibrationError, match="the halves differ"):
        require_promise(60, 202, 0.05, 0.95, "texts")


@pytest.mark.parametrize("false_alarm", [0.0, 1.0, -0.1, math.nan])
def test_rates_that_are_none_are_refused(false_alarm):
    for call in (lambda: require_records(9, false_alarm, 0.95, "texts"), lambda: records_needed(false_alarm, 0.95)):
        with pytest.raises(ConfigError):
            call()
    with pytest.raises(ConfigError):
        choose_threshold([1.0], 9, 0.1, 1.0)
