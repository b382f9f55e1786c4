"""Records gathered into pieces of a bounded size, with their columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studbook.errors import DataError
from studbook.records.content import bytes_content, text_content
from studbook.screening.protocols import Record
from studbook.screening.reading import Limits, Piece, Skip


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One record with its fields, or one that was skipped, and where the next begins."""

    found: Record | Skip
    fields: Mapping[str, Any]
    size: int
    position: int


@dataclass(slots=True)
class _Gathered:
    records: list[Record] = field(default_factory=list)
    fields: list[Mapping[str, Any]] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    size: int = 0

    @property
    def n(self) -> int:
        return len(self.records) + len(self.skipped)


def in_pieces(items: Iterable[Item], position: int, limits: Limits) -> Iterator[Piece]:
    """Pieces of ``limits.records`` items, or of ``limits.piece_bytes`` where these are fewer; the last one is shorter."""
    held = _Gathered()
    for item in items:
        position = item.position
        if isinstance(item.found, Skip):
            held.skipped.append(item.found)
        else:
            held.records.append(item.found)
            held.fields.append(item.fields)
        held.size += item.size
        if held.n >= limits.records or held.size >= limits.piece_bytes:
            yield Piece(held.records, table_of(held.fields), held.skipped, position)
            held = _Gathered()
    if held.n:
        yield Piece(held.records, table_of(held.fields), held.skipped, position)


MAX_COLUMNS = 1000
"""Most columns of a table made of rows with names of their own."""
MORE = "more_fields"
"""Column of what a row has in other fields, as JSON."""


def table_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as an Arrow table; a column whose values are of several types becomes JSON.

    Beyond a thousand names the other fields share one column: rows whose names are all different would make a table of their square.
    """
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        return None
    if len(names) > MAX_COLUMNS:
        kept = set(names[:MAX_COLUMNS]) - {MORE}
        rows = [_narrowed(row, kept) for row in rows]
        names = [*(name for name in names if name in kept), MORE]
    return pa.table({_encodable(name): column_of([row.get(name) for row in rows]) for name in names})


def _narrowed(row: Mapping[str, Any], kept: set[str]) -> dict[str, Any]:
    more = {name: value for name, value in row.items() if name not in kept}
    return {name: value for name, value in row.items() if name in kept} | ({MORE: _as_json(more)} if more else {})


def column_of(values: list[Any]) -> Any:
    """Values as an Arrow array: of their own type where they have one, else texts and JSON."""
    import pyarrow as pa

    if not any(isinstance(value, dict | list) for value in values):
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            pass
    texts = [value if value is None or isinstance(value, str) else _as_json(value) for value in values]
    return pa.array([None if text is None else _encodable(text) for text in texts], pa.large_string())


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return "null"


def _encodable(text: str) -> str:
    """The text; half a surrogate pair, which no table can hold, is shown as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def text_record(name: str, text: Any, limits: Limits, *, data: bytes = b"", sidecar: bytes = b"") -> Record | Skip:
    """A text as a record, or why it is none; its file's bytes are kept where a credential beside it is about them."""
    if not isinstance(text, str):
        return Skip(name, f"its text is {type(text).__name__}, expected a text")
    if not text.strip():
        return Skip(name, "its text is empty")
    if len(text) > limits.text_bytes:
        return Skip(name, f"its text has {len(text):,} characters, at most {limits.text_bytes:,} are read")
    try:
        return Record(name, "text", text_content(text), text=text, data=data if sidecar else b"", sidecar=sidecar)
    except (DataError, UnicodeEncodeError):
        return Skip(name, "its text has half a surrogate pair, which is no character")


def picture_record(name: str, data: bytes, limits: Limits, sidecar: bytes = b"") -> Record | Skip:
    """A picture's file as a record, unpacked, or why it is none."""
    if len(data) > limits.picture_bytes:
        return Skip(name, f"its picture has {len(data):,} bytes, at most {limits.picture_bytes:,} are read")
    record = Record(name, "image", bytes_content(data), data=data, sidecar=sidecar)
    try:
        _ = record.pixels
    except DataError as error:
        return Skip(name, error.message.removeprefix(f"{name} "))
    return record


def size_of(found: Record | Skip) -> int:
    """Bytes that a record holds in memory, about."""
    if isinstance(found, Skip):
        return len(found.reason)
    return len(found.text) + len(found.data) + (found.pixels.nbytes if found.kind == "image" else 0)
