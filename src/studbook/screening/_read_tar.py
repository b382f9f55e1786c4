"""WebDataset: the members of a tar file that share a name up to its first dot are one record. Nothing is ever unpacked to the disk."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from studbook.screening._collecting import Item, in_pieces, picture_record, size_of, text_record
from studbook.screening._unpacking import BombError, open_unpacked
from studbook.screening.columns import IMAGE, TEXT
from studbook.screening.protocols import Record
from studbook.screening.reading import PICTURES, SIDECAR, TEXTS, Input, Limits, Piece, Skip

MAX_MEMBERS = 64
"""Most members of one record."""
MAX_HEADER_BYTES = 1 << 20
_DAMAGE = (tarfile.TarError, OSError, EOFError, ValueError, zlib.error)


class _Member(tarfile.TarInfo):
    """A member whose extended header is refused before it is read, where it is too long for one."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        kinds = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        if self.type in kinds and not 0 <= self.size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a member's header has {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def read_pieces(source: Input, position: int, column: str, limits: Limits) -> Iterator[Piece]:
    """See ``studbook.screening.reading.read_pieces``; a position counts records and skipped members."""
    return in_pieces(_items(source, position, column, limits), position, limits)


def _items(source: Input, position: int, column: str, limits: Limits) -> Iterator[Item]:
    at = 0
    try:
        with open_unpacked(source.paths[0]) as file, tarfile.open(fileobj=file, mode="r|", tarinfo=_Member) as archive:
            for found in _samples(archive, source.name, limits, skip_to=position):
                at += 1
                if at > position:
                    record, fields = (found, {}) if isinstance(found, Skip) else _record(source.name, *found, column, limits)
                    yield Item(record, fields, size_of(record), at)
    except BombError as error:
        yield Item(Skip(source.name, f"{error}; the rest of the file isn't read"), {}, 64, at + 1)
    except _DAMAGE as error:
        yield Item(Skip(source.name, f"damaged or cut off: {error}; the rest of the file isn't read"[:300]), {}, 64, at + 1)


def _samples(archive: tarfile.TarFile, name: str, limits: Limits, *, skip_to: int) -> Iterator[Skip | tuple[str, dict[str, bytes]]]:
    """Members gathered by key, and members that are passed over."""
    key, held, n = "", dict[str, bytes](), 0
    for member in archive:
        archive.members.clear()  # type: ignore[attr-defined]  # it would remember every member
        skip = _unwanted(member, name, limits)
        if skip is not None:
            n += 1
            yield skip
            continue
        stem, suffix = _key(member.name)
        if stem != key and held:
            n += 1
            yield key, held
            held = {}
        key = stem
        if suffix in held or len(held) >= MAX_MEMBERS:
            n += 1
            yield Skip(_id(name, member.name), "its record has a member of that kind already, or too many")
        else:
            held[suffix] = _content(archive, member) if n >= skip_to - 1 else b""
    if held:
        yield key, held


def _unwanted(member: tarfile.TarInfo, name: str, limits: Limits) -> Skip | None:
    path = PurePosixPath(member.name)
    where = _id(name, member.name)
    if member.isdir():
        return Skip(where, "a folder") if ".." in path.parts or path.is_absolute() else Skip(where, "a folder holds no record")
    if path.is_absolute() or ".." in path.parts:
        return Skip(where, "its name leads out of the archive")
    if not member.isreg() or member.issparse():
        return Skip(where, "a link, a device or a sparse file")
    most = limits.picture_bytes if member.name.lower().endswith(PICTURES) else limits.text_bytes
    if member.size > most:
        return Skip(where, f"a member of {member.size:,} bytes, at most {most:,} are read")
    return None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    data = b"" if file is None else file.read(member.size)
    if len(data) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return data


def _id(name: str, member: str) -> str:
    return f"{name}#{member.encode('utf-8', 'backslashreplace').decode()}"


def _key(name: str) -> tuple[str, str]:
    folder, _, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, "." + suffix.lower()


def _record(name: str, key: str, members: dict[str, bytes], column: str, limits: Limits) -> tuple[Record | Skip, dict[str, Any]]:
    """One record of its members: its picture, else its text, else the text in its JSON."""
    where = _id(name, key)
    fields: dict[str, Any] = {"__key__": key.encode("utf-8", "backslashreplace").decode(), **_json(members.get(".json", b""))}
    sidecar = next((data for suffix, data in members.items() if suffix.endswith(SIDECAR)), b"")
    for suffix, data in members.items():
        if suffix.endswith(PICTURES):
            caption = next((members[each] for each in TEXTS if each in members), b"")
            fields |= {IMAGE: data} | ({"caption": caption.decode("utf-8", "replace")} if caption else {})
            return picture_record(where, data, limits, sidecar), fields
    for suffix, data in members.items():
        if suffix.endswith(TEXTS):
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                return Skip(where, f"isn't UTF-8: byte {error.start} can't be decoded"), {}
            return text_record(where, text, limits, data=data, sidecar=sidecar), fields | {TEXT: text}
    if isinstance(fields.get(column), str):
        return text_record(where, fields[column], limits), fields
    return Skip(where, f"has no text and no picture, only {', '.join(sorted(members))}"[:200]), {}


def _json(data: bytes) -> dict[str, Any]:
    if not data:
        return {}
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return {str(name): each for name, each in value.items()} if isinstance(value, dict) else {}
