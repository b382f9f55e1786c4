"""``studbook training attacks``: dishonest nodes against defences, on handwritten digits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from studbook.cli.rendering import Format, show_json, show_table


def attacks_command(
    attacks: Annotated[str, typer.Option(help="Attacks, comma-separated; default: all.")] = "",
    defences: Annotated[str, typer.Option(help="Defences, comma-separated; default: all.")] = "",
    seeds: Annotated[int, typer.Option(help="Runs of each pair, 2 or more.")] = 4,
    steps: Annotated[int, typer.Option(help="Steps of each run.")] = 100,
    drawn: Annotated[int, typer.Option(help="Steps of each node that are replayed after every 25.")] = 5,
    confidence: Annotated[float, typer.Option(help="Confidence of every interval.")] = 0.95,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of results.json and report.html.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to write the table.")] = Format.TABLE,
) -> None:
    """Train a classifier on ten nodes, some of them dishonest, and show what is left of its quality and who is caught."""
    from rich.console import Console

    from studbook.protocols.contest_digits import Plan, contest_rows
    from studbook.report.training_attacks import write_attacks_report
    from studbook.study.diagnosed import made_with

    plan = Plan(_names(attacks), _names(defences), seeds, steps, drawn, confidence)
    with Console(stderr=True).status("training") as status:
        rows = contest_rows(plan, status.update)
    show_json(rows) if format_ is Format.JSON else show_table(rows)
    if out is not None:
        typer.echo(write_attacks_report(plan, rows, made_with(), out), err=True)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()
