"""The text metrics: values by hand, refusals, and standard errors that are as large as they say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from studbook.arrays import Batch, Floats, numbers, text
from studbook.errors import ConfigError, MetricError
from studbook.learners.ngram import NGram
from studbook.metrics.protocols import Metric, Observation, Reference
from studbook.metrics.text import Distinct, HapaxSurvival, RareSurvival, Types, TypesShare
from studbook.metrics.text_perplexity import BlockPerplexity, HighPerplexityShare, LowPerplexityShare, OwnPerplexity, Perplexity

VOCABULARY = tuple("abcdefgh")
RNG = np.random.default_rng(0)
ALL = (
    Types(),
    TypesShare(),
    HapaxSurvival(),
    RareSurvival(),
    Distinct(1),
    Distinct(2),
    Distinct(3),
    Perplexity(),
    OwnPerplexity(),
    BlockPerplexity(),
    LowPerplexityShare(),
    HighPerplexityShare(),
)


@dataclass(frozen=True, slots=True)
class ByFirstToken:
    """A model under which the log probability of a block is minus its first token, times its length."""

    def log_prob(self, batch: Batch) -> Floats:
        return -batch.values[:, 0].astype(np.float64) * batch.values.shape[1]


def blocks(*rows: list[int]) -> Batch:
    return text(np.array(rows), VOCABULARY)


def measure(metric: Metric, original: Batch, sample: Batch, model: object = None, heldout: Batch | None = None) -> dict[str, float]:
    observation = Observation(sample=sample, training=original, model=model, base=model)
    return {m.metric: m.value for m in metric.measure(Reference(original, None, heldout), observation, rng=RNG)}


def zipf(n: int, length: int, n_words: int, rng: np.random.Generator, exponent: float = 1.1) -> Batch:
    law = np.arange(1, n_words + 1) ** -exponent
    return text(rng.choice(n_words, size=(n, length), p=law / law.sum()), tuple(map(str, range(n_words))))


def test_types_and_their_share() -> None:
    original, sample = blocks([0, 1, 2], [3, 0, 0]), blocks([0, 1, 1], [7, 1, 0])
    assert measure(Types(), original, sample) == {"types": 3.0}
    assert measure(TypesShare(), original, sample) == {"types_share": 0.75}


def test_hapaxes_that_survive() -> None:
    original = blocks([0, 0, 1, 2], [3, 4, 4, 0])
    assert measure(HapaxSurvival(), original, blocks([1, 1, 4, 0])) == {"hapax_survival": pytest.approx(1 / 3)}


def test_the_rarest_quartile_includes_ties() -> None:
    original = blocks([0] * 5 + [1] * 4 + [2] * 3 + [3] * 2 + [4] * 2 + [5] * 3)  # the second rarest of 6 occurs twice: 3 and 4
    assert measure(RareSurvival(), original, blocks([3, 0, 0, 1])) == {"rare_survival": 0.5}


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_distinct_n_counts_within_blocks(n: int) -> None:
    sample = text(np.random.default_rng(n).integers(0, 3, (30, 9)), VOCABULARY)
    grams = [tuple(row[i : i + n]) for row in sample.values.tolist() for i in range(9 - n + 1)]
    assert measure(Distinct(n), sample, sample) == {f"distinct_{n}": pytest.approx(len(set(grams)) / len(grams))}


def test_distinct_n_tells_large_token_ids_apart() -> None:
    rng = np.random.default_rng(0)
    sample = text(rng.integers(0, 10**6, (50, 20)), tuple(map(str, range(10**6))))
    assert measure(Distinct(3), sample, sample) == {"distinct_3": 1.0}


def test_perplexity_is_that_of_the_heldout_text() -> None:
    assert measure(Perplexity(), blocks([0, 1]), blocks([5, 5]), ByFirstToken(), blocks([1, 0], [3, 0])) == {
        "perplexity": pytest.approx(math.exp(2.0))
    }


def test_own_perplexity_is_under_generation_0() -> None:
    sample = blocks([1, 0], [2, 0])
    observation = Observation(sample=sample, training=sample, model=None, base=ByFirstToken())
    (value,) = OwnPerplexity().measure(Reference(sample, None), observation, rng=RNG)
    assert value.value == pytest.approx(math.exp(1.5))
    assert value.n == 4
    assert value.stderr == pytest.approx(math.exp(1.5) * 0.5)  # two blocks half a nat from their mean: s = .707, / √2


def test_quantiles_of_block_perplexity_are_blocks() -> None:
    sample = text(np.repeat(np.arange(8), 5)[:, None], VOCABULARY)
    values = measure(BlockPerplexity(), sample, sample, ByFirstToken())
    assert values == {
        f"block_perplexity.{p}": pytest.approx(math.exp(x))
        for p, x in zip(("p05", "p25", "p50", "p75", "p95"), (0, 1, 3, 5, 7), strict=True)
    }


def test_shares_of_blocks_beyond_the_originals_quantiles() -> None:
    original = text(np.repeat([1, 2, 3, 4, 5], 20)[:, None], VOCABULARY)
    sample = blocks([0], [1], [3], [6], [7])
    assert measure(LowPerplexityShare(), original, sample, ByFirstToken()) == {"low_perplexity_share": 0.2}
    assert measure(HighPerplexityShare(), original, sample, ByFirstToken()) == {"high_perplexity_share": 0.4}


def test_an_impossible_word_makes_perplexity_infinite_and_nothing_nan() -> None:
    original = blocks([0, 1], [1, 0])
    model = NGram(discount=0.0).fit(original, rng=RNG)
    sample = blocks([7, 7], [0, 1], [1, 0])
    reference = Reference(original, None, sample)
    observation = Observation(sample=sample, training=original, model=model, base=model)
    found = {
        m.metric: m
        for metric in (Perplexity(), OwnPerplexity(), BlockPerplexity())
        for m in metric.measure(reference, observation, rng=RNG)
    }
    assert found["perplexity"].value == found["own_perplexity"].value == found["block_perplexity.p95"].value == math.inf
    assert math.isfinite(found["block_perplexity.p50"].value)
    assert not any(math.isnan(m.value) or math.isnan(m.stderr or 0.0) for m in found.values())


@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
def test_one_block_has_no_visible_spread(metric: Metric) -> None:
    original = blocks([0, 0, 1, 2])
    model = NGram().fit(original, rng=RNG)
    observation = Observation(sample=original, training=original, model=model, base=model)
    for value in metric.measure(Reference(original, None, original), observation, rng=RNG):
        assert value.stderr is not None
        assert value.stderr == math.inf or value.metric.endswith("_share")


def test_what_metrics_share_belongs_to_one_generation() -> None:
    """One reference sees two generations, in turns and with two base models: nothing of one is taken for the other."""
    rng = np.random.default_rng(0)
    original, heldout = zipf(40, 8, 50, rng), zipf(10, 8, 50, rng)
    models = [NGram(order=k).fit(original, rng=rng) for k in (1, 3)]
    seen = [Observation(sample=model.sample(30, rng=rng), training=original, model=model, base=model) for model in models]
    shared = Reference(original, None, heldout)
    for observation in (*seen, *seen[::-1]):
        for metric in ALL:
            alone = metric.measure(Reference(original, None, heldout), observation, rng=RNG)
            assert metric.measure(shared, observation, rng=RNG) == alone


def test_refusals_name_what_is_missing() -> None:
    original = blocks([0, 0], [1, 1])
    reference, observation = Reference(original, None), Observation(sample=original, training=original, model=None, base=None)
    with pytest.raises(MetricError, match=r"set data\.heldout"):
        Perplexity().measure(reference, observation, rng=RNG)
    with pytest.raises(MetricError, match="no word that occurs once"):
        HapaxSurvival().measure(reference, observation, rng=RNG)
    with pytest.raises(MetricError, match="has no log_prob"):
        OwnPerplexity().measure(reference, observation, rng=RNG)
    with pytest.raises(MetricError, match="blocks of 2 tokens, expected 3"):
        Distinct(3).measure(reference, observation, rng=RNG)
    with pytest.raises(MetricError, match="needs the original text"):
        TypesShare().measure(Reference(None, None), observation, rng=RNG)
    with pytest.raises(ConfigError, match="n is 0"):
        Distinct(0)


@pytest.mark.parametrize("metric", [m for m in ALL if not isinstance(m, Perplexity)], ids=lambda m: type(m).__name__)
def test_only_text_is_measured(metric: Metric) -> None:
    batch = numbers(np.ones(3))
    with pytest.raises(MetricError, match="got numbers"):
        metric.measure(Reference(batch, None), Observation(batch, batch, ByFirstToken(), ByFirstToken()), rng=RNG)


def test_no_blocks_are_refused() -> None:
    empty = text(np.zeros((0, 3), dtype=int), VOCABULARY)
    with pytest.raises(MetricError, match="0 blocks"):
        Types().measure(Reference(blocks([0, 1, 2]), None), Observation(empty, empty, None, None), rng=RNG)


@pytest.mark.parametrize(
    ("metric", "low", "high"),
    [
        (Types(), 0.85, 1.4),
        (TypesShare(), 0.85, 1.4),
        (HapaxSurvival(), 0.85, 1.4),
        (RareSurvival(), 0.85, 1.4),
        (Distinct(1), 0.85, 1.4),
        (Distinct(2), 0.85, 1.4),
        (Distinct(3), 0.85, 1.4),
        (OwnPerplexity(), 0.85, 1.2),
        (BlockPerplexity(), 0.85, 1.2),
        (LowPerplexityShare(), 0.85, 1.2),
        (HighPerplexityShare(), 0.85, 1.2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Metric) else "",
)
def test_standard_errors_are_as_large_as_the_spread(metric: Metric, low: float, high: float) -> None:
    """Root mean square of the stated errors over the true spread of 400 samples of one model.

    The spread is known to 3.5 % (one standard deviation), the bands are at least four of these wide on either side of what the method
    gives: false alarms below 1e-4 a case, and the seed is fixed.
    """
    rng = np.random.default_rng(11)
    original = zipf(300, 16, 2000, rng)
    model = NGram(order=1).fit(original, rng=rng)
    reference = Reference(original, None)
    values, errors = [], []
    for _ in range(400):
        seen = Observation(sample=model.sample(300, rng=rng), training=original, model=model, base=model)
        found = metric.measure(reference, seen, rng=rng)
        values.append([m.value for m in found])
        errors.append([m.stderr for m in found])
    ratio = np.sqrt(np.mean(np.square(errors), axis=0)) / np.std(values, axis=0)
    assert ((ratio > low) & (ratio < high)).all(), ratio
