"""Numba kernels over uint8 pixels, in integers throughout: what they give doesn't depend on the order of additions or the machine."""

from __future__ import annotations

import numba
import numpy as np

from studbook.arrays import AnyArray, Ints


@numba.njit(cache=True, nogil=True)
def reduce_images(
    pixels: AnyArray,
    channels: int,
    y_starts: Ints,
    y_counts: Ints,
    y_weights: AnyArray,
    x_starts: Ints,
    x_counts: Ints,
    x_weights: Ints,
    sums: Ints,
) -> None:
    """Weighted sums of luma, 299 R + 587 G + 114 B or 1000 times the grey value, over a grid of cells.

    Cell (i, j) is the sum over ``y_counts[i]`` rows from ``y_starts[i]`` and ``x_counts[j]`` columns from ``x_starts[j]``. The channels
    are first summed down the rows as they lie, in the type of ``y_weights`` (uint16 or uint32), which must hold the largest sum.

    Args:
        pixels: ``(n, h, w * channels)`` uint8, in C order.
        channels: 1 or 3.
        y_starts: ``(rows,)``; ``y_counts`` too.
        y_counts: ``(rows,)``.
        y_weights: ``(rows, most)``.
        x_starts: ``(columns,)``; ``x_counts`` too.
        x_counts: ``(columns,)``.
        x_weights: ``(columns, most)`` int64.
        sums: ``(n, rows, columns)`` int64, written.
    """
    width = pixels.shape[2]
    column = np.empty(width, y_weights.dtype)
    luma = np.empty(width // channels, np.int64)
    for image in range(pixels.shape[0]):
        for i in range(y_starts.size):
            column[:] = 0
            for k in range(y_counts[i]):
                _add_row(column, pixels[image, y_starts[i] + k], y_weights[i, k])
            _to_luma(column, channels, luma)
            for j in range(x_starts.size):
                total = np.int64(0)
                for k in range(x_counts[j]):
                    total += x_weights[j, k] * luma[x_starts[j] + k]
                sums[image, i, j] = total


@numba.njit(cache=True, nogil=True)
def _add_row(column: AnyArray, row: AnyArray, weight: int) -> None:
    if weight == 1:
        for x in range(row.size):
            column[x] += row[x]
    else:
        for x in range(row.size):
            column[x] += weight * row[x]


@numba.njit(cache=True, nogil=True)
def _to_luma(column: AnyArray, channels: int, luma: Ints) -> None:
    if channels == 1:
        for x in range(luma.size):
            luma[x] = 1000 * np.int64(column[x])
    else:
        for x in range(luma.size):
            red, green, blue = np.int64(column[3 * x]), np.int64(column[3 * x + 1]), np.int64(column[3 * x + 2])
            luma[x] = 299 * red + 587 * green + 114 * blue


@numba.njit(cache=True, nogil=True)
def transform_grids(grids: AnyArray, table: AnyArray, coefficients: Ints) -> None:
    """``table @ grid @ table.T`` for every grid, exactly.

    Args:
        grids: ``(n, m, m)`` int32.
        table: ``(k, m)`` int32.
        coefficients: ``(n, k, k)`` int64, written.
    """
    n_rows, size = table.shape
    half = np.empty((n_rows, size), np.int64)
    for image in range(grids.shape[0]):
        half[:] = 0
        for u in range(n_rows):
            for y in range(size):
                for x in range(size):
                    # Both are 32 bits wide: four products at a time.
                    half[u, x] += np.int64(table[u, y]) * np.int64(grids[image, y, x])
        for u in range(n_rows):
            for v in range(n_rows):
                total = np.int64(0)
                for x in range(size):
                    total += half[u, x] * table[v, x]
                coefficients[image, u, v] = total


@numba.njit(cache=True, nogil=True)
def count_colours(pixels: AnyArray, counts: Ints) -> None:
    """Pixels of each of 16 colours; the colours are those of ``studbook.fingerprints.colour``.

    Args:
        pixels: ``(n, h * w, 1 or 3)`` uint8.
        counts: ``(n, 16)`` int64 zeros, added to.
    """
    channels = pixels.shape[2]
    for image in range(pixels.shape[0]):
        for i in range(pixels.shape[1]):
            red, green, blue = (
                np.int64(pixels[image, i, 0]),
                np.int64(pixels[image, i, 1 % channels]),
                np.int64(pixels[image, i, 2 % channels]),
            )
            value, least = max(red, green, blue), min(red, green, blue)
            chroma = value - least
            place = np.int64(0)
            if value >= 32 and 4 * chroma < value:
                place = 1 + (value >= 96) + (value >= 192)
            elif value >= 32:
                middle = red + green + blue - value - least
                if 2 * (middle - least) < chroma:
                    hue = 0 if red == value else 2 if green == value else 4
                else:
                    hue = 1 if blue == least else 3 if red == least else 5
                place = 4 + hue + 6 * (3 * chroma >= 2 * value)
            counts[image, place] += 1
