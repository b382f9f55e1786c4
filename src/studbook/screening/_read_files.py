"""Folders of texts and pictures: a record a file, with a credential beside it where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studbook.screening._collecting import Item, in_pieces, picture_record, size_of, text_record
from studbook.screening.columns import IMAGE, TEXT
from studbook.screening.protocols import Record
from studbook.screening.reading import PICTURES, SIDECAR, Input, Limits, Piece, Skip, open_plain

MAX_SIDECAR_BYTES = 1 << 24


def read_pieces(source: Input, position: int, _column: str, limits: Limits) -> Iterator[Piece]:
    """See ``studbook.screening.reading.read_pieces``; a position counts files."""
    return in_pieces(_items(source, position, limits), position, limits)


def _items(source: Input, position: int, limits: Limits) -> Iterator[Item]:
    for i in range(position, len(source.paths)):
        found = _read(source.paths[i], source.names[i], limits)
        yield Item(found, _fields(found, source.names[i]), size_of(found), i + 1)


def _fields(found: Record | Skip, name: str) -> dict[str, Any]:
    if isinstance(found, Skip):
        return {}
    return {"path": name, IMAGE: found.data} if found.kind == "image" else {"path": name, TEXT: found.text}


def _read(path: Path, name: str, limits: Limits) -> Record | Skip:
    is_picture = name.lower().endswith(PICTURES)
    most = limits.picture_bytes if is_picture else limits.text_bytes
    try:
        data = _bounded(path, most)
        sidecar = _sidecar(path)
    except OSError as error:
        return Skip(name, f"can't be read: {error.strerror or error}")
    if data is None or sidecar is None:
        return Skip(name, f"it, or the credential beside it, is longer than the {most:,} bytes that are read")
    if is_picture:
        return picture_record(name, data, limits, sidecar)
    try:
        return text_record(name, data.decode("utf-8-sig"), limits, data=data, sidecar=sidecar)
    except UnicodeDecodeError as error:
        return Skip(name, f"isn't UTF-8: byte {error.start} can't be decoded")


def _sidecar(path: Path) -> bytes | None:
    beside = path.with_name(path.name + SIDECAR)
    return _bounded(beside, MAX_SIDECAR_BYTES) if beside.is_file() and not beside.is_symlink() else b""


def _bounded(path: Path, most: int) -> bytes | None:
    with open_plain(path) as file:
        data = file.read(most + 1)
    return None if len(data) > most else data
