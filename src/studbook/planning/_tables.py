"""Measurements of anybody's pipeline, read into series: one a metric and cell, each with its replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError, DataError, RunFolderError
from studbook.parameters import nearest

if TYPE_CHECKING:
    import polars as pl

Table: TypeAlias = "str | Path | pl.DataFrame | Mapping[str, Sequence[Any]]"
"""A file, a run folder, or columns in memory."""

_REQUIRED = ("generation", "metric", "value")
_KEYS = ("metric", "cell", "replicate", "generation")


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One replicate's measurements in the order of generations.

    Attributes:
        generations: ``(m,)``, increasing.
        values: ``(m,)``, finite.
        stderr: ``(m,)`` standard errors, 0 where a value is exact or nothing is known.
        rows: ``(m,)`` rows of the table.
    """

    generations: Floats
    values: Floats
    stderr: Floats
    rows: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """All runs of one metric in one cell."""

    metric: str
    cell: str
    runs: tuple[Run, ...]


def read_series(table: Table, metric: str | None) -> tuple[Series, ...]:
    """The series of a table, in the order of their first rows.

    Args:
        table: See ``Table``.
        metric: Only this one; ``None`` for all.

    Raises:
        ConfigError: A metric that the table doesn't hold.
        DataError: A file that can't be read, a missing column, or a row that no measurement can be; the message names the row.
        RunFolderError: A folder without measurements.
    """
    frame, where = _load(table)
    frame = _checked(frame, where)
    names = frame["metric"].unique(maintain_order=True).to_list()
    if metric is not None:
        if metric not in names:
            raise ConfigError(f"{where} holds no metric {metric!r}", hint=nearest(metric, names, noun="metric"))
        names = [metric]
    groups = frame.sort("replicate", "generation").partition_by("metric", "cell", as_dict=True, maintain_order=True)
    ordered = sorted(groups.items(), key=lambda item: int(item[1]["row"].to_numpy().min()))
    return tuple(Series(str(key[0]), str(key[1]), _runs(group)) for key, group in ordered if key[0] in names)


def _runs(group: pl.DataFrame) -> tuple[Run, ...]:
    parts = group.partition_by("replicate", maintain_order=True)
    return tuple(
        Run(part["generation"].to_numpy(), part["value"].to_numpy(), part["stderr"].to_numpy(), part["row"].to_numpy().astype(np.int64))
        for part in parts
    )


def _load(table: Table) -> tuple[pl.DataFrame, str]:
    import polars as pl

    if isinstance(table, pl.DataFrame):
        return table, "the table"
    if isinstance(table, Mapping):
        sizes = {name: len(column) for name, column in table.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(f"the table's columns have different lengths: {sizes}")
        return pl.DataFrame(dict(table), strict=False), "the table"
    path = Path(table)
    if path.is_dir():
        path = path / "measurements.parquet"
        if not path.is_file():
            raise RunFolderError(f"{path.parent} holds no measurements.parquet", hint="pass a study's run folder, or a CSV or Parquet file")
    if not path.is_file():
        raise DataError(f"there is no file {path}", hint="pass a CSV or Parquet file, or a study's run folder")
    return _read_file(path), str(path)


def _read_file(path: Path) -> pl.DataFrame:
    import polars as pl

    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise DataError(f"{path} is neither .csv nor .parquet", hint="columns: generation, metric, value")
    try:
        # Text first: a word in a number column must name its row, which type inference can't.
        return pl.read_parquet(path) if suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} can't be read as {suffix[1:].upper()}: {reason}", hint="is it another format, or cut short?") from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error


def _checked(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """The columns that count, with types and defaults, and every row possible."""
    import polars as pl

    for name in _REQUIRED:
        if name not in frame.columns:
            raise DataError(f"{where} has no column {name!r}", hint=nearest(name, frame.columns, noun="column"))
    if frame.is_empty():
        raise DataError(f"{where} holds no rows", hint="columns: generation, metric, value")
    frame = frame.with_row_index("row").with_columns(
        _number(frame, "generation"),
        _number(frame, "value"),
        _number(frame, "stderr").fill_nan(0.0).fill_null(0.0) if "stderr" in frame.columns else pl.lit(0.0).alias("stderr"),
        *(pl.col(name).cast(pl.String) if name in frame.columns else pl.lit("0").alias(name) for name in ("cell", "replicate")),
        pl.col("metric").cast(pl.String),
    )
    generation, value, stderr = pl.col("generation"), pl.col("value"), pl.col("stderr")
    whole = generation.is_finite() & (generation >= 0) & (generation == generation.floor()) & (generation < 2**53)
    _refuse(frame, ~whole, where, "generation", "expected a whole number, 0 or more")
    _refuse(frame, ~value.is_finite(), where, "value", "expected a finite number")
    _refuse(frame, ~(stderr.is_finite() & (stderr >= 0)), where, "stderr", "expected a finite number, 0 or more")
    _refuse(frame, pl.col("metric").is_null(), where, "metric", "expected a name")
    _refuse(frame, pl.struct(_KEYS).is_first_distinct().not_(), where, "generation", "expected one row for each metric, cell and replicate")
    return frame


def _number(frame: pl.DataFrame, name: str) -> pl.Expr:
    import polars as pl

    column = pl.col(name)
    stripped = column.str.strip_chars() if frame.schema[name] == pl.String else column
    return stripped.cast(pl.Float64, strict=False).alias(name)


def _refuse(frame: pl.DataFrame, wrong: pl.Expr, where: str, column: str, expected: str) -> None:
    """Raise for the rows where ``wrong`` holds, or where it can't be told; the first few are named."""
    rows = frame.filter(wrong.fill_null(value=True))
    if rows.is_empty():
        return
    first = rows["row"].head(5).to_list()
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    line = f" (line {first[0] + 2} of the file)" if where.endswith(".csv") else ""
    shown = rows[column][0]
    raise DataError(
        f"{where}: {column} is {'not a number' if shown is None else shown} in row{'s' * (len(rows) > 1)} "
        f"{', '.join(map(str, first))}{more}{line}, {expected}",
        hint="rows count from 0, without the header",
    )
