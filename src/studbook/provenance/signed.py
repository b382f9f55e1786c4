"""Signed records: canonical JSON under an Ed25519 signature that, where something was changed, says what.

The signature is over a table of sums, one for each part of the record (``recipe.seed``, ``tokens``, …). A changed part doesn't fit its
sum, and is named; a changed table, key or signature fails the signature itself.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from studbook.errors import ConfigError, RecordError, SignatureError
from studbook.provenance.keys import PublicKey, SigningKey
from studbook.records.canonical import MAX_BYTES, canonical_bytes, digest_of, read_json
from studbook.records.codec import check_canonical, check_schema, from_plain, to_plain

SCHEMA = "studbook.signed/1"
_DEPTH = 3

RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True)
class Signed(Generic[RecordT]):
    """A record whose signature was checked.

    Attributes:
        record: The record.
        key: Who signed it.
        data: The signed bytes as they were read.
    """

    record: RecordT
    key: PublicKey
    data: bytes

    @property
    def id(self) -> str:
        """SHA-256 of the record, without the signature: ``sha256:…``."""
        return digest_of(to_plain(self.record))


def sign(record: Any, key: SigningKey) -> bytes:
    """The record as signed canonical JSON.

    Args:
        record: A record with a schema: ``Claim``, ``Ballot``, …
        key: The signer's.

    Examples:
        >>> from studbook.provenance import SigningKey, open_signed, sign
        >>> from studbook.records import Ballot, Check
        >>> sha = "sha256:" + 64 * "0"
        >>> checks = (Check("execution", "tokens", 0.0, 0.1, 64),)
        >>> key = SigningKey.generate()
        >>> ballot = Ballot(
        ...     claim=sha, claimant=str(key.public), task=sha, round=32 * "0", electorate="", calibration=sha, checks=checks
        ... )
        >>> data = sign(ballot, key)
        >>> open_signed(data, Ballot, "ballot.json", keys={key.public}).record == ballot
        True
        >>> open_signed(data.replace(b'"n":64', b'"n":65'), Ballot, "ballot.json")
        Traceback (most recent call last):
        studbook.errors.SignatureError: ballot.json was changed after it was signed: checks.0 ...
    """
    payload = to_plain(record)
    sums = dict(_sums(payload))
    signature = key.sign(_signed_bytes(sums, key.public))
    envelope = {
        "schema": SCHEMA, "payload": payload, "sums": sums, "key": str(key.public),
        "signature": base64.urlsafe_b64encode(signature).decode().rstrip("="),
    }  # fmt: skip
    return canonical_bytes(envelope)


def open_signed(
    data: bytes, cls: type[RecordT], what: str, *, keys: Collection[PublicKey] | None = None, max_bytes: int | None = None
) -> Signed[RecordT]:
    """The record in signed bytes, once everything about them was checked; whoever gets a value back may rely on it.

    1. The bytes are canonical JSON of bounded size. 2. They are an envelope of our form. 3. The key is one of those that are trusted.
    4. The signature is that key's, on the table of sums. 5. Every part fits its sum. 6. The parts make a record.

    Args:
        data: What ``sign`` gave.
        cls: The record's class.
        what: What it should be, for the messages.
        keys: Keys that are trusted; ``None`` takes any, and says nothing about who signed.
        max_bytes: Longest that is read; by default what the class allows.

    Raises:
        RecordError: Not a signed record of that class.
        SchemaVersionError: Of a newer version.
        SignatureError: Changed after it was signed (the message names the part), or signed by somebody else.
    """
    longest: int = getattr(cls, "MAX_BYTES", MAX_BYTES) if max_bytes is None else max_bytes
    envelope = read_json(data, what, max_bytes=longest)  # 1
    check_canonical(envelope, data, what)
    payload, sums, key, signature = _parts(envelope, what)  # 2
    if keys is not None and key not in keys:  # 3
        raise SignatureError(f"{what} is signed by {key}, who isn't trusted here", hint="name the key among those that are trusted")
    key.check(_signed_bytes(sums, key), signature)  # 4
    found = _table(payload, what)
    changed = sorted(name for name in found.keys() | sums.keys() if found.get(name) != sums.get(name))  # 5
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise SignatureError(
            f"{what} was changed after it was signed: {', '.join(changed[:3])}{more}", hint="reject it, or ask for it again"
        )
    return Signed(from_plain(cls, payload, what), key, data)  # 6


def read_signed(
    path: Path, cls: type[RecordT], *, keys: Collection[PublicKey] | None = None, hint: str = "name the file of a signed record"
) -> Signed[RecordT]:
    """The record in a signed file, once everything about it was checked: see ``open_signed``.

    Args:
        path: The file.
        cls: The record's class.
        keys: Keys that are trusted; ``None`` takes any.
        hint: What to do where the file isn't there.

    Raises:
        ConfigError: The file isn't there, or can't be read.
        RecordError: Too long, or not such a record.
        SignatureError: It was changed, or its signer isn't trusted.

    Examples:
        >>> from pathlib import Path
        >>> from studbook.provenance import read_signed
        >>> from studbook.records import Claim
        >>> read_signed(Path("absent.json"), Claim)
        Traceback (most recent call last):
        studbook.errors.ConfigError: absent.json can't be read: No such file or directory (name the file of a signed record)
    """
    return open_signed(read_bounded(path, getattr(cls, "MAX_BYTES", MAX_BYTES), hint=hint), cls, path.name, keys=keys)


def read_bounded(path: Path, max_bytes: int = MAX_BYTES, *, hint: str = "name the file of a signed record") -> bytes:
    """A record's bytes; a longer file isn't read whole.

    Raises:
        ConfigError: The file isn't there, is a pipe or a device, or can't be read.
        RecordError: Too long.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}", hint=hint) from error
    if len(data) > max_bytes:
        raise RecordError(f"{path} has more than {max_bytes:,} bytes", hint="this isn't one of our records")
    return data


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe that nobody writes to isn't waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def payload_schema(data: bytes, what: str, *, max_bytes: int = MAX_BYTES) -> str:
    """Which kind of record signed bytes say they hold; nothing is checked beyond that.

    Raises:
        RecordError: Not a signed record.
    """
    return str(_parts(read_json(data, what, max_bytes=max_bytes), what)[0].get("schema"))


