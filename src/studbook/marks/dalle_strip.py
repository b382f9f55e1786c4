"""The visible mark of DALL·E 2: five coloured squares in the lower right corner.

Pictures of 1,024 pixels a side carry squares of 16 pixels, flush with the corner: yellow, turquoise, green, red, blue. Whoever cuts off
1.6 % of the height is rid of it; it is there for the many who don't.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from studbook.errors import ConfigError, DataError
from studbook.marks.images import Picture, PictureMarkTest, check_picture
from studbook.records.digest import Setting

COLOURS = ((255, 255, 102), (66, 255, 255), (81, 218, 76), (255, 110, 60), (60, 70, 255))
"""Red, green and blue of the five squares, from the left."""
LEAST_SIDE = 4
"""Smallest square that is looked for: a picture of 256 pixels a side."""
_SHARE = 16 / 1024


@dataclass(frozen=True, slots=True)
class DalleStrip:
    """The colour strip.

    Attributes:
        side: Side of a square in pixels, where it is known; 0 looks for every side from 4 pixels to 1/32 of the picture's longer side, and
            stamps 1/64 of it.

    Raises:
        ConfigError: ``side`` is below 0, or 1 to 3.

    References:
        arXiv:2307.01898 names it among the marks that tell generated pictures.

    Examples:
        >>> import numpy as np
        >>> from studbook.marks.dalle_strip import DalleStrip
        >>> strip = DalleStrip()
        >>> grey = np.full((512, 512, 3), 128, np.uint8)
        >>> strip.test(strip.embed(grey)).score, round(strip.test(grey).score)
        (0.0, -190)
    """

    side: int = 0

    def __post_init__(self) -> None:
        if type(self.side) is not int or not (self.side == 0 or LEAST_SIDE <= self.side <= 4096):
            raise ConfigError(f"side is {self.side!r}, expected 0, or {LEAST_SIDE} to 4,096 pixels")

    @property
    def name(self) -> str:
        """``"dalle-strip"``."""
        return "dalle-strip"

    @property
    def parameters(self) -> tuple[tuple[str, Setting], ...]:
        """The side."""
        return (("side", self.side),)

    def embed(self, picture: Picture) -> Picture:
        """The picture with the strip, for tests and calibrations.

        Args:
            picture: ``(h, w, 3)`` uint8 in RGB.

        Raises:
            DataError: Not a picture, or too small for the strip.
        """
        image = check_picture(picture).copy()
        height, width = image.shape[:2]
        side = self.side or max(LEAST_SIDE, round(_SHARE * max(height, width)))
        if side > height or 5 * side > width:
            raise DataError(f"the picture has {height} × {width} pixels, too few for five squares of {side}", hint="make it larger first")
        image[height - side :, width - 5 * side :] = np.repeat(np.array(COLOURS, np.uint8), side, axis=0)
        return image

    def test(self, picture: Picture) -> PictureMarkTest:
        """Look for the strip.

        The score is minus the distance in RGB (0 … 441) between the worst of the five squares and its colour, root mean square over the
        square's inner pixels, at the side where that is least. There is no p-value without a calibration.

        Raises:
            DataError: Not a picture.
        """
        image = check_picture(picture)
        sides = self._sides(image)
        if not sides:
            return PictureMarkTest(self.name, math.nan, None, "", f"the picture has {image.shape[0]} × {image.shape[1]} pixels, too few")
        distances = [_distance(image, side) for side in sides]
        best = int(np.argmin(distances))
        reason = f"the worst of five squares of {sides[best]:.3g} pixels is {distances[best]:.0f} levels from its colour"
        return PictureMarkTest(self.name, 0.0 - distances[best], None, f"{sides[best]:.3g}", reason)

    def _sides(self, image: Picture) -> list[float]:
        height, width = image.shape[:2]
        most = min(height, width / 5)
        if self.side or most < LEAST_SIDE:
            return [float(self.side)] if LEAST_SIDE <= self.side <= most else []
        last = min(most, max(LEAST_SIDE, 2 * _SHARE * max(height, width)))
        # Steps of 4 %: the first of five squares is then off by a tenth of its side at most.
        return [LEAST_SIDE * 1.04**i for i in range(1 + math.floor(math.log(last / LEAST_SIDE) / math.log(1.04)))]


def _distance(image: Picture, side: float) -> float:
    """The worst square's distance to its colour; a margin of an eighth is left out, where neighbours run into each other."""
    height, width = image.shape[:2]
    top, bottom = math.ceil(height - 0.875 * side), math.floor(height - 0.125 * side)
    worst = 0.0
    for place, colour in enumerate(COLOURS):
        left, right = math.ceil(width - (4.875 - place) * side), math.floor(width - (4.125 - place) * side)
        inner = image[top:bottom, left:right].astype(np.float64)
        worst = max(worst, float(((inner - colour) ** 2).sum(axis=2).mean()))
    return math.sqrt(worst)
