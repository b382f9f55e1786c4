"""Average hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.fingerprints.pixels import Bytes, Images, check_size, grid_sums, pack_images
from studbook.fingerprints.protocols import Packed, Parameters, seal
from studbook.parameters import conform
from studbook.records import Digest


@dataclass(frozen=True, slots=True)
class AverageHash:
    """``ahash``: which parts of a picture are brighter than the whole (Krawetz, "Looks like it", 2011).

    The image is reduced to ``size`` × ``size`` cells of mean luma by area; a bit is 1 where a cell is brighter than the image, 0 where
    it is darker or just as bright. All in integers: nothing is rounded. A uniform image has no 1. Row by row from the top left.

    Attributes:
        size: Cells a side, 8, 16 or 32; the digest has its square in bits.

    Raises:
        ConfigError: Another size.

    Examples:
        >>> import numpy as np
        >>> from studbook.fingerprints import AverageHash
        >>> half = np.zeros((64, 64), np.uint8)
        >>> half[:, 32:] = 200
        >>> str(AverageHash().digest(half))
        'ahash/1?size=8:0f0f0f0f0f0f0f0f'
    """

    size: int = 8

    scheme: ClassVar[str] = "ahash"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        conform(self, "ahash")
        check_size("ahash", self.size, (8, 16, 32))

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
        # At most 2**44 each: a thousand times as much still fits.
        return np.packbits(sums * self.size**2 > sums.sum(axis=1, keepdims=True), axis=1)
