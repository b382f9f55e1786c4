"""Tables on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import typer

from studbook.errors import printable


class Format(StrEnum):
    """How a command writes its data."""

    TABLE = "table"
    JSON = "json"


def show_json(value: Any) -> None:
    """Write a value as JSON on stdout."""
    text = json.dumps(value, indent=2, default=str, ensure_ascii=False)
    typer.echo(text if text.isascii() else "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def show_table(rows: Sequence[Mapping[str, Any]], title: str = "") -> None:
    """Write rows as a table on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160)
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else ():
        numeric = all(isinstance(row[name], int | float) or row[name] is None for row in rows)
        table.add_column(printable(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    console.print(table, markup=False)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


class Bar:
    """A progress bar on stderr with the rate and the time left; see ``studbook.study.Progress``."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(show_speed=True),
            MofNCompleteColumn(),
            TextColumn("units, {task.fields[rate]}, left"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=False)

    def begin(self, total: int, done: int) -> None:
        """See ``Progress``."""
        self._progress.start()
        self._done = done
        self._task = self._progress.add_task("running", total=total, completed=done, rate="")

    def advance(self) -> None:
        """See ``Progress``."""
        task = self._progress.tasks[0]
        elapsed = task.elapsed or 0.0
        rate = (task.completed + 1 - self._done) / elapsed if elapsed else 0.0
        self._progress.update(self._task, advance=1, rate=f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min")

    def end(self) -> None:
        """See ``Progress``."""
        self._progress.stop()
