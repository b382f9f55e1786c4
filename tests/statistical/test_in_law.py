"""Exact in law agrees with drawing every record, for each pair of learner and mix.

Both ways run the same short recursion with few records, where an error of one record would show; the distributions of the final
parameters are compared by two-sample Kolmogorov-Smirnov tests, which are conservative for discrete data. Every test refuses at
p < 1e-5 on at most two statistics, so that the whole file has a false-alarm rate below 1e-3; seeds are fixed.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from studbook import learners, mixing
from studbook.arrays import Batch
from studbook.data import Coin, Normal, PoissonCounts, Zipf
from studbook.recursion import FreshLaw, can_run_in_law, run_generations, run_generations_in_law
from studbook.rng import stream
from studbook.theory.laws import repeat_law

N, LAST, LAW_RUNS, LONG_RUNS = 12, 3, 20_000, 1_000

SOURCES = {
    "gaussian": (learners.Gaussian(ddof=0), Normal(mean=1.0, std=2.0)),
    "gaussian-3d": (learners.Gaussian(ddof=1), Normal(dimension=3)),
    "bernoulli": (learners.Bernoulli(), Coin(probability=0.3)),
    "poisson": (learners.Poisson(), PoissonCounts(rate=0.7)),
    "categorical": (learners.Categorical(), Zipf(states=6)),
}
ANY_MIX = {
    "replace": mixing.Replace(),
    "accumulate": mixing.Accumulate(),
    "fresh": mixing.Fresh(3),
    "weighted-fresh": mixing.Weighted(0.4, fresh=5),
    "weighted-original": mixing.Weighted("golden"),
}
COUNT_MIX = {"keep": mixing.Keep(0.25), "subsample": mixing.Subsample(), "blend": mixing.Blend(0.5, 0.25, 0.25)}
PAIRS = [(source, mix) for source in SOURCES for mix in ANY_MIX]
PAIRS += [(source, mix) for source in ("bernoulli", "categorical") for mix in COUNT_MIX]


def summaries(law):
    """Two numbers for each replicate that together see location and spread."""
    if hasattr(law, "covariance"):
        return [law.mean[:, 0], law.covariance[:, -1, -1] + 2 * law.covariance[:, 0, -1]]
    if hasattr(law, "rate"):
        return [law.rate]
    return [law.probabilities[:, 0], (law.probabilities**2).sum(axis=1)]


def in_law(learner, mix, dataset):
    real = learner.from_law(repeat_law(dataset.law, LAW_RUNS), dataset.space)
    original = learner.draw(real, N, rng=stream(1, "original"))
    chain = run_generations_in_law(learner, mix, original, dataset.space, n=N, n_original=N, last=LAST, real=real, rng=stream(1, "law"))
    return summaries(list(chain)[-1].model.law)


def long_way(learner, mix, dataset):
    real = learner.from_law(dataset.law, dataset.space)
    found, rng = [], stream(2)
    for _ in range(LONG_RUNS):
        original: Batch = real.sample(N, rng=rng)
        chain = run_generations(learner, mix, original, n=N, last=LAST, fresh=FreshLaw(real), streams=lambda generation, purpose: rng)
        *_, last = chain
        found.append([value[0] for value in summaries(last.model.law)])
    return list(np.array(found).T)


@pytest.mark.parametrize(("source", "mix"), PAIRS)
def test_law_agrees_with_drawing_every_record(source, mix):
    learner, origin = SOURCES[source]
    chosen = {**ANY_MIX, **COUNT_MIX}[mix]
    dataset = origin.load()
    for fast, slow in zip(in_law(learner, chosen, dataset), long_way(learner, chosen, dataset), strict=True):
        assert stats.ks_2samp(np.round(fast, 9), np.round(slow, 9)).pvalue > 1e-5


@pytest.mark.parametrize("mix", COUNT_MIX)
@pytest.mark.parametrize("source", ["gaussian", "poisson"])
def test_subsets_without_a_closed_form_are_not_run_in_law(source, mix):
    learner, origin = SOURCES[source]
    dataset = origin.load()
    real = learner.from_law(dataset.law, dataset.space)
    probe = learner.draw(real, N, rng=stream(0))
    assert not can_run_in_law(learner, COUNT_MIX[mix], n=N, n_original=N, real=real, probe=probe)
