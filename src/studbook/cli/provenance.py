"""``studbook provenance``: content credentials and signed folders, with one's own certificates, offline."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studbook.cli.rendering import Format, show_json, show_table
from studbook.errors import ConfigError

if TYPE_CHECKING:
    from studbook.provenance import Credential, FolderSignature

app = typer.Typer(
    help="Content credentials (C2PA) of pictures and files, signatures of folders (OpenSSF), metadata of data sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
chain_app = typer.Typer(help="Certificates of one's own.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(chain_app, name="chain")


class OriginName(StrEnum):
    """Where something comes from."""

    GENERATED = "generated"
    HUMAN = "human"
    UNKNOWN = "unknown"


PathArgument = Annotated[Path, typer.Argument(metavar="PATH", help="A picture, any other file, or a folder: a model, a data set, a run.")]
SignatureOption = Annotated[Path | None, typer.Option("--signature", help="The sidecar or signature, where it isn't at its usual place.")]
FormatOption = Annotated[Format, typer.Option("--format", help="table or json.")]


@app.callback()
def _group() -> None:
    pass


@app.command("sign")
def sign_command(
    path: PathArgument,
    chain: Annotated[Path, typer.Option("--chain", help="Folder of the certificates; see studbook provenance chain new.")],
    origin: Annotated[OriginName, typer.Option("--origin", help="Where it comes from.")] = OriginName.UNKNOWN,
    model: Annotated[str, typer.Option("--model", help="Digest or name of the model that made it.")] = "",
    entry: Annotated[str, typer.Option("--entry", help="Digest of its claim or of its entry in the register.")] = "",
    parent: Annotated[list[str] | None, typer.Option("--parent", help="Digest of what it was made from; may be given often.")] = None,
    sidecar: Annotated[bool, typer.Option("--sidecar", help="Leave a picture as it is; put its credential beside it.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a credential that a picture carries.")] = False,
) -> None:
    """Sign a picture (inside the file), any other file (FILE.c2pa beside it) or a folder (model.sig in it)."""
    from studbook.provenance import Chain, sign_path
    from studbook.provenance.sidecars import statement_for

    if path.is_dir() and (origin is not OriginName.UNKNOWN or model or entry or parent or sidecar or replace):
        raise ConfigError("a folder's signature says who signed which files, and no more", hint="studbook provenance describe FOLDER")
    statement = statement_for(origin.value, model, entry, parent or ())
    typer.echo(sign_path(path, Chain.load(chain), statement, sidecar=sidecar, replace_old=replace))


@app.command("verify")
def verify_command(
    path: PathArgument,
    trust: Annotated[list[Path], typer.Option("--trust", help="Root certificate (root.pem) that is trusted; may be given often.")],
    signer: Annotated[list[str] | None, typer.Option("--signer", help="Signer that counts; by default all below the roots.")] = None,
    signature: SignatureOption = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Say what is known of a file or a folder, or exit with 3 and say what is wrong."""
    from studbook.provenance import Trust, verify_path

    found = verify_path(path, trust=Trust.load(trust, signers=signer or ()), signature=signature)
    _show(found, format_, {"verified": True})


@app.command("show")
def show_command(path: PathArgument, signature: SignatureOption = None, format_: FormatOption = Format.TABLE) -> None:
    """Show what a file or a folder claims; nothing of it is verified."""
    from studbook.provenance import Inspection, inspect_path

    found = inspect_path(path, signature=signature)
    if isinstance(found, Inspection):
        _show(found.claimed, format_, {"verified": False, "problems": list(found.problems)})
    else:
        _show(found, format_, {"verified": False})
    typer.echo("not verified: studbook provenance verify PATH --trust root.pem", err=True)


@app.command("describe")
def describe_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A data set.")],
    name: Annotated[str, typer.Option("--name", help="Its name.")],
    description: Annotated[str, typer.Option("--description", help="What it is.")],
    license_: Annotated[str, typer.Option("--license", help="Name of SPDX's list, such as cc-by-4.0, or an address.")],
    creator: Annotated[str, typer.Option("--creator", help="Who made it.")],
    url: Annotated[str, typer.Option("--url", help="Where it is found.")] = "",
    derived_from: Annotated[list[str] | None, typer.Option("--derived-from", help="What it was made from: digest, name, address.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="Model that generated it; may be given often.")] = None,
    language: Annotated[list[str] | None, typer.Option("--language", help="Code of a language in it, such as en.")] = None,
    records: Annotated[int | None, typer.Option("--records", help="Number of records.")] = None,
) -> None:
    """Write a data set's metadata: croissant.json, and the card README.md. Sign the folder afterwards."""
    from studbook.provenance import DatasetFacts, write_card, write_croissant

    facts = DatasetFacts(
        name=name, description=description, license=license_, creator=creator, url=url,
        derived_from=tuple(derived_from or ()), models=tuple(model or ()), language=tuple(language or ()), records=records,
    )  # fmt: skip
    for write in (write_card, write_croissant):  # in this order: the card is one of the files that Croissant lists
        typer.echo(write(folder, facts))


@chain_app.command("new")
def new_chain_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    name: Annotated[str, typer.Option("--name", help="Who signs; shown to whoever reads a credential.")],
    days: Annotated[int, typer.Option("--days", min=1, max=3649, help="How long the signer's certificate is valid.")] = 1095,
) -> None:
    """Make a root and a signer: root.pem is for others, the rest stays with you; root.key belongs in a safe place."""
    from studbook.provenance import new_chain

    new_chain(folder, name, valid=dt.timedelta(days=days))
    typer.echo(folder / "root.pem")


@chain_app.command("renew")
def renew_chain_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder with root.pem and root.key.")],
    days: Annotated[int, typer.Option("--days", min=1, max=3649, help="How long the signer's certificate is valid.")] = 1095,
) -> None:
    """Make a new key and certificate for the signer, under the same root."""
    from studbook.provenance import renew_signer

    renew_signer(folder, valid=dt.timedelta(days=days))
    typer.echo(folder / "signer.pem")


def _show(found: Credential | FolderSignature, format_: Format, more: dict[str, Any]) -> None:
    """A credential or a signature, for people or programs."""
    from studbook.provenance import Credential

    rows: dict[str, Any] = {**more, **(_credential_rows(found) if isinstance(found, Credential) else _folder_rows(found, format_))}
    if format_ is Format.JSON:
        show_json(rows)
        return
    show_table([{"": name.replace("_", " "), " ": _text(value)} for name, value in rows.items()])


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _credential_rows(found: Credential) -> dict[str, Any]:
    rows = {
        "signer": found.signer, "issuer": found.issuer, "made": found.made, "origin": found.origin, "model": found.model,
        "generator": found.generator, "id": found.id, "manifest": found.store, "bytes": found.n_bytes, "asserts": list(found.labels),
        "fingerprints": [f"{binding.alg} {binding.value}" for binding in found.bindings],
    }  # fmt: skip
    said = found.statement
    return rows | ({"entry": said.entry, "parents": list(said.parents)} if said else {})


def _folder_rows(found: FolderSignature, format_: Format) -> dict[str, Any]:
    rows = {"signer": found.signer, "digest": found.digest, "files": len(found.sums), "not_covered": list(found.ignored)}
    return rows | ({"sums": dict(found.sums)} if format_ is Format.JSON else {})
