"""``studbook key``: keys that claims, ballots and calibrations are signed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Keys that claims, ballots and calibrations are signed with (Ed25519).", no_args_is_help=True, rich_markup_mode=None)

KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="File of the private key.")]


@app.callback()
def _group() -> None:
    pass


@app.command("new")
def new_key(file: KeyFile) -> None:
    """Make a key that only you can read, and show its public half."""
    from studbook.provenance import SigningKey

    key = SigningKey.generate()
    key.save(file)
    typer.echo(key.public)


@app.command("show")
def show_key(file: KeyFile) -> None:
    """Show the public half of a key: what others need to know whose signature it is."""
    from studbook.provenance import SigningKey

    typer.echo(SigningKey.load(file).public)
