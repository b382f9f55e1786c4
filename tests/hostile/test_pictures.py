"""Pictures that nobody should have sent: refused by their header, in one line, and nothing is unpacked."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from studbook.errors import ConfigError, DataError
from studbook.pictures import MAX_SIDE, jpeg_bytes, png_bytes, read_picture

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, body: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(body, 9)) + chunk(b"IEND", b"")


def stored(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("width", "height"), [(31_623, 31_623), (8_193, 8_192), (MAX_SIDE + 1, 1), (12_000, 12_000), (2**31 - 1, 2**31 - 1)]
)
def test_a_bomb_is_refused_by_its_header(width, height):
    data = png(width, height, b"\0" * (1 << 20))
    tracemalloc.start()
    with pytest.raises(DataError, match="pixels") as found:
        read_picture(data, "bomb.png")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "bomb.png" in str(found.value)
    assert most < 16 << 20


def test_the_limits_are_the_callers():
    data = png_bytes(PICTURE)
    assert read_picture(data, "p", max_pixels=2_400).shape == (40, 60, 3)
    with pytest.raises(DataError, match=r"60 x 40 pixels, at most 2,399"):
        read_picture(data, "p", max_pixels=2_399)
    with pytest.raises(DataError, match="bytes, expected at most 100"):
        read_picture(data, "p", max_bytes=100)


@pytest.mark.parametrize(
    "data", [png_bytes(PICTURE), jpeg_bytes(PICTURE, 90), stored(Image.fromarray(PICTURE), "BMP")], ids=["png", "jpeg", "bmp"]
)
def test_a_file_that_was_cut_off_is_refused_wherever_it_was_cut(data):
    for size in sorted({1, 8, 20, 33, len(data) // 4, len(data) // 2, len(data) * 3 // 4}):
        with pytest.raises(DataError, match=r"cut\.img"):
            read_picture(data[:size], "cut.img")


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 4096, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>", b"\x89PNG\r\n\x1a\n", "grüße".encode()]
)
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(DataError, match="file"):
        read_picture(data, "file")


def test_flipped_bytes_never_give_a_traceback_of_another_kind():
    rng = np.random.default_rng(1)
    for data in (
        png_bytes(PICTURE),
        jpeg_bytes(PICTURE, 80),
        stored(Image.fromarray(PICTURE), "TIFF"),
        stored(Image.fromarray(PICTURE), "GIF"),
    ):
        for _ in range(100):
            changed = bytearray(data)
            for place in rng.integers(0, len(data), 4):
                changed[place] = rng.integers(256)
            try:
                pixels = read_picture(bytes(changed), "flipped")
            except DataError:
                continue
            assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


def test_pixels_survive_every_mode():
    image = Image.fromarray(PICTURE)
    assert np.array_equal(read_picture(png_bytes(PICTURE), "p"), PICTURE)
    assert np.array_equal(read_picture(stored(image, "TIFF"), "p"), PICTURE)
    grey = image.convert("L")
    assert np.array_equal(read_picture(stored(grey, "PNG"), "p"), np.repeat(np.asarray(grey)[:, :, None], 3, 2))
    palette = image.quantize(16)
    assert np.array_equal(read_picture(stored(palette, "PNG"), "p"), np.asarray(palette.convert("RGB")))
    alpha = image.convert("RGBA")
    alpha.putalpha(0)
    assert np.array_equal(read_picture(stored(alpha, "PNG"), "p"), PICTURE)  # transparent pixels keep their colour
    deep = Image.fromarray((np.arange(2_400, dtype=np.uint16) * 27).reshape(40, 60))
    assert np.array_equal(read_picture(stored(deep, "PNG"), "p")[:, :, 0], np.asarray(deep) >> 8)


def test_a_picture_to_write_is_checked():
    with pytest.raises(DataError, match="float64"):
        png_bytes(np.zeros((4, 4)))
    with pytest.raises(DataError, match="uint8 array"):
        png_bytes(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(DataError, match="no pixels"):
        png_bytes(np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(ConfigError, match="quality"):
        jpeg_bytes(PICTURE, 0)
