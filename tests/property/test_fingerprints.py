"""What holds of fingerprints for any output."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

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
    distance,
)
from studbook.records import Digest

ON_IMAGES = (AverageHash(), DifferenceHash(), PerceptualHash(), WaveletHash(), ColourHash(), PdqHash())
BATCHES = st.tuples(st.integers(1, 4), st.integers(1, 24), st.integers(1, 24), st.sampled_from([1, 3])).flatmap(
    lambda shape: arrays.arrays(np.uint8, shape)
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: any(c.isalnum() for c in text))
TOKENS = st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=60)


@pytest.mark.parametrize("fingerprint", ON_IMAGES, ids=str)
@given(batch=BATCHES, data=st.data())
@settings(max_examples=30, deadline=None)
def test_images_are_hashed_one_by_one_in_order(fingerprint, batch: np.ndarray, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(batch))))
    packed = fingerprint.pack(batch)
    assert (fingerprint.pack(batch[order], threads=2) == packed[order]).all()
    assert fingerprint.digest(batch[0]).bits == packed[0].tobytes()


@pytest.mark.parametrize("fingerprint", [each for each in ON_IMAGES if not isinstance(each, PdqHash)], ids=str)
@given(batch=BATCHES, down=st.integers(1, 4), across=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_repeated_pixels_are_the_same_picture(fingerprint, batch: np.ndarray, down: int, across: int) -> None:
    assert (fingerprint.pack(batch.repeat(down, axis=1).repeat(across, axis=2)) == fingerprint.pack(batch)).all()


@pytest.mark.parametrize("fingerprint", [each for each in ON_IMAGES if not isinstance(each, ColourHash)], ids=str)
@given(batch=BATCHES, more=st.integers(0, 127))
@settings(max_examples=30, deadline=None)
def test_brightness_alone_changes_nothing(fingerprint, batch: np.ndarray, more: int) -> None:
    assert (fingerprint.pack(batch // 2 + np.uint8(more)) == fingerprint.pack(batch // 2)).all()


@given(batch=BATCHES)
@settings(max_examples=30, deadline=None)
def test_a_mirrored_picture_has_the_mirrored_average_hash(batch: np.ndarray) -> None:
    for fingerprint in (AverageHash(), WaveletHash()):
        bits, mirrored = (np.unpackbits(fingerprint.pack(each), axis=1).reshape(-1, 8, 8) for each in (batch, batch[:, :, ::-1]))
        assert (bits[:, :, ::-1] == mirrored).all()


@given(text=TEXTS)
@settings(deadline=None)
def test_a_text_and_its_decomposed_form_have_one_digest(text: str) -> None:
    for fingerprint in (ExactText(), SimHash(), MinHash()):
        assert fingerprint.digest(text) == fingerprint.digest(unicodedata.normalize("NFD", text))


@given(one=TEXTS, other=TEXTS)
@settings(deadline=None)
def test_distances_are_symmetric_and_zero_for_the_same(one: str, other: str) -> None:
    for fingerprint in (ExactText(), SimHash(), MinHash(), MinHash(bits=1)):
        first, second = fingerprint.digests([one, other])
        assert distance(first, second) == distance(second, first) >= 0
        assert distance(first, first) == 0
        assert Digest.from_json(first.to_json()) == first
    assert 0 <= MinHash.distance(*MinHash().digests([one, other])) <= 1
    assert (distance(*ExactText().digests([one, other])) == 0) == (unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other))


@given(words=st.lists(st.sampled_from(["ant", "bee", "cow", "doe"]), min_size=1, max_size=30), times=st.integers(1, 3))
@settings(deadline=None)
def test_minhash_is_of_the_set(words: list[str], times: int) -> None:
    fingerprint = MinHash(words=1)
    assert fingerprint.digest(" ".join(words * times)) == fingerprint.digest(" ".join(sorted(set(words))))


@given(common=st.lists(st.integers(0, 9), max_size=50), one=TOKENS, other=TOKENS, block=st.integers(1, 9))
@settings(deadline=None)
def test_prefix_agreement_is_the_common_beginning_in_blocks(common: list[int], one: list[int], other: list[int], block: int) -> None:
    first, second = [*common, *one], [*common, *other]
    blocks, others = ([ids[i : i + block] for i in range(0, len(ids), block)] for ids in (first, second))
    expected = next((i for i, (a, b) in enumerate(zip(blocks, others, strict=False)) if a != b), min(len(blocks), len(others)))
    digests = TokenPrefix(block).digests([first, second])
    assert TokenPrefix.agreement(*digests) == expected
    assert (TokenPrefix.distance(*digests) == 0) == (first == second)
    assert (distance(*ExactTokens().digests([first, second])) == 0) == (first == second)
