"""A register as JSON Lines of canonical records, and back.

The first line is a header; then every entry, step of descent, claim, receipt, manifest and limit, one a line; the last line has the number
of lines before it and the SHA-256 of their bytes, so that a file that was cut off or changed is noticed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, func, select

from studbook.errors import ConfigError, RecordError, RegisterError
from studbook.files import storage
from studbook.records import DetectorCalibration, Entry, canonical_bytes, from_plain, read_json, to_bytes
from studbook.records.codec import check_canonical
from studbook.registry.limits import check_limit
from studbook.registry.lineage import add_edge
from studbook.registry.reading import entries_by_id
from studbook.registry.schema import claims, edges, entries, limits, manifests, verdicts
from studbook.registry.signed import MAX_MANIFEST, put_claim, put_limit, put_manifest, put_verdict
from studbook.registry.store import Store
from studbook.registry.values import Added, Edge
from studbook.registry.writing import add_entries

HEADER, MANIFEST, LIMIT, END = "studbook.register/1", "studbook.manifest/1", "studbook.limit/1", "studbook.register-end/1"
MAX_LINE = 2 * MAX_MANIFEST
_PART = 2_000


def export_register(store: Store, path: Path) -> int:
    """Write a register as JSON Lines, whole or not at all; gives the number of records.

    Raises:
        StorageError: The disk refused.
    """
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                n = _write(store, file)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return n


def _write(store: Store, file: BinaryIO) -> int:
    digest, n = hashlib.sha256(), 0
    with store.read() as connection:
        for line in _lines(store, connection):
            digest.update(line + b"\n")
            file.write(line + b"\n")
            n += 1
    file.write(canonical_bytes({"schema": END, "lines": n, "sha256": digest.hexdigest()}) + b"\n")
    return n - 1


def _lines(store: Store, connection: Connection) -> Iterator[bytes]:
    yield canonical_bytes({"schema": HEADER})
    last = connection.execute(select(func.max(entries.c.id))).scalar() or 0
    for start in range(1, last + 1, _PART):
        found = entries_by_id(store, connection, range(start, min(start + _PART, last + 1)))
        yield from (to_bytes(found[i]) for i in sorted(found))
    stated = select(edges.c.child, edges.c.parent, edges.c.relation).where(edges.c.entry == 0)
    for child, parent, relation in connection.execute(stated.order_by(edges.c.child, edges.c.parent, edges.c.relation)):
        yield to_bytes(Edge(child, parent, relation))
    for table in (claims, verdicts):
        yield from (bytes(row[0]) for row in connection.execute(select(table.c.data).order_by(table.c.id)))
    for (data,) in connection.execute(select(manifests.c.data).order_by(manifests.c.id)):
        yield canonical_bytes({"schema": MANIFEST, "data": base64.b64encode(data).decode()})
    for scheme, value, data in connection.execute(select(limits.c.scheme, limits.c.value, limits.c.calibration).order_by(limits.c.scheme)):
        record = None if data is None else read_json(bytes(data), "a limit's calibration")
        yield canonical_bytes({"schema": LIMIT, "scheme": scheme, "value": value, "calibration": record})


def import_register(store: Store, path: Path) -> Added:
    """Take in what ``export_register`` wrote; what is known stays as it is, so that an import that was stopped can be repeated.

    Raises:
        RegisterError: No such file, or one that was cut off or changed; what stood before the fault is in the register.
        RecordError: A line that is no record.
        SignatureError: A claim or receipt that was changed.
    """
    total, batch, importer = Added(0, 0), list[Entry](), _Importer(store)
    for number, line in _checked_lines(path):
        what = f"{path.name} line {number}"
        value = read_json(line, what, max_bytes=MAX_LINE)
        check_canonical(value, line, what)
        if isinstance(value, dict) and value.get("schema") == Entry.SCHEMA:
            batch.append(from_plain(Entry, value, what))
            if len(batch) == _PART:
                total, batch = total + add_entries(store, batch), []
        else:
            importer.take(value, line, what)
    return total + add_entries(store, batch) if batch else total


@dataclass(frozen=True, slots=True)
class _Importer:
    """Takes in the lines that aren't entries."""

    store: Store

    def take(self, value: Any, line: bytes, what: str) -> None:
        """One record."""
        schema = value.get("schema") if isinstance(value, dict) else None
        takers: dict[Any, Callable[[Any, bytes, str], object]] = {
            Edge.SCHEMA: lambda value, _, what: add_edge(self.store, from_plain(Edge, value, what)),
            MANIFEST: lambda value, _, what: put_manifest(self.store, _decoded(value, what)),
            LIMIT: self._limit,
            "studbook.signed/1": self._signed,
        }
        if not isinstance(schema, str) or schema not in takers:
            raise RecordError(f"{what} is {str(schema)[:80]!r}, expected a record of a register", hint="is it another file?")
        takers[schema](value, line, what)

    def _signed(self, value: Any, line: bytes, what: str) -> None:
        payload = value.get("payload")
        kind = payload.get("schema") if isinstance(payload, dict) else None
        if kind not in ("studbook.claim/1", "studbook.receipt/1"):
            raise RecordError(f"{what} is signed, but no claim and no receipt", hint="is it another file?")
        (put_claim if kind == "studbook.claim/1" else put_verdict)(self.store, line)

    def _limit(self, value: Any, _line: bytes, what: str) -> None:
        scheme, limit, record = value.get("scheme"), value.get("value"), value.get("calibration")
        calibration = None if record is None else from_plain(DetectorCalibration, record, what)
        try:
            check_limit(scheme, limit, calibration)
        except ConfigError as error:
            raise RecordError(f"{what} isn't a limit: {error.message}", hint="it was changed") from error
        put_limit(self.store, scheme, limit, calibration, replace=False)


def _decoded(value: Any, what: str) -> bytes:
    try:
        return base64.b64decode(value["data"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise RecordError(f"{what} isn't a manifest in base64", hint="it was changed") from error


def _checked_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines between header and end, numbered from 2; the end is compared once they were all given."""
    digest, end = hashlib.sha256(), b""
    number = 0
    for number, line in enumerate(_bounded_lines(path), 1):
        if end:
            raise RegisterError(f"{path} goes on after its end", hint="it was changed; export again")
        if line.startswith(b'{"lines":'):
            end = line
            continue
        digest.update(line + b"\n")
        if number == 1 and line != canonical_bytes({"schema": HEADER}):
            raise RegisterError(f"{path} is no export of a register", hint="studbook registry export REGISTER FILE writes one")
        if number > 1:
            yield number, line
    if end != canonical_bytes({"schema": END, "lines": number - 1, "sha256": digest.hexdigest()}):
        raise RegisterError(f"{path} was cut off or changed: its last line doesn't fit the others", hint="copy it again")


def _bounded_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    raise RegisterError(f"{path} has a line of over {MAX_LINE:,} bytes", hint="this isn't one of our files")
                yield line.removesuffix(b"\n")
    except OSError as error:
        raise RegisterError(f"{path} can't be read: {error.strerror or error}", hint="is the path right?") from error
