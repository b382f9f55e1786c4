"""Text marks: exact p-values, what counts, several keys and windows, settings that don't fit, stored lists."""

from __future__ import annotations

import json
from fractions import Fraction
from math import comb
from pathlib import Path

import numpy as np
import pytest

from studbook.errors import ConfigError, DataError
from studbook.marks import Excerpt, Kgw, ReplaceTokens, ShufflePassages, TextMarkDetector, Windows, tokens_needed, tokens_needed_normal
from studbook.marks.binomial import low_p_values, p_values
from studbook.marks.greenlists import GreenLists

V = 500
KEY = 15_485_863
MARK = Kgw(vocabulary=V, key=KEY)


def plain(seed: int, n: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).integers(V, size=n)


def marked(seed: int, mark: Kgw = MARK, n: int = 300, rate: float = 0.6) -> np.ndarray:
    """A text whose tokens are green with the given probability, and otherwise red."""
    rng, lists = np.random.default_rng(seed), GreenLists(mark)
    ids = [int(rng.integers(mark.vocabulary))]
    for _ in range(n - 1):
        green = lists.bits(np.array(ids[-1:]))[0]
        ids.append(int(rng.choice(np.flatnonzero(green if rng.random() < rate else ~green))))
    return np.array(ids)


@pytest.mark.parametrize(("hits", "trials", "rate"), [(3, 10, 0.25), (10, 10, 0.25), (0, 10, 0.5), (60, 200, 0.25), (180, 200, 0.25)])
def test_p_values_are_exact(hits: int, trials: int, rate: float) -> None:
    share = Fraction(rate)
    tail = sum(comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(hits, trials + 1))
    assert p_values(np.array([hits]), np.array([trials]), rate)[0] == pytest.approx(float(tail), rel=1e-11)
    low = sum(comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(hits + 1))
    assert low_p_values(np.array([hits]), np.array([trials]), rate)[0] == pytest.approx(float(low), rel=1e-11)


def test_tokens_needed() -> None:
    """The figures that are passed around are the normal law's; the exact test takes some more."""
    cases = [
        (0.25, 0.35, 692, 722),
        (0.25, 0.45, 177, 191),
        (0.25, 0.55, 78, 88),
        (0.5, 0.6, 863, 869),
        (0.5, 0.7, 208, 211),
        (0.5, 0.8, 86, 86),
    ]
    for gamma, rate, normal, exact in cases:
        assert int(tokens_needed_normal(gamma, rate, false_alarm=1e-5, power=0.95)) == normal
        n = tokens_needed(gamma, rate, false_alarm=1e-5, power=0.95)
        assert n == exact
        powers = []
        for tokens in (n - 1, n):
            tails = p_values(np.arange(tokens + 1), np.full(tokens + 1, tokens), gamma)
            needed = int(np.argmax(tails <= 1e-5))
            powers.append(float(p_values(np.array(needed), np.array(tokens), rate)))
        assert powers[0] < 0.95 <= powers[1]
    with pytest.raises(ConfigError, match="green_rate"):
        tokens_needed(0.5, 0.4, false_alarm=1e-5, power=0.95)
    with pytest.raises(ConfigError, match="false_alarm"):
        tokens_needed(0.25, 0.4, false_alarm=0.0, power=0.95)


def test_a_mark_is_found_and_repetition_adds_nothing() -> None:
    detector = TextMarkDetector(MARK)
    text = marked(0)
    once, thrice = detector.detect(text), detector.detect(np.tile(text, 3))
    assert once.p_value < 1e-20
    assert once.p_value == once.p_value_corrected
    # Two n-grams more, of the tokens at the seam.
    assert thrice.n_scored - once.n_scored in (0, 1)
    assert once.settings == MARK.digest


def test_the_prompt_does_not_count() -> None:
    detector = TextMarkDetector(MARK)
    text = np.concatenate([marked(0), plain(1)])
    assert detector.detect(text).p_value < 1e-8
    rest = detector.detect(text, prompt_len=300)
    assert rest.p_value > 1e-3
    assert rest.window == (300, 600)
    assert rest.n_scored <= 300
    assert detector.detect(text, prompt_len=10_000).n_scored == 0
    two = detector.detect_many([text, text], prompt_len=[0, 300])
    assert two[1] == rest


