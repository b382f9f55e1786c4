"""Marks of pictures: what is put in is read, what isn't there isn't found, and what can't be asked is refused."""

from __future__ import annotations

import builtins
import math

import numpy as np
import pytest

from studbook.errors import CalibrationError, ConfigError, DataError, MissingExtraError
from studbook.marks.calibrate_images import calibrate_picture_mark, calibrated_p_value, content_of
from studbook.marks.changes import CHANGES, Crop, Jpeg, Noise, ThereAndBack, resize
from studbook.marks.dalle_strip import COLOURS, DalleStrip
from studbook.marks.dwt_dct_svd import DwtDctSvd, match_probability, random_payload
from studbook.records import DetectorCalibration, from_bytes, to_bytes

RNG = np.random.default_rng(11)
PAYLOADS = tuple(random_payload(RNG) for _ in range(3))
SCENE = RNG.integers(40, 216, (264, 300, 3), dtype=np.uint8)
MARK = DwtDctSvd(PAYLOADS)


def photographs() -> list[np.ndarray]:
    datasets = pytest.importorskip("sklearn.datasets")
    return [np.ascontiguousarray(image) for image in datasets.load_sample_images().images]


def test_what_is_embedded_is_read_in_photographs():
    for photograph in photographs():
        marked = MARK.embed(photograph)
        assert marked.shape == photograph.shape and marked.dtype == np.uint8
        assert np.abs(marked.astype(int) - photograph).mean() < 4
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(PAYLOADS[0]), np.uint8)).astype(bool)
        assert np.array_equal(MARK.read(marked), bits)
        found = MARK.test(marked)
        assert found.found == PAYLOADS[0]
        assert found.p_value == pytest.approx(3 * match_probability(32, 32))
        assert MARK.test(photograph).p_value > 1e-3


def test_the_payload_that_is_there_is_named():
    marked = DwtDctSvd((PAYLOADS[2],)).embed(SCENE)
    assert MARK.test(marked).found == PAYLOADS[2]
    assert DwtDctSvd(PAYLOADS[:2]).test(marked).p_value > 1e-3


@pytest.mark.parametrize("n_bits", [32, 64, 128])
def test_payloads_of_other_lengths(n_bits):
    mark = DwtDctSvd((random_payload(np.random.default_rng(n_bits), n_bits),))
    assert mark.n_bits == n_bits
    assert mark.test(mark.embed(SCENE)).score > 5


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_picture_of_one_colour_carries_no_payload(level):
    assert MARK.test(np.full((256, 256, 3), level, np.uint8)).p_value > 0.05


def test_the_p_value_bounds_the_share_of_payloads():
    # Whatever was read: the share of all payloads that match it in so many places or more. Exact, over all payloads of 16 bits.
    numbers = np.arange(1 << 16)
    ones = np.array([number.bit_count() for number in range(1 << 16)])
    allowed = numbers[(ones >= 6) & (ones <= 10)]
    for read in (0, 0x00FF, 0xABCD):
        matches = 16 - ones[allowed ^ read]
        for n in range(17):
            assert (matches >= n).mean() <= match_probability(n, 16) + 1e-12


@pytest.mark.parametrize(
    ("payloads", "message"),
    [
        ((), "0 payloads"),
        (("12345678", "123456789abcdef0"), "one length"),
        (("xyzw1234",), "hex"),
        (("ABCDEF12",), "lower-case"),
        (("00000000",), "0 ones"),
        (("ffffffff",), "32 ones"),
        (("1234abcd", "1234abcd"), "twice"),
        (("1234abc",), "hex"),
    ],
)
def test_payloads_that_cannot_be_meant(payloads, message):
    with pytest.raises(ConfigError, match=message):
        DwtDctSvd(payloads)


@pytest.mark.parametrize("shape", [(255, 256), (64, 64), (65_536, 1), (1, 65_536), (7, 10_000)])
def test_small_or_thin_pictures_are_refused_and_score_nothing(shape):
    picture = np.zeros((*shape, 3), np.uint8)
    with pytest.raises(DataError, match="pixels"):
        MARK.embed(picture)
    with pytest.raises(DataError, match="pixels"):
        MARK.read(picture)
    found = MARK.test(picture)
    assert math.isnan(found.score) and found.p_value is None and "pixels" in found.reason


