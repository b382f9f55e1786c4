"""The ``studbook`` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from studbook import __version__
from studbook.cli import catalog, data, study
from studbook.cli.dose import dose_command
from studbook.cli.forecast import forecast_command
from studbook.errors import StudbookError

app = typer.Typer(
    name="studbook",
    help="Recursive training: what is lost when models train on what models made, and how much real data prevents it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(study.app, name="study")
app.add_typer(data.app, name="data")
app.command("catalog")(catalog.catalog_command)
app.command("dose")(dose_command)
app.command("forecast")(forecast_command)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"studbook {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; a user's mistake ends in one or two lines on stderr and an exit code, never in a traceback."""
    try:
        app()
    except StudbookError as error:
        print(f"studbook: error: {error.message}", file=sys.stderr)  # noqa: T201
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("studbook: stopped", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
