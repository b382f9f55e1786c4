"""How often intervals of the generated share cover it; simulated, all seeded. False-alarm rates are stated."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import studbook.screening.combining as combining
import studbook.screening.estimate as estimating
import studbook.screening.strata as strata
import studbook.theory.contamination as contamination
from studbook.screening.estimate import estimate_counts
from studbook.screening.review import allocate
from studbook.screening.strata import CorpusCounts, Hits
from studbook.screening.weighing import Answers, StratumAnswers
from studbook.theory import HitRates, generated_share
from studbook.theory.melding import lattice

_spec = importlib.util.spec_from_file_location("screened_corpora", Path(__file__).parent.parent / "screened_corpora.py")
corpora = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(corpora)

draw_groups = combining.draw_groups

DEFAULT = [
    (0.05, 0.8, 0.05, 10_000, 500), (0.5, 0.8, 0.05, 1_000, 500), (0.01, 0.8, 0.05, 1_000_000, 10_000), (0.3, 0.99, 0.01, 10_000, 2_000),
]  # fmt: skip
GRID = [
    (share, tpr, fpr, n, m)
    for share in (0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0)
    for tpr, fpr in ((0.8, 0.05), (0.95, 0.01), (0.99, 0.001), (0.6, 0.2))
    for n in (1_000, 10_000, 1_000_000)
    for m in (200, 500, 10_000)
]


@pytest.fixture(autouse=True)
def fewer_points(monkeypatch):
    """Thousands of intervals are made: an eighth of the lattice's points moves their ends by a hundredth of their width."""
    monkeypatch.setattr(contamination, "lattice", lambda dimensions: lattice(dimensions, 2048))
    monkeypatch.setattr(estimating, "draw_groups", lambda counts, _points=0: draw_groups(counts, 4096))


def coverage(share, tpr, fpr, n, m, about, *, rng, repeats):
    """How often the interval covers, and the expected number of events that are fewest."""
    held = 0
    for _ in range(repeats):
        generated = round(share * n) if about == "corpus" else rng.binomial(n, share)
        hits = int(rng.binomial(generated, tpr) + rng.binomial(n - generated, fpr))
        rates = HitRates(rng.binomial(m, tpr), m, rng.binomial(m, fpr), m)
        found = generated_share(hits, n, rates, 0.95, about=about)
        held += found.lower - 1e-12 <= share <= found.upper + 1e-12
    return held


def check(held, repeats, low, high, level):
    """Refuse a coverage that is surely outside ``low`` … ``high``: a binomial test at ``level`` on each side."""
    assert stats.binom.sf(held - 1, repeats, high) > level, f"covers {held / repeats:.3f}, more than {high}"
    assert stats.binom.cdf(held, repeats, low) > level, f"covers {held / repeats:.3f}, less than {low}"


