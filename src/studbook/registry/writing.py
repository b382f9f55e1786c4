"""Putting entries into the tables: in bulk, once each, numbered in the order of their commits."""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, insert, select, update

from studbook.errors import DataError, RegisterError
from studbook.records import Digest, Entry, canonical_bytes
from studbook.registry.contents import Packed, Prints
from studbook.registry.lineage import refuse_cycles
from studbook.registry.schema import edges, entries, origins, prints, schemes
from studbook.registry.store import Store
from studbook.registry.values import Added, Edge, Relation

BATCH = 8192
"""Entries a transaction."""
TEXTS = 32_768
"""Texts a transaction: contents are spread over the whole index, whose pages are written anew by each, so that few large ones cost less."""
_PARENT: Relation = "derived-from"


@dataclass(frozen=True, slots=True)
class Source:
    """What many entries have in common."""

    kind: str
    origin: str
    model: str
    source: str


def add_prints(store: Store, found: Prints, source: Source, parents: Sequence[str] = ()) -> Added:
    """Add outputs of one source by their fingerprints, without an ``Entry`` for each.

    Raises:
        RegisterError: A parent that descends from one of them.
        RegisterUnavailableError: The database went away; nothing of these outputs is in the register, or all.
    """
    made = int(time.time())
    with store.write() as connection:
        origin = _origin_id(connection, source)
        known = known_contents(store, connection, origin, found.contents)
        ids = _number(connection, found.contents, known)
        store.dialect.insert_many(
            connection, "entries", ("id", "content", "origin", "made"), [(i, content, origin, made) for content, i in ids.items()]
        )
        by_row = {row: ids[content] for row, content in _first_rows(found.contents, ids)} if len(ids) < len(found) else None
        for scheme, packed, rows in found.packed:
            n_bytes = int(packed.shape[1])
            number = _scheme_id(connection, Digest(scheme.scheme, scheme.version, scheme.parameters, bytes(n_bytes)))
            first = next(iter(ids.values()), 0)
            numbers = [first + int(row) for row in rows] if by_row is None else [by_row.get(int(row)) for row in rows]
            _insert_prints(store, connection, number, numbers, _split(packed))
        if parents and ids:
            _insert_edges(store, connection, [(i, f"sha256:{content.hex()}", parent) for content, i in ids.items() for parent in parents])
    return Added(len(ids), len(found) - len(ids))


def _first_rows(contents: Sequence[bytes], ids: dict[bytes, int]) -> list[tuple[int, bytes]]:
    seen: set[bytes] = set()
    found = []
    for row, content in enumerate(contents):
        if content in ids and content not in seen:
            seen.add(content)
            found.append((row, content))
    return found


def _split(packed: Packed) -> list[bytes]:
    """Each row's bytes."""
    width = packed.shape[1]
    if not len(packed):
        return []
    found: list[bytes] = np.ascontiguousarray(packed).view(f"V{width}").ravel().tolist()
    return found


def known_contents(store: Store, connection: Connection, origin: int, contents: Sequence[bytes]) -> set[bytes]:
    """Which of many contents a source has already."""
    asked = select(entries.c.content).where(entries.c.origin == origin, store.dialect.among(entries.c.content, contents))
    return {bytes(row[0]) for row in connection.execute(asked).all()} if contents else set()


def _number(connection: Connection, contents: Iterable[bytes], known: set[bytes]) -> dict[bytes, int]:
    """A number for each content that is new, in order."""
    fresh = dict.fromkeys(contents) if not known else dict.fromkeys(content for content in contents if content not in known)
    first = (connection.execute(select(func.max(entries.c.id))).scalar() or 0) + 1
    return dict(zip(fresh, range(first, first + len(fresh)), strict=True))


def _insert_prints(store: Store, connection: Connection, scheme: int, numbers: Sequence[int | None], bits: Sequence[bytes]) -> None:
    last = connection.execute(select(func.max(prints.c.row)).where(prints.c.scheme == scheme)).scalar()
    first = 0 if last is None else last + 1
    fresh = [(entry, data) for entry, data in zip(numbers, bits, strict=True) if entry is not None]
    rows = [(scheme, row, entry, data) for row, (entry, data) in enumerate(fresh, first)]
    if rows:
        store.dialect.insert_many(connection, "prints", ("scheme", "row", "entry", "bits"), rows)


def _insert_edges(store: Store, connection: Connection, rows: Sequence[tuple[int, str, str]]) -> None:
    refuse_cycles(store, connection, [Edge(child, parent, _PARENT) for _, child, parent in rows])
    store.dialect.insert_many(
        connection, "edges", ("entry", "child", "parent", "relation"), [(entry, child, parent, _PARENT) for entry, child, parent in rows]
    )


def _origin_id(connection: Connection, source: Source) -> int:
    values = {"kind": source.kind, "origin": source.origin, "model": source.model, "source": source.source}
    return _row_id(connection, origins, values)


def _scheme_id(connection: Connection, digest: Digest) -> int:
    parameters = canonical_bytes(dict(digest.parameters)).decode()
    values = {"scheme": digest.scheme, "version": digest.version, "parameters": parameters, "n_bytes": len(digest.bits)}
    return _row_id(connection, schemes, values)


def _row_id(connection: Connection, table: Any, values: dict[str, Any]) -> int:
    key = hashlib.sha256(canonical_bytes(values)).digest()
    found = connection.execute(select(table.c.id).where(table.c.key == key)).scalar()
    if found is None:
        found = (connection.execute(select(func.max(table.c.id))).scalar() or 0) + 1
        connection.execute(insert(table).values(id=found, key=key, **values))
    return int(found)


