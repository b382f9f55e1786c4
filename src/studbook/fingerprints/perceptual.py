"""Perceptual hash: the low frequencies of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.fingerprints.cosine import cosines, transform
from studbook.fingerprints.pixels import Bytes, Images, check_size, mean_grids, pack_images
from studbook.fingerprints.protocols import Packed, Parameters, seal
from studbook.parameters import conform
from studbook.records import Digest


@dataclass(frozen=True, slots=True)
class PerceptualHash:
    """``phash``: which low frequencies of a picture are strong (Zauner, "Implementation and benchmarking of perceptual image hash
    functions", 2010).

    1. The image is reduced to 4 ``size`` × 4 ``size`` cells of mean luma by area, rounded to 1/4000 of a grey level.
    2. A two-dimensional DCT-II with cosines rounded to 2⁻¹⁵, in integers; the lowest ``size`` frequencies of both axes are kept.
    3. A bit is 1 where a coefficient is larger than the median of all but the first, else 0. The first, the mean brightness, takes no part
       and its bit is 0: making a picture brighter changes no bit as long as no pixel is cut off.

    The rows of the cosine table but the first add up to exactly 0, so that a uniform image has no 1, and a picture symmetric about an axis
    has exact zeros where floating-point numbers would leave noise. By rows of vertical frequency.

    Attributes:
        size: Frequencies an axis, 8 or 16; the digest has its square in bits.

    Raises:
        ConfigError: Another size.

    Examples:
        >>> import numpy as np
        >>> from studbook.fingerprints import PerceptualHash
        >>> pixels = np.random.default_rng(0).integers(0, 200, (48, 64, 3), dtype=np.uint8)
        >>> PerceptualHash().digest(pixels).hamming(PerceptualHash().digest(pixels + 50))
        0
    """

    size: int = 8

    scheme: ClassVar[str] = "phash"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        conform(self, "phash")
        check_size("phash", self.size, (8, 16))

    @property
    def parameters(self) -> Parameters:
        """See ``studbook.fingerprints.Fingerprint``."""
        return (("size", self.size),)

    def pack(self, outputs: Images, *, threads: int = 1) -> Packed:
        """The digests' bits ``(n, size² / 8)`` uint8.

        Args:
            outputs: uint8 ``(n, h, w)`` or ``(n, h, w, 3)``, or a sequence of images ``(h, w)`` or ``(h, w, 3)``.
            threads: Threads to share the images among, 1 … 256; the bits don't depend on it.

        Raises:
            ConfigError: An impossible number of threads.
            DataError: Not images, or too large.
        """
        return pack_images(outputs, self._pack_block, self.size**2 // 8, threads)

    def digests(self, outputs: Images, *, threads: int = 1) -> list[Digest]:
        """The digests of many images; see ``pack``."""
        return seal(self, self.pack(outputs, threads=threads))

    def digest(self, output: Bytes) -> Digest:
        """The digest of one image ``(h, w)`` or ``(h, w, 3)``; see ``pack``."""
        return self.digests([output])[0]

    def _pack_block(self, block: Bytes) -> Packed:
        side = 4 * self.size
        values = transform(mean_grids(block, (side, side)), cosines(side, 0, self.size)).reshape(-1, self.size**2)
        bits = values > np.sort(values[:, 1:], axis=1)[:, self.size**2 // 2 - 1, None]
        bits[:, 0] = False
        return np.packbits(bits, axis=1)
