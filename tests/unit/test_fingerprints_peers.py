"""Image fingerprints beside pdqhash and ImageHash, which only the benchmarks need."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.fingerprints import AverageHash, DifferenceHash, PdqHash, PerceptualHash, WaveletHash

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def crops() -> list[np.ndarray]:
    """Crops of two photographs, of many sizes."""
    pytest.importorskip("PIL")
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    found = []
    for image in load_sample_images().images:
        for side in (64, 129, 256, 300, 427, 640):
            height, width = min(side, image.shape[0]), min(side + 37, image.shape[1])
            y, x = rng.integers(0, image.shape[0] - height + 1), rng.integers(0, image.shape[1] - width + 1)
            found.append(np.ascontiguousarray(image[y : y + height, x : x + width]))
    return found


def test_pdq_is_the_published_hash(crops: list[np.ndarray]) -> None:
    pdqhash = pytest.importorskip("pdqhash")
    packed, qualities = PdqHash().pack_with_quality(crops)
    for image, bits, quality in zip(crops, np.unpackbits(packed, axis=1), qualities, strict=True):
        expected, stated = pdqhash.compute(image)
        assert (bits != expected).sum() <= 2  # theirs is in float32: bits at the median may fall to the other side
        assert abs(quality - stated) <= 1


@pytest.mark.parametrize(
    "fingerprint, name, bound",
    [(AverageHash(), "average_hash", 6), (DifferenceHash(), "dhash", 16), (PerceptualHash(), "phash", 10), (WaveletHash(), "whash", 10)],
    ids=str,
)
def test_near_to_imagehash_where_only_the_resize_differs(fingerprint, name: str, bound: int, crops: list[np.ndarray]) -> None:
    imagehash = pytest.importorskip("imagehash")
    from PIL import Image

    bits = np.unpackbits(fingerprint.pack(crops), axis=1)
    expected = np.array([getattr(imagehash, name)(Image.fromarray(image)).hash.ravel() for image in crops])
    assert (bits != expected).sum(axis=1).max() <= bound


def test_whash_is_the_haar_hash_where_nothing_is_resized(crops: list[np.ndarray]) -> None:
    imagehash = pytest.importorskip("imagehash")
    from PIL import Image

    for image in crops:
        if min(image.shape[:2]) >= 256:
            grey = np.ascontiguousarray(image[:256, :256, 1])
            assert (np.unpackbits(WaveletHash().pack([grey])[0]) == imagehash.whash(Image.fromarray(grey)).hash.ravel()).all()
