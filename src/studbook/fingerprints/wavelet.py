"""Wavelet hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.fingerprints.pixels import Bytes, Images, check_size, grid_sums, pack_images
from studbook.fingerprints.protocols import Packed, Parameters, seal
from studbook.parameters import conform
from studbook.records import Digest


@dataclass(frozen=True, slots=True)
class WaveletHash:
    """``whash``: which half of a picture's Haar approximation each part belongs to.

    A Haar transform's approximation at ``size`` × ``size`` is the mean over equal blocks, times a constant; taking the picture's overall
    mean out of it moves all values and their median alike. So the bits are those of block means against their median, and are computed
    as such, with blocks cut by area where the sides aren't multiples of ``size``. The median of the even number of cells is halfway between
    the middle two; a bit is 1 above it, else 0. All in integers: nothing is rounded. Row by row from the top left.

    Attributes:
        size: Cells a side, 8, 16 or 32; the digest has its square in bits.

    Raises:
        ConfigError: Another size.

    Examples:
        >>> import numpy as np
        >>> from studbook.fingerprints import WaveletHash
        >>> ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
        >>> str(WaveletHash().digest(ramp))
        'whash/1?size=8:00000000ffffffff'
    """

    size: int = 8

    scheme: ClassVar[str] = "whash"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        conform(self, "whash")
        check_size("whash", self.size, (8, 16, 32))

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
        sums = grid_sums(block, (self.size, self.size))[0].reshape(-1, self.size**2)
        middle = np.sort(sums, axis=1)[:, self.size**2 // 2 - 1 : self.size**2 // 2 + 1]
        return np.packbits(2 * sums > middle.sum(axis=1, keepdims=True), axis=1)
