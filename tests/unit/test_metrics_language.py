"""Distribution of perplexities, blocks that are scored, and the parts of drift: values by hand and refusals."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from studbook.arrays import Batch, Floats, Kind, numbers, states, text
from studbook.errors import ConfigError, MetricError
from studbook.learners import NGram
from studbook.metrics.drift_parts import DriftParts, coincidence, plain_writer
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.text_density import N_BINS, PerplexityDensity, bins_of, edge_names
from studbook.metrics.text_perplexity import BlockPerplexity, LowPerplexityShare, OwnPerplexity, Perplexity
from studbook.metrics.text_tables import N_SCORED
from studbook.testing.metrics import (
    check_collapsed,
    check_is_value,
    check_leaves_inputs_alone,
    check_measurements,
    check_refuses_other_kinds,
    check_reproducible,
    standard_case,
)

VOCABULARY = tuple("abcdefgh")
RNG = np.random.default_rng(0)


@dataclass(frozen=True, slots=True)
class ByFirstToken:
    """A model whose blocks have a perplexity of ten to the power of a tenth of their first token."""

    def log_prob(self, batch: Batch) -> Floats:
        return -batch.values[:, 0] / 10 * math.log(10.0) * batch.values.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """The same, as costly as a network: it says how its fit went. It counts what it is asked."""

    asked: list[int]
    fit_report: object = None

    def log_prob(self, batch: Batch) -> Floats:
        self.asked.append(len(batch))
        return ByFirstToken().log_prob(batch)


def blocks(first: list[int] | np.ndarray) -> Batch:
    tokens = np.zeros((len(first), 3), dtype=np.int32)
    tokens[:, 0] = first
    return text(tokens, tuple(map(str, range(100))))


def measure(metric, sample, original=None, *, model=None, base=None):
    original = sample if original is None else original
    seen = Observation(sample, original, model, base)
    return {m.metric: m for m in metric.measure(Reference(original, None, original), seen, rng=np.random.default_rng(0))}


# --- The distribution of perplexities ---------------------------------------------------------------------------------------------


def test_bins_are_a_tenth_of_a_decade() -> None:
    assert edge_names()[:3] == ("e0.0", "e0.1", "e0.2")
    assert edge_names()[-1] == "e5.0"
    perplexities = np.array([0.5, 1.0, 1.2589, 1.2590, 10.0, 99_999.0, 100_000.0, np.inf])
    assert bins_of(np.log(perplexities)).tolist() == [0, 0, 0, 1, 10, 49, 50, 50]


def test_shares_of_blocks_in_each_bin() -> None:
    base = ByFirstToken()
    found = measure(PerplexityDensity(), blocks([5, 5, 12, 80]), blocks([0, 1]), base=base, model=SimpleNamespace())
    values = {name: m.value for name, m in found.items() if m.value}
    assert values == {"perplexity_density.e0.5": 0.5, "perplexity_density.e1.2": 0.25, "perplexity_density.e5.0": 0.25}
    assert len(found) == N_BINS
    assert all(m.stderr is not None and m.stderr > 0 and m.n == 4 for m in found.values())


def test_generation_0_shows_the_original_too() -> None:
    base = ByFirstToken()
    found = measure(PerplexityDensity(), blocks([5, 5, 12, 80]), blocks([0, 1]), base=base, model=base)
    assert len(found) == 2 * N_BINS
    assert {name: m.value for name, m in found.items() if m.value and ".real." in name} == {
        "perplexity_density.real.e0.0": 0.5,
        "perplexity_density.real.e0.1": 0.5,
    }
    assert sum(m.value for name, m in found.items() if ".real." not in name) == pytest.approx(1.0)


# --- Which blocks are scored ------------------------------------------------------------------------------------------------------


def test_networks_score_a_part_of_a_large_sample_once() -> None:
    sample = blocks(np.arange(3 * N_SCORED) % 20)
    base, reference = Network([]), Reference(sample, None, sample)
    seen = Observation(sample, sample, base, base)
    for metric in (OwnPerplexity(), BlockPerplexity(), PerplexityDensity(), LowPerplexityShare()):
        metric.measure(reference, seen, rng=RNG)
    assert base.asked == [N_SCORED, N_SCORED]  # the sample and the original
    assert OwnPerplexity().measure(reference, seen, rng=RNG)[0].n == 3 * N_SCORED
    assert Perplexity(limit=7).measure(reference, seen, rng=RNG)[0].n == 21


def test_tables_score_every_block_unless_told() -> None:
    sample = blocks(np.arange(3 * N_SCORED) % 20)
    assert measure(OwnPerplexity(), sample, base=ByFirstToken())["own_perplexity"].n == 9 * N_SCORED
    assert measure(OwnPerplexity(limit=40), sample, base=ByFirstToken())["own_perplexity"].n == 120
    part, whole = (measure(metric, sample, base=ByFirstToken())["own_perplexity"] for metric in (OwnPerplexity(limit=300), OwnPerplexity()))
    assert abs(part.value - whole.value) < 4 * part.stderr


def test_limits_below_zero_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"metrics\.own_perplexity\.limit is -1"):
        OwnPerplexity(limit=-1)
    with pytest.raises(ConfigError, match=r"metrics\.drift_parts\.limit is 1"):
        DriftParts(limit=1)


# --- The parts of drift -----------------------------------------------------------------------------------------------------------


def test_coincidence_counts_pairs_of_different_blocks() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 5, size=(12, 7))
    pairs = [(tokens[i][:, None] == tokens[j]).mean() for i in range(12) for j in range(12) if i != j]
    assert coincidence(text(tokens, VOCABULARY)).value == pytest.approx(np.mean(pairs), rel=1e-12)


def test_coincidence_does_not_mind_what_holds_blocks_together() -> None:
    """Blocks of one word each: Σp² is that of the words, not 1. |z| < 5."""
    rng = np.random.default_rng(2)
    law = np.array([0.5, 0.3, 0.2])
    found = [coincidence(text(np.repeat(rng.choice(3, (100, 1), p=law), 8, axis=1), VOCABULARY)) for _ in range(300)]
    values = np.array([c.value for c in found])
    assert abs(values.mean() - (law**2).sum()) < 5 * values.std() / np.sqrt(300)
    assert 0.8 < np.sqrt(np.mean([c.stderr**2 for c in found])) / values.std() < 1.25


def test_where_no_words_agree_half_a_pair_does() -> None:
    found = coincidence(states(np.arange(10), 10))
    assert found.value == pytest.approx(0.5 / 45)
    assert math.isinf(found.stderr)
    with pytest.raises(MetricError, match="two blocks or more"):
        coincidence(states(np.array([1]), 2))


def test_an_ngram_model_without_its_decoding() -> None:
    data = text(np.random.default_rng(3).integers(0, 8, (50, 6)), VOCABULARY)
    plain = NGram(order=2).fit(data, rng=RNG)
    assert plain.plain() is plain
    assert plain_writer(plain) is None
    greedy = NGram(order=2, temperature=0.5, top_k=3, top_p=0.9).fit(data, rng=RNG)
    assert greedy.plain().learner == plain.learner
    written = greedy.plain().sample(20, rng=np.random.default_rng(5)).values
    np.testing.assert_array_equal(written, plain.sample(20, rng=np.random.default_rng(5)).values)


def test_parts_by_hand() -> None:
    """Two states: the training set even, the plain model .8 to .2, the decoding nothing but the first."""
    n = 1000
    training, sample = states(np.arange(n) % 2, 2), states(np.zeros(n, dtype=int), 2)
    plain = states((np.arange(n) % 5 == 0).astype(int), 2)
    model = SimpleNamespace(plain=lambda: SimpleNamespace(sample=lambda k, rng: plain.take(np.arange(k))))
    found = measure(DriftParts(limit=n), sample, training, model=model)
    squares = (0.64 + 0.04) * n / (n - 1) - 1 / (n - 1)
    spread = found["word_diversity"].stderr
    expected = -math.log(squares) - spread**2 / 2
    assert found["word_diversity"].value == pytest.approx(expected)
    assert found["drift_parts.truncation"].value == pytest.approx(-expected)
    assert found["drift_parts.fitting"].value == pytest.approx(expected - math.log(2))
    assert found["drift_parts.sampling"].value == 0.0
    assert found["drift_parts.truncation"].stderr == pytest.approx(found["word_diversity"].stderr)


def test_sampling_noise_is_wright_and_fishers() -> None:
    sample = states(np.arange(40) % 4, 4)
    f = coincidence(sample).value
    assert measure(DriftParts(), sample)["drift_parts.sampling"].value == pytest.approx(math.log(f) - math.log(f + (1 - f) / 40))


def test_weights_of_the_training_set_count() -> None:
    training = dataclasses.replace(states(np.array([0, 1]), 2), weights=np.array([3.0, 1.0]))
    sample = states(np.arange(100) % 2, 2)
    found = measure(DriftParts(), sample, training)
    assert found["drift_parts.fitting"].value == pytest.approx(found["word_diversity"].value + math.log(10 / 16))


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.STATES])
def test_parts_keep_the_contract(kind: Kind) -> None:
    case = standard_case(kind)
    metric = DriftParts()
    check_is_value(metric)
    check_leaves_inputs_alone(metric, case)
    check_reproducible(metric, case)
    check_refuses_other_kinds(metric, case)
    check_collapsed(metric, case, check_measurements(metric, case))


def test_densities_keep_the_contract() -> None:
    case = standard_case(Kind.TEXT)
    model = NGram().fit(case.original, rng=RNG)
    case = dataclasses.replace(case, observation=dataclasses.replace(case.observation, model=model, base=model))
    metric = PerplexityDensity()
    check_is_value(metric)
    check_leaves_inputs_alone(metric, case)
    check_reproducible(metric, case)
    check_refuses_other_kinds(metric, case)
    check_collapsed(metric, case, check_measurements(metric, case))


def test_numbers_have_no_words() -> None:
    batch = numbers(np.ones(3))
    with pytest.raises(MetricError, match="got records of kind numbers"):
        measure(DriftParts(), batch)
