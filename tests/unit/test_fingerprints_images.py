"""Image fingerprints against slow, plain references; and what must not change a bit."""

from __future__ import annotations

import colorsys
import hashlib
from fractions import Fraction
from itertools import chain, pairwise
from math import cos, floor, pi

import numpy as np
import pytest
import scipy.fft

from studbook.arrays import images
from studbook.fingerprints import (
    FINGERPRINTS,
    AverageHash,
    ColourHash,
    DifferenceHash,
    FixedWidth,
    PdqHash,
    PerceptualHash,
    WaveletHash,
    to_uint8,
)
from studbook.fingerprints.colour import COLOURS
from studbook.fingerprints.cosine import cosines, transform
from studbook.fingerprints.pdq import jarosz_taps
from studbook.fingerprints.pixels import PART, area_taps, blocks_of, grid_sums, mean_grids

ALL = (AverageHash(), AverageHash(16), DifferenceHash(), PerceptualHash(), PerceptualHash(16), WaveletHash(), ColourHash(), PdqHash())
BY_AREA = (AverageHash(), AverageHash(32), DifferenceHash(), PerceptualHash(), PerceptualHash(16), WaveletHash(16), ColourHash())
SHAPES = ((37, 53, 3), (64, 64), (9, 200), (5, 7, 3), (1, 1), (300, 41, 3))


def picture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def bits(fingerprint, image: np.ndarray) -> np.ndarray:
    return np.unpackbits(fingerprint.pack([image])[0])


def luma(image: np.ndarray) -> np.ndarray:
    wide = image.astype(np.int64)
    return 1000 * wide if image.ndim == 2 else 299 * wide[..., 0] + 587 * wide[..., 1] + 114 * wide[..., 2]


def overlaps(length: int, cells: int) -> list[list[Fraction]]:
    """Share of each pixel in each cell, by the definition of area."""
    step = Fraction(length, cells)
    return [
        [max(min(Fraction(x + 1), step * (i + 1)) - max(Fraction(x), step * i), Fraction(0)) / step for x in range(length)]
        for i in range(cells)
    ]


def means(image: np.ndarray, rows: int, columns: int) -> list[list[Fraction]]:
    values = luma(image).tolist()
    down, across = overlaps(image.shape[0], rows), overlaps(image.shape[1], columns)
    lines = [[sum(w * values[y][x] for x, w in enumerate(share) if w) for share in across] for y in range(image.shape[0])]
    return [[sum(w * lines[y][j] for y, w in enumerate(share) if w) for j in range(columns)] for share in down]


@pytest.mark.parametrize("length", [1, 2, 7, 8, 31, 32, 33, 100, 257])
@pytest.mark.parametrize("cells", [8, 9, 32, 64])
def test_area_weights_are_exact_overlaps(length: int, cells: int) -> None:
    taps = area_taps(length, cells)
    dense = np.zeros((cells, length), dtype=object)
    for i in range(cells):
        for k in range(taps.counts[i]):
            dense[i, taps.starts[i] + k] = Fraction(int(taps.weights[i, k]), taps.total)
    assert dense.tolist() == overlaps(length, cells)


@pytest.mark.parametrize("shape", SHAPES)
def test_spatial_hashes_equal_their_definition_in_fractions(shape: tuple[int, ...]) -> None:
    image = picture(shape)
    cells = list(chain.from_iterable(means(image, 8, 8)))
    assert bits(AverageHash(), image).tolist() == [cell > sum(cells) / 64 for cell in cells]
    middle = sorted(cells)[31:33]
    assert bits(WaveletHash(), image).tolist() == [cell > sum(middle) / 2 for cell in cells]
    steps = means(image, 8, 9)
    assert bits(DifferenceHash(), image).tolist() == [right > left for row in steps for left, right in pairwise(row)]


@pytest.mark.parametrize("shape", SHAPES)
def test_mean_grids_are_rounded_halves_up(shape: tuple[int, ...]) -> None:
    image = picture(shape)
    expected = [[floor(4 * cell + Fraction(1, 2)) for cell in row] for row in means(image, 32, 32)]
    assert mean_grids(blocks_of([image])[0], (32, 32))[0].tolist() == expected


