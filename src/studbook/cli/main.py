"""The ``studbook`` command."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any, NoReturn

import typer

from studbook import __version__
from studbook.cli import catalog, claim, corpus, data, hamming, key, mark, provenance, registry, serve, study, training
from studbook.cli.dose import dose_command
from studbook.cli.forecast import forecast_command
from studbook.errors import StudbookError

app = typer.Typer(
    name="studbook",
    help="Models that feed on each other's output: what is lost, who produced what, and what in a corpus was generated.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(study.app, name="study")
app.add_typer(data.app, name="data")
app.add_typer(corpus.app, name="corpus")
app.add_typer(claim.app, name="claim")
app.add_typer(key.app, name="key")
app.add_typer(hamming.app, name="hamming")
app.add_typer(serve.app, name="serve")
app.add_typer(registry.app, name="registry")
app.add_typer(mark.app, name="mark")
app.add_typer(provenance.app, name="provenance")
app.add_typer(training.app, name="training")
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
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except StudbookError as error:
        _fail(error.message, error.hint, error.exit_code)
    except _USAGE_ERROR as error:
        if error.format_message().startswith("Usage:"):  # no command was given
            print(error.format_message(), file=sys.stderr)  # noqa: T201
            sys.exit(2)
        _fail(error.format_message().replace("Value error, ", ""), "studbook --help, or --help after a command, shows what there is", 2)
    except (KeyboardInterrupt, typer.Abort):
        _fail("stopped before anything was run", None, 130)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _fail(f"the operating system refused: {error}", None, 1)


_USAGE_ERROR: Any = typer.BadParameter.__mro__[2]
"""The root of the parser's own errors; Typer exports only this leaf of it."""


def _interrupt(_number: int, _frame: object) -> None:
    """A polite kill (from a scheduler, a container) is a Ctrl-C."""
    raise KeyboardInterrupt


def _fail(message: str, hint: str | None, code: int) -> NoReturn:
    print(f"studbook: error: {message}", file=sys.stderr)  # noqa: T201
    if hint:
        print(f"  {hint}", file=sys.stderr)  # noqa: T201
    sys.exit(code)
