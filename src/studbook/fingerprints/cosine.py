"""A discrete cosine transform in integers."""

from __future__ import annotations

from functools import lru_cache
from math import cos, pi

import numpy as np

from studbook.arrays import Ints

COSINE_BITS = 15


@lru_cache(maxsize=16)
def cosines(length: int, first: int, n_frequencies: int) -> Ints:
    """Rows of a DCT-II table: cos(π u (2x + 1) / (2 ``length``)), rounded to 2⁻¹⁵ and multiplied by it.

    Each entry is looked up by its angle in a quarter wave, so that the symmetries between them are exact. No entry lies so near to a half
    that two mathematical libraries could round it differently; a test holds the table's checksum.

    Args:
        length: Values to transform.
        first: The lowest frequency u.
        n_frequencies: How many.

    Returns:
        ``(n_frequencies, length)`` int64 in ±2¹⁵.
    """
    whole = 4 * length
    quarter = np.array([round(cos(2 * pi * i / whole) * 2**COSINE_BITS) for i in range(length)] + [0], dtype=np.int64)
    steps = np.arange(first, first + n_frequencies)[:, None] * (2 * np.arange(length) + 1) % whole
    folded = np.minimum(steps, whole - steps)
    values: Ints = np.where(folded <= length, quarter[np.minimum(folded, length)], -quarter[np.minimum(2 * length - folded, length)])
    return values


def transform(grids: Ints, table: Ints) -> Ints:
    """``table @ grid @ table.T`` of each grid, exactly.

    Args:
        grids: ``(n, m, m)`` within ±2²⁰, m up to 64: no sum then leaves 63 bits.
        table: ``(k, m)``; see ``cosines``.

    Returns:
        ``(n, k, k)`` int64.
    """
    from studbook.fingerprints._image_kernels import transform_grids

    coefficients = np.empty((len(grids), len(table), len(table)), np.int64)
    transform_grids(grids.astype(np.int32), table.astype(np.int32), coefficients)
    return coefficients