@pytest.mark.parametrize("size", [8, 16])
@pytest.mark.parametrize("shape", [(512, 512, 3), (123, 77), (40, 333, 3)])
def test_phash_agrees_with_a_transform_in_floating_point(size: int, shape: tuple[int, ...]) -> None:
    image = picture(shape)
    sums, weight = grid_sums(blocks_of([image])[0], (4 * size, 4 * size))
    values = scipy.fft.dctn(sums[0] / weight)[:size, :size].ravel()
    margin = values - np.median(values[1:])
    found = bits(PerceptualHash(size), image)
    clear = np.abs(margin) > 1e-3 * np.abs(margin[1:]).mean()
    clear[0] = False
    assert clear.sum() > 0.98 * size**2 - 2
    assert (found[clear] == (margin > 0)[clear]).all()
    assert found[0] == 0


@pytest.mark.parametrize("length, first, count", [(32, 0, 8), (64, 0, 16), (64, 1, 16)])
def test_cosines_are_rounded_away_from_any_doubt_and_keep_their_symmetries(length: int, first: int, count: int) -> None:
    table = cosines(length, first, count)
    exact = np.array([[cos(pi * u * (2 * x + 1) / (2 * length)) * 2**15 for x in range(length)] for u in range(first, first + count)])
    assert np.abs(table - exact).max() < 0.501
    doubt = np.abs(np.abs(exact - np.floor(exact)) - 0.5)
    assert doubt.min() > 1e-6
    assert (table[max(1 - first, 0) :].sum(axis=1) == 0).all()
    assert (table[1 - first % 2 :: 2] == -table[1 - first % 2 :: 2, ::-1]).all()


def test_the_cosine_table_is_pinned() -> None:
    table = np.concatenate([cosines(32, 0, 8).ravel(), cosines(64, 0, 17).ravel()]).astype("<i4")
    assert hashlib.sha256(table.tobytes()).hexdigest() == "3640d77275e0cb006a2cdc7f0f2b1fa04f656b2ed7cad43f1874dfd89c6373e8"


def test_transform_is_exact_at_its_bound() -> None:
    table = cosines(64, 1, 16)
    grid = np.where(np.outer(table[0], table[0]) > 0, 1_020_000, 0)
    expected = table.astype(object) @ grid.astype(object) @ table.T.astype(object)
    assert transform(grid[None], table)[0].tolist() == expected.tolist()