def _parts(envelope: Any, what: str) -> tuple[dict[str, Any], dict[str, str], PublicKey, bytes]:
    if not isinstance(envelope, dict):
        raise RecordError(f"{what} is no signed record", hint="ask for it again")
    check_schema(envelope.get("schema"), SCHEMA, what)
    if set(envelope) != {"schema", "payload", "sums", "key", "signature"}:
        raise RecordError(f"{what} has the keys {', '.join(sorted(envelope))[:200]}", hint="expected key, payload, schema, signature, sums")
    payload, sums, signature = envelope["payload"], envelope["sums"], envelope["signature"]
    if not isinstance(payload, dict):
        raise RecordError(f"{what}: payload isn't a record", hint="ask for it again")
    if not isinstance(sums, dict) or not all(isinstance(value, str) for value in sums.values()):
        raise RecordError(f"{what}: sums isn't a table of texts", hint="ask for it again")
    return payload, sums, PublicKey(envelope["key"]), _signature(signature, what)


def _signature(text: object, what: str) -> bytes:
    try:
        data = base64.b64decode(f"{text}==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError(f"{what}: the signature isn't base64url", hint="it was changed; ask for it again") from error
    if len(data) != 64 or base64.urlsafe_b64encode(data).decode().rstrip("=") != text:
        raise SignatureError(f"{what}: the signature isn't 64 bytes in base64url", hint="it was changed; ask for it again")
    return data


def _signed_bytes(sums: Mapping[str, str], key: PublicKey) -> bytes:
    return canonical_bytes({"schema": SCHEMA, "key": str(key), "sums": dict(sums)})


def _table(payload: Mapping[str, Any], what: str) -> dict[str, str]:
    parts = list(_sums(payload))
    found = dict(parts)
    if len(found) < len(parts):
        raise RecordError(f"{what} has two parts of one name", hint="ask for it again")
    return found


def _sums(payload: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each part's name and sum; lists of plain values are one part, tables and lists of tables are taken apart."""
    for name, value in payload.items():
        yield from _sum(name, value, 1)


def _sum(name: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if depth < _DEPTH and isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _sum(f"{name}.{key}", each, depth + 1)
    elif depth < _DEPTH and isinstance(value, list) and value and isinstance(value[0], dict) and len(value) <= 256:
        for i, each in enumerate(value):
            yield f"{name}.{i}", _short(each)
        yield name, str(len(value))
    else:
        yield name, _short(value)


def _short(value: Any) -> str:
    return hashlib.sha256(canonical_bytes(value)).hexdigest()
