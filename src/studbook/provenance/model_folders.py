"""Signed folders: models, shards of a data set, runs of a study. One signature names every file and its SHA-256 (OpenSSF model signing).

The signature is a Sigstore bundle with an in-toto statement, in ``model.sig`` within the folder, made with one's own certificates; other
tools for OpenSSF signatures read it.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from studbook.errors import ConfigError, DataError, FolderBusyError, MissingExtraError, ProvenanceError, StorageError
from studbook.files import storage, write_file
from studbook.provenance.certificates import ROOT, SIGNER, SIGNER_KEY, Chain, common_name, printable, read_certificates
from studbook.provenance.trust import MAX_ANCHORS, Trust

SIGNATURE = "model.sig"
LOCK = ".lock"
MAX_SIGNATURE = 64 << 20
MAX_FILES = 250_000
_GIT = (".git", ".gitattributes", ".github", ".gitignore")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class FolderSignature:
    """Who signed a folder, and what.

    Attributes:
        signer: Common name of who signed.
        digest: SHA-256 over the sums of all files, ``sha256:…``: names the folder's content in other records.
        sums: By name within the folder each file's SHA-256, 64 hex digits.
        ignored: Names within the folder that the signature doesn't cover.
    """

    signer: str
    digest: str
    sums: Mapping[str, str]
    ignored: tuple[str, ...]


def sign_folder(folder: Path, chain: Chain, *, ignore: Sequence[str] = ()) -> Path:
    """Sign all files of a folder; an older signature is replaced.

    Git's own files, a run's lock and the signature itself are left out, and the signature says so.

    Args:
        folder: A model, a data set, a run of a study: plain files and folders, no links.
        chain: Whose signature it is.
        ignore: Further names within the folder that it shall not cover.

    Returns:
        The signature's file, ``model.sig`` in the folder.

    Raises:
        DataError: No folder, no files, a link, or something that isn't a file.
        FolderBusyError: A study is running in it, or something is being written.
        ConfigError: A name to ignore that leads out of the folder.
        ProvenanceError: The certificates have expired.
        StorageError: The disk refused.
        MissingExtraError: The extra ``provenance`` isn't installed.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from studbook.provenance import Trust, new_chain, sign_folder, verify_folder
        >>> place = Path(tempfile.mkdtemp())
        >>> chain = new_chain(place / "chain", "Example Laboratory")
        >>> (place / "model").mkdir()
        >>> _ = (place / "model" / "config.json").write_text("{}")
        >>> sign_folder(place / "model", chain).name
        'model.sig'
        >>> verify_folder(place / "model", trust=Trust.load([place / "chain"])).signer
        'Example Laboratory'
        >>> _ = (place / "model" / "config.json").write_text("[]")
        >>> verify_folder(place / "model", trust=Trust.load([place / "chain"]))
        Traceback (most recent call last):
        studbook.errors.ProvenanceError: model isn't what ... signed: changed config.json ...
    """
    signing = _library("signing")
    hashing = _library("hashing")
    ignored = [_inside(name) for name in ignore]
    _check_idle(folder)
    left_out = {*_GIT, LOCK, SIGNATURE, *ignored}
    if not any(not _covers(left_out, name) for name in file_names(folder)):
        raise DataError(f"{folder} holds no files to sign")
    _check_valid(chain.leaf, "the signer's certificate", hint=f"studbook provenance chain renew {chain.folder}")
    with storage(folder / SIGNATURE), tempfile.TemporaryDirectory() as place:
        others = _write_others(chain, Path(place, "others.pem"))
        config = hashing.Config().set_ignored_paths(paths=[LOCK, SIGNATURE, *ignored], ignore_git_paths=True)
        key, certificate = chain.folder / SIGNER_KEY, chain.folder / SIGNER
        signer = signing.Config().set_hashing_config(config)
        signer.use_certificate_signer(private_key=key, signing_certificate=certificate, certificate_chain=[others])
        signer.sign(folder, Path(place, SIGNATURE))
        write_file(folder / SIGNATURE, Path(place, SIGNATURE).read_bytes())
    return folder / SIGNATURE


def verify_folder(folder: Path, *, trust: Trust, signature: Path | None = None) -> FolderSignature:
    """Who signed a folder, once every file was compared; whoever gets a value back may rely on it.

    1. The signature is of bounded size and holds a statement. 2. Its certificate comes from a trusted root and is valid now. 3. The
    statement is signed under it. 4. The folder has the files that it names, no others, no links, each with its SHA-256.

    Args:
        folder: The folder.
        trust: Whose signatures count.
        signature: The signature's file; by default ``model.sig`` in the folder.

    Raises:
        ProvenanceError: There is no signature, or it can't be relied on; the message names the files that were changed, are missing, or
            were added.
        DataError: No folder.
        StorageError: A file can't be read.
        MissingExtraError: The extra ``provenance`` isn't installed.
    """
    file = folder / SIGNATURE if signature is None else signature
    found, certificates = read_folder_signature(file)  # 1
    now = dt.datetime.now(dt.UTC)
    for certificate in certificates:  # 2
        _check_valid(certificate, f"a certificate of {file.name}", hint="ask for a newer signature", now=now)
    anchors = trust.valid_anchors(now)
    _check_chain(certificates, read_certificates(anchors, "the trusted roots", most=MAX_ANCHORS), found.signer, file.name)
    names = _names_of_signed(folder)
    with tempfile.TemporaryDirectory() as place:
        roots = Path(place, ROOT)
        roots.write_bytes(anchors)
        try:
            verifier = _library("verifying").Config().use_certificate_verifier(certificate_chain=[roots])
            verifier.verify(folder, file)  # 2, 3, 4
        except OSError as error:
            raise StorageError(f"{folder} can't be read: {error.strerror or error}") from error
        except Exception as error:
            # Hostile bytes make the library raise anything: OpenSSL's errors, pydantic's, KeyError, binascii.Error.
            raise _refusal(folder, names, found, error) from error
    trust.check_signer(found.signer, file.name)
    _check_names(folder, names, found)
    return found


def read_folder_signature(path: Path) -> tuple[FolderSignature, list[Any]]:
    """What a signature's file claims, and its certificates; nothing of it is verified.

    Raises:
        ProvenanceError: There is none, or it is none.
    """
    from cryptography import x509

    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIGNATURE + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ProvenanceError(f"{path.parent} isn't signed: it has no {path.name}", hint="studbook provenance sign FOLDER") from error
    except OSError as error:
        raise StorageError(f"{path} can't be read: {error.strerror}") from error
    if len(data) > MAX_SIGNATURE:
        raise ProvenanceError(f"{path} has more than {MAX_SIGNATURE:,} bytes", hint="don't rely on it")
    try:
        bundle = json.loads(data)
        chain = bundle["verificationMaterial"]["x509CertificateChain"]["certificates"]
        certificates = [x509.load_der_x509_certificate(base64.b64decode(each["rawBytes"], validate=True)) for each in chain[:8]]
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True))
        predicate = statement["predicate"]
        sums = {str(each["name"]): str(each["digest"]) for each in predicate["resources"]}
        ignored = tuple(sorted(printable(str(each)) for each in predicate["serialization"].get("ignore_paths", ())))
        digest = f"sha256:{statement['subject'][0]['digest']['sha256']}"
        return FolderSignature(common_name(certificates[0].subject), digest, sums, ignored), certificates
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, binascii.Error) as error:
        raise ProvenanceError(
            f"{path} is no signature of a folder with certificates: {type(error).__name__}", hint="it is damaged, or was changed"
        ) from error


def _names_of_signed(folder: Path) -> list[str]:
    """The files of a folder that was signed; a link that is there now was added."""
    try:
        return list(file_names(folder))
    except DataError as error:
        if folder.is_dir():
            raise ProvenanceError(f"{folder.name} isn't what was signed: {error.message}", hint="don't rely on it") from error
        raise


def _refusal(folder: Path, names: Sequence[str], found: FolderSignature, error: Exception) -> ProvenanceError:
    """What is wrong, in words: the files where they differ, else the signature."""
    if isinstance(error, ValueError) and str(error).startswith("Signature mismatch"):
        return ProvenanceError(
            f"{folder.name} isn't what {found.signer} signed: {_differences(folder, names, found)}", hint="don't rely on it; copy it again"
        )
    reason = f"{error}" or type(error).__name__
    if type(error).__name__ == "X509StoreContextError":
        return ProvenanceError(
            f"the signature of {folder.name} is by {found.signer[:80]!r}, who isn't trusted here: {reason[:120]}", hint="--trust root.pem"
        )
    return ProvenanceError(
        f"the signature of {folder.name} is forged or was changed: {reason[:160]}", hint="don't rely on it; ask for the original"
    )


def _differences(folder: Path, names: Sequence[str], found: FolderSignature) -> str:
    here = {name for name in names if not _covers(found.ignored, name)}
    changed = (name for name in sorted(here & found.sums.keys()) if file_sum(folder / name) != found.sums[name])
    parts = [
        (word, [name for name, _ in zip(group, range(_SHOWN + 1), strict=False)])
        for word, group in (
            ("changed", changed), ("missing", iter(sorted(found.sums.keys() - here))), ("added", iter(sorted(here - found.sums.keys()))),
        )
    ]  # fmt: skip
    said = [f"{word} {', '.join(group[:_SHOWN])}{' and others' if len(group) > _SHOWN else ''}" for word, group in parts if group]
    return "; ".join(said) or "it changed while it was read"


def _check_names(folder: Path, names: Sequence[str], found: FolderSignature) -> None:
    """The library leaves out what the signature tells it to; no more than that may be left out."""
    added = [name for name in names if name not in found.sums and not _covers({*found.ignored, SIGNATURE}, name)]
    if added:
        raise ProvenanceError(f"{folder.name} isn't what {found.signer} signed: added {', '.join(added[:_SHOWN])}", hint="don't rely on it")


def file_names(folder: Path) -> Iterator[str]:
    """The files of a folder by name within it; links and devices are refused, because what they lead to can't be signed."""
    if not folder.is_dir():
        raise DataError(f"{folder} isn't a folder", hint="sign a single file as a picture or with a sidecar")
    count = 0
    for parent, folders, files in os.walk(folder, onerror=_stop):
        for name in (*folders, *files):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                what = "a link" if stat.S_ISLNK(mode) else "no plain file"
                raise DataError(f"{path} is {what}", hint="a signed folder holds plain files; copy what the link leads to")
            if not _is_text(name):
                raise DataError(f"{path} has a name that isn't UTF-8", hint="rename it: a signature names files in UTF-8")
            if stat.S_ISREG(mode):
                count += 1
                yield path.relative_to(folder).as_posix()
        if count > MAX_FILES:
            raise DataError(f"{folder} holds more than {MAX_FILES:,} files", hint="pack them into shards first")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stop(error: OSError) -> None:
    raise StorageError(f"{error.filename} can't be read: {error.strerror}") from error


