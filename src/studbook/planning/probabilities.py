"""Probabilities or counts of states, read from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from studbook.arrays import Floats
from studbook.errors import DataError
from studbook.parameters import nearest
from studbook.theory import CategoricalLaw

_COLUMNS = ("probability", "count")
_LARGEST = 512 * 2**20


def read_probabilities(path: str | Path) -> CategoricalLaw:
    r"""The law behind a file of probabilities or counts.

    Args:
        path: Text with one number a line (blank lines and lines that begin with ``#`` don't count), or CSV or Parquet with a column
            ``probability`` or ``count``. Plain numbers are probabilities if they sum to 1, else they must be whole: counts.

    Returns:
        One law; states of probability 0 stay in it.

    Raises:
        DataError: A file that can't be read, or a number that isn't one, is negative or not finite (the line is named), or
            probabilities that don't sum to 1.

    Examples:
        >>> import tempfile, pathlib
        >>> from studbook.planning import read_probabilities
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "counts.txt"
        >>> _ = file.write_text("3\n1\n")
        >>> read_probabilities(file).probabilities.tolist()
        [[0.75, 0.25]]
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"there is no file {file}", hint="one probability or count a line, or CSV or Parquet")
    if file.stat().st_size > _LARGEST:
        raise DataError(f"{file} has {file.stat().st_size:,} bytes, expected at most {_LARGEST:,}")
    tabular = file.suffix.lower() in (".csv", ".parquet")
    name, cells, lines = _read_table(file) if tabular else _read_lines(file)
    values = _numbers(file, cells, lines)
    return CategoricalLaw(_normalise(file, values, name)[None])


def _read_lines(file: Path) -> tuple[str, list[str], list[int]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} isn't UTF-8 text (byte {error.start})", hint="one probability or count a line") from error
    except OSError as error:
        raise DataError(f"{file} can't be read: {error.strerror or error}") from error
    kept = [(i, line.strip()) for i, line in enumerate(text.splitlines(), start=1) if line.strip() and not line.lstrip().startswith("#")]
    return "", [cell for _, cell in kept], [i for i, _ in kept]


def _read_table(file: Path) -> tuple[str, list[str], list[int]]:
    import polars as pl

    try:
        frame = pl.read_parquet(file) if file.suffix.lower() == ".parquet" else pl.read_csv(file, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{file} can't be read as {file.suffix[1:].upper()}: {reason}", hint="is it another format, or cut short?"
        ) from error
    name = next((column for column in _COLUMNS if column in frame.columns), None)
    if name is None:
        close = nearest(_COLUMNS[0], frame.columns, noun="column")
        raise DataError(f"{file} has no column 'probability' or 'count'", hint=close)
    cells = frame[name].cast(pl.String, strict=False).fill_null("").to_list()
    return name, cells, list(range(2, len(cells) + 2))


def _numbers(file: Path, cells: list[str], lines: list[int]) -> Floats:
    if not cells:
        raise DataError(f"{file} holds no numbers", hint="one probability or count a line")
    values = np.empty(len(cells))
    place = "row" if file.suffix.lower() == ".parquet" else "line"
    for index, (cell, line) in enumerate(zip(cells, lines, strict=True)):
        at = line - 2 if place == "row" else line
        try:
            values[index] = float(cell)
        except ValueError as error:
            raise DataError(f"{file}, {place} {at}: {cell[:40]!r} isn't a number", hint="one probability or count a line") from error
        if not 0.0 <= values[index] < np.inf:
            raise DataError(f"{file}, {place} {at}: {cell[:40]} is negative or not finite", hint="expected 0 or more")
    return values


def _normalise(file: Path, values: Floats, name: str) -> Floats:
    total = float(values.sum())
    near_one = abs(total - 1.0) <= 1e-6
    whole = bool((values == np.floor(values)).all())
    if total <= 0.0 or not np.isfinite(total) or (name == "probability" and not near_one) or not (near_one or whole):
        raise DataError(
            f"{file}: {len(values)} numbers sum to {total:.9g}, expected probabilities that sum to 1, or whole counts",
            hint="divide by the sum, or name the column 'count'",
        )
    return values / total