@pytest.mark.parametrize(
    "picture", [np.zeros((300, 300)), np.zeros((300, 300, 3)), np.zeros((300, 300, 4), np.uint8), None, np.zeros((0, 9, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(picture):
    for mark in (MARK, DalleStrip()):
        with pytest.raises(DataError, match="picture"):
            mark.test(picture)
        with pytest.raises(DataError, match="picture"):
            mark.embed(picture)


def test_a_missing_package_is_named(monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "imwatermark":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'studbook\[marks\]'"):
        MARK.embed(SCENE)


@pytest.mark.parametrize(("height", "width"), [(1024, 1024), (512, 512), (256, 256), (300, 700), (1792, 1024)])
def test_the_strip_is_found_at_its_size(height, width):
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    strip = DalleStrip()
    stamped = strip.embed(picture)
    side = max(4, round(max(height, width) / 64))
    assert strip.test(stamped).score == 0.0 and float(strip.test(stamped).found) == pytest.approx(side, rel=0.15)
    assert np.array_equal(stamped[-1, -1], COLOURS[4]) and np.array_equal(stamped[-1, -5 * side], COLOURS[0])
    assert np.array_equal(stamped[:-side], picture[:-side])
    assert strip.test(picture).score < -100


def test_the_strip_is_found_after_a_change_of_scale():
    strip = DalleStrip()
    stamped = strip.embed(np.full((1024, 1024, 3), 90, np.uint8))
    for size in (1400, 800, 640, 500, 400, 300):
        assert strip.test(resize(stamped, size, size)).score > -60, size
    assert math.isnan(strip.test(np.zeros((3, 400, 3), np.uint8)).score)
    assert math.isnan(strip.test(np.zeros((400, 19, 3), np.uint8)).score)


def test_the_order_of_the_colours_counts():
    strip = DalleStrip()
    stamped = strip.embed(np.full((512, 512, 3), 90, np.uint8))
    assert strip.test(np.ascontiguousarray(stamped[:, ::-1])).score < -100
    swapped = stamped.copy()
    swapped[-8:, -40:-32], swapped[-8:, -8:] = stamped[-8:, -8:], stamped[-8:, -40:-32]
    assert strip.test(swapped).score < -100


def test_a_side_can_be_given_and_must_fit():
    assert DalleStrip(16).test(DalleStrip(16).embed(SCENE)).score == 0.0
    with pytest.raises(ConfigError, match="side"):
        DalleStrip(2)
    with pytest.raises(DataError, match="too few"):
        DalleStrip(100).embed(SCENE)


def test_changes_do_what_they_say():
    rng = np.random.default_rng(0)
    names = ["jpeg 90", "jpeg 80", "jpeg 50", "jpeg 50, full chroma", "size × 0.5 and back", "crop 10 %", "noise 5"]
    assert [change.name for change in CHANGES] == names
    assert Crop(0.1).apply(SCENE, rng=rng).shape == (238, 270, 3)
    assert ThereAndBack(0.5).apply(SCENE, rng=rng).shape == SCENE.shape
    assert Jpeg(50).apply(SCENE, rng=rng).shape == SCENE.shape
    grey = np.full((100, 100, 3), 128, np.uint8)
    assert Noise(5.0).apply(grey, rng=rng).std() == pytest.approx(5.0, abs=0.1)
    for wrong in (lambda: Crop(1.0), lambda: Noise(-1), lambda: ThereAndBack(0.0), lambda: Jpeg(0).apply(SCENE, rng=rng)):
        with pytest.raises(ConfigError):
            wrong()


def test_a_calibration_needs_pictures_that_differ():
    pictures = np.random.default_rng(2).integers(0, 256, (100, 40, 40, 3), dtype=np.uint8)
    with pytest.raises(CalibrationError, match=r"304 more are needed \(404 in all\)"):
        calibrate_picture_mark(DalleStrip(), list(pictures), false_alarm=0.05, confidence=0.95, seed=0)
    with pytest.raises(CalibrationError, match="more than once"):
        calibrate_picture_mark(DalleStrip(), [*pictures[:99], pictures[0]], false_alarm=0.2, confidence=0.95, seed=0)


def test_a_calibration_is_repeatable_and_stored():
    pictures = list(np.random.default_rng(2).integers(0, 256, (100, 40, 40, 3), dtype=np.uint8))
    first, second = (
        calibrate_picture_mark(DalleStrip(), pictures, false_alarm=0.2, confidence=0.95, seed=4, changes=(Noise(9.0), Crop(0.5)))
        for _ in range(2)
    )
    assert first == second
    assert from_bytes(DetectorCalibration, to_bytes(first), "calibration") == first
    assert [each.name for each in first.attacked] == ["noise 9", "crop 50 %"]
    assert first.hits.rate == first.attacked[0].rate == 1.0 and first.attacked[1].rate < 0.3
    assert first.false_hits.upper <= 0.2
    assert calibrated_p_value(first, 0.0) == (first.false_hits.events + 1) / 51
    assert calibrated_p_value(first, math.nan) == calibrated_p_value(first, -400.0) == 1.0


def test_contents_differ_by_shape_too():
    assert content_of(np.zeros((2, 8, 3), np.uint8)) != content_of(np.zeros((4, 4, 3), np.uint8))
