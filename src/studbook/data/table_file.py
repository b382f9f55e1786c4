"""Tables: ``.csv`` and ``.parquet``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Batch, numbers
from studbook.data._csv import layout_of, read_column, read_numbers
from studbook.data._digest import digest_of_batch
from studbook.data._files import MAX_BYTES, checked_file, reading, require_bytes
from studbook.data._records import Selection, batch_of_array, require_finite
from studbook.data.dataset import Dataset
from studbook.data.words import TextOptions, Tokens
from studbook.errors import ConfigError, DataError
from studbook.parameters import nearest

if TYPE_CHECKING:
    import polars as pl

TableKind: TypeAlias = Literal["auto", "numbers", "states", "counts"]


@dataclass(frozen=True, slots=True)
class CsvFile:
    r"""A CSV table: one record a line.

    Args:
        path: The file, in UTF-8.
        columns: Columns taken, in this order; empty takes all. Without a header they are named 1, 2, 3, …
        kind: ``numbers`` (also ``auto``); ``counts`` or ``states`` of a single column. States may be words: they are numbered in
            alphabetical order.
        header: Whether the first line names the columns; ``auto`` takes it for a header if none of its cells is a number.
        separator: Character between cells; empty finds out.
        limit: Records taken from the start; 0 takes all.
        max_bytes: Largest file that is read.

    Raises:
        ConfigError: A size out of range, or a separator that isn't one character.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from studbook.data import CsvFile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "herd.csv")
        ...     _ = path.write_text("name,height,weight\nAda,1.5,400\nBo,1.25,380\n")
        ...     dataset = CsvFile(str(path), columns=("weight", "height")).load()
        >>> dataset.space.columns, dataset.records.values.tolist()
        (('weight', 'height'), [[400.0, 1.5], [380.0, 1.25]])
    """

    path: str
    columns: tuple[str, ...] = ()
    kind: TableKind = "auto"
    header: Literal["auto", "yes", "no"] = "auto"
    separator: str = ""
    limit: int = 0
    max_bytes: int = MAX_BYTES

    record_kind: ClassVar[str] = "numbers, states or counts"
    origin: ClassVar[str] = "A CSV file of the user's."

    def __post_init__(self) -> None:
        Selection((), self.limit, self.max_bytes)
        _require_different(self.columns)
        if len(self.separator) > 1 or self.separator in ('"', "\n", "\r", " ", "\0") or not self.separator.isascii():
            raise ConfigError(f"separator is {self.separator!r}, expected one character", hint='for example data.separator = ";"')

    def load(self) -> Dataset:
        """The table's records.

        Raises:
            ConfigError: No column of that name.
            DataError: Unreadable, ragged, text in a number column (line and column), NaN or infinities (rows), no rows.
        """
        file, _ = checked_file(self.path, self.max_bytes)
        layout = layout_of(file, self.path, self.separator, self.header)
        if self.kind in ("states", "counts"):
            column = read_column(file, self.path, layout, self.columns)
            batch = _single(column, self.kind, self.limit, self.max_bytes, self.path)
        else:
            table = read_numbers(file, self.path, layout, self.columns)
            names = self.columns or (layout.names if layout.header else ())
            batch = _numbers(table, names, self.limit, self.max_bytes, self.path)
        return Dataset(Path(self.path).name, batch.space, digest_of_batch(batch), records=batch, origin=self.origin)


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """A Parquet table: numbers, or one column of texts.

    Args:
        path: The file.
        columns: Columns taken, in this order; empty takes all.
        kind: ``auto`` takes one column of texts for text and number columns for numbers; ``counts`` or ``states`` of one column.
        tokens: Of text: see ``TextFile``. The rows are joined, each on a line of its own.
        block: Of text: tokens a record.
        vocabulary: Of text: largest number of different tokens, ``<unk>`` included; 0 keeps all.
        lowercase: Of text: whether upper case is folded away.
        limit: Records taken from the start; 0 takes all.
        max_bytes: Most memory that the records may take.

    Raises:
        ConfigError: A size out of range.

    Examples:
        >>> import tempfile
        >>> import polars as pl
        >>> from pathlib import Path
        >>> from studbook.data import ParquetFile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "herd.parquet")
        ...     pl.DataFrame({"height": [1.5, 1.25]}).write_parquet(path)
        ...     ParquetFile(str(path)).load().records.values.tolist()
        [[1.5], [1.25]]
    """

    path: str
    columns: tuple[str, ...] = ()
    kind: Literal["auto", "numbers", "states", "counts", "text"] = "auto"
    tokens: Tokens = "words"
    block: int = 64
    vocabulary: int = 0
    lowercase: bool = False
    limit: int = 0
    max_bytes: int = MAX_BYTES

    record_kind: ClassVar[str] = "numbers, text, states or counts"
    origin: ClassVar[str] = "A Parquet file of the user's."

    def __post_init__(self) -> None:
        Selection((), self.limit, self.max_bytes)
        _require_different(self.columns)
        self._options()

    def load(self) -> Dataset:
        """The table's records.

        Raises:
            ConfigError: No column of that name.
            DataError: Unreadable, columns that hold no numbers, missing values, NaN or infinities (column and row), no rows.
        """
        file, _ = checked_file(self.path, self.max_bytes)
        batch = self._batch(_read_parquet(file, self.columns, self.max_bytes, self.path))
        return Dataset(Path(self.path).name, batch.space, digest_of_batch(batch), records=batch, origin=self.origin)

    def _options(self) -> TextOptions:
        return TextOptions(self.tokens, self.block, self.vocabulary, self.lowercase, self.limit)

    def _batch(self, frame: pl.DataFrame) -> Batch:
        import polars as pl

        is_text = [isinstance(dtype, pl.String | pl.Categorical | pl.Enum) for dtype in frame.dtypes]
        if self.kind == "text" or (self.kind == "auto" and is_text == [True]):
            if is_text != [True]:
                raise ConfigError(
                    f"{self.path}: expected one column of texts, got {_types(frame)}", hint='choose it with data.columns = ["name"]'
                )
            return self._options().blocks((str(row) + "\n" for row in frame.to_series().cast(pl.String)), self.path)
        if self.kind in ("states", "counts") and frame.width != 1:
            raise ConfigError(f"{self.path}: {frame.width} columns, expected one", hint='choose it with data.columns = ["name"]')
        if self.kind == "states" and is_text == [True]:
            return _single(
                np.array(frame.to_series().cast(pl.String).to_list(), dtype=object), "states", self.limit, self.max_bytes, self.path
            )
        bad = [name for name, dtype in frame.schema.items() if not (dtype.is_numeric() or dtype == pl.Boolean)]
        if bad:
            hint = "choose number columns with data.columns"
            raise DataError(f"{self.path}: column {bad[0]!r} holds {frame.schema[bad[0]]}, expected numbers", hint=hint)
        if self.kind in ("states", "counts"):
            return _single(frame.to_series().to_numpy(), self.kind, self.limit, self.max_bytes, self.path)
        table = frame.select(pl.all().cast(pl.Float64)).to_numpy()
        return _numbers(table, tuple(frame.columns), self.limit, self.max_bytes, self.path)


def _read_parquet(file: Path, columns: tuple[str, ...], max_bytes: int, where: str) -> pl.DataFrame:
    import polars as pl

    hint = "the file is damaged, cut off, or no Parquet"
    try:
        with reading(where):
            scan = pl.scan_parquet(file, glob=False)
            names = scan.collect_schema().names()
            for name in columns:
                if name not in names:
                    raise ConfigError(f"{where} has no column {name!r}", hint=nearest(name, names, noun="column"))
            n_rows = int(scan.select(pl.len()).collect().item())
            require_bytes(where, 8 * n_rows * len(columns or names), max_bytes)
            frame = scan.select(columns or names).collect()
    # Polars panics on some damaged files: a BaseException, which nobody else would catch.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{where} can't be read as Parquet: {str(error).splitlines()[0][:200]}", hint=hint) from error
    if frame.is_empty():
        raise DataError(f"{where} holds no rows")
    for name in frame.columns:
        missing = frame.get_column(name).is_null()
        if missing.any():
            message = f"{where}: column {name!r} has {missing.sum():,} missing values, the first in row {missing.arg_max()}"
            raise DataError(message, hint="fill or remove these rows; they are counted from 0")
    return frame


def _numbers(table: AnyArray, names: tuple[str, ...], limit: int, max_bytes: int, where: str) -> Batch:
    values, _ = Selection((), limit, max_bytes).of(table, None, where)
    require_finite(values, where, names)
    return numbers(values, names)


def _single(column: AnyArray, kind: Literal["states", "counts"], limit: int, max_bytes: int, where: str) -> Batch:
    """One column as states or counts; words are numbered in alphabetical order."""
    if column.dtype == object:
        if kind == "counts":
            raise DataError(f"{where} holds texts such as {column[0]!r}, expected counts", hint='set data.kind = "states"')
        column = np.unique(column.astype(str), return_inverse=True)[1]
    return batch_of_array(column, None, kind, Selection((), limit, max_bytes), where)


def _types(frame: pl.DataFrame) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in list(frame.schema.items())[:5])


def _require_different(columns: tuple[str, ...]) -> None:
    if len(set(columns)) != len(columns):
        raise ConfigError(f"columns names one twice: {list(columns)}", hint="name each column once")
