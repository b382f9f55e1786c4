"""Where a picture's file keeps its manifest store: found by hand, bounded, before a library reads it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

from studbook.errors import ProvenanceError
from studbook.provenance.jumbf import MAX_STORE

_PNG, _SOI = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_MAX_PARTS = 1 << 20
_STORE_KIND = bytes.fromhex("6332706100110010800000aa00389b71")


def picture_format(data: bytes) -> str:
    """The media type by the first bytes, or an empty text where a credential can't be embedded.

    Examples:
        >>> from studbook.provenance.containers import picture_format
        >>> picture_format(bytes.fromhex("ffd8ffe000104a464946")), picture_format(b"some text")
        ('image/jpeg', '')
    """
    if data.startswith(_PNG):
        return "image/png"
    if data.startswith(_SOI):
        return "image/jpeg"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def manifest_of(data: bytes, what: str = "the picture") -> bytes | None:
    """The manifest store that a picture's file carries: the bytes of a sidecar; ``None`` where it carries none.

    What is given back was found, not checked: see ``verify_credential``.

    Args:
        data: The file.
        what: What it is, for the messages.

    Raises:
        ProvenanceError: There is one that is cut off, or more than one.
    """
    parts = _READERS.get(picture_format(data))
    if parts is None:
        return None
    try:
        found = list(parts(data))
    except (struct.error, _ContainerError) as error:
        raise ProvenanceError(f"the credential in {what} can't be found: {error}", hint="the file is damaged or was changed") from error
    if len(found) > 1:
        raise ProvenanceError(f"{what} carries {len(found)} credentials, expected one", hint="don't rely on it; ask for the original")
    return found[0] if found else None


class _ContainerError(Exception):
    """What is wrong with the file."""


def _png(data: bytes) -> Iterator[bytes]:
    place = len(_PNG)
    for _ in range(_MAX_PARTS):
        if place + 12 > len(data):
            return  # a picture that is cut off is for whoever reads its pixels
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IEND":
            return
        if kind == b"caBX":
            content = data[place + 8 : place + 8 + length]
            if len(content) < length or place + 12 + length > len(data):
                raise _ContainerError("it is cut off")
            if zlib.crc32(kind + content) != struct.unpack_from(">I", data, place + 8 + length)[0]:
                raise _ContainerError("its check sum is wrong")
            yield content
        place += 12 + length


def _jpeg(data: bytes) -> Iterator[bytes]:
    """Stores are cut into segments APP11 of at most 64 kB, numbered from 1; each begins with the header of the first."""
    stores: dict[int, list[bytes]] = {}
    for segment in _segments(data):
        if segment[:2] != b"JP" or len(segment) < 16:
            continue
        number, count = struct.unpack_from(">HI", segment, 2)
        parts = stores.setdefault(number, [])
        if count != len(parts) + 1 or (parts and segment[8:16] != parts[0][:8]):
            raise _ContainerError("its parts are out of order")
        parts.append(segment[8:] if not parts else segment[16:])
        if sum(map(len, parts)) > MAX_STORE:
            raise _ContainerError(f"it has more than {MAX_STORE:,} bytes")
    for parts in stores.values():
        store = b"".join(parts)
        if store[16:32] == _STORE_KIND:
            yield store


def _segments(data: bytes) -> Iterator[bytes]:
    """The contents of the segments APP11 before the picture's own data."""
    place = 2
    for _ in range(_MAX_PARTS):
        if place + 4 > len(data) or data[place] != 0xFF:
            return
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker in {0xDA, 0xD9} or length < 2:
            return
        if marker == 0xEB:
            if place + 2 + length > len(data):
                raise _ContainerError("it is cut off")
            yield data[place + 4 : place + 2 + length]
        place += 2 + length


def _webp(data: bytes) -> Iterator[bytes]:
    place = 12
    for _ in range(_MAX_PARTS):
        if place + 8 > len(data):
            return
        kind, length = struct.unpack_from("<4sI", data, place)
        if kind == b"C2PA":
            if place + 8 + length > len(data):
                raise _ContainerError("it is cut off")
            yield data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


_READERS: Mapping[str, Callable[[bytes], Iterator[bytes]]] = {"image/png": _png, "image/jpeg": _jpeg, "image/webp": _webp}
