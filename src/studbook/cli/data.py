"""``studbook data``: where data come from."""

from __future__ import annotations

from typing import Annotated

import typer

from studbook.cli.rendering import Format, show_json, show_table

app = typer.Typer(help="Data sources.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    pass


@app.command(name="list")
def list_sources(format_: Annotated[Format, typer.Option("--format")] = Format.TABLE) -> None:
    """List the sources, their parameters, and what each is."""
    from studbook.data import source_rows

    rows = source_rows()
    show_json(rows) if format_ is Format.JSON else show_table(rows)
