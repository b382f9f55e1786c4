"""The simulated support against exact chains and against plain multinomial draws."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.planning import dose
from studbook.planning._search import Simulation, search
from studbook.planning._support import States, exact_support, rarefaction_curve
from studbook.planning._support_kernels import simulate_founders
from studbook.theory import CategoricalLaw


def zipf(n_states: int) -> np.ndarray:
    weights = 1.0 / np.arange(1, n_states + 1.0)
    return weights / weights.sum()


@pytest.mark.parametrize("normal_variance", [40.0, np.inf])
@pytest.mark.parametrize(("fresh", "generations"), [(0, 5), (0, 60), (7, 60), (985, 30), (1_500, 30)])
def test_genealogy_gives_the_exact_support(fresh, generations, normal_variance):
    """|z| < 5 in ten cases: false alarm 6e-6. With counts taken as normal from a variance of 40 on, or never."""
    states = States.of(zipf(5_000))
    founders = np.empty(4_000, dtype=np.int64)
    simulate_founders(fresh, 2_000, generations, normal_variance, founders, np.random.default_rng(fresh + generations))
    support = rarefaction_curve(states, 2_000)(founders)
    z = (support.mean() - exact_support(states, fresh, 2_000, generations)) / (support.std(ddof=1) / np.sqrt(len(support)))
    assert abs(z) < 5.0


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
    founders = np.empty(replicates, dtype=np.int64)
    simulate_founders(fresh, samples, generations, 400.0, founders, rng)
    support = States.of(law).rarefaction(founders)
    spread = np.hypot(drawn.std(ddof=1), support.std(ddof=1)) / np.sqrt(replicates)
    assert abs(drawn.mean() - support.mean()) / spread < 5.0


def test_simulated_doses_cover_the_exact_one():
    """Forty searches at 95 %: coverage of the exact dose is at least 31 of 40 but for 4e-6 of seeds."""
    states, samples, generations = States.of(zipf(400)), 200, 30
    original = states.rarefaction(np.array([samples]))[0]
    shares = np.array([exact_support(states, r, samples, generations) for r in range(samples + 1)]) / original
    exact = int(np.argmax(shares >= 0.8))
    covered = 0
    for seed in range(40):
        found = search(Simulation(rarefaction_curve(states, samples), samples, generations, 0.95, seed), 0.8, budget=150_000)
        assert found.fresh_interval[0] <= found.fresh <= found.fresh_interval[1]
        covered += found.fresh_interval[0] <= exact <= found.fresh_interval[1]
    assert covered >= 31


def test_a_simulated_dose_repeats_and_brackets_what_was_asked():
    law = CategoricalLaw(zipf(1_000)[None])
    first, second = (dose("support", 0.7, 3_000, 20, law=law, seed=5) for _ in range(2))
    assert first == second
    assert first.method == "simulation"
    assert first.interval[0] <= first.kept <= first.interval[1]
    assert first.fresh_interval[0] <= first.fresh <= first.fresh_interval[1]
    assert first.kept == pytest.approx(0.7, abs=2e-3)
    assert first.kept_without < 0.3


def test_cost_does_not_grow_with_the_number_of_samples():
    law = CategoricalLaw(zipf(1_000)[None])
    answer = dose("support", 0.9, 10**9, 100, law=law)
    assert answer.fresh == 0
    assert answer.kept == pytest.approx(1.0, abs=1e-9)