def test_several_keys_name_the_right_one_and_pay_for_it() -> None:
    marks = [Kgw(vocabulary=V, key=KEY + 2 * k) for k in range(20)]
    result = TextMarkDetector(*marks).detect(marked(3, marks[7], rate=0.5))
    assert result.mark == 7
    assert result.n_tests == 20
    assert result.p_value_corrected == pytest.approx(20 * result.p_value)
    assert result.p_value_corrected < 1e-6


def test_windows_find_a_passage_that_the_whole_text_hides() -> None:
    text = np.concatenate([plain(1, 4000), marked(2, n=200), plain(3, 4000)])
    whole = TextMarkDetector(MARK).detect(text)
    found = TextMarkDetector(MARK, windows=Windows((100, 200), steps=4)).detect(text)
    assert whole.p_value > 1e-4
    assert found.p_value_corrected < 1e-10
    begin, stop = found.window
    assert 3900 <= begin < stop <= 4300
    assert found.n_tests > 300


@pytest.mark.parametrize("length", [0, 1, 7, 99, 100, 101, 250, 1000])
def test_windows_cover_the_text(length: int) -> None:
    begins, stops = Windows((100, 300), steps=3).of(length)
    assert all(0 <= begin < stop <= length for begin, stop in zip(begins, stops, strict=True))
    for size in (100, 300):
        if length > size:
            chosen = stops - begins == size
            assert begins[chosen].min() == 0
            assert stops[chosen].max() == length
            assert np.diff(begins[chosen]).max() <= size // 3


def test_results_do_not_depend_on_threads_budget_or_company() -> None:
    texts = [marked(0), plain(1), plain(2, 5), plain(3, 0), marked(4, n=50)]
    alone = [TextMarkDetector(MARK).detect(text) for text in texts]
    assert TextMarkDetector(MARK, threads=3).detect_many(texts) == alone
    assert TextMarkDetector(MARK, budget_bytes=0).detect_many(texts) == alone
    assert TextMarkDetector(MARK, budget_bytes=64 * 100).detect_many(texts) == alone


def test_short_texts_say_so() -> None:
    detector = TextMarkDetector(MARK)
    nothing, little = detector.detect([]), detector.detect([1, 2, 3])
    assert (nothing.p_value, nothing.p_value_corrected, nothing.n_scored, nothing.green_rate) == (1.0, 1.0, 0, 0.0)
    assert "too short" in nothing.note
    assert "too short" in little.note
    assert detector.detect_many([]) == []
    assert detector.detect(plain(0)).note == ""


def test_too_few_green_tokens_are_noticed() -> None:
    result = TextMarkDetector(MARK).detect(marked(0, rate=0.02))
    assert result.p_value > 0.99
    assert "may not fit" in result.note


def test_another_gamma_is_noticed() -> None:
    wide = Kgw(vocabulary=V, key=KEY, gamma=0.5)
    texts = [marked(seed, wide, rate=0.85) for seed in range(4)]
    check = TextMarkDetector(MARK).check_settings(texts)
    assert check.gamma_found == pytest.approx(0.5, abs=0.03)
    assert "gamma near 0.5" in check.note
    right = TextMarkDetector(wide).check_settings(texts)
    assert right.gamma_found == pytest.approx(0.5, abs=0.03)
    assert "more green" in right.note


def test_another_key_or_vocabulary_reads_as_unmarked() -> None:
    texts = [marked(seed) for seed in range(4)]
    for other in (Kgw(vocabulary=V, key=KEY + 2), Kgw(vocabulary=V + 1, key=KEY)):
        check = TextMarkDetector(other).check_settings(texts)
        assert check.gamma_found is None
        assert "another key" in check.note
    assert TextMarkDetector(MARK).check_settings([]).n_scored == 0


def test_p_values_of_texts_that_are_not_tokenised() -> None:
    detector = TextMarkDetector(MARK)
    written = " ".join(map(str, marked(0)))
    found = detector.p_values([written, "1 2 3", ""], lambda text: [int(word) for word in text.split()])
    assert found[0] < 1e-20
    assert found[2] == 1.0


