"""Pictures from outside: read with their size known before anything is unpacked, and written without metadata."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from studbook.errors import ConfigError, DataError, MissingExtraError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What is read. Others (PostScript above all, which runs a program) aren't even looked at."""
MAX_SIDE = 1 << 16
"""Most pixels along one side."""
MAX_PIXELS = 1 << 26
"""Most pixels of one picture: 8,192 × 8,192, as fingerprints take them."""
MAX_BYTES = 1 << 28
"""Most bytes of a picture's file."""


def read_picture(data: bytes, what: str, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> NDArray[np.uint8]:
    """The pixels of a picture's file, as they are stored.

    The size is taken from the header and refused before anything is unpacked. Of an animation the first picture is read. Grey and
    palettes become RGB, 16-bit grey its upper byte; transparent pixels keep their colour. A camera's note which way is up, and a colour
    profile, are left alone: two readers of the same file get the same pixels.

    Args:
        data: The file: PNG, JPEG, WebP, BMP, GIF, TIFF or PPM.
        what: What it is, for the messages: a path, a record's id.
        max_pixels: Most pixels, 1 or more.
        max_bytes: Most bytes of the file, 1 or more.

    Returns:
        ``(h, w, 3)`` uint8 in RGB.

    Raises:
        DataError: Too large, cut off, damaged, or no picture of these kinds.
        MissingExtraError: Pillow isn't installed.

    Examples:
        >>> import numpy as np
        >>> from studbook.pictures import png_bytes, read_picture
        >>> read_picture(png_bytes(np.full((2, 3, 3), 7, np.uint8)), "seven.png").shape
        (2, 3, 3)
    """
    if not data:
        raise DataError(f"{what} is empty, expected a picture's file")
    if len(data) > max_bytes:
        raise DataError(f"{what} has {len(data):,} bytes, expected at most {max_bytes:,}", hint="make it smaller first")
    image_module = _pillow()
    try:
        with image_module.open(io.BytesIO(data), formats=FORMATS) as opened:
            _check_size(opened.width, opened.height, what, max_pixels)
            return rgb_of(opened)
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{what} doesn't fit into memory", hint="make it smaller first") from error
    except Exception as error:
        # A decoder that meets hostile bytes raises anything: struct.error, KeyError, zlib.error.
        raise _refusal(error, what, max_pixels) from error


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A picture ``(h, w)`` or ``(h, w, 3)`` uint8 as a PNG file without metadata: nothing is lost.

    Raises:
        DataError: Not such an array.
        MissingExtraError: Pillow isn't installed.
    """
    return _encoded(pixels, "PNG", {})


def jpeg_bytes(pixels: NDArray[np.uint8], quality: int, *, full_chroma: bool = False) -> bytes:
    """A picture ``(h, w)`` or ``(h, w, 3)`` uint8 as a JPEG file without metadata.

    Args:
        pixels: The picture.
        quality: libjpeg's, 1 … 100.
        full_chroma: Colour at full resolution (4:4:4) instead of half of it either way (4:2:0), as most programs do.

    Raises:
        ConfigError: Not such a quality.
        DataError: Not such an array.
        MissingExtraError: Pillow isn't installed.
    """
    if type(quality) is not int or not 1 <= quality <= 100:
        raise ConfigError(f"quality is {quality!r}, expected an integer, 1 to 100")
    return _encoded(pixels, "JPEG", {"quality": quality, "subsampling": 0 if full_chroma else 2})


def _encoded(pixels: NDArray[np.uint8], form: Literal["PNG", "JPEG"], options: dict[str, Any]) -> bytes:
    shape: tuple[int, ...] = getattr(pixels, "shape", ())
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
        got = f"{pixels.dtype} of shape {shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataError(f"a picture is {got}, expected a uint8 array (h, w) or (h, w, 3)")
    _check_size(shape[1], shape[0], "a picture", MAX_PIXELS)
    file = io.BytesIO()
    _pillow().fromarray(np.ascontiguousarray(pixels)).save(file, form, **options)
    return file.getvalue()


def _check_size(width: int, height: int, what: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise DataError(f"{what} has no pixels: {width} x {height}")
    if max(width, height) > MAX_SIDE or width * height > max_pixels:
        most = f"at most {max_pixels:,} and {MAX_SIDE:,} a side are read"
        raise DataError(f"{what} has {width:,} x {height:,} pixels, {most}", hint="make it smaller first")


def rgb_of(opened: Any) -> NDArray[np.uint8]:
    """The pixels of a picture that Pillow has opened, ``(h, w, 3)``; what is cut off is an error and not a grey area."""
    opened.load()
    if opened.mode.startswith(("I", "F")):
        return np.repeat(upper_byte_of(opened)[:, :, None], 3, axis=2)
    if opened.mode == "P" and "transparency" in opened.info:
        opened = opened.convert("RGBA")
    return np.array(opened.convert("RGB"), np.uint8)


def upper_byte_of(opened: Any) -> NDArray[np.uint8]:
    """The pixels of a picture in 16-bit grey that Pillow has opened, ``(h, w)``.

    Pillow itself would clip them at 255, so that nearly all were white.

    Raises:
        DataError: Its numbers don't fit into 16 bits.
    """
    values = np.asarray(opened)
    if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() > 0xFFFF:
        raise DataError("its pixels are neither bytes nor 16-bit numbers")
    return (values.astype(np.uint16) >> 8).astype(np.uint8)


def _refusal(error: Exception, what: str, max_pixels: int) -> DataError:
    name = type(error).__name__
    if name == "DecompressionBombError":  # Pillow's own limit, by the header too
        return DataError(f"{what} has far more pixels than the {max_pixels:,} that are read", hint="make it smaller first")
    reason = "none of " + ", ".join(FORMATS) if name == "UnidentifiedImageError" else f"{name}: {error}"[:200]
    return DataError(f"{what} can't be read as a picture: {reason}", hint="the file is damaged, cut off, or of another format")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("reading pictures needs the package pillow, not installed", hint="pip install pillow") from error
    return Image