def box(values: np.ndarray, axis: int) -> np.ndarray:
    """One moving average along an axis, element by element."""
    moved = np.moveaxis(values, axis, 0)
    window = -(-len(moved) // 128)
    right = (window + 2) // 2 - 1
    left = window - 1 - right
    return np.moveaxis(np.array([moved[max(i - left, 0) : i + right + 1].mean(axis=0) for i in range(len(moved))]), 0, axis)


@pytest.mark.parametrize("shape", [(512, 512, 3), (300, 700), (129, 1000), (8, 8), (64, 3)])
def test_pdq_agrees_with_the_filter_run_over_the_whole_picture(shape: tuple[int, ...]) -> None:
    image = picture(shape)
    values = luma(image) / 1000
    for axis in (1, 0, 1, 0):
        values = box(values, axis)
    places = [[int((i + 0.5) * length / 64) for i in range(64)] for length in shape[:2]]
    grid = values[np.ix_(*places)]
    table = np.array([[cos(pi * u * (2 * x + 1) / 128) for x in range(64)] for u in range(1, 17)])
    coefficients = (table @ grid @ table.T).ravel()
    margin = coefficients - np.sort(coefficients)[127]
    packed, quality = PdqHash().pack_with_quality([image])
    found = np.unpackbits(packed[0])[::-1]
    clear = np.abs(margin) > 1e-5 * np.abs(margin).max()  # 8 × 8 pixels lack frequencies: their coefficients and the median are 0
    assert (found[clear] == (margin > 0)[clear]).all()
    assert clear.sum() >= (255 if min(shape[:2]) > 8 else 180)
    steps = [np.trunc(np.abs(np.diff(grid, axis=axis)) * 100 / 255).sum() for axis in (0, 1)]
    assert abs(min(sum(steps) // 90, 100) - quality[0]) <= 1


@pytest.mark.parametrize("length", [1, 5, 64, 127, 128, 129, 256, 500, 1024, 5000])
def test_pdq_weights_add_up_and_stay_inside(length: int) -> None:
    taps = jarosz_taps(length)
    assert (taps.weights.sum(axis=1) == taps.total).all()
    assert (taps.starts >= 0).all()
    assert (taps.starts + taps.counts <= length).all()


def test_quality_tells_a_uniform_picture_from_a_busy_one() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    assert PdqHash().quality([np.full((90, 90), 7, np.uint8), ramp, picture((64, 64))]).tolist() == [0, 64 * 63 // 90, 100]


def name_of(red: int, green: int, blue: int) -> str:
    """The colour of a pixel, told in floating point from its hue, saturation and value."""
    value, least = max(red, green, blue), min(red, green, blue)
    hue, saturation, _ = colorsys.rgb_to_hsv(red, green, blue)
    if value < 32:
        return "black"
    if saturation < 0.25:
        return "dark grey" if value < 96 else "light grey" if value < 192 else "white"
    nearest = floor(hue * 6 + 0.5) % 6
    deep = 3 * (value - least) >= 2 * value
    return f"{'deep' if deep else 'pale'} {('red', 'yellow', 'green', 'cyan', 'blue', 'magenta')[nearest]}"


def test_colours_are_those_of_hue_saturation_and_value() -> None:
    checked = 0
    for colour in np.random.default_rng(1).integers(0, 256, (3000, 3)).tolist():
        hue = colorsys.rgb_to_hsv(*colour)[0] * 6
        if abs(hue - floor(hue) - 0.5) < 1e-9:
            continue  # halfway between two hues: the integer rule decides
        pixel = np.array(colour, np.uint8).reshape(1, 1, 3)
        reached = bits(ColourHash(), pixel).reshape(16, 8)
        assert [COLOURS[i] for i in range(16) if reached[i].all()] == [name_of(*colour)]
        checked += 1
    assert checked > 2500


def test_colour_shares_are_thermometers() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image.reshape(-1, 3)[:40, 2] = 255
    reached = bits(ColourHash(), image).reshape(16, 8)
    assert reached[COLOURS.index("deep blue")].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert reached[COLOURS.index("black")].all()
    assert reached.sum() == 13


@pytest.mark.parametrize("fingerprint", ALL, ids=str)
def test_bits_do_not_depend_on_threads_batching_or_memory_layout(fingerprint) -> None:
    batch = picture((7, 70, 90, 3))
    expected = fingerprint.pack(batch)
    wide = picture((7, 140, 90, 6))
    wide[:, ::2, :, ::2] = batch
    for threads in (1, 2, 3, 16):
        assert (fingerprint.pack(batch, threads=threads) == expected).all()
        assert (fingerprint.pack(list(batch), threads=threads) == expected).all()
    assert (fingerprint.pack(np.asfortranarray(batch)) == expected).all()
    assert (fingerprint.pack(wide[:, ::2, :, ::2]) == expected).all()
    assert [fingerprint.digest(image).bits for image in batch] == [row.tobytes() for row in expected]


@pytest.mark.parametrize("fingerprint", ALL, ids=str)
def test_grey_is_the_same_in_one_channel_and_in_three(fingerprint) -> None:
    grey = picture((3, 41, 67))
    assert (fingerprint.pack(grey) == fingerprint.pack(np.stack([grey] * 3, axis=-1))).all()
    assert (fingerprint.pack(grey) == fingerprint.pack(grey[..., None])).all()


@pytest.mark.parametrize("fingerprint", ALL, ids=str)
def test_images_of_any_size_in_one_list(fingerprint) -> None:
    several = [picture(shape, seed) for seed, shape in enumerate(SHAPES)]
    found = fingerprint.digests(several, threads=2)
    assert [digest.bits for digest in found] == [fingerprint.digest(image).bits for image in several]
    assert fingerprint.digests([]) == fingerprint.digests(np.zeros((0, 8, 8), np.uint8)) == []


def test_batches_larger_than_a_part() -> None:
    batch = picture((2 * PART + 3, 9, 9))
    found = PdqHash().pack(batch, threads=2)
    assert (found == PdqHash().pack(list(batch))).all()
    assert [found[i].tobytes() for i in (0, PART, 2 * PART + 2)] == [PdqHash().digest(batch[i]).bits for i in (0, PART, 2 * PART + 2)]


@pytest.mark.parametrize("fingerprint", [each for each in ALL if not isinstance(each, ColourHash)], ids=str)
@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_a_uniform_picture_has_no_one(fingerprint, value: int) -> None:
    for shape in ((512, 512, 3), (33, 100), (1, 1), (1, 999)):
        assert not bits(fingerprint, np.full(shape, value, np.uint8)).any()


@pytest.mark.parametrize("fingerprint", BY_AREA, ids=str)
@pytest.mark.parametrize("shape", [(8, 8), (13, 29, 3), (100, 64, 3)])
def test_repeating_every_pixel_changes_nothing(fingerprint, shape: tuple[int, ...]) -> None:
    image = picture(shape)
    assert (bits(fingerprint, image) == bits(fingerprint, image.repeat(3, axis=0).repeat(5, axis=1))).all()


@pytest.mark.parametrize("fingerprint", [each for each in ALL if not isinstance(each, ColourHash)], ids=str)
def test_brightness_without_clipping_changes_nothing(fingerprint) -> None:
    image = picture((90, 120, 3)) // 2
    assert (bits(fingerprint, image) == bits(fingerprint, image + 100)).all()


def test_a_symmetric_picture_has_no_odd_frequencies() -> None:
    half = picture((96, 48))
    found = bits(PerceptualHash(), np.concatenate([half, half[:, ::-1]], axis=1)).reshape(8, 8)
    # Half of the coefficients are exactly 0 and so all on one side of the median.
    assert len(set(found[:, 1::2].ravel().tolist())) == 1


def test_pdq_mirrors_by_flipping_every_other_sign() -> None:
    # Mirroring negates the odd frequencies (the even columns here, which begin at frequency 1): the even ones keep their bits.
    image = picture((64, 64))  # one pixel a point, and no filter
    one, mirrored = (bits(PdqHash(), each)[::-1].reshape(16, 16) for each in (image, image[:, ::-1]))
    assert (one[:, 1::2] != mirrored[:, 1::2]).mean() < 0.05
    assert (one[:, ::2] != mirrored[:, ::2]).mean() > 0.95


@pytest.mark.parametrize("name", ["ahash", "dhash", "phash", "whash", "colorhash", "pdq"])
def test_names_in_the_catalog_are_the_schemes(name: str) -> None:
    fingerprint = FINGERPRINTS[name]()
    found = fingerprint.digest(picture((20, 20)))
    assert (found.scheme, found.version, found.parameters) == (name, 1, tuple(sorted(fingerprint.parameters)))
    assert isinstance(fingerprint, FixedWidth)


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_floating_point_images_become_bytes(channels: tuple[int, ...]) -> None:
    values = np.linspace(-1.5, 1.5, 2 * 4 * 5 * (channels or (1,))[0]).reshape(2, 4, 5, *channels)
    found = to_uint8(images(values, (-1.0, 1.0)))
    assert found.shape == (2, 4, 5, 3) if channels == (3,) else (2, 4, 5)
    expected = [floor((Fraction(min(max(value, -1.0), 1.0)) + 1) / 2 * 255 + Fraction(1, 2)) for value in values.ravel()]
    assert np.abs(found.ravel().astype(int) - expected).max() == 0
    assert to_uint8(images(np.arange(256.0).reshape(1, 16, 16), (0.0, 255.0))).ravel().tolist() == list(range(256))
