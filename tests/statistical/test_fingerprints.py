"""Fingerprints on real photographs and digits: little moves under small changes, much between different outputs.

Unrelated digests of independent fair bits lie at n/2 with a standard deviation of √n/2. For 64 bits, P(distance ≤ 10) is below 1e-8, and
for 256 bits P(distance ≤ 60) below 1e-17: a changed output within such a bound is recognised, and not near by chance. Everything is seeded
and every threshold about twice what was seen (JPEG may differ by its codec), so that a failure is a change of the code.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from sklearn.datasets import load_digits

from studbook.arrays import images
from studbook.fingerprints import (
    AverageHash,
    ColourHash,
    DifferenceHash,
    MinHash,
    PdqHash,
    PerceptualHash,
    SimHash,
    WaveletHash,
    to_uint8,
)

# The largest distance after a small change, and the smallest mean distance between different crops, in bits.
CASES = [
    (AverageHash(), 8, 28),
    (DifferenceHash(), 8, 28),
    (PerceptualHash(), 8, 28),
    (PerceptualHash(16), 20, 120),
    (WaveletHash(), 8, 28),
    (ColourHash(), 28, 16),
    (PdqHash(), 24, 120),
]


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.unpackbits(one ^ other, axis=-1).sum(axis=-1)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """18 disjoint crops of two photographs ``(18, 200, 200, 3)``."""
    pytest.importorskip("PIL")
    from sklearn.datasets import load_sample_images

    return np.stack([im[y : y + 200, x : x + 200] for im in load_sample_images().images for y in (0, 110, 220) for x in (0, 200, 400)])


def noisy(crops: np.ndarray) -> np.ndarray:
    return np.clip(crops + np.random.default_rng(0).normal(0, 8, crops.shape).round(), 0, 255).astype(np.uint8)


def dimmed(crops: np.ndarray) -> np.ndarray:
    return (crops.astype(int) * 9 // 10 + 12).astype(np.uint8)


def compressed(crops: np.ndarray) -> np.ndarray:
    from PIL import Image

    found = []
    for crop in crops:
        file = io.BytesIO()
        Image.fromarray(crop).save(file, "JPEG", quality=40)
        found.append(np.array(Image.open(file)))
    return np.stack(found)


@pytest.mark.parametrize("change", [noisy, dimmed, compressed])
@pytest.mark.parametrize("fingerprint, near, far", CASES, ids=str)
def test_small_changes_move_few_bits(fingerprint, near: int, far: int, change, crops: np.ndarray) -> None:
    moved = distances(fingerprint.pack(crops), fingerprint.pack(change(crops)))
    assert moved.max() <= near
    assert moved.mean() <= near / 2


@pytest.mark.parametrize("fingerprint, near, far", CASES, ids=str)
def test_different_pictures_lie_far_apart(fingerprint, near: int, far: int, crops: np.ndarray) -> None:
    packed = fingerprint.pack(crops)
    pairs = distances(packed[:, None], packed[None])[np.triu_indices(len(packed), 1)]
    assert pairs.mean() >= far
    if fingerprint in (PerceptualHash(), PerceptualHash(16), PdqHash()):
        assert pairs.min() > 2 * near


@pytest.mark.parametrize("fingerprint", [PerceptualHash(), PdqHash()], ids=str)
def test_different_digits_have_different_digests(fingerprint) -> None:
    packed = fingerprint.pack(to_uint8(images(load_digits().images[:300], (0.0, 16.0))))
    assert len(np.unique(packed, axis=0)) == 300


@pytest.mark.parametrize("fingerprint", [PerceptualHash(), PerceptualHash(16), PdqHash()], ids=str)
def test_bits_of_noise_are_fair_and_independent(fingerprint) -> None:
    # 500 textures: each bit's mean is 0.5 ± 0.022, so that 0.15 is 6.7 deviations; 256 bits alarm falsely with less than 1e-8. Pairs of
    # digests differ in half of their bits; their mean over 250 disjoint pairs is known to 0.5 / √(250 · 63) = 0.004, and 0.03 is 7 of it.
    rng = np.random.default_rng(3)
    packed = fingerprint.pack(rng.integers(0, 256, (500, 64, 64), dtype=np.uint8))
    bits = np.unpackbits(packed, axis=1)[:, 0 if isinstance(fingerprint, PdqHash) else 1 :]
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.15
    assert abs((bits[::2] != bits[1::2]).mean() - 0.5) < 0.03


def mixed(n_common: int, n_own: int, run: int) -> tuple[str, str]:
    """Two texts of different words whose sets of words have the Jaccard similarity n_common / (n_common + 2 n_own)."""
    common, *own = ([f"{name}{run}x{i}" for i in range(n)] for name, n in (("c", n_common), ("a", n_own), ("b", n_own)))
    one, other = (" ".join([*common, *each]) for each in own)
    return one, other


@pytest.mark.parametrize("bits", [1, 8, 16])
@pytest.mark.parametrize("n_common, n_own", [(50, 200), (100, 100), (300, 50)])
def test_minhash_estimates_the_jaccard_similarity_and_its_error(bits: int, n_common: int, n_own: int) -> None:
    # 100 pairs: their mean is known to stderr / 10, and 5 of these are left with probability 6e-7; the stated error agrees with the
    # spread to 1/√200 = 7 %, and 35 % is five of it.
    truth = n_common / (n_common + 2 * n_own)
    found = [MinHash.similarity(*MinHash(1, 128, bits).digests(mixed(n_common, n_own, run))) for run in range(100)]
    values, stated = np.array([each.value for each in found]), np.mean([each.stderr for each in found])
    assert abs(values.mean() - truth) < 5 * stated / 10
    assert 0.65 < values.std() / stated < 1.35


@pytest.mark.parametrize("n_common, n_own", [(0, 300), (100, 100), (300, 30)])
def test_simhash_distance_is_the_angle(n_common: int, n_own: int) -> None:
    # Sets of words: the cosine is their overlap over their size. Over 60 pairs the mean distance is known to 8 / √60 = 1.03 bits at most,
    # and 5.2 is five of it: false alarm about 6e-7. The formula is that of many signs; its error for hundreds is far below a bit.
    angle = np.arccos(n_common / (n_common + n_own))
    found = [one.hamming(other) for one, other in (SimHash(1).digests(mixed(n_common, n_own, run)) for run in range(60))]
    assert abs(np.mean(found) - 256 * angle / np.pi) < 5.2
