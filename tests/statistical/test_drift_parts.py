"""The parts of drift add up to what diversity loses, and sampling noise is what Wright and Fisher say.

Means over replicates are compared with |z| < 5: false alarm 6e-7 a value; seeds are fixed.
"""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import states, text
from studbook.learners import Categorical, NGram
from studbook.metrics.drift_parts import DriftParts
from studbook.metrics.protocols import Observation, Reference
from studbook.mixing import Replace
from studbook.recursion import run_generations
from studbook.rng import stream

ZIPF = 1 / np.arange(1, 41) ** 1.1
ZIPF /= ZIPF.sum()


def parts_by_generation(learner, original, replicate: int, last: int, limit: int = 400) -> dict[str, np.ndarray]:
    def streams(generation: int, use: str) -> np.random.Generator:
        return stream(7, "replicate", replicate, generation, use)

    chain = run_generations(learner, Replace(), original, n=len(original), last=last, fresh=None, streams=streams)
    found: dict[str, list[float]] = {}
    for generation in chain:
        seen = Observation(generation.sample, generation.training, generation.model, None)
        for m in DriftParts(limit=limit).measure(Reference(original, None), seen, rng=streams(generation.index, "metric")):
            found.setdefault(m.metric, []).append(m.value)
    return {name: np.array(values) for name, values in found.items()}


def z_of_mean(differences: np.ndarray) -> float:
    return float(abs(differences.mean()) / (differences.std(ddof=1) / np.sqrt(len(differences))))


def unigrams(n: int, rng: np.random.Generator):
    return text(rng.choice(40, size=(n, 10), p=ZIPF), tuple(map(str, range(40))))


@pytest.mark.parametrize(
    "learner",
    [NGram(order=1, discount=0.0), NGram(order=1, discount=0.0, temperature=0.8), NGram(order=1, discount=0.0, top_k=25)],
    ids=["plain", "temperature", "top-k"],
)
def test_parts_sum_to_the_change_of_the_models_diversity(learner) -> None:
    """Independent words and replacement: truncation and sampling of t and fitting of t + 1 are all that happens but for chance.

    Chance has a mean of half the variance of the logarithm, 2(Σp³ − F²)/(N F²) a generation: some .008 over three, as large as a third of
    the sampling part. It is allowed for from 0 (a temperature that leaves one word) to twice that of the original's law.
    """
    left_over = []
    for replicate in range(60):
        found = parts_by_generation(learner, unigrams(100, np.random.default_rng(replicate)), replicate, last=3)
        told = (found["drift_parts.truncation"] + found["drift_parts.sampling"])[:-1] + found["drift_parts.fitting"][1:]
        left_over.append((np.diff(found["word_diversity"]) - told).sum())
    squares = (ZIPF**2).sum()
    chance = 3 * 2 * ((ZIPF**3).sum() - squares**2) / (1000 * squares**2)
    noise = 5 * np.std(left_over, ddof=1) / np.sqrt(60)
    assert -noise < np.mean(left_over) < 2 * chance + noise
    assert noise < 0.003


def test_the_expected_coincidence_is_told_in_full() -> None:
    """On the scale of Σp² nothing is left over: exp of the parts is the growth of F over three generations, |z| < 5 of 400 runs.

    Fitting is left out: it is 0 for counts, and its noise would hide the rest.
    """
    rng, n, ratios, told = np.random.default_rng(6), 300, [], []
    for _ in range(400):
        law, parts = ZIPF, 0.0
        for _generation in range(3):
            sample = states(rng.choice(40, size=n, p=law), 40)
            found = {
                m.metric: m.value for m in DriftParts().measure(Reference(sample, None), Observation(sample, sample, None, None), rng=rng)
            }
            parts += found["drift_parts.sampling"]
            law = np.bincount(sample.values, minlength=40) / n
        ratios.append((law**2).sum() / (ZIPF**2).sum())
        told.append(np.exp(-parts))
    assert np.mean(told) > 1.05
    assert z_of_mean(np.array(ratios) - np.array(told)) < 5


def test_sampling_is_wright_and_fishers_loss() -> None:
    """A categorical model: E Σp² grows by (1 − F)/N a generation, and the sampling part says so from one sample."""
    n, n_runs, told, grown = 200, 400, [], []
    before = float((ZIPF**2).sum())
    for replicate in range(n_runs):
        rng = stream(8, replicate)
        sample = states(rng.choice(40, size=n, p=ZIPF), 40)
        found = {m.metric: m.value for m in DriftParts().measure(Reference(sample, None), Observation(sample, sample, None, None), rng=rng)}
        told.append(found["drift_parts.sampling"])
        grown.append(float(((np.bincount(sample.values) / n) ** 2).sum()))
    expected = np.log(before) - np.log(before + (1 - before) / n)
    assert np.mean(told) == pytest.approx(expected, rel=0.05)
    assert z_of_mean(np.array(grown) - (before + (1 - before) / n)) < 5


def test_a_categorical_model_drifts_by_sampling_alone() -> None:
    """Fitting is 0 on average where the fit is the empirical law, and truncation exactly 0."""
    fitting, truncation = [], []
    for replicate in range(80):
        original = states(np.random.default_rng(replicate).choice(40, size=500, p=ZIPF), 40)
        found = parts_by_generation(Categorical(), original, replicate, last=2)
        fitting.append(found["drift_parts.fitting"].sum())
        truncation.extend(found["drift_parts.truncation"])
    assert set(truncation) == {0.0}
    assert abs(np.mean(fitting)) < 5 * np.std(fitting, ddof=1) / np.sqrt(80) + 0.01


def test_decoding_takes_more_than_chance_does() -> None:
    """At temperature .7 truncation is the larger part by far, and negative; a bigram model's fit smooths, which adds diversity."""
    rng = np.random.default_rng(3)
    found = parts_by_generation(NGram(order=2, temperature=0.7), unigrams(300, rng), 0, last=2)
    assert (found["drift_parts.truncation"] < 5 * found["drift_parts.sampling"]).all()
    assert (found["drift_parts.sampling"] < 0).all()


@pytest.mark.parametrize("temperature", [1.0, 0.8])
def test_stated_errors_are_the_spread(temperature: float) -> None:
    """Root mean square of the stated errors over the spread of 200 samples of one model, known to 5 %."""
    rng = np.random.default_rng(4)
    original = unigrams(200, rng)
    model = NGram(order=2, temperature=temperature).fit(original, rng=rng)
    values: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    for _ in range(200):
        seen = Observation(model.sample(200, rng=rng), original, model, None)
        for m in DriftParts(limit=150).measure(Reference(original, None), seen, rng=rng):
            if m.stderr is not None:
                values.setdefault(m.metric, []).append(m.value)
                errors.setdefault(m.metric, []).append(m.stderr)
    for name, measured in values.items():
        ratio = np.sqrt(np.mean(np.square(errors[name]))) / np.std(measured, ddof=1)
        assert 0.75 < ratio < 1.25, (name, ratio)
