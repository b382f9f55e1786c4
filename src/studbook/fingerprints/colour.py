"""Colour hash: how much of a picture has which colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.errors import ConfigError
from studbook.fingerprints.pixels import Bytes, Images, pack_images
from studbook.fingerprints.protocols import Packed, Parameters, seal
from studbook.parameters import conform
from studbook.records import Digest

COLOURS = (
    "black",
    "dark grey",
    "light grey",
    "white",
    *(f"{depth} {hue}" for depth in ("pale", "deep") for hue in ("red", "yellow", "green", "cyan", "blue", "magenta")),
)
# A level is reached from this many 256ths of the pixels on: close together where shares are small, for most colours are rare.
_THRESHOLDS = {4: (4, 16, 64, 128), 8: (1, 4, 10, 20, 40, 72, 120, 184)}


@dataclass(frozen=True, slots=True)
class ColourHash:
    """``colorhash``: the share of sixteen colours in a picture, wherever they are.

    With a pixel's largest channel V, smallest m and chroma C = V − m, in integers:

    - V < 32: black. Else 4 C < V: grey, dark for V < 96, light for V < 192, white from there on.
    - Else one of six hues, the nearest: with the middle channel d, the colour of the largest channel where 2 (d − m) < C, else the
      complement of the smallest; of equal channels the first in the order red, green, blue counts (the smallest: blue, red, green).
      Deep where 3 C ≥ 2 V, else pale.

    Each colour's share is written as a thermometer of ``levels`` bits: bit i is 1 where the share reaches threshold i, so that the Hamming
    distance grows with the difference of the shares. The thresholds are 4, 16, 64, 128 of 256 for 4 levels, and 1, 4, 10, 20, 40, 72, 120,
    184 of 256 for 8. Colours are in the order of ``COLOURS``. A grey image is taken for R = G = B. Like every colour histogram it can't
    tell two pictures of the same colours apart: it supports another hash, and proves little alone.

    Attributes:
        levels: Bits a colour, 4 or 8; the digest has 16 times as many.

    Raises:
        ConfigError: Another number of levels.

    Examples:
        >>> import numpy as np
        >>> from studbook.fingerprints import ColourHash
        >>> red = np.zeros((8, 8, 3), np.uint8)
        >>> red[..., 0] = 255
        >>> str(ColourHash(levels=4).digest(red))
        'colorhash/1?levels=4:0000000000f00000'
    """

    levels: int = 8

    scheme: ClassVar[str] = "colorhash"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        conform(self, "colorhash")
        if self.levels not in _THRESHOLDS:
            raise ConfigError(f"colorhash.levels is {self.levels}, expected 4 or 8")

    @property
    def parameters(self) -> Parameters:
        """See ``studbook.fingerprints.Fingerprint``."""
        return (("levels", self.levels),)

    def pack(self, outputs: Images, *, threads: int = 1) -> Packed:
        """The digests' bits ``(n, 2 levels)`` uint8.

        Args:
            outputs: uint8 ``(n, h, w)`` or ``(n, h, w, 3)``, or a sequence of images ``(h, w)`` or ``(h, w, 3)``.
            threads: Threads to share the images among, 1 … 256; the bits don't depend on it.

        Raises:
            ConfigError: An impossible number of threads.
            DataError: Not images, or too large.
        """
        return pack_images(outputs, self._pack_block, len(COLOURS) * self.levels // 8, threads)

    def digests(self, outputs: Images, *, threads: int = 1) -> list[Digest]:
        """The digests of many images; see ``pack``."""
        return seal(self, self.pack(outputs, threads=threads))

    def digest(self, output: Bytes) -> Digest:
        """The digest of one image ``(h, w)`` or ``(h, w, 3)``; see ``pack``."""
        return self.digests([output])[0]

    def _pack_block(self, block: Bytes) -> Packed:
        from studbook.fingerprints._image_kernels import count_colours

        n, height, width, channels = block.shape
        counts = np.zeros((n, len(COLOURS)), np.int64)
        count_colours(block.reshape(n, height * width, channels), counts)
        reached = 256 * counts[:, :, None] >= height * width * np.array(_THRESHOLDS[self.levels])
        return np.packbits(reached.reshape(n, -1), axis=1)
