"""Difference hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.fingerprints.pixels import Bytes, Images, check_size, grid_sums, pack_images
from studbook.fingerprints.protocols import Packed, Parameters, seal
from studbook.parameters import conform
from studbook.records import Digest


@dataclass(frozen=True, slots=True)
class DifferenceHash:
    """``dhash``: where a picture grows brighter from left to right (Krawetz, "Kind of like that", 2013).

    The image is reduced to ``size`` rows of ``size + 1`` cells of mean luma by area; a bit is 1 where a cell is brighter than its left
    neighbour, 0 where it is darker or just as bright. All in integers: nothing is rounded. Row by row from the top left.

    Attributes:
        size: Bits a side, 8, 16 or 32; the digest has its square in bits.

    Raises:
        ConfigError: Another size.

    Examples:
        >>> import numpy as np
        >>> from studbook.fingerprints import DifferenceHash
        >>> half = np.zeros((72, 72), np.uint8)
        >>> half[:, 32:] = 200
        >>> str(DifferenceHash().digest(half))
        'dhash/1?size=8:1010101010101010'
    """

    size: int = 8

    scheme: ClassVar[str] = "dhash"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        conform(self, "dhash")
        check_size("dhash", self.size, (8, 16, 32))

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
        sums = grid_sums(block, (self.size, self.size + 1))[0]
        return np.packbits((sums[:, :, 1:] > sums[:, :, :-1]).reshape(-1, self.size**2), axis=1)
