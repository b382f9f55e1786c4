"""``studbook registry``: known outputs, and what is near them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from studbook.cli.rendering import Format, show_json, show_table

app = typer.Typer(help="The register of known outputs: what is this, and what is near it?", no_args_is_help=True, rich_markup_mode=None)

Location = Annotated[str, typer.Argument(metavar="REGISTER", help="A file, or postgresql://user@host:port/database.")]
Paths = Annotated[list[Path], typer.Argument(metavar="PATH…", help="Text files, pictures, JSON Lines, or folders of them.")]
Column = Annotated[str, typer.Option(help="JSON Lines: the column that holds the text.")]
Index = Annotated[Path | None, typer.Option("--index", metavar="DIR", help="Folder of the indexes; default: beside the file.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to write the answer.")]


class OriginName(StrEnum):
    """Where outputs come from."""

    GENERATED = "generated"
    HUMAN = "human"
    UNKNOWN = "unknown"


class Expect(StrEnum):
    """What a look-up is to find."""

    FOUND = "found"
    ABSENT = "absent"


@app.callback()
def _group() -> None:
    pass


@app.command("new")
def new_register(register: Location) -> None:
    """Make a register; one that is there already is left as it is. No other command makes one, so that a misspelt name is noticed."""
    from studbook.registry import Register

    with Register.open(register, create=True) as opened:
        typer.echo(opened.location)


@app.command("add")
def add_outputs(
    register: Location,
    paths: Paths,
    model: Annotated[str, typer.Option(help="Digest or name of the model that made them.")] = "",
    origin: Annotated[OriginName, typer.Option(help="Where they come from.")] = OriginName.GENERATED,
    source: Annotated[str, typer.Option(help="A claim, a study, or words.")] = "",
    parent: Annotated[list[str] | None, typer.Option(metavar="DIGEST", help="What all were made from, sha256:…; repeat.")] = None,
    column: Column = "text",
    format_: FormatOption = Format.TABLE,
) -> None:
    """Enter outputs; what is known is not entered twice."""
    from studbook.cli._registry import add_prints, batches, progress
    from studbook.registry import Added, Register

    total, skipped = Added(0, 0), list[str]()
    with Register.open(register) as opened, progress("entered") as advance:
        for batch in batches(paths, column, skipped):
            total += add_prints(opened, batch.prints(skipped), str(origin.value), model, source, tuple(parent or ()))
            advance(len(batch.ids))
    show = {"new": total.new, "known": total.known, "skipped": len(skipped)}
    show_json({**show, "reasons": skipped}) if format_ is Format.JSON else show_table([show])
    for reason in skipped[:20] if format_ is Format.TABLE else ():
        typer.echo(f"skipped: {reason}", err=True)


@app.command("find")
def find_outputs(
    register: Location,
    paths: Paths,
    column: Column = "text",
    most: Annotated[int, typer.Option(min=1, max=64, help="Matches that are shown of each; the nearest.")] = 3,
    expect: Annotated[Expect | None, typer.Option(help="Exit with 3 unless all are found, or none is.")] = None,
    index: Index = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Look outputs up: the same bytes, or near by a fingerprint within its limit.

    Exit code 0: the look-up ran, whatever it found; with --expect also that it found what was expected. 3: it didn't. 1: some couldn't be
    read. Distances are bits for pictures, and 1 less the share of shingles in common for texts.
    """
    from studbook.cli._registry import batches, find_batch, progress, show_found
    from studbook.registry import Register

    found, skipped = [], list[str]()
    with Register.open(register, index=index) as opened, progress("looked up") as advance:
        for batch in batches(paths, column, skipped):
            found.extend(find_batch(opened, batch, skipped))
            advance(len(batch.ids))
    raise typer.Exit(show_found(found, skipped, format_, most, expect))


@app.command("show")
def show_entry(
    register: Location,
    name: Annotated[str, typer.Argument(metavar="ID", help="A content, claim or manifest (sha256:…), or a model's name.")],
    format_: FormatOption = Format.TABLE,
) -> None:
    """Show the entries of a content, its claim and verdicts, and its lineage both ways."""
    from studbook.cli._registry import show_known
    from studbook.registry import Register

    with Register.open(register) as opened:
        raise typer.Exit(show_known(opened, name, format_))


@app.command("stats")
def show_stats(register: Location, format_: FormatOption = Format.TABLE) -> None:
    """Show how much there is."""
    from dataclasses import asdict

    from studbook.cli._registry import stats_rows
    from studbook.registry import Register

    with Register.open(register) as opened:
        stats = opened.stats()
    show_json(asdict(stats)) if format_ is Format.JSON else show_table(stats_rows(stats))


@app.command("export")
def export_register(register: Location, file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write.")]) -> None:
    """Write everything as JSON Lines, whole or not at all."""
    from studbook.cli._registry import status
    from studbook.registry import Register

    with Register.open(register) as opened, status(f"writing {file}"):
        n = opened.export(file)
    typer.echo(f"{n:,} records in {file}", err=True)


@app.command("import")
def import_register(register: Location, file: Annotated[Path, typer.Argument(metavar="FILE", help="What export wrote.")]) -> None:
    """Take in what export wrote; what is known stays."""
    from studbook.cli._registry import status
    from studbook.registry import Register

    with Register.open(register) as opened, status(f"reading {file}"):
        added = opened.import_(file)
    typer.echo(f"{added.new:,} entries are new, {added.known:,} were known", err=True)


@app.command("verify")
def verify_register(register: Location, index: Index = None, format_: FormatOption = Format.TABLE) -> None:
    """Check tables against each other, indexes against tables, and every signature. Exit code 0: nothing is wrong; 3: something is."""
    from dataclasses import asdict

    from studbook.cli._registry import status
    from studbook.registry import Register

    with Register.open(register, index=index) as opened, status("checking"):
        problems = opened.verify()
    rows = [asdict(problem) for problem in problems]
    if format_ is Format.JSON:
        show_json(rows)
    elif rows:
        show_table(rows)
    typer.echo(f"{len(rows)} problems" if rows else "nothing is wrong", err=True)
    raise typer.Exit(3 if rows else 0)


@app.command("limit")
def limit_command(
    register: Location,
    scheme: Annotated[str, typer.Argument(metavar="SCHEME", help="phash, pdq, minhash, or another fingerprint.")],
    value: Annotated[float | None, typer.Option("--set", metavar="DISTANCE", help="From now on, up to this distance is near.")] = None,
    pictures: Annotated[Path | None, typer.Option("--calibrate", metavar="DIR", help="Measure it on unrelated pictures or texts.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Calibrate: largest rate of unrelated outputs that are taken for a registered one.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Calibrate: of the bound on that rate.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Calibrate: seed.")] = 0,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Show what counts as near, state it, or measure it on your own outputs."""
    from studbook.cli._registry import calibrate_limit, show_limit, status
    from studbook.registry import Register

    with Register.open(register) as opened:
        if pictures is not None:
            with status("measuring"):
                calibrate_limit(opened, scheme, pictures, rate, confidence, seed)
        elif value is not None:
            opened.set_limit(scheme, value)
        show_limit(opened.limit(scheme), scheme, format_)
