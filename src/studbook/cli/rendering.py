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


NAMED = 4
"""Units whose generation the bar shows."""


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
            TextColumn("units{task.fields[rate]}, left"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=False)

    def begin(self, total: int, done: int) -> None:
        """See ``Progress``."""
        self._progress.start()
        self._before, self._finished, self._parts = done, done, 0.0
        self._task = self._progress.add_task("running", total=total, completed=done, rate="")

    def advance(self) -> None:
        """See ``Progress``."""
        self._finished, self._parts = self._finished + 1, max(0.0, self._parts - 1.0)
        elapsed = self._progress.tasks[0].elapsed or 0.0
        rate = (self._finished - self._before) / elapsed if elapsed else 0.0
        shown = f", {rate:.1f}/s" if rate >= 1 else f", {60 * rate:.1f}/min"
        self._progress.update(self._task, completed=self._finished + self._parts, rate=shown)

    def under_way(self, generations: Sequence[tuple[int, int]]) -> None:
        """See ``Progress``."""
        self._parts = sum(made / (last + 1) for made, last in generations)
        names = ", ".join(f"{made}/{last}" for made, last in generations[:NAMED]) + (", …" if len(generations) > NAMED else "")
        description = f"generation {names}" if names else "running"
        self._progress.update(self._task, completed=self._finished + self._parts, description=description)

    def out_of_date(self, units: int, generations: int) -> None:
        """See ``Progress``."""
        said = f"{units:,} finished units and {generations:,} generations of others are made again: the code has changed since"
        self._progress.console.print(said, markup=False, highlight=False)

    def end(self) -> None:
        """See ``Progress``."""
        self._progress.stop()
