"""JSON Lines, plain or compressed: a record a line, in bounded memory whatever the lines are."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from studbook.screening._collecting import Item, in_pieces, picture_record, size_of, text_record
from studbook.screening._unpacking import BombError, open_unpacked
from studbook.screening.protocols import Record
from studbook.screening.reading import Input, Limits, Piece, Skip

_UNPACKING_ERRORS = (OSError, EOFError, ValueError, zlib.error)


def read_pieces(source: Input, position: int, column: str, limits: Limits) -> Iterator[Piece]:
    """See ``studbook.screening.reading.read_pieces``; a position counts bytes of the unpacked file."""
    return in_pieces(_items(source, position, column, limits), position, limits)


def _items(source: Input, position: int, column: str, limits: Limits) -> Iterator[Item]:
    at = position
    try:
        with open_unpacked(source.paths[0], position) as file:
            for line, length in _lines(file, limits.text_bytes):
                name, at = f"{source.name}#{at}", at + length
                if line is None:
                    skip = Skip(name, f"a line of {length:,} bytes, at most {limits.text_bytes:,} are read")
                    yield Item(skip, {}, 64, at)
                elif line.strip():
                    found, fields = _parse(name, line, column, limits)
                    yield Item(found, fields, size_of(found), at)
    except BombError as error:
        yield Item(Skip(f"{source.name}#{at}", f"{error}; the rest of the file isn't read"), {}, 64, at)
    except _UNPACKING_ERRORS as error:
        yield Item(Skip(f"{source.name}#{at}", f"damaged or cut off: {error}; the rest of the file isn't read"), {}, 64, at)


def _lines(file: BinaryIO, most: int) -> Iterator[tuple[bytes | None, int]]:
    """Lines and their lengths; of one that is too long only the length."""
    while line := file.readline(most + 1):
        length = len(line)
        if length <= most or line.endswith(b"\n"):
            yield line, length
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(1 << 20)
            length += len(line)
        yield None, length


def _parse(name: str, line: bytes, column: str, limits: Limits) -> tuple[Record | Skip, dict[str, Any]]:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Skip(name, f"isn't UTF-8: byte {error.start} of the line can't be decoded"), {}
    except (ValueError, RecursionError) as error:
        return Skip(name, f"isn't JSON: {error}"[:200]), {}
    if not isinstance(value, dict):
        return Skip(name, f"is {type(value).__name__}, expected an object with the key {column!r}"), {}
    if column not in value:
        near = ", ".join(sorted(value)[:8])
        return Skip(name, f"has no key {column!r}, but {near}"[:200]), {}
    if isinstance(value[column], dict) and "bytes" in value[column]:
        found = _picture(name, value.pop(column), limits)
        return found, value | ({column: found.data} if isinstance(found, Record) else {})
    return text_record(name, value[column], limits), value


def _picture(name: str, value: dict[str, Any], limits: Limits) -> Record | Skip:
    try:
        data = base64.b64decode(str(value["bytes"]), validate=True)
    except (binascii.Error, ValueError) as error:
        return Skip(name, f"its picture isn't base64: {error}")
    return picture_record(name, data, limits)
