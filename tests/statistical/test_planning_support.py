"""The simulated support against exact chains and against plain multinomial draws."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.planning import dose
from studbook.planning._search import Simulation, search
from studbook.planning._support import APPROXIMATION, States, has_theory, rarefaction_curve, theory_share
from studbook.planning._support_kernels import simulate_founders
from studbook.theory import CategoricalLaw


def zipf(n_states: int) -> np.ndarray:
    weights = 1.0 / np.arange(1, n_states + 1.0)
    return weights / weights.sum()


def draw_founders(fresh, samples, generations, replicates, exact_steps, rng):
    return np.array([simulate_founders(fresh, samples, generations, exact_steps, rng)[0] for _ in range(replicates)])


@pytest.mark.parametrize("exact_steps", [100.0, np.inf])
@pytest.mark.parametrize(("fresh", "generations"), [(0, 5), (0, 60), (7, 60), (985, 30), (1_500, 30)])
def test_genealogy_gives_the_support_of_theory(fresh, generations, exact_steps):
    """|z| < 5 in ten cases: false alarm 6e-6. With numbers of ancestors rounded from normal ones above 100 steps, or never."""
    states = States.of(zipf(5_000))
    rng = np.random.default_rng(fresh + generations)
    support = rarefaction_curve(states, 2_000)(draw_founders(fresh, 2_000, generations, 4_000, exact_steps, rng))
    share = support / states.rarefaction(np.array([2_000]))[0]
    z = (share.mean() - theory_share(states, fresh, 2_000, generations)) / (share.std(ddof=1) / np.sqrt(len(share)))
    assert abs(z) < 5.0


def test_ancestors_of_one_generation_follow_the_exact_occupancy_law():
    """Pearson's χ² over the numbers of different boxes that 12 balls hit in 12, at level 1e-6."""
    from scipy.stats import chisquare

    table = np.zeros(13)
    table[0] = 1.0
    for _ in range(12):
        table = table * np.arange(13) / 12 + np.append(0.0, table[:-1] * (12 - np.arange(12)) / 12)
    drawn = draw_founders(0, 12, 1, 20_000, np.inf, np.random.default_rng(8))
    likely = table * 20_000 > 5
    seen = np.bincount(drawn, minlength=13)
    observed, expected = (np.append(counts[likely], counts[~likely].sum()) for counts in (seen, table * 20_000))
    assert chisquare(observed, expected).pvalue > 1e-6


def test_rounded_draws_are_counted():
    assert simulate_founders(10, 5_000, 30, np.inf, np.random.default_rng(1))[2] == 0
    assert simulate_founders(10, 5_000, 30, 1_000.0, np.random.default_rng(1))[2] > 0


def test_genealogy_gives_the_support_of_plain_draws():
    """Multinomial draws of generated and fresh records, |z| < 5: false alarm 6e-7."""
    law, samples, fresh, generations, replicates = zipf(300), 4_000, 60, 15, 400
    rng = np.random.default_rng(3)
    drawn = np.empty(replicates)
    for replicate in range(replicates):
        counts = rng.multinomial(samples, law)
        for _ in range(generations):
            counts = rng.multinomial(samples - fresh, counts / samples) + rng.multinomial(fresh, law)
        drawn[replicate] = np.count_nonzero(counts)
    support = States.of(law).rarefaction(draw_founders(fresh, samples, generations, replicates, np.inf, rng))
    spread = np.hypot(drawn.std(ddof=1), support.std(ddof=1)) / np.sqrt(replicates)
    assert abs(drawn.mean() - support.mean()) / spread < 5.0


def test_simulated_doses_cover_the_exact_one():
    """Forty searches at 95 %: coverage of the exact dose is at least 31 of 40 but for 4e-6 of seeds."""
    states, samples, generations = States.of(zipf(400)), 200, 30
    exact = dose("support", 0.8, samples, generations, law=CategoricalLaw(zipf(400)[None])).fresh
    covered = 0
    for seed in range(40):
        found = search(Simulation(rarefaction_curve(states, samples), samples, generations, 0.95, seed), 0.8, budget=150_000)
        assert found.fresh_interval[0] <= found.fresh <= found.fresh_interval[1]
        covered += found.fresh_interval[0] <= exact <= found.fresh_interval[1]
    assert covered >= 31


def test_a_simulated_dose_repeats_and_brackets_what_was_asked():
    law, samples, generations = CategoricalLaw(zipf(1_000)[None]), 3_000_000, 100_000
    first, second = (dose("support", 0.97, samples, generations, law=law, seed=5) for _ in range(2))
    assert not has_theory(States.of(law.probabilities[0]), first.fresh, samples, generations)
    assert first == second
    assert (first.method, first.approximation) == ("simulation", APPROXIMATION)
    assert first.interval[0] <= first.kept <= first.interval[1]
    assert first.fresh_interval[0] <= first.fresh <= first.fresh_interval[1]
    assert first.kept == pytest.approx(0.97, abs=5e-3)
    assert first.kept_without < 0.3


def test_an_estimate_does_not_depend_on_what_was_estimated_before():
    curve = rarefaction_curve(States.of(zipf(50)), 400)
    one, other = (Simulation(curve, 400, 20, 0.95, 1) for _ in range(2))
    other.estimate(9, 7)
    other.estimate(5, 3)
    assert one.estimate(5, 12) == other.estimate(5, 12)
    assert one.estimate(5, 12, looks=10)[1] < one.estimate(5, 12)[1]


def test_cost_does_not_grow_with_the_number_of_samples():
    law = CategoricalLaw(zipf(1_000)[None])
    answer = dose("support", 0.9, 10**9, 100, law=law)
    assert answer.fresh == 0
    assert answer.kept == pytest.approx(1.0, abs=1e-9)
