"""Error rates of marks of pictures, on real pictures. Seeded; each test says how often it would fail by chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from studbook.marks.calibrate_images import calibrate_picture_mark
from studbook.marks.changes import CHANGES, Crop, Jpeg, ThereAndBack, resize
from studbook.marks.dalle_strip import DalleStrip
from studbook.marks.dwt_dct_svd import DwtDctSvd, match_probability, random_payload
from studbook.theory.thresholds import choose_threshold, records_needed


@pytest.fixture(scope="module")
def flowers(shared_data) -> list[np.ndarray]:
    """One photograph each, 64 pixels a side enlarged to 320, so that even a crop by 10 % leaves what the mark needs."""
    with np.load(shared_data / "flowers17-64.npz") as file:
        images = file["images"]
    return [resize(images[i], 320, 320) for i in np.random.default_rng(5).permutation(len(images))[:420]]


def test_p_values_of_unmarked_pictures_are_no_smaller_than_they_say(flowers):
    # A fresh payload for each picture: the test is exact over payloads. Bounds fail by chance in 1 of 10,000 runs each.
    rng = np.random.default_rng(6)
    p_values = np.array([DwtDctSvd((random_payload(rng),)).test(picture).p_value for picture in flowers[:120]])
    for level in (0.5, 0.2, 0.05):
        assert (p_values <= level).sum() <= binom.ppf(0.9999, len(p_values), level), level


def test_several_payloads_cost_what_the_correction_says(flowers):
    # 200 payloads a picture; false alarms at 5 % among 40 pictures. Fails by chance in 1 of 10,000 runs.
    rng = np.random.default_rng(7)
    hits = sum(DwtDctSvd(tuple(random_payload(rng) for _ in range(200))).test(picture).p_value <= 0.05 for picture in flowers[:40])
    assert hits <= binom.ppf(0.9999, 40, 0.05)


def test_random_payloads_match_as_often_as_the_bound_says():
    # 20,000 payloads against one reading; the bound is nearly sharp. Fails by chance in 1 of 10,000 runs.
    rng = np.random.default_rng(8)
    read = rng.integers(0, 1 << 32)
    matches = np.array([32 - (int(random_payload(rng), 16) ^ int(read)).bit_count() for _ in range(20_000)])
    for n in (18, 20, 22):
        assert (matches >= n).sum() <= binom.ppf(0.9999, 20_000, match_probability(n, 32))
        assert (matches >= n).mean() >= 0.6 * match_probability(n, 32)


def test_the_mark_survives_compression_and_scaling_but_no_crop(flowers):
    # Bit accuracy over 20 pictures of 32 bits; chance is .5 with a standard error of .02.
    rng = np.random.default_rng(9)
    accuracy: dict[str, list[float]] = {}
    for picture in flowers[:20]:
        mark = DwtDctSvd((random_payload(rng),))
        marked = mark.embed(picture)
        bits = mark.read(marked)
        for change in (Jpeg(80), Jpeg(50), Jpeg(50, full_chroma=True), ThereAndBack(0.5), Crop(0.1)):
            accuracy.setdefault(change.name, []).append(float((mark.read(change.apply(marked, rng=rng)) == bits).mean()))
    means = {name: np.mean(values) for name, values in accuracy.items()}
    assert (
        means["jpeg 80"] > 0.97 and means["jpeg 50"] > 0.75 and means["jpeg 50, full chroma"] > 0.95 and means["size × 0.5 and back"] > 0.95
    )
    assert 0.35 < means["crop 10 %"] < 0.65


def test_the_strip_is_found_in_flowers_and_nowhere_else(flowers):
    found = calibrate_picture_mark(DalleStrip(), flowers, false_alarm=0.05, confidence=0.95, seed=4, changes=CHANGES)
    rates = {each.name: each.rate for each in (found.hits, *found.attacked)}
    assert rates.pop("crop 10 %") <= 0.05
    assert min(rates.values()) > 0.98
    assert found.false_hits.upper <= 0.05


def test_the_strip_is_not_found_in_digits():
    digits = pytest.importorskip("sklearn.datasets").load_digits().images
    strip = DalleStrip()
    scores = [
        strip.test(resize(np.repeat((255 - 15.9 * digit).astype(np.uint8)[:, :, None], 3, axis=2), 256, 256)).score
        for digit in digits[:400]
    ]
    assert max(scores) < -150


@pytest.mark.parametrize("draw", ["normal", "ties"])
def test_thresholds_keep_their_promise_as_often_as_they_say(draw):
    # 200 calibrations of just enough records, at most 5 % of which may miss the promise. Fails by chance in 1 of 1,000 runs.
    n = records_needed(0.05, 0.95)
    rng = np.random.default_rng(10)
    misses = 0
    for _ in range(200):
        scores = rng.standard_normal(2 * n) if draw == "normal" else rng.integers(0, 12, 2 * n)
        threshold = choose_threshold(scores[:n], n, 0.05, 0.95)
        misses += (scores[n:] >= threshold).sum() > 4
    assert misses <= binom.ppf(0.999, 200, 0.05)
