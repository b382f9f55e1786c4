"""What the n-gram learner refuses, and how it says so."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import Batch, numbers, text
from studbook.errors import ConfigError, DataError, FitError
from studbook.learners.ngram import NGram

VOCABULARY = ("a", "b", "c")
GOOD = text(np.array([[0, 1, 2], [2, 1, 0]]), VOCABULARY)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"order": 0}, "order is 0, expected 1 to 5"),
        ({"order": 6}, "order is 6"),
        ({"discount": 1.0}, "discount is 1.0"),
        ({"discount": -0.1}, "discount is -0.1"),
        ({"discount": float("nan")}, "discount is nan"),
        ({"temperature": 0.0}, "temperature is 0.0.*top_k = 1"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"prompt": -2}, "prompt is -2"),
    ],
)
def test_parameters_that_cannot_be_meant(parameters: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        NGram(**parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (numbers(np.ones(3)), "needs text, got numbers"),
        (text(np.zeros((2, 3), dtype=int), ()), "vocabulary is empty"),
        (text(np.zeros((0, 3), dtype=int), VOCABULARY), "no blocks"),
        (text(np.zeros((2, 0), dtype=int), VOCABULARY), "blocks have 0 tokens"),
        (text(np.array([[0, 1], [2, 3]]), VOCABULARY), "block 1 holds token id 3 at position 1, the vocabulary has 3 words"),
        (text(np.array([[0, -1], [2, 3]]), VOCABULARY), "block 0 holds token id -1"),
        (Batch(GOOD.values, GOOD.space, np.array([1.0, 0.0])), "block 1 has the weight 0.0"),
        (Batch(GOOD.values, GOOD.space, np.array([np.nan, 1.0])), "block 0 has the weight nan"),
        (Batch(GOOD.values, GOOD.space, np.array([np.inf, 1.0])), "block 0 has the weight inf"),
        (Batch(GOOD.values, GOOD.space, np.array([-1.0, 1.0])), "block 0 has the weight -1.0"),
    ],
)
def test_data_that_no_model_can_be_fitted_to(batch: Batch, words: str) -> None:
    for refuse in (NGram().check_original, lambda data: NGram().fit(data, rng=RNG)):
        with pytest.raises(FitError, match=words) as caught:
            refuse(batch)
        assert len(str(caught.value).splitlines()) == 1


def test_blocks_that_the_prompt_uses_up() -> None:
    with pytest.raises(FitError, match="blocks have 3 tokens, prompt takes 3"):
        NGram(prompt=3).check_original(GOOD)
    with pytest.raises(FitError, match="blocks have 3 tokens, prompt takes 9"):
        NGram(prompt=9).condition_on(GOOD)


def test_probabilities_of_what_the_model_does_not_know() -> None:
    model = NGram().fit(GOOD, rng=RNG)
    with pytest.raises(DataError, match="block 0 holds token id 7 at position 1"):
        model.log_prob(text(np.array([[0, 7]]), tuple("abcdefgh")))
    with pytest.raises(DataError, match="got numbers"):
        model.log_prob(numbers(np.ones(3)))


def test_a_negative_number_of_blocks() -> None:
    with pytest.raises(ConfigError, match="n is -1"):
        NGram().fit(GOOD, rng=RNG).sample(-1, rng=RNG)


def test_extreme_weights_keep_proper_probabilities() -> None:
    model = NGram(order=3).fit(Batch(GOOD.values, GOOD.space, np.array([1e-200, 1e200])), rng=RNG)
    law = np.exp(model.log_prob(text(np.array([[i] for i in range(3)]), VOCABULARY)))
    assert law.sum() == pytest.approx(1.0)
