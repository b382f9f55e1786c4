"""CBOR (RFC 8949), as much of it as a signature has: read without trust, bounded in depth, in its shortest form, to its last byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 16
MAX_ITEMS = 4096


class CborError(Exception):
    """What is wrong with the bytes."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A value with a number that says what it is."""

    number: int
    value: Any


def read_cbor(data: bytes) -> Any:
    """The one value that fills these bytes.

    Raises:
        CborError: Cut off, too long, too deep, or of a kind that no signature has.

    Examples:
        >>> from studbook.provenance._cbor import read_cbor
        >>> read_cbor(bytes.fromhex("a16370616442") + b"ab")
        {'pad': b'ab'}
    """
    reader = _Reader(data)
    value = reader.read(0)
    if reader.place != len(data):
        raise CborError(f"{len(data) - reader.place:,} bytes follow its signature")
    return value


@dataclass(slots=True)
class _Reader:
    """A place in the bytes."""

    data: bytes
    place: int = 0
    items: int = 0

    def read(self, depth: int) -> Any:
        """The value here."""
        self.items += 1
        if depth > MAX_DEPTH or self.items > MAX_ITEMS:
            raise CborError("its signature is nested too deep, or has too many parts")
        kind, size = self._head()
        if kind < 2:
            return size if kind == 0 else -1 - size
        if kind in (2, 3):
            return self._text(size) if kind == 3 else self._take(size)
        if kind == 4:
            return [self.read(depth + 1) for _ in range(self._count(size))]
        if kind == 5:
            return self._table(self._count(size), depth + 1)
        return Tag(size, self.read(depth + 1)) if kind == 6 else self._simple(size)

    def _head(self) -> tuple[int, int]:
        """A value's kind and its number, which must be in its shortest form."""
        first = self._take(1)[0]
        kind, low = first >> 5, first & 31
        if low < 24:
            return kind, low
        if low > 27:
            raise CborError("its signature has a part without a length")
        width = 1 << (low - 24)
        size = int.from_bytes(self._take(width), "big")
        if size < (24, 1 << 8, 1 << 16, 1 << 32)[low - 24]:
            raise CborError("its signature isn't in its only form")
        return kind, size

    def _take(self, size: int) -> bytes:
        if size > len(self.data) - self.place:
            raise CborError("its signature is cut off")
        self.place += size
        return self.data[self.place - size : self.place]

    def _count(self, size: int) -> int:
        if size > MAX_ITEMS:
            raise CborError(f"its signature has {size:,} parts")
        return size

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise CborError("its signature holds a text that isn't UTF-8") from error

    def _table(self, size: int, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for _ in range(size):
            key = self.read(depth)
            if not isinstance(key, int | str) or key in found:
                raise CborError("its signature has a key twice, or one that is no key")
            found[key] = self.read(depth)
        return found

    def _simple(self, size: int) -> bool | None:
        if size not in (20, 21, 22):
            raise CborError("its signature holds what no signature has")
        return {20: False, 21: True, 22: None}[size]
