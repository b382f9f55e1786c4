"""Files and folders on a disk: signed and verified by what they are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from studbook.errors import ConfigError, DataError, ProvenanceError, RecordError, StorageError, StudbookError
from studbook.files import write_file
from studbook.provenance.certificates import Chain, printable
from studbook.provenance.containers import picture_format
from studbook.provenance.credentials import Credential, Inspection, inspect_credential, inspect_stream, verify_credential, verify_stream
from studbook.provenance.jumbf import MAX_STORE
from studbook.provenance.model_folders import SIGNATURE, FolderSignature, read_folder_signature, sign_folder, verify_folder
from studbook.provenance.signing import MAX_PICTURE, sign_picture, sign_stream
from studbook.provenance.statements import Statement
from studbook.provenance.trust import Trust
from studbook.records import Origin

SUFFIX = ".c2pa"

What: TypeAlias = Literal["picture", "file", "folder"]


def sidecar_of(path: Path) -> Path:
    """Where the credential beside a file lies: ``train.parquet.c2pa``."""
    return path.with_name(path.name + SUFFIX)


def what_is(path: Path) -> What:
    """How a path is signed: a folder by an OpenSSF signature, a picture inside, any other file by a sidecar.

    Raises:
        DataError: There is nothing of that name, or no file.
    """
    if path.is_dir():
        return "folder"
    if not path.is_file():
        raise DataError(f"{path} isn't there, or is no file", hint="name a file or a folder")
    with _reading(path), path.open("rb") as file:
        return "picture" if picture_format(file.read(16)) else "file"


def sign_path(path: Path, chain: Chain, statement: Statement, *, sidecar: bool = False, replace_old: bool = False) -> Path:
    """Sign a file or a folder; a statement without a time is made now.

    Args:
        path: A picture gets its credential inside, any other file beside it, a folder a signature of all its files.
        chain: Whose signature it is.
        statement: Where it comes from; a folder's signature says nothing of that.
        sidecar: Leave a picture as it is, and put its credential beside it.
        replace_old: Replace a credential that a picture carries.

    Returns:
        The file with the signature.

    Raises:
        DataError: Nothing that can be signed.
        ProvenanceError: The certificates can't sign.
        StorageError: The disk refused.
        MissingExtraError: The extra ``provenance`` isn't installed.
    """
    what = what_is(path)
    if what == "folder":
        return sign_folder(path, chain)
    if not statement.made:
        statement = replace(statement, made=f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}")
    if what == "picture" and not sidecar:
        write_file(path, sign_picture(_read(path, MAX_PICTURE), chain, statement, title=printable(path.name), replace=replace_old))
        return path
    with _reading(path), path.open("rb") as file:
        made = sign_stream(file, chain, statement, title=printable(path.name))
    write_file(sidecar_of(path), made)
    return sidecar_of(path)


def verify_path(path: Path, *, trust: Trust, signature: Path | None = None) -> Credential | FolderSignature:
    """What is known of a file or a folder, once everything was checked; whoever gets a value back may rely on it.

    Args:
        path: The file or the folder.
        trust: Whose signatures count.
        signature: The sidecar or the folder's signature, where it isn't at its usual place.

    Raises:
        ProvenanceError: There is no signature, or it can't be relied on; the message says why.
        DataError: Nothing of that name.
        StorageError: It can't be read.
        MissingExtraError: The extra ``provenance`` isn't installed.
    """
    what = what_is(path)
    if what == "folder":
        return verify_folder(path, trust=trust, signature=signature)
    beside = _sidecar(path, signature)
    if beside is None:
        return verify_credential(_picture(path, what), trust=trust, what=path.name)
    with _reading(path), path.open("rb") as file:
        return verify_stream(file, beside, trust=trust, what=path.name)


def inspect_path(path: Path, *, signature: Path | None = None) -> Inspection | FolderSignature:
    """What a file or a folder claims; nothing of it is verified.

    Raises:
        ProvenanceError: It claims nothing, or what can't be read.
        DataError: Nothing of that name.
        StorageError: It can't be read.
        MissingExtraError: The extra ``provenance`` isn't installed.
    """
    what = what_is(path)
    if what == "folder":
        return read_folder_signature(path / SIGNATURE if signature is None else signature)[0]
    beside = _sidecar(path, signature)
    if beside is not None:
        with _reading(path), path.open("rb") as file:
            return inspect_stream(file, beside, what=path.name)
    found = inspect_credential(_picture(path, what), what=path.name)
    if found is None:
        raise ProvenanceError(f"{path.name} carries no content credential", hint="look for its sidecar, or ask the register")
    return found


def statement_for(origin: Origin, model: str, entry: str, parents: Sequence[str]) -> Statement:
    """A statement from a command's options.

    Raises:
        ConfigError: One that can't be meant.
    """
    try:
        return Statement(origin=origin, model=model, entry=entry, parents=tuple(parents))
    except RecordError as error:
        raise ConfigError(error.message, hint=error.hint) from error


def _sidecar(path: Path, signature: Path | None) -> bytes | None:
    """The credential beside a file, or ``None`` where it has none there."""
    beside = sidecar_of(path) if signature is None else signature
    return _read(beside, MAX_STORE) if signature is not None or beside.is_file() else None


def _picture(path: Path, what: What) -> bytes:
    if what == "file":
        raise ProvenanceError(f"{path.name} has no content credential: there is no {sidecar_of(path).name} beside it", hint="sign it first")
    return _read(path, MAX_PICTURE)


def _read(path: Path, most: int) -> bytes:
    with _reading(path), path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most == MAX_STORE:
        raise ProvenanceError(f"{path} has more than {most:,} bytes: it is no credential", hint="ask for the original")
    if len(data) > most:
        raise DataError(f"{path} has more than {most:,} bytes", hint="sign it with a sidecar")
    return data


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to read into one clear line."""
    try:
        yield
    except StudbookError:
        raise
    except OSError as error:
        raise StorageError(f"{path} can't be read: {error.strerror or error}") from error
