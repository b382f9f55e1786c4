"""The generated share in closed form, at its ends, and from several kinds of evidence."""

from __future__ import annotations

import itertools

import pytest

from studbook.errors import CalibrationError, ConfigError
from studbook.screening.estimate import estimate_counts
from studbook.screening.scores import bin_of, group_of, strata_of
from studbook.screening.strata import CorpusCounts, Hits
from studbook.screening.weighing import Answers, StratumAnswers
from studbook.theory import HitRates, calibration_needed, generated_share, precision, residual_share, rogan_gladen


def rates(tpr, fpr, m):
    return HitRates(tpr * m, m, fpr * m, m)


@pytest.mark.parametrize(
    ("tpr", "fpr", "m", "points"),
    [(0.8, 0.05, 500, 2.52), (0.8, 0.05, 10_000, 0.57), (0.99, 0.001, 500, 0.28), (0.99, 0.001, 10_000, 0.07)],
)
def test_published_half_widths_at_one_percent_of_a_million(tpr, fpr, m, points):
    assert 100 * precision(0.01, 1_000_000, rates(tpr, fpr, m), 0.95, about="source").half_width == pytest.approx(points, abs=0.006)


def test_residual_share_of_published_screens():
    assert residual_share(0.9, 0.99, 0.001) == pytest.approx(0.9 * 0.01 / (0.9 * 0.01 + 0.1 * 0.999))
    assert (residual_share(0.0, 0.5, 0.5), residual_share(1.0, 0.5, 0.5), residual_share(0.5, 1.0, 1.0)) == (0.0, 1.0, 0.0)
    with pytest.raises(ConfigError):
        residual_share(1.5, 0.5, 0.5)


def test_rogan_gladen_inverts_the_rate_of_hits_and_is_cut_off():
    assert rogan_gladen(0.3 * 0.8 + 0.7 * 0.05, 0.8, 0.05) == pytest.approx(0.3)
    assert (rogan_gladen(0.01, 0.8, 0.05), rogan_gladen(0.9, 0.8, 0.05)) == (0.0, 1.0)
    with pytest.raises(ConfigError, match="says nothing"):
        rogan_gladen(0.3, 0.05, 0.05)


def test_the_needed_calibration_brings_the_half_width():
    needed = calibration_needed(0.01, 0.2, 100_000, rates(0.8, 0.05, 500), 0.95, about="corpus")
    assert precision(0.2, 100_000, rates(0.8, 0.05, needed), 0.95, about="corpus").half_width == pytest.approx(0.01, rel=0.01)
    assert calibration_needed(1e-6, 0.2, 1_000, rates(0.8, 0.05, 500), 0.95, about="corpus") is None


def test_a_test_that_says_nothing_and_impossible_numbers_are_refused():
    with pytest.raises(CalibrationError, match="can't tell apart"):
        generated_share(10, 100, rates(0.3, 0.25, 40), 0.95, about="corpus")
    with pytest.raises(ConfigError):
        generated_share(101, 100, rates(0.8, 0.05, 500), 0.95, about="corpus")
    with pytest.raises(ConfigError, match="about"):
        generated_share(10, 100, rates(0.8, 0.05, 500), 0.95, about="world")
    with pytest.raises(ConfigError):
        HitRates(11, 10, 0, 10)


def test_more_confidence_is_wider_and_more_hits_are_more():
    ends = [generated_share(900, 10_000, rates(0.8, 0.05, 500), c, about="corpus") for c in (0.8, 0.95, 0.99)]
    assert ends[0].half_width < ends[1].half_width < ends[2].half_width
    shares = [generated_share(hits, 10_000, rates(0.8, 0.05, 500), 0.95, about="corpus") for hits in range(0, 9_001, 1_000)]
    assert all(a.lower <= b.lower and a.upper <= b.upper for a, b in itertools.pairwise(shares))


def corpus(certain=0, human=0, marks=0, hits=0, rest=1_000, detectors=1):
    found = [Hits("kgw", "watermark", marks, rates(0.9, 0.001, 1_000))] if marks else []
    found += [Hits(f"d{i}", "detector", hits // detectors, rates(0.8, 0.05, 500)) for i in range(detectors)]
    return CorpusCounts(certain + human + marks + hits + rest, certain, human, tuple(found), rest, {})


def test_certain_evidence_is_a_lower_bound_and_an_upper_one():
    found = estimate_counts(corpus(certain=300, human=500, hits=100, rest=100), 0.95)
    assert 0.3 <= found.lower <= found.share <= found.upper <= 0.5


def test_nothing_but_certain_records():
    found = estimate_counts(CorpusCounts(10, 4, 6, (), 0, {("generated", "register"): 4, ("human", "signature"): 6}), 0.95)
    assert (found.share, found.lower, found.upper) == (0.4, 0.4, 0.4)


def test_two_detectors_are_bounded_by_what_any_dependence_allows():
    one, two = (estimate_counts(corpus(hits=200, rest=800, detectors=n), 0.95) for n in (1, 2))
    assert two.interval.half_width > one.interval.half_width
    assert two.limit is None


def test_strata_by_p_value():
    assert [bin_of(p, "[]") for p in (1e-5, 1e-3, 0.05, 0.3, 0.9, None, float("nan"))] == [0, 1, 2, 3, 4, 5, 5]
    assert bin_of(None, '[{"p_value": 0.4}, {"p_value": 0.02}, {"p_value": true}, 3]') == 2
    assert bin_of(None, "[" * 100_000) == bin_of(None, '{"p_value": 1}') == bin_of(None, '[{"p_value": NaN}]') == 5
    assert group_of("generated", "detector", "lr") == "detector"
    assert group_of("human", "detector", "lr") == group_of("unknown", "signature", "c2pa") == "none"
    assert group_of("human", "signature", "c2pa") is None


def test_small_strata_join_their_neighbours():
    strata = strata_of({("none", 0): 1, ("none", 2): 500, ("none", 4): 499, ("none", 5): 2})
    assert sum(strata.sizes["none"].values()) == 1002
    assert len(strata.sizes["none"]) == 2
    assert strata.stratum("none", 0) == strata.stratum("none", 2)


def test_a_group_counts_once_each_of_its_strata_has_an_answer():
    strata = {"a": StratumAnswers(900, 0, 10), "b": StratumAnswers(100)}
    assert Answers({"none": strata}).effective("none") is None
    share, n = Answers({"none": strata | {"b": StratumAnswers(100, 5, 5)}}).effective("none")
    assert share / n == pytest.approx(0.05)
    assert n > 10
