"""What marks of pictures have in common: how they are asked, and what counts as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from studbook.errors import DataError
from studbook.records.digest import Setting

Picture = NDArray[np.uint8]
"""``(h, w, 3)`` uint8 in RGB."""


@dataclass(frozen=True, slots=True)
class PictureMarkTest:
    """What a mark's test says of one picture.

    Attributes:
        mark: Name of the mark.
        score: Higher where the picture looks more like a marked one; not-a-number where nothing can be told.
        p_value: How often an unmarked picture scores as high, corrected for the number of payloads looked for; ``None`` where that is
            known from a calibration alone.
        found: What was found: the payload in hex, the side of a square in pixels; empty where nothing can be told.
        reason: The numbers behind it, in one sentence for people.
    """

    mark: str
    score: float
    p_value: float | None
    found: str
    reason: str


class PictureMark(Protocol):
    """A mark that can be put into a picture and looked for.

    Attributes:
        name: Its name in findings and calibrations.
        parameters: What determines its scores, sorted by name.
    """

    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> tuple[tuple[str, Setting], ...]: ...

    def embed(self, picture: Picture) -> Picture:
        """The picture with the mark."""
        ...

    def test(self, picture: Picture) -> PictureMarkTest:
        """Look for the mark; a picture that is too small for it scores not-a-number and raises nothing."""
        ...


def check_picture(picture: object) -> Picture:
    """The picture, in C order.

    Raises:
        DataError: Not ``(h, w, 3)`` uint8, or without pixels.

    Examples:
        >>> import numpy as np
        >>> from studbook.marks.images import check_picture
        >>> check_picture(np.zeros((4, 6, 3), np.uint8)).shape
        (4, 6, 3)
    """
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        got = f"{picture.dtype} of shape {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise DataError(f"a picture is {got}, expected a uint8 array (h, w, 3)", hint="studbook.pictures.read_picture makes one of a file")
    if not picture.size:
        raise DataError(f"a picture has no pixels: {picture.shape[0]} × {picture.shape[1]}")
    return np.ascontiguousarray(picture)
