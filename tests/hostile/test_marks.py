"""What text detectors make of token ids that are none, of huge texts and of forged settings."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from studbook.errors import ConfigError, DataError
from studbook.marks import Kgw, SynthId, TextMarkDetector, Windows

MARK = Kgw(vocabulary=1000, key=15_485_863)


@pytest.mark.parametrize(
    "text",
    [
        [0, 1000],
        [-1, 2],
        [2**40],
        [2**70, 1],
        [1.0, 2.0],
        [float("nan")],
        ["1", "2"],
        [[1, 2], [3, 4]],
        [[1], [2, 3]],
        [True, False],
        [None],
        "12",
        7,
        b"12",
        np.array([1, 2], dtype="timedelta64[s]"),
        np.array([None]),
    ],
    ids=repr,
)
def test_what_is_no_row_of_ids_is_refused(text: Any) -> None:
    for detector in (TextMarkDetector(MARK), TextMarkDetector(MARK, threads=2)):
        with pytest.raises(DataError, match="text 1 "):
            detector.detect_many([[1, 2, 3], text])


@pytest.mark.parametrize("prompt_len", [-1, [1], [1, 2, 3], [0, -1], [0, 1.5], [0, None], [0, True]])
def test_prompts_that_do_not_fit_are_refused(prompt_len: Any) -> None:
    for threads in (1, 2):
        with pytest.raises(ConfigError):
            TextMarkDetector(MARK, threads=threads).detect_many([[1, 2], [3, 4]], prompt_len=prompt_len)


def test_every_kind_of_whole_number_is_read() -> None:
    ids = np.random.default_rng(0).integers(100, size=300)
    results = [TextMarkDetector(MARK).detect(ids.astype(kind)) for kind in ("u1", "i1", "<u2", ">i4", "i8", "u8")]
    results += [TextMarkDetector(MARK).detect(ids.tolist()), TextMarkDetector(MARK).detect(np.repeat(ids, 2)[::2])]
    assert len(set(results)) == 1


def test_a_text_of_ten_million_tokens_takes_bounded_memory() -> None:
    ids = np.random.default_rng(0).integers(1000, size=10_000_000, dtype=np.int32)
    detector = TextMarkDetector(MARK, windows=Windows((1_000_000,)))
    detector.detect(ids[:1000])
    tracemalloc.start()
    result = detector.detect(ids)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.n_scored <= 1000 * 1000  # as many n-grams as there are
    # Beside the text itself: a table of places, two running sums, and bytes a token.
    assert peak < 500 << 20


def test_many_texts_are_looked_at_in_parts() -> None:
    rng = np.random.default_rng(1)
    texts = [rng.integers(1000, size=1000, dtype=np.int32) for _ in range(4000)]
    detector = TextMarkDetector(MARK)
    detector.detect(texts[0])
    tracemalloc.start()
    results = detector.detect_many(texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(results) == 4000
    assert peak < 64 << 20
    assert results[3999] == detector.detect(texts[3999])


def test_a_huge_vocabulary_takes_no_more_than_its_budget() -> None:
    mark = Kgw(vocabulary=1 << 24, key=15_485_863, gamma=0.25)
    tracemalloc.start()
    detector = TextMarkDetector(mark, budget_bytes=8 << 20)
    result = detector.detect([5, 9, (1 << 24) - 1, 5])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.n_scored == 3
    assert peak < 512 << 20


def test_one_repeated_token_is_one_ngram() -> None:
    for mark in (MARK, Kgw(vocabulary=1000, key=7, scheme="selfhash", context=3)):
        result = TextMarkDetector(mark).detect(np.zeros(100_000, np.int64))
        assert result.n_scored == 1
        assert result.p_value >= 0.25


@pytest.mark.parametrize(
    "settings",
    [
        {"keys": ()},
        {"keys": (1, 1)},
        {"keys": (1, 1 + (1 << 16))},
        {"keys": (1 << 64,)},
        {"keys": (1,), "ngram": 1},
        {"keys": (1,), "table_size": 1},
        {"keys": (1,), "table_size": 1 << 40},
        {"keys": (1,), "table_seed": -1},
        {"keys": (1,), "history": 0},
        {"keys": tuple(range(1000))},
    ],
    ids=",".join,
)
def test_synthid_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SynthId(**settings)
