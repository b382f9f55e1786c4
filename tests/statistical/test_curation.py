"""Curation in law and on records agree, and theory forecasts what a screen keeps of the diversity."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from studbook.arrays import Ints
from studbook.curation import Ideal
from studbook.data import open_source
from studbook.errors import FitError
from studbook.learners import Categorical, Gaussian
from studbook.mixing import Contaminated, Fresh, Keep, Replace
from studbook.recursion import KEPT, FreshLaw, can_curate_in_law, run_generations, run_generations_in_law
from studbook.rng import stream
from studbook.theory import Screening, screened_heterozygosity, screened_support
from studbook.theory.laws import CategoricalLaw, repeat_law

N, R, LAST = 300, 400, 4
Z = 4.5  # two-sided false-alarm rate 7e-6 a comparison; about a hundred in here
SOURCE = open_source("zipf", states=60, exponent=1.1).load()
CASES = [(0.5, 0.5, 0.05), (0.9, 0.8, 0.01), (0.9, 0.0, 0.5), (1.0, 0.3, 0.0)]


def in_law(curator: Ideal, mix: Contaminated, *, n: int = N, replicates: int = R, last: int = LAST, seed: int = 0):
    learner = Categorical()
    real = learner.from_law(repeat_law(SOURCE.law, replicates), SOURCE.space)
    original = learner.draw(real, n, rng=stream(seed, "original"))
    rng = stream(seed, "law")
    return list(
        run_generations_in_law(learner, mix, original, SOURCE.space, n=n, n_original=n, last=last, real=real, rng=rng, curator=curator)
    )


def on_records(curator: Ideal, mix: Contaminated, replicate: int):
    learner = Categorical()
    real = learner.from_law(SOURCE.law, SOURCE.space)
    streams = partial(stream, 1, replicate)
    original = real.sample(N, rng=streams("original"))
    return list(run_generations(learner, mix, original, n=N, last=LAST, fresh=FreshLaw(real), streams=streams, curator=curator))


def share(counts: dict[tuple[str, str], Ints]) -> np.ndarray:
    made = counts["generated", KEPT]
    return made / sum(n for (_, reason), n in counts.items() if reason == KEPT)


def heterozygosity(law: CategoricalLaw) -> np.ndarray:
    return 1.0 - (law.probabilities**2).sum(axis=1)


def near(a: np.ndarray, b: np.ndarray) -> bool:
    noise = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return abs(a.mean() - b.mean()) <= Z * noise + 1e-9


@pytest.mark.parametrize(("contamination", "tpr", "fpr"), CASES[:3])
@pytest.mark.parametrize("refill", [True, False])
def test_law_and_records_agree(contamination, tpr, fpr, refill):
    curator, mix = Ideal(tpr, fpr, refill=refill), Contaminated(contamination)
    law = in_law(curator, mix)
    records = [on_records(curator, mix, replicate) for replicate in range(60)]
    for index in (1, LAST):
        sizes = np.array([len(chain[index].training) for chain in records], dtype=float)
        assert near(law[index].model.alive.totals(), sizes)
        assert near(share(law[index].sifting.counts), np.array([chain[index].sifting.generated_share[0] for chain in records]))
        assert near(heterozygosity(law[index].model.law), np.concatenate([heterozygosity(chain[index].model.law) for chain in records]))
        for key, n in law[index].sifting.counts.items():
            assert near(n.astype(float), np.array([chain[index].sifting.counts[key][0] for chain in records], dtype=float))


@pytest.mark.parametrize(("contamination", "tpr", "fpr"), CASES)
def test_the_residual_share_is_what_theory_says(contamination, tpr, fpr):
    expected = Screening(contamination, tpr, fpr).residual
    for generation in in_law(Ideal(tpr, fpr), Contaminated(contamination))[1:]:
        found = generation.sifting.generated_share
        assert abs(found.mean() - expected) <= Z * found.std(ddof=1) / np.sqrt(R) + 1e-12
        assert np.array_equal(generation.model.alive.totals(), np.full(R, N))


@pytest.mark.parametrize(("contamination", "tpr", "fpr"), [*CASES, (0.99, 0.95, 0.1)])
def test_heterozygosity_is_exact(contamination, tpr, fpr):
    chain = in_law(Ideal(tpr, fpr, candidates=10_000), Contaminated(contamination), n=100, replicates=3000, last=6)
    start = heterozygosity(SOURCE.law)[0]
    expected = start * screened_heterozygosity(Screening(contamination, tpr, fpr), 100, 100, np.arange(7))
    for generation in chain:
        found = heterozygosity(generation.model.law)
        assert abs(found.mean() - expected[generation.index]) <= Z * found.std(ddof=1) / np.sqrt(len(found))


@pytest.mark.parametrize(
    ("contamination", "tpr", "fpr"), [(c, t, f) for c in (0.5, 0.9, 0.99) for t, f in ((0, 0), (0.8, 0.05), (0.95, 0.01))]
)
def test_the_forecast_of_the_support_is_within_a_fifth(contamination, tpr, fpr):
    chain = in_law(Ideal(tpr, fpr), Contaminated(contamination), n=2000, replicates=20, last=20)
    found = (chain[-1].model.law.probabilities > 0).sum(axis=1).mean()
    forecast = screened_support(SOURCE.law.probabilities[0], Screening(contamination, tpr, fpr), 2000, 2000, np.array([20]))[0]
    assert abs(forecast / found - 1.0) < 0.2
    assert abs(forecast / found - 1.0) < 0.05  # and by far


def test_published_shares_of_the_support():
    """Shares kept after 20 generations of N = 20,000 over 5,000 words, contamination .9: to within two points of a hundredth each."""
    law = open_source("zipf", states=5000, exponent=1.1).load().law.probabilities[0]
    published = {(0.0, 0.0): 0.316, (0.5, 0.05): 0.378, (0.8, 0.01): 0.458, (0.95, 0.01): 0.510, (0.99, 0.001): 0.523}
    for (tpr, fpr), expected in published.items():
        share_kept = screened_support(law, Screening(0.9, tpr, fpr), 20_000, 20_000, np.array([20]))[0] / 5000
        assert abs(share_kept - expected) < 0.003


def test_what_can_be_curated_in_law():
    sizes = {"n": 10, "n_original": 10}
    assert can_curate_in_law(Categorical(), Ideal(0.5, 0.5), Fresh(3), **sizes)
    assert can_curate_in_law(Categorical(), Ideal(0.5, 0.5), Replace(), **sizes)
    assert not can_curate_in_law(Categorical(), Ideal(0.5, 0.5), Keep(0.5), **sizes)
    assert not can_curate_in_law(Gaussian(), Ideal(0.5, 0.5), Replace(), **sizes)


def test_nothing_left_in_law():
    with pytest.raises(FitError, match="candidates of generation 1"):
        in_law(Ideal(1.0, 0.0, candidates=3), Contaminated(1.0), replicates=3)
