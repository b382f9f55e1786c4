"""``studbook corpus screen`` and ``corpus check``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from studbook.cli.rendering import Format, show_json, show_table
from studbook.errors import ConfigError, printable

_MOST_REASONS = 5
_Paths: TypeAlias = Annotated[
    list[Path], typer.Argument(metavar="PATH…", help="Parquet, JSONL, tar, texts, pictures, or folders of these.")
]
_Out: TypeAlias = Annotated[Path, typer.Option("--out", help="Folder to write to; the same command goes on with what is missing.")]
_Screen: TypeAlias = Annotated[
    Path | None, typer.Option("--screen", metavar="FILE", help="Screen file (TOML): witnesses and calibrations.")
]
_Register: TypeAlias = Annotated[str | None, typer.Option("--register", help="Register to look records up in: a file, or postgresql://…")]
_Trust: TypeAlias = Annotated[
    list[Path] | None, typer.Option("--trust", metavar="PEM", help="Root certificate whose signers' credentials count; may be repeated.")
]
_Key: TypeAlias = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Private key that signs the receipt: studbook key new.")
]
_Column: TypeAlias = Annotated[str, typer.Option("--column", help="Column or key of the text, or of the picture.")]
_Reject: TypeAlias = Annotated[
    list[str] | None, typer.Option("--reject", help="Origin that is put aside: generated (the default), unknown, human, or none.")
]
_Folder: TypeAlias = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a screened corpus.")]
_Signers: TypeAlias = Annotated[list[str] | None, typer.Option("--trust", metavar="KEY", help="Public key that may have signed.")]
_Format: TypeAlias = Annotated[Format, typer.Option("--format", help="How to write the answer.")]


def screen_command(
    paths: _Paths,
    out: _Out,
    screen: _Screen = None,
    register: _Register = None,
    trust: _Trust = None,
    key: _Key = None,
    column: _Column = "text",
    reject: _Reject = None,
    form: _Format = Format.TABLE,
) -> None:
    """Say of every record where it comes from, by the strongest evidence, and put aside what was generated."""
    from studbook.provenance import SigningKey
    from studbook.screening import screen_corpus
    from studbook.screening.run import sizes_of

    secret = SigningKey.load(key) if key is not None else None
    chosen = _screen_of(screen, register, trust, reject)
    with _Bar(paths) as bar:
        summary = screen_corpus(paths, out, chosen, key=secret, column=column, progress=bar)
    if form is Format.JSON:
        show_json(summary)
        return
    show_table(summary["counts"])
    typer.echo(f"{summary['read']:,} records: {summary['kept']:,} kept, {summary['rejected']:,} rejected, in {out}")
    if summary["skipped"]:
        typer.echo(f"{summary['skipped']:,} couldn't be read; each is in {out / 'skipped'}:", err=True)
        for each in summary["reasons"][:_MOST_REASONS]:
            typer.echo(printable(f"{each['records']:8,}  {each['reason']}"), err=True)
    for line in _growth(summary["sizes"], sizes_of(chosen)):
        typer.echo(line, err=True)
    if not (out / "receipt.json").is_file():
        typer.echo("no receipt was signed; --key FILE signs one", err=True)


def _growth(sizes: dict[str, dict[str, dict[str, int]]], now: dict[str, dict[str, int]]) -> Iterator[str]:
    """What a register has learnt since the first records were looked up in it."""
    for name, each in now.items():
        before, entries = sizes[name]["first"]["entries"], each["entries"]
        if entries > before:
            yield f"the {name} had {before:,} entries when this screen began, and has {entries:,} now: records that were screened before"
            yield "weren't compared with the newer ones; a screen into a new folder compares all"


def check_command(folder: _Folder, trust: _Signers = None, form: _Format = Format.TABLE) -> None:
    """Check a screened corpus against its signed receipt: a changed, missing or added file is named."""
    from studbook.cli._claims import resolve_keys
    from studbook.records import to_plain
    from studbook.screening.folder import check_screen

    receipt = check_screen(folder, keys=resolve_keys(trust) if trust else None)
    if form is Format.JSON:
        show_json({"signer": str(receipt.key), **to_plain(receipt.record)})
        return
    typer.echo(f"as it was signed by {receipt.key}{'' if trust else ' (nobody said whether to trust that key: --trust KEY)'}")
    show_table([{"origin": each.origin, "evidence": each.evidence, "records": each.records} for each in receipt.record.counts])


def _screen_of(screen: Path | None, register: str | None, trust: list[Path] | None, reject: list[str] | None) -> Any:
    """The screen of a file, or of the options."""
    from dataclasses import replace

    from studbook.screening.settings import open_screen

    if screen is not None and (register is not None or trust):
        raise ConfigError("--screen comes with --register or --trust", hint="put them into the screen file")
    table: dict[str, Any] = {}
    if register is not None:
        table["register"] = {"location": register}
    if trust:
        table["signature"] = {"trust": [str(each) for each in trust]}
    opened = open_screen(screen if screen is not None else table)
    if reject is None:
        return opened
    wanted: Any = frozenset(reject) - {"none"}
    return replace(opened, reject=wanted)


class _Bar:
    """A progress bar on stderr, by bytes of the corpus."""

    def __init__(self, paths: list[Path]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("screening"), BarColumn(), TextColumn("{task.fields[records]:,} records, left"), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
        self._task = self._progress.add_task("screening", total=_size(paths) or None, records=0)
        self._records = 0

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, n_bytes: int, n_records: int) -> None:
        """See ``studbook.screening.run.Progress``."""
        self._records += n_records
        self._progress.update(self._task, advance=n_bytes, records=self._records)


def _size(paths: list[Path]) -> int:
    """Bytes of the corpus, about; what can't be looked at counts nothing, and is told of by the screen."""
    total = 0
    with suppress(OSError, ValueError):
        for file in (file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])):
            with suppress(OSError):
                total += file.stat().st_size if file.is_file() else 0
    return total
