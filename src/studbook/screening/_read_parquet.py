"""Parquet: row groups are read batch by batch; one that is damaged is passed over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from studbook.screening._collecting import column_of, picture_record, size_of, text_record
from studbook.screening.protocols import Record
from studbook.screening.reading import Input, Limits, Piece, Skip, open_plain, without

MAX_METADATA_BYTES = 1 << 26
BATCH_ROWS = 1000


def read_pieces(source: Input, position: int, column: str, limits: Limits) -> Iterator[Piece]:
    """See ``studbook.screening.reading.read_pieces``; a position counts rows."""
    import pyarrow as pa

    with ExitStack() as stack:
        try:
            plain = stack.enter_context(open_plain(source.paths[0]))
            # Strings stay in the file's dictionary: a megabyte that a million rows repeat is one megabyte.
            texts = [field.name for field in _open(plain).schema_arrow if _is_text(field.type)]
            file = _open(plain, read_dictionary=texts)
        except (pa.ArrowException, OSError, ValueError) as error:
            yield Piece([], None, [Skip(source.name, f"isn't a Parquet file, or is damaged: {error}"[:300])], position or 1)
            return
        if column in file.schema_arrow.names:
            yield from _row_groups(file, source.name, position, column, limits)
        else:
            yield Piece([], None, [Skip(source.name, f"has {without(column, file.schema_arrow.names)}"[:300])], position or 1)


def column_names(path: Path) -> list[str] | None:
    """Columns of a Parquet file; ``None`` where it is none."""
    import pyarrow as pa

    try:
        with open_plain(path) as plain:
            return list(_open(plain).schema_arrow.names)
    except (pa.ArrowException, OSError, ValueError):
        return None


def _open(plain: BinaryIO, **options: Any) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(
        plain, thrift_string_size_limit=MAX_METADATA_BYTES, thrift_container_size_limit=1 << 20, pre_buffer=False, **options
    )


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


@dataclass(slots=True)
class _Held:
    """Rows that were read, until they make a piece."""

    limits: Limits
    tables: list[Any] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    size: int = 0

    def take(self, found: Record | Skip) -> bool:
        """Hold a row's record, and say whether that makes a piece."""
        if isinstance(found, Skip):
            self.skipped.append(found)
        else:
            self.records.append(found)
        self.size += size_of(found)
        return len(self.records) + len(self.skipped) >= self.limits.records or self.size >= self.limits.piece_bytes

    def emit(self, position: int) -> Piece:
        import pyarrow as pa

        piece = Piece(self.records, pa.concat_tables(self.tables) if self.records else None, self.skipped, position)
        self.tables, self.records, self.skipped, self.size = [], [], [], 0
        return piece


def _row_groups(file: Any, name: str, position: int, column: str, limits: Limits) -> Iterator[Piece]:
    import pyarrow as pa

    held, first = _Held(limits), 0
    for group in range(file.metadata.num_row_groups):
        n = file.metadata.row_group(group).num_rows
        at = first
        try:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], use_threads=False) if first + n > position else ():
                rows = _workable(pa.Table.from_batches([batch])).slice(max(position - at, 0))
                yield from _batch(held, rows, max(at, position), name, column)
                at += batch.num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            held.skipped.append(Skip(f"{name}#{at}", f"rows {at} to {first + n - 1} are damaged: {error}"[:300]))
        first += n
    if held.records or held.skipped:
        yield held.emit(first)


def _batch(held: _Held, rows: Any, first: int, name: str, column: str) -> Iterator[Piece]:
    """The pieces that a batch's rows complete; what is left stays held."""
    start, kept = 0, list[int]()
    for i, found in enumerate(_records(rows.column(rows.column_names.index(column)), name, first, held.limits)):
        kept += [i] if isinstance(found, Record) else []
        if held.take(found):
            held.tables.append(_chosen(rows, start, i + 1, kept))
            yield held.emit(first + i + 1)
            start, kept = i + 1, []
    held.tables.append(_chosen(rows, start, rows.num_rows, kept))


def _chosen(rows: Any, start: int, stop: int, kept: list[int]) -> Any:
    """Those of a batch's rows that are records, as the file's own reader would give them."""
    import pyarrow as pa

    return _plain(rows.slice(start, stop - start) if len(kept) == stop - start else rows.take(pa.array(kept, pa.int64())))


def _workable(table: Any) -> Any:
    """The table without views, of which Arrow can't choose rows: a view of texts becomes texts, what has one inside becomes JSON."""
    import pyarrow as pa

    plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    for i, each in enumerate(table.schema):
        if each.type in plain:
            table = table.set_column(i, each.name, table.column(i).cast(plain[each.type]))
        elif "_view" in str(each.type):
            table = table.set_column(i, each.name, column_of(table.column(i).to_pylist()))
    return table


def _records(values: Any, name: str, first: int, limits: Limits) -> Iterator[Record | Skip]:
    """Each value as a record; where none is long, all are decoded at once."""
    if _is_short_text(values, limits):
        for i, text in enumerate(values.cast(values.type.value_type).to_pylist()):
            yield text_record(f"{name}#{first + i}", text, limits)
    else:
        for i in range(len(values)):
            yield _record(values[i], f"{name}#{first + i}", limits)


def _is_short_text(values: Any, limits: Limits) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = values.type
    if not (pa.types.is_dictionary(kind) and (pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))):
        return False
    longest = max((pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0 for chunk in values.chunks), default=0)
    try:
        for chunk in values.chunks:
            chunk.dictionary.validate(full=True)
    except pa.ArrowInvalid:
        return False  # one of them isn't UTF-8: they are decoded one by one
    return bool(values.null_count == 0 and longest * len(values) <= limits.piece_bytes)


def _plain(table: Any) -> Any:
    """The columns as the file's own reader would give them, without dictionaries."""
    import pyarrow as pa

    for i, each in enumerate(table.schema):
        if pa.types.is_dictionary(each.type):
            table = table.set_column(i, each.name, table.column(i).cast(each.type.value_type))
    return table


def _record(value: Any, name: str, limits: Limits) -> Record | Skip:
    import pyarrow as pa

    if not value.is_valid:
        return Skip(name, "its text is missing")
    inner = value.value if isinstance(value, pa.DictionaryScalar) else value
    if isinstance(inner, pa.StructScalar):
        return _picture(inner, name, limits)
    most = max(limits.text_bytes, limits.picture_bytes)
    buffer = inner.as_buffer() if hasattr(inner, "as_buffer") else None
    if buffer is not None and buffer.size > most:
        return Skip(name, f"its value has {buffer.size:,} bytes, at most {most:,} are read")
    if isinstance(inner, pa.BinaryScalar | pa.LargeBinaryScalar) and not isinstance(inner, pa.StringScalar | pa.LargeStringScalar):
        return picture_record(name, inner.as_py(), limits)
    try:
        return text_record(name, inner.as_py(), limits)
    except UnicodeDecodeError as error:
        return Skip(name, f"isn't UTF-8: byte {error.start} can't be decoded")


def _picture(value: Any, name: str, limits: Limits) -> Record | Skip:
    """A picture as the hub's data sets store it: a struct of the file's bytes and its path; the path is never opened."""
    import pyarrow as pa

    data = value["bytes"] if "bytes" in {field.name for field in value.type} else None
    is_text = isinstance(data, pa.StringScalar | pa.LargeStringScalar)
    if data is None or not data.is_valid or is_text or not hasattr(data, "as_buffer"):
        return Skip(name, "its picture holds no bytes, only a path; paths inside a table aren't opened")
    return picture_record(name, data.as_py(), limits)
