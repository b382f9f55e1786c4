"""What happens to a picture on its way: the changes that a mark's robustness is measured under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from studbook.errors import ConfigError, MissingExtraError
from studbook.marks.images import Picture, check_picture
from studbook.pictures import jpeg_bytes, read_picture


class PictureChange(Protocol):
    """One change; ``name`` is what it is called in calibrations."""

    @property
    def name(self) -> str: ...

    def apply(self, picture: Picture, *, rng: np.random.Generator) -> Picture:
        """The changed picture ``(h, w, 3)``, possibly of another size."""
        ...


@dataclass(frozen=True, slots=True)
class Jpeg:
    """Saved as JPEG at a ``quality`` of 1 … 100 and read again; colour at half the resolution (4:2:0), or at ``full_chroma`` (4:4:4)."""

    quality: int
    full_chroma: bool = False

    @property
    def name(self) -> str:
        return f"jpeg {self.quality}, full chroma" if self.full_chroma else f"jpeg {self.quality}"

    def apply(self, picture: Picture, *, rng: np.random.Generator) -> Picture:
        del rng
        return read_picture(jpeg_bytes(check_picture(picture), self.quality, full_chroma=self.full_chroma), "a changed picture")


@dataclass(frozen=True, slots=True)
class ThereAndBack:
    """Scaled by ``factor``, above 0, and back to its size, both by Lanczos' filter."""

    factor: float

    def __post_init__(self) -> None:
        if not 0.0 < self.factor <= 16.0:
            raise ConfigError(f"factor is {self.factor}, expected above 0 and at most 16")

    @property
    def name(self) -> str:
        return f"size × {self.factor:g} and back"

    def apply(self, picture: Picture, *, rng: np.random.Generator) -> Picture:
        del rng
        height, width = check_picture(picture).shape[:2]
        return resize(resize(picture, max(1, round(height * self.factor)), max(1, round(width * self.factor))), height, width)


@dataclass(frozen=True, slots=True)
class Crop:
    """A ``share`` of the height and of the width is cut away, half of it on either side."""

    share: float

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise ConfigError(f"share is {self.share}, expected above 0 and below 1")

    @property
    def name(self) -> str:
        return f"crop {100 * self.share:g} %"

    def apply(self, picture: Picture, *, rng: np.random.Generator) -> Picture:
        del rng
        height, width = check_picture(picture).shape[:2]
        top, left = round(height * self.share / 2), round(width * self.share / 2)
        return np.ascontiguousarray(picture[top : max(top + 1, height - top), left : max(left + 1, width - left)])


@dataclass(frozen=True, slots=True)
class Noise:
    """Normal noise with a standard deviation of ``levels`` of 255 on every value, cut off at 0 and 255."""

    levels: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.levels <= 255.0:
            raise ConfigError(f"levels is {self.levels}, expected 0 to 255")

    @property
    def name(self) -> str:
        return f"noise {self.levels:g}"

    def apply(self, picture: Picture, *, rng: np.random.Generator) -> Picture:
        image = check_picture(picture)
        noisy = image + self.levels * rng.standard_normal(image.shape)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


CHANGES: Sequence[PictureChange] = (Jpeg(90), Jpeg(80), Jpeg(50), Jpeg(50, full_chroma=True), ThereAndBack(0.5), Crop(0.1), Noise(5.0))
"""What calibrations measure unless told otherwise."""


def resize(picture: Picture, height: int, width: int) -> Picture:
    """The picture with another number of pixels, by Lanczos' filter.

    Args:
        picture: ``(h, w, 3)`` uint8.
        height: 1 or more.
        width: 1 or more.

    Raises:
        MissingExtraError: Pillow isn't installed.
    """
    image = _pillow().fromarray(check_picture(picture))
    return np.array(image.resize((width, height), _pillow().Resampling.LANCZOS), np.uint8)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            "changing pictures needs the package pillow, not installed", hint="pip install 'studbook[marks]'"
        ) from error
    return Image
