"""The n-gram learner: values worked out by hand, prompts, decoding at its edges."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from studbook.arrays import Batch, text
from studbook.errors import ConfigError
from studbook.learners.ngram import NGram, NGramModel, PromptedNGram

VOCABULARY = ("a", "b", "c", "d")


def fit(rows: list[list[int]], **parameters: float) -> NGramModel:
    return NGram(**parameters).fit(text(np.array(rows), VOCABULARY), rng=np.random.default_rng(0))  # type: ignore[arg-type]


def probabilities(model: NGramModel, row: list[int]) -> list[float]:
    return np.exp(model.token_log_prob(text(np.array([row]), VOCABULARY))[0]).tolist()


def test_unigrams_by_maximum_likelihood() -> None:
    assert probabilities(fit([[0, 0, 1, 2]], order=1, discount=0.0), [0, 1, 3]) == pytest.approx([0.5, 0.25, 0.0])


def test_bigrams_by_maximum_likelihood_know_the_beginning() -> None:
    model = fit([[0, 1, 0], [0, 2, 1]], discount=0.0)
    assert probabilities(model, [0, 1, 0]) == pytest.approx([1.0, 0.5, 1.0])


def test_maximum_likelihood_backs_off_only_after_a_context_never_seen() -> None:
    model = fit([[0, 1, 2]], discount=0.0)
    # c ends the only block, so nothing ever followed it: the unigrams are all that is known.
    assert probabilities(model, [0, 1, 2, 0]) == pytest.approx([1.0, 1.0, 1.0, 1 / 3])


def test_kneser_ney_by_hand() -> None:
    model = fit([[0, 1, 0, 1]], discount=0.5)
    # Continuations: a follows the beginning and b, b follows a. So a 2, b 1, of 3; discounted 1.5 and .5, and 1 of 3 to the 4 words.
    a, b = 1.5 / 3 + 1 / 12, 0.5 / 3 + 1 / 12
    # After the beginning: a once, .5 kept. After a: b twice, 1.5 of 2 kept. After b: a once.
    assert probabilities(model, [0, 1, 0]) == pytest.approx([0.5 + 0.5 * a, 0.75 + 0.25 * b, 0.5 + 0.5 * a])
    assert probabilities(model, [2, 1]) == pytest.approx([0.5 / 12, b])


def test_log_prob_is_the_sum_over_tokens() -> None:
    model = fit([[0, 1, 2, 0], [3, 1, 2, 2]], order=3)
    batch = text(np.array([[0, 1, 2, 0], [3, 3, 3, 3]]), VOCABULARY)
    np.testing.assert_allclose(model.log_prob(batch), model.token_log_prob(batch).sum(axis=1))


def test_an_order_longer_than_the_block() -> None:
    model = fit([[0, 1], [2, 1]], order=5, discount=0.0)
    assert probabilities(model, [2, 1]) == pytest.approx([0.5, 1.0])
    assert set(map(tuple, model.sample(50, rng=np.random.default_rng(0)).values.tolist())) == {(0, 1), (2, 1)}


def test_a_five_gram_by_maximum_likelihood_repeats_what_has_no_other_end() -> None:
    rows = [[0, 1, 2, 3, 0, 0], [1, 1, 3, 2, 0, 1]]
    drawn = fit(rows, order=5, discount=0.0).sample(40, rng=np.random.default_rng(0)).values.tolist()
    assert set(map(tuple, drawn)) == set(map(tuple, rows))


@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("discount", [0.0, 0.75])
def test_a_collapsed_text_is_no_error(order: int, discount: float) -> None:
    model = fit([[2, 2, 2]] * 4, order=order, discount=discount)
    drawn = model.sample(5, rng=np.random.default_rng(0))
    assert drawn.values.shape == (5, 3)
    assert np.isfinite(model.log_prob(drawn)).all()
    if discount == 0:
        assert (drawn.values == 2).all()


@pytest.mark.parametrize("decoding", [{}, {"top_k": 2}, {"temperature": 0.5, "top_p": 0.9}], ids=str)
def test_a_seed_gives_one_text(decoding: dict[str, float]) -> None:
    model = fit([[0, 1, 2, 3], [3, 1, 0, 0]], **decoding)
    one, other = (model.sample(20, rng=np.random.default_rng(7)).values for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert (model.sample(20, rng=np.random.default_rng(8)).values != one).any()


def test_top_1_takes_the_likeliest_word_and_of_equals_the_smaller_id() -> None:
    model = fit([[0, 1, 0], [0, 2, 0], [0, 2, 0]], discount=0.0, top_k=1)
    assert (model.sample(9, rng=np.random.default_rng(0)).values == [0, 2, 0]).all()
    tied = fit([[0, 2, 0], [0, 1, 0]], discount=0.0, top_k=1)
    assert (tied.sample(9, rng=np.random.default_rng(0)).values == [0, 1, 0]).all()


@pytest.mark.parametrize("parameters", [{"temperature": 1e-3}, {"temperature": 1e-3, "discount": 0.999}, {"top_p": 1e-9}], ids=str)
def test_decoding_at_its_limit_is_greedy(parameters: dict[str, float]) -> None:
    rows = [[0, 1, 0, 3], [0, 2, 0, 3], [0, 2, 0, 3]]
    greedy = fit(rows, **{**parameters, "top_k": 1}).sample(5, rng=np.random.default_rng(0)).values
    np.testing.assert_array_equal(fit(rows, **parameters).sample(5, rng=np.random.default_rng(1)).values, greedy)


def test_a_high_temperature_draws_all_words_evenly() -> None:
    drawn = fit([[0, 0, 0, 0]], temperature=1e6).sample(2000, rng=np.random.default_rng(0)).values
    shares = np.bincount(drawn.ravel(), minlength=4) / drawn.size
    np.testing.assert_allclose(shares, 0.25, atol=0.03)  # 6 standard deviations


def test_blocks_begin_with_prompts_of_the_original_in_every_generation() -> None:
    original = text(np.array([[0, 1, 2, 3], [3, 2, 1, 0]]), VOCABULARY)
    learner = NGram(prompt=2).condition_on(original)
    assert isinstance(learner, PromptedNGram)
    rng = np.random.default_rng(0)
    data = original
    for _ in range(3):
        data = learner.fit(data, rng=rng).sample(40, rng=rng)
        assert set(map(tuple, data.values[:, :2].tolist())) == {(0, 1), (3, 2)}
    later = learner.fit(text(np.array([[1, 1, 1, 1]]), VOCABULARY), rng=rng)
    assert set(map(tuple, later.sample(40, rng=rng).values[:, :2].tolist())) == {(0, 1), (3, 2)}


def test_without_a_prompt_there_is_nothing_to_condition_on() -> None:
    learner = NGram()
    assert learner.condition_on(text(np.array([[0, 1]]), VOCABULARY)) is learner


def test_a_prompt_without_an_original_comes_from_the_training_text() -> None:
    drawn = fit([[0, 1, 2], [3, 1, 2]], prompt=1).sample(40, rng=np.random.default_rng(0)).values
    assert set(drawn[:, 0].tolist()) == {0, 3}


@pytest.mark.parametrize("decoding", [{}, {"top_p": 0.8}], ids=str)
def test_given_prompts_are_continued_one_by_one(decoding: dict[str, float]) -> None:
    model = fit([[0, 1, 2, 3], [3, 2, 1, 0]], discount=0.0, order=3, **decoding)
    given = text(np.array([[3, 2], [0, 1], [3, 2]]), VOCABULARY)
    drawn = model.sample(3, rng=np.random.default_rng(0), prompts=given).values
    np.testing.assert_array_equal(drawn, [[3, 2, 1, 0], [0, 1, 2, 3], [3, 2, 1, 0]])


def test_prompts_that_do_not_fit_are_refused() -> None:
    model = fit([[0, 1, 2]])
    for rows, words in (([[0], [1]], "shape"), ([[0, 1, 2]], "fewer than 3"), ([[9]], "token id 9")):
        with pytest.raises(ConfigError, match=words):
            model.sample(1, rng=np.random.default_rng(0), prompts=text(np.array(rows), VOCABULARY))


def test_no_blocks_asked_none_drawn() -> None:
    assert fit([[0, 1, 2]]).sample(0, rng=np.random.default_rng(0)).values.shape == (0, 3)
    assert fit([[0, 1, 2]], top_k=2).sample(0, rng=np.random.default_rng(0)).values.shape == (0, 3)


def test_equal_weights_are_no_weights() -> None:
    batch = text(np.array([[0, 1, 2], [3, 1, 0]]), VOCABULARY)
    plain = NGram(order=3).fit(batch, rng=np.random.default_rng(0))
    weighted = NGram(order=3).fit(batch.with_weight(3.5), rng=np.random.default_rng(0))
    np.testing.assert_allclose(weighted.log_prob(batch), plain.log_prob(batch), rtol=1e-12)


def test_a_heavier_record_is_likelier() -> None:
    batch = text(np.array([[0, 1, 2], [3, 1, 0]]), VOCABULARY)
    model = NGram().fit(Batch(batch.values, batch.space, np.array([5.0, 1.0])), rng=np.random.default_rng(0))
    first, second = model.log_prob(batch)
    assert first > second


def test_a_model_can_be_pickled() -> None:
    model = fit([[0, 1, 2], [3, 1, 0]])
    again = pickle.loads(pickle.dumps(model))
    one, other = (m.sample(5, rng=np.random.default_rng(0)).values for m in (model, again))
    np.testing.assert_array_equal(one, other)


def test_fitting_does_not_touch_the_data() -> None:
    values = np.array([[0, 1, 2], [3, 1, 0]], dtype=np.int32)
    values.setflags(write=False)
    model = NGram(prompt=1, top_k=2).fit(text(values, VOCABULARY), rng=np.random.default_rng(0))
    assert model.sample(3, rng=np.random.default_rng(0)).space == text(values, VOCABULARY).space
