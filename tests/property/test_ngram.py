"""The n-gram model against a plain reading of interpolated Kneser-Ney, and the laws that any probability model obeys."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studbook.arrays import Batch, text
from studbook.learners.ngram import NGram, NGramModel

RNG = np.random.default_rng(0)
BEGINNING = -1


class PlainKneserNey:
    """Dictionaries and recursion, nothing shared with the compiled model."""

    def __init__(self, blocks: list[list[int]], n_words: int, order: int, discount: float, weights: list[float]) -> None:
        self.n_words, self.order, self.discount = n_words, order, discount
        scale = sum(weights) / sum(w * w for w in weights)
        raw: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for block, weight in zip(blocks, weights, strict=True):
            padded = [BEGINNING, *block]
            for i in range(1, len(padded)):
                for size in range(min(order, i + 1)):
                    raw[tuple(padded[i - size : i])][padded[i]] += weight * scale
        self.counts = {context: self._adjust(context, row, raw) for context, row in raw.items()}

    def _adjust(self, context: tuple[int, ...], row: Counter[int], raw: dict[tuple[int, ...], Counter[int]]) -> dict[int, float]:
        if self.discount == 0 or len(context) == self.order - 1 or BEGINNING in context:
            return dict(row)
        longer = [other for c, other in raw.items() if len(c) == len(context) + 1 and c[1:] == context]
        return {word: sum(min(1.0, other[word]) for other in longer if word in other) for word in row}

    def probability(self, context: tuple[int, ...], word: int) -> float:
        shorter = self.probability(context[1:], word) if context else 1.0 / self.n_words
        row = self.counts.get(context)
        if row is None:
            return shorter
        total = sum(row.values())
        kept = max(row.get(word, 0.0) - self.discount, 0.0) / total
        return kept + sum(min(c, self.discount) for c in row.values()) / total * shorter

    def after(self, block: list[int]) -> tuple[int, ...]:
        padded = [BEGINNING, *block]
        return tuple(padded[max(0, len(padded) - self.order + 1) :]) if self.order > 1 else ()


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[list[int]], int, int, float, list[float]]:
    n_words, length, n = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(st.integers(1, 8))
    token = st.integers(0, n_words - 1)
    blocks = draw(st.lists(st.lists(token, min_size=length, max_size=length), min_size=n, max_size=n))
    equal = draw(st.booleans())
    weights = [1.0] * n if equal else draw(st.lists(st.floats(0.05, 20.0), min_size=n, max_size=n))
    return blocks, n_words, draw(st.integers(1, 5)), draw(st.sampled_from([0.0, 0.1, 0.75, 0.99])), weights


def fit(blocks: list[list[int]], n_words: int, order: int, discount: float, weights: list[float]) -> NGramModel:
    batch = text(np.array(blocks), tuple(f"w{i}" for i in range(n_words)))
    weighted = Batch(batch.values, batch.space, None if set(weights) == {1.0} else np.array(weights))
    return NGram(order=order, discount=discount).fit(weighted, rng=RNG)


def next_word_law(model: NGramModel, prefix: list[int]) -> np.ndarray:
    """The probability of every word after ``prefix``, from the beginning of a block."""
    n_words = model.space.n_states
    rows = np.array([[*prefix, word] for word in range(n_words)])
    return np.exp(model.token_log_prob(text(rows, model.space.vocabulary))[:, -1])


@settings(max_examples=150, deadline=None)
@given(corpora(), st.data())
def test_every_context_has_the_law_of_the_plain_model(
    corpus: tuple[list[list[int]], int, int, float, list[float]], data: st.DataObject
) -> None:
    blocks, n_words = corpus[:2]
    model, plain = fit(*corpus), PlainKneserNey(*corpus)
    for prefix in ([], data.draw(st.lists(st.integers(0, n_words - 1), max_size=7)), blocks[0], blocks[-1][:-1]):
        expected = [plain.probability(plain.after(prefix), word) for word in range(n_words)]
        np.testing.assert_allclose(next_word_law(model, prefix), expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(corpora(), st.data())
def test_probabilities_sum_to_one(corpus: tuple[list[list[int]], int, int, float, list[float]], data: st.DataObject) -> None:
    model = fit(*corpus)
    law = next_word_law(model, data.draw(st.lists(st.integers(0, corpus[1] - 1), max_size=7)))
    assert math.isclose(law.sum(), 1.0, rel_tol=1e-9)
    assert (law > 0).all() or corpus[3] == 0.0


@settings(max_examples=50, deadline=None)
@given(corpora(), st.randoms(use_true_random=False))
def test_the_order_of_blocks_and_the_names_of_words_do_not_matter(corpus, random) -> None:  # type: ignore[no-untyped-def]
    blocks, n_words, order, discount, weights = corpus
    rows, names = list(range(len(blocks))), list(range(n_words))
    random.shuffle(rows)
    random.shuffle(names)
    renamed = [[names[word] for word in blocks[row]] for row in rows]
    one, other = fit(*corpus), fit(renamed, n_words, order, discount, [weights[row] for row in rows])
    a = one.log_prob(text(np.array(blocks)[rows], one.space.vocabulary))
    b = other.log_prob(text(np.array(renamed), one.space.vocabulary))
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert (a <= 0).all()


@settings(max_examples=50, deadline=None)
@given(corpora(), st.floats(0.01, 100.0))
def test_only_ratios_of_weights_matter(corpus, factor: float) -> None:  # type: ignore[no-untyped-def]
    *rest, weights = corpus
    one, other = fit(*rest, weights), fit(*rest, [factor * w for w in weights])
    batch = text(np.array(rest[0]), one.space.vocabulary)
    np.testing.assert_allclose(one.log_prob(batch), other.log_prob(batch), rtol=1e-7, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(corpora())
def test_blocks_of_all_words_have_probabilities_that_sum_to_one(corpus) -> None:  # type: ignore[no-untyped-def]
    model = fit(*corpus)
    every = np.array(list(product(range(corpus[1]), repeat=3)))
    assert math.isclose(np.exp(model.log_prob(text(every, model.space.vocabulary))).sum(), 1.0, rel_tol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    corpora(),
    st.sampled_from([0.01, 0.5, 1.0, 3.0]),
    st.integers(0, 4),
    st.sampled_from([1e-6, 0.3, 0.9, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_decoded_words_are_among_the_likeliest(corpus, temperature: float, top_k: int, top_p: float, seed: int) -> None:  # type: ignore[no-untyped-def]
    _, n_words, order, discount, _ = corpus
    plain = fit(*corpus)
    model = NGramModel(NGram(order, discount, temperature, top_k, top_p), plain.space, plain.tables, plain.prompts)
    generated = model.sample(3, rng=np.random.default_rng(seed)).values
    assert generated.min() >= 0
    assert generated.max() < n_words
    assert np.isfinite(plain.log_prob(text(generated, plain.space.vocabulary))).all()
    if top_k:
        for block in generated.tolist():
            for i, word in enumerate(block):
                law = next_word_law(plain, block[:i])
                assert (law > law[word] * (1 + 1e-9)).sum() < top_k


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_a_weight_that_goes_to_nothing_leaves_the_fit_without_that_block(order: int) -> None:
    rng = np.random.default_rng(order)
    blocks = rng.integers(0, 6, (20, 5)).tolist()
    whole = fit(blocks, 6, order, 0.75, [1.0] * 12 + [1e-12] * 8)
    part = fit(blocks[:12], 6, order, 0.75, [1.0] * 12)
    batch = text(np.array(blocks), whole.space.vocabulary)
    seen = slice(0, 12)
    np.testing.assert_allclose(whole.token_log_prob(batch)[seen], part.token_log_prob(batch)[seen], rtol=1e-6, atol=1e-6)
