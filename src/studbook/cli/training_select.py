"""``studbook training select``: how good a model is, by the size of the slices that its clients hold."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studbook.cli.rendering import Format, show_json, show_table

if TYPE_CHECKING:
    from studbook.protocols.select_study import SelectRow


def select_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A file with [study] and [[experiment]] tables.")],
    seeds: Annotated[int, typer.Option(help="Runs of each size, 2 or more; 0 takes the study's.")] = 0,
    experiment: Annotated[str, typer.Option(help="Run this experiment alone.")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Setting of that experiment's objective.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of results.json and report.html.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to write the rows.")] = Format.TABLE,
) -> None:
    """Run federated select with slices of several sizes: accuracy, bytes sent, and what a client holds."""
    from rich.console import Console

    from studbook.protocols.select_study import as_table, read_select_study, run_select_study
    from studbook.report.training_select import write_select_report
    from studbook.study.diagnosed import made_with

    asked = read_select_study(study).narrowed(experiment=experiment, settings=_settings(set_ or []), seeds=seeds)
    console = Console(stderr=True)
    with console.status("loading data") as status:
        rows = run_select_study(asked, report=lambda done, total, what: status.update(f"{done} of {total} runs: {what}"))
    show_json(as_table(rows)) if format_ is Format.JSON else show_table([_shown(row) for row in rows], asked.name)
    if out is not None:
        typer.echo(write_select_report(asked, rows, made_with(), out), err=True)


def _settings(given: list[str]) -> dict[str, Any]:
    """``vocabulary=5000``, ``data=PATH``; a value that isn't TOML is text."""
    import tomllib

    from studbook.errors import ConfigError

    found: dict[str, Any] = {}
    for setting in given:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set is {setting!r}, expected KEY=VALUE")
        try:
            found[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = text
    return found


def _shown(row: SelectRow) -> dict[str, Any]:
    whole = row.how == "all"
    return {
        "experiment": row.experiment,
        "keys": f"all {row.n:,}" if whole else f"{row.m:,} {row.how}",
        "accuracy": f"{row.accuracy:.3f} ± {row.half:.3f}",
        "against whole": "–" if whole or isnan(row.change) else f"{row.change:+.3f} ± {row.change_half:.3f}",
        "sent a round": _bytes(row.down_bytes),
        "received": _bytes(row.up_bytes),
        "client holds": _bytes(row.client_bytes),
        "seeds": row.seeds,
    }


def _bytes(n: float) -> str:
    return f"{n / 1e6:.2f} MB" if n >= 1e6 else f"{n / 1e3:.1f} kB"
