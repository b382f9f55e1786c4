"""Pictures as pixels, and their reduction to a small grid of luma sums, in exact integers.

The reduction is this package's own, so that no bit of a digest depends on the version of an imaging library: luma is the integer
299 R + 587 G + 114 B (ITU-R BT.601, in thousandths), and a cell is a weighted sum of it over whole pixels with integer weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import gcd
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import AnyArray, Batch, Ints, Kind
from studbook.errors import ConfigError, DataError

Bytes: TypeAlias = NDArray[np.uint8]
Images: TypeAlias = Bytes | Sequence[Bytes]

MAX_SIDE = 1 << 16
"""Most pixels along one side."""
MAX_PIXELS = 1 << 26
"""Most pixels of one image: 8,192 × 8,192."""
LUMA_STEPS = 4
"""Steps per thousandth of a grey level, in a grid of ``mean_grids``."""
MAX_THREADS = 256
PART = 256
"""Most images whose grids are in memory at a time, in each thread."""
SMALL = 1 << 14
"""Bytes of an image that is copied for the sake of fewer calls."""


@dataclass(frozen=True, slots=True)
class Taps:
    """Which pixels along one axis make up each cell, and how much each counts.

    Attributes:
        starts: ``(cells,)`` first pixel of each cell.
        counts: ``(cells,)`` number of its pixels.
        weights: ``(cells, most)`` positive weights, zero beyond a cell's own.
        total: Sum of the weights of any cell.
    """

    starts: Ints
    counts: Ints
    weights: Ints
    total: int


Layout: TypeAlias = tuple[int, int] | Callable[[int], Taps]


@lru_cache(maxsize=256)
def area_taps(length: int, cells: int) -> Taps:
    """Equal cells along ``length`` pixels: a pixel's weight is its exact overlap with the cell.

    Where there are fewer pixels than cells a cell repeats the pixel it lies in, or mixes two by their overlap.

    Examples:
        >>> from studbook.fingerprints.pixels import area_taps
        >>> taps = area_taps(3, 2)  # the pixel in the middle belongs to both halves
        >>> taps.starts.tolist(), taps.weights.tolist(), taps.total
        ([0, 1], [[2, 1], [1, 2]], 3)
    """
    edges = np.arange(cells + 1, dtype=np.int64) * length
    starts = edges[:-1] // cells
    counts = -(-edges[1:] // cells) - starts
    places = starts[:, None] + np.arange(counts.max())
    overlap = np.minimum((places + 1) * cells, edges[1:, None]) - np.maximum(places * cells, edges[:-1, None])
    shared = gcd(length, cells)
    return Taps(starts, counts, np.maximum(overlap, 0) // shared, length // shared)


def grid_sums(block: Bytes, layout: Layout) -> tuple[Ints, int]:
    """Weighted luma sums over a grid of each image.

    Args:
        block: ``(n, h, w, channels)``; see ``blocks_of``.
        layout: Rows and columns of a grid of equal cells, or a function from a length to the taps along it, for both axes.

    Returns:
        Sums ``(n, rows, columns)``, and the weight of a cell; a sum is at most 255,000 times the weight.
    """
    from studbook.fingerprints._image_kernels import reduce_images

    n, height, width, channels = block.shape
    down, across = (
        (area_taps(height, layout[0]), area_taps(width, layout[1])) if isinstance(layout, tuple) else (layout(height), layout(width))
    )
    sums = np.empty((n, len(down.starts), len(across.starts)), np.int64)
    # The channels' sums down the rows are the hot loop; where 16 bits hold them it runs twice as fast.
    narrow = np.uint16 if 255 * down.total <= 0xFFFF else np.uint32
    spread = (down.starts, down.counts, down.weights.astype(narrow), across.starts, across.counts, across.weights)
    reduce_images(block.reshape(n, height, width * channels), channels, *spread, sums)
    return sums, down.total * across.total


def mean_grids(block: Bytes, layout: Layout) -> Ints:
    """Mean luma over a grid of each image ``(n, rows, columns)``, in 1/4000 of a grey level, halves up: 0 … 1,020,000."""
    sums, weight = grid_sums(block, layout)
    return np.asarray((sums * LUMA_STEPS + weight // 2) // weight)


def pack_images(images: Images, work: Callable[[Bytes], Bytes], n_bytes: int, threads: int) -> Bytes:
    """``work`` on all images, part by part: it makes ``(n, n_bytes)`` of a block ``(n, h, w, channels)``.

    Raises:
        ConfigError: ``threads`` isn't 1 … 256.
        DataError: Not images.
    """
    if type(threads) is not int or not 1 <= threads <= MAX_THREADS:
        raise ConfigError(f"threads is {threads!r}, expected an integer, 1 to {MAX_THREADS}")
    blocks = blocks_of(images)
    n = sum(map(len, blocks))
    size = min(max(-(-n // threads), 1), PART)
    parts = [block[begin : begin + size] for block in blocks for begin in range(0, len(block), size)]
    if threads == 1 or len(parts) < 2:
        rows = [work(part) for part in parts]
    else:
        with ThreadPoolExecutor(min(threads, len(parts))) as pool:
            rows = list(pool.map(work, parts))
    return np.concatenate(rows) if rows else np.empty((0, n_bytes), np.uint8)


def blocks_of(images: Images) -> list[Bytes]:
    """The images, in order, as blocks ``(n, h, w, channels)`` in C order.

    Args:
        images: uint8 ``(n, h, w)`` in grey or ``(n, h, w, 3)`` in RGB; or a sequence of images ``(h, w)`` or ``(h, w, 3)`` that may differ
            in size. A channel axis of 1 is taken for grey.

    Raises:
        DataError: Another type or shape, an image without pixels, or one larger than ``MAX_SIDE`` or ``MAX_PIXELS``.
    """
    if isinstance(images, np.ndarray):
        if images.ndim not in (3, 4):
            raise DataError(f"images have the shape {images.shape}, expected (n, h, w) or (n, h, w, 3)", hint="digest takes a single image")
        return [_block(images, "an image of the batch")]
    if not isinstance(images, Sequence):
        raise DataError(f"images are {type(images).__name__}, expected a uint8 array or a sequence of them")
    for i, image in enumerate(images):
        if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
            got = f"an array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise DataError(f"image {i} is {got}, expected a uint8 array (h, w) or (h, w, 3)")
    singles = [_block(image[None], f"image {i}") for i, image in enumerate(images)]
    # Small images of one size are put together, because a call takes longer than to hash one.
    runs = ([*run] for _, run in groupby(singles, key=lambda block: block.shape))
    return [block for run in runs for block in ([np.concatenate(run)] if run[0].size <= SMALL else run)]


def _block(images: AnyArray, name: str) -> Bytes:
    if images.dtype != np.uint8:
        hint = "to_uint8 turns a batch of floating-point images into bytes"
        raise DataError(f"{name} has numbers of type {images.dtype}, expected uint8", hint=hint)
    if images.ndim == 4 and images.shape[3] not in (1, 3):
        raise DataError(f"{name} has {images.shape[3]} channels, expected 1 or 3", hint="grey, or red, green and blue on the last axis")
    height, width = images.shape[1:3]
    if height == 0 or width == 0:
        raise DataError(f"{name} has no pixels: {height} × {width}")
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        most = f"at most {MAX_PIXELS:,} and {MAX_SIDE:,} a side are read"
        raise DataError(f"{name} has {height:,} × {width:,} pixels, {most}", hint="make it smaller first")
    channels = images.shape[3] if images.ndim == 4 else 1
    return np.ascontiguousarray(images).reshape(len(images), height, width, channels)


def to_uint8(batch: Batch) -> Bytes:
    """The pictures of a batch as bytes: ``value_range`` becomes 0 … 255, rounded to the nearest, halves up, and cut off at both ends.

    The arithmetic is one subtraction, one division and one multiplication in float64 for each pixel, so the bytes are the same everywhere.

    Args:
        batch: Of ``Kind.IMAGES``: ``(n, h, w)`` or ``(n, h, w, c)`` with 1 or 3 channels.

    Returns:
        ``(n, h, w)`` or ``(n, h, w, 3)`` uint8.

    Raises:
        DataError: Not pictures, 2 or more than 3 channels, an empty range, or a pixel that isn't a number.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import images
        >>> from studbook.fingerprints import to_uint8
        >>> to_uint8(images(np.array([[[-1.0, 0.0, 1.0, 7.0]]]), (-1.0, 1.0))).tolist()
        [[[0, 128, 255, 255]]]
    """
    if batch.space.kind is not Kind.IMAGES:
        raise DataError(f"a batch of {batch.space.kind.value} has no pixels, expected images")
    low, high = map(float, batch.space.value_range)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise DataError(f"value_range is {low} to {high}, expected a smaller and a larger number")
    values = np.asarray(batch.values, dtype=np.float64)
    if values.ndim not in (3, 4) or (values.ndim == 4 and values.shape[-1] not in (1, 3)):
        raise DataError(f"images have the shape {values.shape}, expected (n, h, w) or (n, h, w, c) with 1 or 3 channels")
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values.reshape(len(values), -1)).all(axis=1)))
        raise DataError(f"image {row} has a pixel that isn't a finite number", hint="look at what made it")
    scaled = (np.clip(values, low, high) - low) / (high - low) * 255.0
    found = np.floor(scaled + 0.5).astype(np.uint8)
    return found[..., 0] if found.ndim == 4 and found.shape[-1] == 1 else found


def check_size(scheme: str, size: int, allowed: tuple[int, ...]) -> None:
    """Refuse a size that isn't among ``allowed``.

    Raises:
        ConfigError: It isn't.
    """
    if size not in allowed:
        listed = ", ".join(map(str, allowed[:-1]))
        raise ConfigError(f"{scheme}.size is {size}, expected {listed} or {allowed[-1]}", hint="bits are the square of the size")
