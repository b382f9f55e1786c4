"""Outputs that nobody should have sent."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import Batch, Kind, Space, images, numbers
from studbook.errors import ConfigError, DataError
from studbook.fingerprints import (
    AverageHash,
    ColourHash,
    DifferenceHash,
    ExactText,
    ExactTokens,
    MinHash,
    PdqHash,
    PerceptualHash,
    SimHash,
    TokenPrefix,
    WaveletHash,
    to_uint8,
)
from studbook.fingerprints import words as words_module
from studbook.records.digest import MAX_DIGEST_BYTES

ON_IMAGES = (AverageHash(), DifferenceHash(), PerceptualHash(), WaveletHash(), ColourHash(), PdqHash())
ON_TEXT = (ExactText(), SimHash(), MinHash())
ON_TOKENS = (ExactTokens(), TokenPrefix())


def huge(*shape: int) -> np.ndarray:
    """An image that takes no memory."""
    return np.broadcast_to(np.uint8(0), shape)


@pytest.mark.parametrize("fingerprint", ON_IMAGES, ids=str)
@pytest.mark.parametrize(
    "outputs, message",
    [
        (np.zeros((2, 8, 8)), "float64, expected uint8"),
        (np.zeros((2, 8, 8), np.int8), "int8"),
        (np.zeros((2, 8, 8), bool), "bool"),
        (np.zeros((2, 8, 8), object), "object"),
        (np.zeros((8, 8), np.uint8), "shape"),
        (np.zeros((), np.uint8), "shape"),
        (np.zeros((1, 2, 8, 8, 3), np.uint8), "shape"),
        (np.zeros((2, 8, 8, 2), np.uint8), "2 channels"),
        (np.zeros((2, 8, 8, 4), np.uint8), "4 channels"),
        (np.zeros((2, 8, 8, 0), np.uint8), "0 channels"),
        (np.zeros((2, 0, 8), np.uint8), "no pixels"),
        (np.zeros((2, 8, 0, 3), np.uint8), "no pixels"),
        ([np.zeros((8, 8), np.uint8), np.zeros((8, 0), np.uint8)], "image 1 has no pixels"),
        ([np.zeros((8, 8), np.uint8), np.zeros(8, np.uint8)], "image 1"),
        ([np.zeros((8, 8), np.float32)], "image 0"),
        ([[[0, 1], [2, 3]]], "image 0 is list"),
        ([None], "NoneType"),
        ("a picture.png", "image 0 is str"),
        (None, "NoneType"),
        (7, "int"),
        (huge(1, 1, (1 << 16) + 1), "65,537 pixels"),
        (huge(1, 1 << 14, 1 << 13), "16,384 × 8,192 pixels"),
        ([huge((1 << 16) + 1, 1, 3)], "65,537 × 1 pixels"),
    ],
)
def test_what_is_no_image_is_refused(fingerprint, outputs, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fingerprint.digests(outputs)


@pytest.mark.parametrize("fingerprint", ON_IMAGES, ids=str)
@pytest.mark.parametrize("threads", [0, -1, 257, 1.0, True, "2", None])
def test_impossible_numbers_of_threads_are_refused(fingerprint, threads) -> None:
    with pytest.raises(ConfigError, match="threads"):
        fingerprint.digests(np.zeros((2, 8, 8), np.uint8), threads=threads)


@pytest.mark.parametrize("fingerprint", ON_IMAGES, ids=str)
def test_the_longest_sides_do_not_overflow(fingerprint) -> None:
    for shape in ((1, 1 << 16), (1 << 16, 1)):
        white = np.full(shape, 255, np.uint8)
        expected = fingerprint.digest(np.full((8, 8), 255, np.uint8))
        assert fingerprint.digest(white) == expected
        white.ravel()[: 1 << 15] = 0
        # One row of pixels has no vertical frequency: PDQ has nothing to see. dhash looks from left to right only.
        assert fingerprint.digest(white) != expected or fingerprint == PdqHash() or shape[1] == 1


@pytest.mark.parametrize(
    "batch, message",
    [
        (numbers(np.zeros((3, 2))), "numbers has no pixels"),
        (images(np.full((2, 3, 3), np.nan), (0.0, 1.0)), "image 0 has a pixel"),
        (images(np.stack([np.zeros((3, 3)), np.full((3, 3), np.inf)]), (0.0, 1.0)), "image 1 has a pixel"),
        (images(np.zeros((2, 3, 3)), (1.0, 1.0)), "value_range"),
        (images(np.zeros((2, 3, 3)), (0.0, np.inf)), "value_range"),
        (images(np.zeros((2, 3, 3, 2)), (0.0, 1.0)), "shape"),
        (Batch(np.zeros((2, 9)), Space(Kind.IMAGES, (9,))), "shape"),
    ],
)
def test_pictures_that_have_no_bytes_are_refused(batch: Batch, message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_uint8(batch)


@pytest.mark.parametrize("fingerprint", ON_TEXT, ids=str)
@pytest.mark.parametrize(
    "outputs, message",
    [
        ([""], "empty"),
        (["fine", "half \ud800 a pair"], "surrogate pair at character 5"),
        ([b"bytes"], "bytes, expected str"),
        ([None], "NoneType"),
        ([7], "int"),
        ("one text", "expected a sequence of str"),
        (b"one text", "expected a sequence of str"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_text_is_refused(fingerprint, outputs, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fingerprint.digests(outputs)


@pytest.mark.parametrize("fingerprint", ON_TEXT, ids=str)
def test_a_text_that_is_too_long_is_refused(fingerprint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_module, "MAX_CHARACTERS", 10)
    with pytest.raises(DataError, match="11 characters"):
        fingerprint.digest("a" * 11)


@pytest.mark.parametrize("fingerprint", [SimHash(), MinHash()], ids=str)
@pytest.mark.parametrize("text", [" ", "\n", "?!…", "___", "\u0301", "\x00", "🦊"])
def test_a_text_without_a_word_is_refused_but_by_the_exact_digest(fingerprint, text: str) -> None:
    with pytest.raises(DataError, match="no word"):
        fingerprint.digest(text)
    assert ExactText().digest(text).n_bits == 256


@pytest.mark.parametrize("fingerprint", ON_TOKENS, ids=str)
@pytest.mark.parametrize(
    "outputs, message",
    [
        ([[]], "has 0 tokens"),
        (np.zeros((2, 0), np.int32), "has 0 tokens"),
        ([1, 2, 3], r"shape \(\)"),
        ([[[1, 2], [3, 4]]], "shape"),
        ([[1.0, 2.0]], "float64"),
        ([[1, 2], [True, False]], "token stream 1 is bool"),
        ([["a"]], "expected integers"),
        ([[1, None]], "object"),
        ([[1, [2, 3]]], "isn't a list of integers"),
        ([[-1]], "ids -1 to -1"),
        ([[0, 1 << 32]], "4294967296"),
        ([[1 << 70]], "object"),
        ("abc", "expected a sequence"),
        (b"abc", "expected a sequence"),
        (None, "NoneType"),
        (np.int64(3), "expected a sequence"),
        (np.array(3), "expected a sequence"),
    ],
)
def test_what_is_no_token_stream_is_refused(fingerprint, outputs, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fingerprint.digests(outputs)


def test_a_stream_with_more_blocks_than_a_digest_holds_is_refused() -> None:
    with pytest.raises(DataError, match="take larger blocks"):
        TokenPrefix(1).digest(np.zeros(MAX_DIGEST_BYTES // 4 + 1, np.uint32))
