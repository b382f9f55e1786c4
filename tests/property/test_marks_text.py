"""Properties of text marks: the shuffle and PyTorch's, what counts once, and results that depend on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studbook.marks import Kgw, TextMarkDetector, Windows
from studbook.marks._kernels import STATE, fill_lists, permute, place_of
from studbook.marks.binomial import p_values

torch = pytest.importorskip("torch")

SEEDS = st.integers(0, 2**64 - 1)
TEXTS = st.lists(st.lists(st.integers(0, 19), max_size=60), min_size=1, max_size=6)
MARK = Kgw(vocabulary=20, key=15_485_863)


@given(seed=SEEDS, n=st.integers(2, 3000), data=st.data())
@settings(deadline=None, max_examples=60)
def test_the_shuffle_is_pytorchs_and_a_token_is_followed_to_its_place(seed: int, n: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, n - 1))
    theirs = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
    low = seed & 0xFFFFFFFF
    assert np.array_equal(permute(low, n, size), theirs[:size])
    token = data.draw(st.integers(0, n - 1))
    place = int(np.flatnonzero(theirs == token)[0])
    assert place_of(low, token, n, size, np.empty(STATE, np.uint32), np.empty(STATE, np.int32)) == min(place, size)
    lists = np.empty((1, -(-n // 64)), np.uint64)
    fill_lists(np.array([low], np.uint32), n, size, lists)
    bits = np.unpackbits(lists.view(np.uint8), bitorder="little")
    assert sorted(theirs[:size].tolist()) == np.flatnonzero(bits).tolist()


@given(texts=TEXTS, prompt=st.integers(0, 30))
@settings(deadline=None, max_examples=100)
def test_pairs_count_once_in_their_text_and_texts_stand_alone(texts: list[list[int]], prompt: int) -> None:
    detector = TextMarkDetector(MARK)
    results = detector.detect_many(texts, prompt_len=prompt)
    for text, result in zip(texts, results, strict=True):
        pairs = {(text[i - 1], text[i]) for i in range(max(1, prompt), len(text))}
        assert result.n_scored == len(pairs)
        assert result.n_green == sum(after in detector._scorers[0].lists.of(before) for before, after in pairs)
        assert result == detector.detect(text, prompt_len=prompt)


@given(text=st.lists(st.integers(0, 19), max_size=200), size=st.integers(1, 50), steps=st.integers(1, 8))
@settings(deadline=None, max_examples=100)
def test_corrected_p_values_are_never_below_plain_ones(text: list[int], size: int, steps: int) -> None:
    windows = Windows((size, 2 * size), steps=min(size, steps))
    result = TextMarkDetector(MARK, Kgw(vocabulary=20, key=17), windows=windows).detect(text)
    assert 0.0 <= result.p_value <= result.p_value_corrected <= 1.0
    begin, stop = result.window
    assert 0 <= begin <= stop <= len(text)


@given(trials=st.integers(1, 10**6), rate=st.floats(0.01, 0.99), data=st.data())
def test_p_values_fall_with_hits(trials: int, rate: float, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials - 1))
    less, more = p_values(np.array([hits, hits + 1]), np.array([trials, trials]), rate)
    assert 0.0 <= more <= less <= 1.0