def _check_idle(folder: Path) -> None:
    """Refuse a folder in which something is being written."""
    import fcntl

    for name in file_names(folder):
        if any(part.startswith(".writing-") for part in PurePosixPath(name).parts):
            raise FolderBusyError(f"{folder / name} is being written", hint="wait for it, or delete it if whoever wrote it was stopped")
    try:
        handle = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FolderBusyError(f"another process is running in {folder}", hint="wait for it, then sign") from error
    finally:
        os.close(handle)


def _covers(ignored: Sequence[str] | set[str], name: str) -> bool:
    path = PurePosixPath(name)
    return any(path.is_relative_to(each) for each in ignored)


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ConfigError(f"{name[:80]!r} isn't a name within the folder", hint="for example .cache, or logs/today.txt")
    return path.as_posix()


def _check_valid(certificate: Any, what: str, *, hint: str, now: dt.datetime | None = None) -> None:
    """OpenSSF's verifier looks at the time at which the certificate began; here the time is now."""
    now = now or dt.datetime.now(dt.UTC)
    try:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except ValueError as error:
        raise ProvenanceError(f"{what} is damaged or was changed: {error}", hint=hint) from error
    if not begin <= now <= end:
        raise ProvenanceError(f"{what} has expired or isn't valid yet: it is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}", hint=hint)


