"""``studbook catalog``: learners, mixes and metrics with their parameters, and the options of networks."""

from __future__ import annotations

from typing import Annotated

import typer

from studbook.cli.rendering import Format, show_json, show_table


def catalog_command(format_: Annotated[Format, typer.Option("--format")] = Format.TABLE) -> None:
    """List the learners, mixes, metrics and options that study files can name."""
    from studbook.study.catalog import catalog_rows

    tables = catalog_rows()
    if format_ is Format.JSON:
        show_json(tables)
        return
    for title, rows in tables.items():
        show_table(rows, title=title)
        typer.echo()