def test_settings_that_cannot_be_meant_are_refused() -> None:
    for settings in (
        {"key": 0},
        {"key": 1 << 31},
        {"key": 1 << 63},
        {"key": KEY, "gamma": 0.0},
        {"key": KEY, "gamma": float("nan")},
        {"key": KEY, "gamma": 0.001},
        {"key": KEY, "delta": float("inf")},
        {"key": KEY, "context": 0},
    ):
        with pytest.raises(ConfigError):
            Kgw(vocabulary=V, **settings)
    for vocabulary in (0, 1, 1 << 40):
        with pytest.raises(ConfigError):
            Kgw(vocabulary=vocabulary, key=KEY)
    for marks in ((), (MARK, MARK), (MARK, Kgw(vocabulary=V + 1, key=KEY)), ("kgw",)):
        with pytest.raises(ConfigError):
            TextMarkDetector(*marks)
    for sizes, steps in (((), 4), ((10, 5), 4), ((0,), 1), ((4,), 5), ((4,), 0)):
        with pytest.raises(ConfigError):
            Windows(sizes, steps)
    with pytest.raises(ConfigError, match="threads"):
        TextMarkDetector(MARK, threads=0)


def test_digests_tell_settings_apart_and_keep_delta_out() -> None:
    assert Kgw(vocabulary=V, key=KEY, delta=1.0).digest == MARK.digest
    others = [Kgw(vocabulary=V, key=KEY + 2), Kgw(vocabulary=V + 1, key=KEY), Kgw(vocabulary=V, key=KEY, gamma=0.3)]
    assert len({mark.digest for mark in (MARK, *others)}) == 4
    assert TextMarkDetector(MARK).digest != TextMarkDetector(MARK, windows=Windows()).digest


def test_lists_are_stored_whole_and_mapped(tmp_path: Path) -> None:
    first = TextMarkDetector(MARK)
    text = marked(0)
    expected = first.detect(text)
    (path,) = first.save_lists(tmp_path)
    assert MARK.digest[:16] in path.name
    again = TextMarkDetector(MARK)
    assert again.load_lists(tmp_path) == len(np.unique(text[:-1]))
    assert again.detect(text) == expected
    assert again.detect(plain(9)) == first.detect(plain(9))  # stored lists and new ones
    assert again.save_lists(tmp_path) == [path]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert TextMarkDetector(Kgw(vocabulary=V, key=5)).load_lists(tmp_path) == 0


@pytest.mark.parametrize("damage", ["cut", "magic", "json", "deep", "rows", "negative", "bits", "tokens", "twice", "empty"])
def test_damaged_lists_are_refused(tmp_path: Path, damage: str) -> None:
    detector = TextMarkDetector(MARK)
    expected = detector.detect(plain(0))
    (path,) = detector.save_lists(tmp_path)
    data = bytearray(path.read_bytes())
    head = json.loads(data[23:256])
    if damage == "cut":
        data = data[:-3]
    elif damage == "magic":
        data[0] ^= 1
    elif damage == "json":
        data[23] = 0
    elif damage == "deep":
        data[23:256] = b"[" * 233
    elif damage in ("rows", "negative"):
        head["rows"] = 1 << 40 if damage == "rows" else -1
        data[23:256] = json.dumps(head).encode().ljust(233)
    elif damage == "bits":
        data[256] ^= 1
    elif damage == "tokens":
        data[-4:] = b"\xff\xff\xff\xff"
    elif damage == "twice":
        data[-4:] = data[-8:-4]
    else:
        data = bytearray()
    path.write_bytes(bytes(data))
    with pytest.raises(DataError):
        detector.load_lists(tmp_path)
    assert detector.detect(plain(0)) == expected


def test_changes_of_text() -> None:
    rng = np.random.default_rng(0)
    ids, pool = np.arange(100), np.full(5, 1000)
    assert (ReplaceTokens(0.2).apply(ids, pool, rng=rng) == 1000).sum() == 20
    half = Excerpt(0.5).apply(ids, pool, rng=rng)
    assert np.array_equal(half, np.arange(half[0], half[0] + 50))
    shuffled = ShufflePassages(8, 0.0).apply(ids, pool, rng=rng)
    assert sorted(shuffled.tolist()) == ids.tolist()
    assert not np.array_equal(shuffled, ids)
    for change in (ReplaceTokens(0.5), Excerpt(0.5), ShufflePassages()):
        assert change.apply(ids[:0], pool, rng=rng).size == 0
        assert change.name
    with pytest.raises(ConfigError):
        ReplaceTokens(1.5)
    with pytest.raises(ConfigError):
        ShufflePassages(0)