def _check_chain(certificates: Sequence[Any], anchors: Sequence[Any], signer: str, what: str) -> None:
    """Each certificate is issued by the next, and the last by a trusted root, or it is one: there are none but those that count."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    for certificate, above in zip(certificates, [*certificates[1:], None], strict=True):
        issuers = [above] if above is not None else anchors
        for issuer in issuers:
            try:
                certificate.verify_directly_issued_by(issuer)
            except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
                continue
            break
        else:
            raise ProvenanceError(
                f"{what} is by {signer[:80]!r}, who isn't trusted here: no trusted root certifies it", hint="--trust root.pem, its root"
            )


def _write_others(chain: Chain, path: Path) -> Path:
    """The certificates above the signer's own: those of the chain, or its root."""
    end = b"-----END CERTIFICATE-----"
    rest = chain.certificates.partition(end)[2].strip()
    root = chain.folder / ROOT
    path.write_bytes(rest or (root.read_bytes() if root.is_file() else chain.certificates))
    return path


def file_sum(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits; it is read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _library(name: str) -> Any:
    try:
        from model_signing import hashing, signing, verifying
    except ImportError as error:
        raise MissingExtraError(
            "signed folders need the packages model-signing and pyOpenSSL, not installed", hint="pip install 'studbook[provenance]'"
        ) from error
    return {"hashing": hashing, "signing": signing, "verifying": verifying}[name]
