"""PDQ, the 256-bit hash of photographs that moderators exchange."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from studbook.arrays import Ints
from studbook.fingerprints.cosine import cosines, transform
from studbook.fingerprints.pixels import LUMA_STEPS, Bytes, Images, Taps, mean_grids, pack_images
from studbook.fingerprints.protocols import Packed, Parameters, seal
from studbook.records import Digest

SIDE, KEPT = 64, 16
_N_BYTES = KEPT**2 // 8
_WEIGHT_BITS = 20


@dataclass(frozen=True, slots=True)
class PdqHash:
    """``pdq``: the published PDQ hash, 256 bits (Facebook, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm",
    2019).

    1. Luma is filtered twice along each axis by a moving average whose window is 1/128 of the side, rounded up, and cut off at the borders.
    2. The filtered picture is read at 64 × 64 points.
    3. A two-dimensional DCT gives the frequencies 1 … 16 of both axes; the mean brightness isn't among them.
    4. A bit is 1 where a coefficient is larger than the lower median. They are written last to first, as published: ``bits.hex()`` is the
       hexadecimal text that other implementations print.

    Only the filter's weights at the 64 × 64 points are ever applied, in integers (weights to 2⁻²⁰, luma to 1/4000 grey level, cosines to
    2⁻¹⁵), so the bits are the same on every machine. Implementations in float32 differ in the few bits that lie at the median.

    PDQ's own command first shrinks photographs larger than 512 × 512; this class hashes what it is given. Its authors advise against
    matching where ``quality`` is below 50. Pictures with a side under 5 pixels, for which theirs returns nothing, are hashed here like any.
    A picture that is uniform along an axis has none of these frequencies, and no 1.

    Examples:
        >>> import numpy as np
        >>> from studbook.fingerprints import PdqHash
        >>> pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        >>> PdqHash().digest(pixels).n_bits, PdqHash().quality([pixels]).tolist()
        (256, [100])
    """

    scheme: ClassVar[str] = "pdq"
    version: ClassVar[int] = 1

    @property
    def parameters(self) -> Parameters:
        """See ``studbook.fingerprints.Fingerprint``; PDQ has none."""
        return ()

    def pack_with_quality(self, outputs: Images, *, threads: int = 1) -> tuple[Packed, Ints]:
        """The digests' bits and how much there was to see, from one reduction.

        Args:
            outputs: uint8 ``(n, h, w)`` or ``(n, h, w, 3)``, or a sequence of images ``(h, w)`` or ``(h, w, 3)``.
            threads: Threads to share the images among, 1 … 256; the bits don't depend on it.

        Returns:
            Bits ``(n, 32)`` uint8, and ``(n,)`` quality, 0 (uniform) … 100.

        Raises:
            ConfigError: An impossible number of threads.
            DataError: Not images, or too large.
        """
        both = pack_images(outputs, _pack_block, _N_BYTES + 1, threads)
        return np.ascontiguousarray(both[:, :_N_BYTES]), both[:, _N_BYTES].astype(np.int64)

    def pack(self, outputs: Images, *, threads: int = 1) -> Packed:
        """The digests' bits ``(n, 32)`` uint8; see ``pack_with_quality``."""
        return self.pack_with_quality(outputs, threads=threads)[0]

    def quality(self, outputs: Images, *, threads: int = 1) -> Ints:
        """How much there is to see in each image ``(n,)``, 0 (uniform) … 100: the steps between neighbouring points, summed and cut off."""
        return self.pack_with_quality(outputs, threads=threads)[1]

    def digests(self, outputs: Images, *, threads: int = 1) -> list[Digest]:
        """The digests of many images; see ``pack_with_quality``."""
        return seal(self, self.pack(outputs, threads=threads))

    def digest(self, output: Bytes) -> Digest:
        """The digest of one image ``(h, w)`` or ``(h, w, 3)``; see ``pack_with_quality``."""
        return self.digests([output])[0]


def _pack_block(block: Bytes) -> Packed:
    """The bits, and in one more byte the quality."""
    grids = mean_grids(block, jarosz_taps)
    values = transform(grids, cosines(SIDE, 1, KEPT)).reshape(-1, KEPT**2)
    bits = values > np.sort(values, axis=1)[:, KEPT**2 // 2 - 1, None]
    return np.column_stack([np.packbits(bits[:, ::-1], axis=1), _quality(grids).astype(np.uint8)])


def _quality(grids: Ints) -> Ints:
    """Steps between neighbours in percent of the range, each cut off to an integer; their sum over 90, at most 100."""
    full = 255 * 1000 * LUMA_STEPS
    steps = (np.abs(np.diff(grids, axis=axis)) * 100 // full for axis in (1, 2))
    return np.asarray(np.minimum(sum(step.sum(axis=(1, 2)) for step in steps) // 90, 100))


@lru_cache(maxsize=256)
def jarosz_taps(length: int) -> Taps:
    """Weights of two passes of the moving average, at the 64 points, in 2⁻²⁰.

    The window is ``length`` / 128 rounded up, one longer to the right where it is even, and averages what of it lies inside. Weights are
    rounded by their running sum, so that they add up to exactly 1.

    Examples:
        >>> from studbook.fingerprints.pdq import jarosz_taps
        >>> (jarosz_taps(512).weights[5] / 2**16).tolist()
        [1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0]
    """
    window = -(-length // 128)
    right = (window + 2) // 2 - 1
    left = window - 1 - right
    places = np.arange(length)
    begins, ends = np.maximum(places - left, 0), np.minimum(places + right, length - 1) + 1
    inside = ends - begins
    starts, rows = [], []
    for point in (2 * np.arange(SIDE) + 1) * length // (2 * SIDE):
        first = begins[begins[point]]
        weights = np.zeros(ends[ends[point] - 1] - first, np.int64)
        for place in range(begins[point], ends[point]):
            weights[begins[place] - first : ends[place] - first] += (1 << 40) // int(inside[point] * inside[place])
        running = np.concatenate([[0], np.cumsum(weights)])
        rows.append(np.diff(((running << _WEIGHT_BITS) + running[-1] // 2) // running[-1]))
        starts.append(first)
    counts = np.array([len(row) for row in rows])
    table = np.zeros((SIDE, counts.max()), np.int64)
    for row, weights in zip(table, rows, strict=True):
        row[: len(weights)] = weights
    return Taps(np.array(starts), counts, table, 1 << _WEIGHT_BITS)
