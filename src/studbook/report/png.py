"""PNG files of small pictures, and many pictures packed into one sprite."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from studbook.arrays import AnyArray

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def encode_png(pixels: AnyArray) -> bytes:
    r"""An 8-bit PNG of ``(h, w)``, or ``(h, w, c)`` with c = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA).

    Examples:
        >>> import numpy as np
        >>> encode_png(np.zeros((2, 3), np.uint8))[:4]
        b'\x89PNG'
    """
    table = np.ascontiguousarray(pixels, dtype=np.uint8)
    height, width, channels = table.reshape(*table.shape[:2], -1).shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row starts with its filter type, 0
    rows[:, 1:] = table.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def pack_sprite(images: AnyArray, columns: int) -> AnyArray:
    """Pictures ``(m, h, w[, 3])`` in rows of ``columns`` with a transparent pixel between them: ``(H, W, 2 or 4)``."""
    stack = images[..., None] if images.ndim == 3 else images
    m, h, w, channels = stack.shape
    rows = -(-m // columns)
    sheet = np.zeros((rows * (h + 1) - 1, columns * (w + 1) - 1, channels + 1), np.uint8)
    for index, image in enumerate(stack):
        top, left = (index // columns) * (h + 1), (index % columns) * (w + 1)
        sheet[top : top + h, left : left + w, :channels] = image
        sheet[top : top + h, left : left + w, channels] = 255
    return sheet


def shrink(images: AnyArray, factor: int) -> AnyArray:
    """Pictures with ``factor`` × ``factor`` pixels averaged into one; what doesn't divide is cut off."""
    m, h, w = images.shape[:3]
    cut = images[:, : h - h % factor, : w - w % factor].astype(np.float64)
    small = cut.reshape(m, h // factor, factor, w // factor, factor, *images.shape[3:]).mean(axis=(2, 4))
    result: AnyArray = np.rint(small).astype(np.uint8)
    return result


def data_uri(png: bytes) -> str:
    """A ``data:`` address of a PNG file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
