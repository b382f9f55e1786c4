"""CSV tables: Polars reads what is flawless; Python's csv module reads the rest, or says which line is wrong."""

from __future__ import annotations

import csv
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np

from studbook.arrays import AnyArray, Floats
from studbook.data._files import reading
from studbook.data._unicode import read_text
from studbook.errors import ConfigError, DataError
from studbook.parameters import nearest

_SEPARATORS = ",;\t|"
_MANY_COLUMNS = 4_096
_LONGEST_LINE = 4 * 2**20


@dataclass(frozen=True, slots=True)
class CsvLayout:
    """How a CSV file is laid out.

    Attributes:
        separator: Character between cells.
        names: Names of all columns, ``("1", "2", …)`` where there is no header.
        header: Whether the first line names the columns.
    """

    separator: str
    names: tuple[str, ...]
    header: bool

    def positions(self, columns: tuple[str, ...], where: str) -> list[int]:
        """Positions of the chosen columns, of all where none is chosen."""
        for name in columns:
            if name not in self.names:
                raise ConfigError(f"{where} has no column {name!r}", hint=nearest(name, self.names, noun="column"))
        return [self.names.index(name) for name in columns] if columns else list(range(len(self.names)))


def layout_of(file: Path, where: str, separator: str, header: Literal["auto", "yes", "no"]) -> CsvLayout:
    """The layout, from the first line with content.

    Under ``auto`` the first line is a header if none of its cells is a number.
    """
    head = next((line for text in read_text(file, where) for line in text.splitlines() if line.strip()), "")
    separator = separator or max(_SEPARATORS, key=lambda mark: (head.count(mark), -_SEPARATORS.index(mark)))
    cells = next((cells for _, cells in _rows(file, where, separator)), None)
    if cells is None:
        raise DataError(f"{where} holds no rows")
    is_header = header == "yes" or (header == "auto" and not any(_is_number(cell) for cell in cells))
    names = tuple(cells) if is_header else tuple(str(i + 1) for i in range(len(cells)))
    twice, times = Counter(names).most_common(1)[0]
    if times > 1:
        hint = 'rename one, or set data.header = "no" and count the columns from 1'
        raise DataError(f"{where} has two columns named {twice!r}", hint=hint)
    return CsvLayout(separator, names, is_header)


def read_numbers(file: Path, where: str, layout: CsvLayout, columns: tuple[str, ...]) -> Floats:
    """The chosen columns as ``(n, d)``.

    Raises:
        DataError: A line with too few or too many cells, an empty cell or text in a number column; the message names line and column.
    """
    positions = layout.positions(columns, where)
    table = _fast(file, layout, positions)
    return _thorough(file, where, layout, positions) if table is None else table


def read_column(file: Path, where: str, layout: CsvLayout, columns: tuple[str, ...]) -> AnyArray:
    """One column as whole numbers, or as texts where none of its cells is a number."""
    positions = layout.positions(columns, where)
    if len(positions) != 1:
        raise ConfigError(f"{where}: {len(positions)} columns, expected one", hint='choose it with data.columns = ["name"]')
    cells = [row[positions[0]] for _, row in _checked_rows(file, where, layout)]
    if any(_is_number(cell) for cell in cells):
        return read_numbers(file, where, layout, columns)[:, 0]
    return np.array(cells, dtype=object)


def _fast(file: Path, layout: CsvLayout, positions: Sequence[int]) -> Floats | None:
    """The table, or ``None`` at the first thing that isn't as it should be; quotes are left to Python's reader."""
    import polars as pl

    # Polars overlooks a separator that ends the file.
    if len(layout.names) > _MANY_COLUMNS or _last_byte(file) == layout.separator.encode():
        return None
    # Columns that aren't chosen may hold text.
    schema = {str(i): pl.Float64() if i in positions else pl.String() for i in range(len(layout.names))}
    try:
        frame = pl.read_csv(
            file, has_header=False, skip_lines=int(layout.header), schema=schema, separator=layout.separator, quote_char=None
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return None
    texts = frame.select(pl.col(pl.String).str.contains_any(['"', layout.separator]).any())
    # A short line shows as missing cells, also in columns that aren't chosen.
    if frame.is_empty() or any(texts.row(0) if texts.width else ()) or any(column.null_count() for column in frame):
        return None
    return np.ascontiguousarray(frame.select(str(i) for i in positions).to_numpy())


def _last_byte(file: Path) -> bytes:
    with reading(str(file)), file.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1)


def _thorough(file: Path, where: str, layout: CsvLayout, positions: Sequence[int]) -> Floats:
    values = array("d")
    for line, row in _checked_rows(file, where, layout):
        for position in positions:
            values.append(_number(row[position], line, layout.names[position], where))
    if not values:
        raise DataError(f"{where} holds a header and no rows")
    return np.frombuffer(values, dtype=np.float64).reshape(-1, len(positions)).copy()


def _number(cell: str, line: int, column: str, where: str) -> float:
    if not _is_number(cell):
        shown = "nothing" if not cell.strip() else repr(cell if len(cell) <= 40 else cell[:39] + "…")
        hint = 'choose other columns with data.columns, or set data.header = "yes" if this is a header'
        raise DataError(f"{where}: line {line:,}, column {column!r} holds {shown}, expected a number", hint=hint)
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    # Python's own literals allow 1_000; a data file that holds it doesn't mean a thousand.
    return "_" not in cell


def _checked_rows(file: Path, where: str, layout: CsvLayout) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header with their line numbers, each as long as the first line."""
    rows = _rows(file, where, layout.separator)
    if layout.header:
        next(rows)
    for line, row in rows:
        if len(row) != len(layout.names):
            raise DataError(
                f"{where}: line {line:,} has {len(row)} cells, expected {len(layout.names)}", hint="every line needs as many as the first"
            )
        yield line, row


def _rows(file: Path, where: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """All lines with content, split into cells, with their line numbers (1-based)."""
    with reading(where), file.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(_lines(stream, where), delimiter=separator, strict=True)
        try:
            for row in rows:
                if row and (len(row) > 1 or row[0].strip()):
                    yield rows.line_num, row
        except UnicodeDecodeError as error:
            # Read again: the error's own offset counts from some buffer's start.
            for _ in read_text(file, where):
                pass
            raise DataError(f"{where} isn't UTF-8") from error
        except csv.Error as error:
            raise DataError(f"{where}: line {rows.line_num:,} isn't CSV: {error}", hint="check the quotes on it") from error


def _lines(stream: IO[str], where: str) -> Iterator[str]:
    """The lines of a file; one that never ends is refused before it fills the memory."""
    while line := stream.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise DataError(f"{where} has a line of more than {_LONGEST_LINE:,} characters", hint="is it a CSV file?")
        yield line