@pytest.mark.parametrize("about", ["corpus", "source"])
@pytest.mark.parametrize("case", DEFAULT, ids=str)
def test_intervals_cover_in_93_to_97_percent(case, about):
    """Eight cases of two tests at level 1e-5: false alarm at most 1.6e-4."""
    repeats = 200
    held = coverage(*case, about, rng=np.random.default_rng(17), repeats=repeats)
    check(held, repeats, 0.93, 0.97, 1e-5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("about", ["corpus", "source"])
@pytest.mark.parametrize("case", GRID, ids=str)
def test_intervals_cover_over_the_grid(case, about):
    """252 × 2 cases of two tests at level 1e-6: false alarm at most 1e-3. At the ends, and where few errors are
    expected, only from below.
    """
    share, tpr, fpr, n, m = case
    repeats = 1_000
    held = coverage(*case, about, rng=np.random.default_rng(GRID.index(case)), repeats=repeats)
    few = min(m * (1 - tpr), m * fpr, n * min(fpr, 1 - tpr)) < 10
    spread = 2 * np.sqrt(0.25 / m) / (tpr - fpr)
    check(held, repeats, 0.93, 1.0 if few or min(share, 1 - share) < spread else 0.97, 1e-6)


def counts_of(rng, n, certain, marked, generated, mark, detector, m):
    """A corpus of certain, marked and other generated records, and human ones: a watermark is asked first, then a detector."""
    human = n - certain - marked - generated
    rates = [HitRates(rng.binomial(m, tpr), m, rng.binomial(m, fpr), m) for tpr, fpr in (mark, detector)]
    found, wrong, human_wrong = rng.binomial(marked, mark[0]), rng.binomial(generated, mark[1]), rng.binomial(human, mark[1])
    hits = rng.binomial(marked + generated - found - wrong, detector[0]) + rng.binomial(human - human_wrong, detector[1])
    by_mark = int(found + wrong + human_wrong)
    both = (Hits("kgw", "watermark", by_mark, rates[0]), Hits("lr", "detector", int(hits), rates[1]))
    return CorpusCounts(n, certain, 0, both, n - certain - by_mark - int(hits), {("generated", "register"): certain})


@pytest.mark.parametrize(
    ("numbers", "high"), [((10_000, 500, 1_000, 2_000), 0.97), ((1_000_000, 1_000, 200_000, 100_000), 0.97), ((10_000, 0, 0, 0), 1.0)]
)
def test_evidence_of_several_kinds_covers_together(numbers, high):
    """Three corpora, two tests at level 1e-5 each: false alarm at most 6e-5."""
    rng = np.random.default_rng(3)
    repeats, held = 120, 0
    for _ in range(repeats):
        found = estimate_counts(counts_of(rng, *numbers, (0.9, 0.001), (0.8, 0.05), 1_000), 0.95)
        held += found.lower - 1e-12 <= sum(numbers[1:]) / numbers[0] <= found.upper + 1e-12
    check(held, repeats, 0.93, high, 1e-5)


@pytest.mark.parametrize(("fpr", "trials", "people"), [(0.02, 1_000, 0), (0.002, 5_000, 2_000)])
def test_near_matches_cover_with_the_errors_of_their_limit(fpr, trials, people):
    """Edited copies of registered output among others, some near it by accident; and generated ones near a person's by accident, of whom
    only the upper end knows. Two corpora, two tests at level 1e-5 each: false alarm at most 4e-5.
    """
    rng = np.random.default_rng(11)
    n, copies, generated, m = 20_000, 1_000, 4_000, 1_000
    repeats, held = 120, 0
    for _ in range(repeats):
        human = n - copies - generated - people
        wrong, astray = rng.binomial(human, fpr), rng.binomial(generated, fpr) if people else 0
        measured, detector = HitRates(0, 1, rng.binomial(trials, fpr), trials), (0.8, 0.05)
        rates = HitRates(rng.binomial(m, detector[0]), m, rng.binomial(m, detector[1]), m)
        hits = rng.binomial(generated - astray, detector[0]) + rng.binomial(human - wrong, detector[1])
        both = (Hits("register-minhash", "register", int(copies + wrong), measured), Hits("lr", "detector", int(hits), rates))
        near = (Hits("register-minhash", "register", int(people + astray), measured),) if people else ()
        undecided = int(n - copies - wrong - hits - people - astray)
        found = estimate_counts(CorpusCounts(n, 0, 0, both, undecided, {}, near), 0.95)
        held += found.lower <= (copies + generated) / n <= found.upper
    check(held, repeats, 0.93, 1.0 if people else 0.97, 1e-5)


@pytest.mark.parametrize("often", ["as measured", "in proportion"])
@pytest.mark.parametrize(("times", "fpr"), [(0.1, 0.02), (10.0, 0.004)])
def test_intervals_hold_whatever_the_register_s_size_does_to_its_errors(tmp_path, times, fpr, often):
    """The register is ``times`` as large as when it was measured, and an unrelated record is near its outputs as often as then, or in
    proportion. At either extreme one end can fail. Four corpora, a test at level 1e-5 each, from below: false alarm at most 4e-5.
    """
    rng = np.random.default_rng(19)
    n, copies, human, m, trials = 20_000, 1_000, 15_000, 1_000, 2_000
    repeats, held = 60, 0
    for _ in range(repeats):
        wrong = int(rng.binomial(human, fpr * (times if often == "in proportion" else 1.0)))
        measured = {"events": int(rng.binomial(trials, fpr)), "trials": trials, "registered": 1_000}
        corpora.write_screen(tmp_path, (), witnesses=[("register", "register")], register=({"minhash": measured}, round(1_000 * times)))
        rates = HitRates(rng.binomial(m, 0.8), m, rng.binomial(m, 0.01), m)
        hits = int(rng.binomial(n - copies - human, 0.8) + rng.binomial(human - wrong, 0.01))
        both = (strata._near_hits(tmp_path, "register-minhash", copies + wrong), Hits("lr", "detector", hits, rates))
        found = estimate_counts(CorpusCounts(n, 0, 0, both, n - copies - wrong - hits, {}), 0.95)
        held += found.lower <= (n - human) / n <= found.upper
    check(held, repeats, 0.95, 1.0, 1e-5)


def reviewed(rng, n, generated, tpr, fpr, m, asked, true_tpr=None):
    """A detector's hits and others in two strata of scores each; answers go where the queue sends them."""
    hit = rng.binomial(generated, true_tpr or tpr)
    wrong = rng.binomial(n - generated, fpr)
    sure, unsure = rng.binomial(hit, 0.7), rng.binomial(generated - hit, 0.6)
    human = {"hits a": rng.binomial(wrong, 0.2), "rest a": rng.binomial(n - generated - wrong, 0.1)}
    strata = {
        ("detector", "a"): (sure, human["hits a"]), ("detector", "b"): (hit - sure, wrong - human["hits a"]),
        ("none", "a"): (unsure, human["rest a"]), ("none", "b"): (generated - hit - unsure, n - generated - wrong - human["rest a"]),
    }  # fmt: skip
    rates = HitRates(rng.binomial(m, tpr), m, rng.binomial(m, fpr), m)
    counts = CorpusCounts(n, 0, 0, (Hits("lr", "detector", int(hit + wrong), rates),), int(n - hit - wrong), {})
    empty = {group: {name: StratumAnswers(int(sum(strata[group, name]))) for name in "ab"} for group in ("detector", "none")}
    plan = allocate(draw_groups(counts, 4096), Answers(empty), asked)
    answered = {group: dict(by_name) for group, by_name in empty.items()}
    for key, k in plan.asked.items():
        yes = int(rng.hypergeometric(*strata[key], k))
        answered[key[0]][key[1]] = StratumAnswers(int(sum(strata[key])), yes, k - yes)
    return counts, Answers(answered), plan


@pytest.mark.parametrize("case", [(10_000, 1_000, 0.8, 0.05, 500, 60), (5_000, 2_500, 0.95, 0.01, 300, 100)])
def test_intervals_after_a_review_still_cover_and_are_as_narrow_as_expected(case):
    """Two corpora, a test at level 1e-5 each: false alarm at most 2e-5."""
    rng = np.random.default_rng(5)
    repeats, held, widths = 60, 0, []
    for _ in range(repeats):
        counts, answers, plan = reviewed(rng, *case)
        found = estimate_counts(counts, 0.95, answers=answers)
        held += found.lower <= case[1] / case[0] <= found.upper
        before = estimate_counts(counts, 0.95).interval.half_width
        widths.append((before, found.interval.half_width, 1.96 * plan.after / case[0]))
    check(held, repeats, 0.93, 1.0, 1e-5)
    before, after, expected = np.median(widths, axis=0)
    assert after < 0.9 * before
    assert after == pytest.approx(expected, rel=0.15)


def test_answers_that_contradict_the_calibration_count_alone():
    """The corpus's generated records are hit with .3 where the calibration says .95. One test at 1e-5 over 30 repeats."""
    rng = np.random.default_rng(7)
    held = told = 0
    for _ in range(30):
        counts, _, _ = reviewed(rng, 5_000, 2_500, 0.95, 0.01, 300, 4, true_tpr=0.3)
        strata = {}
        for group, size in (("detector", counts.hits[0].hits), ("none", counts.undecided)):
            yes = 2_500 * 0.3 / size if group == "detector" else 2_500 * 0.7 / size
            n = int(rng.binomial(60, min(yes, 1.0)))
            strata[group] = {"a": StratumAnswers(size, n, 60 - n)}
        found = estimate_counts(counts, 0.95, answers=Answers(strata))
        told += "none" in found.conflicts
        held += found.lower <= 0.5 <= found.upper
    assert told == 30
    assert stats.binom.cdf(held, 30, 0.93) > 1e-5