def add_entries(store: Store, batch: Sequence[Entry]) -> Added:
    """Add entries; of those that are known, what they lack is filled in: parents, fingerprints, a manifest. Nothing is overwritten.

    Raises:
        RegisterError: An entry that contradicts itself, another manifest than the known one, or a parent that descends from its child.
    """
    for entry in batch:
        _check_entry(entry)
    with store.write() as connection:
        sources: dict[Source, int] = {}
        keyed: dict[tuple[bytes, int], list[Entry]] = {}
        for entry in batch:
            source = Source(entry.kind, entry.origin, entry.model, entry.source)
            if source not in sources:
                sources[source] = _origin_id(connection, source)
            keyed.setdefault((sha_bytes(entry.content), sources[source]), []).append(entry)
        ids = _known_ids(store, connection, keyed)
        fresh = [key for key in keyed if key not in ids]
        first = (connection.execute(select(func.max(entries.c.id))).scalar() or 0) + 1
        rows = [(i, content, origin, _seconds(keyed[content, origin][0].made)) for i, (content, origin) in enumerate(fresh, first)]
        if rows:
            store.dialect.insert_many(connection, "entries", ("id", "content", "origin", "made"), rows)
        ids.update({(content, origin): i for i, content, origin, _ in rows})
        _complete(store, connection, [(ids[key], each) for key, several in keyed.items() for each in several], first)
    return Added(len(fresh), len(batch) - len(fresh))


def _known_ids(store: Store, connection: Connection, keys: Iterable[tuple[bytes, int]]) -> dict[tuple[bytes, int], int]:
    wanted = set(keys)
    contents = list({content for content, _ in wanted})
    if not contents:
        return {}
    asked = select(entries.c.content, entries.c.origin, entries.c.id).where(store.dialect.among(entries.c.content, contents))
    found = ((bytes(content), origin, i) for content, origin, i in connection.execute(asked).all())
    return {(content, origin): i for content, origin, i in found if (content, origin) in wanted}


def _complete(store: Store, connection: Connection, pairs: Sequence[tuple[int, Entry]], first_new: int) -> None:
    """Whatever belongs to entries beside their own row; those from ``first_new`` on have nothing yet."""
    has_prints, has_edges = _had(store, connection, [i for i, _ in pairs if i < first_new])
    by_scheme: dict[int, list[tuple[int, bytes]]] = {}
    steps: list[tuple[int, str, str]] = []
    numbers: dict[tuple[Any, ...], int] = {}
    for i, entry in pairs:
        for digest in entry.digests:
            key = (digest.scheme, digest.version, digest.parameters, len(digest.bits))
            if key not in numbers:
                numbers[key] = _scheme_id(connection, digest)
            if (i, numbers[key]) not in has_prints:
                has_prints.add((i, numbers[key]))
                by_scheme.setdefault(numbers[key], []).append((i, digest.bits))
        for parent in entry.parents:
            if (i, parent) not in has_edges:
                has_edges.add((i, parent))
                steps.append((i, entry.content, parent))
    for number, rows in by_scheme.items():
        _insert_prints(store, connection, number, [i for i, _ in rows], [bits for _, bits in rows])
    if steps:
        _insert_edges(store, connection, steps)
    for i, entry in pairs:
        if entry.manifest:
            _set_manifest(connection, i, entry)


def _had(store: Store, connection: Connection, ids: Sequence[int]) -> tuple[set[tuple[int, int]], set[tuple[int, str]]]:
    if not ids:
        return set(), set()
    shown = select(prints.c.entry, prints.c.scheme).where(store.dialect.among(prints.c.entry, ids))
    steps = select(edges.c.entry, edges.c.parent).where(store.dialect.among(edges.c.entry, ids))
    return {(i, scheme) for i, scheme in connection.execute(shown)}, {(i, parent) for i, parent in connection.execute(steps)}


def _set_manifest(connection: Connection, i: int, entry: Entry) -> None:
    wanted = sha_bytes(entry.manifest)
    known = connection.execute(select(entries.c.manifest).where(entries.c.id == i)).scalar()
    if known is None:
        connection.execute(update(entries).where(entries.c.id == i).values(manifest=wanted))
    elif bytes(known) != wanted:
        raise RegisterError(
            f"{entry.content} is known with the manifest sha256:{bytes(known).hex()}, got {entry.manifest}",
            hint="enter it under another source",
        )


def _check_entry(entry: Entry) -> None:
    if not isinstance(entry, Entry):
        raise DataError(f"an entry is {type(entry).__name__}, expected studbook.records.Entry")
    names = [(each.scheme, each.version, each.parameters, len(each.bits)) for each in entry.digests]
    if len(set(names)) < len(names):
        raise RegisterError(f"{entry.content} has two fingerprints of one scheme", hint="leave one out")
    for digest in entry.digests:
        if digest.scheme == "text_exact" and entry.content != f"sha256:{digest.bits.hex()}":
            raise RegisterError(f"{entry.content} has the exact digest {digest.bits.hex()}", hint="content and digest are of two texts")


def sha_bytes(text: str) -> bytes:
    """The 32 bytes of ``sha256:…``."""
    return bytes.fromhex(text.removeprefix("sha256:"))


def _seconds(made: str) -> int:
    return int(dt.datetime.fromisoformat(made).timestamp())


def made_text(seconds: int) -> str:
    """A time in UTC as entries have it."""
    return (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
