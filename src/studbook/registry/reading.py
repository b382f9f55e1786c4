"""Entries out of the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, select

from studbook.errors import RegisterError
from studbook.records import Digest, Entry
from studbook.registry.schema import edges, entries, origins, prints, schemes
from studbook.registry.store import BACKUP, Store
from studbook.registry.writing import made_text

_CHUNK = 5_000

Scheme = tuple[str, int, tuple[tuple[str, Any], ...], int]


def entries_by_id(store: Store, connection: Connection, ids: Iterable[int], *, fingerprints: bool = True) -> dict[int, Entry]:
    """Entries by their numbers, whole or without their fingerprints."""
    wanted, found = sorted(set(ids)), dict[int, Entry]()
    for start in range(0, len(wanted), _CHUNK):
        part = wanted[start : start + _CHUNK]
        found.update(_load(store, connection, part, _digests(store, connection, part) if fingerprints else {}))
    return found


def _load(store: Store, connection: Connection, ids: Sequence[int], digests: Mapping[int, Sequence[Digest]]) -> Iterator[tuple[int, Entry]]:
    among = store.dialect.among
    parents: dict[int, list[str]] = {}
    steps = select(edges.c.entry, edges.c.parent).where(among(edges.c.entry, ids)).order_by(edges.c.entry, edges.c.parent)
    for i, parent in connection.execute(steps).all():
        parents.setdefault(i, []).append(parent)
    columns = (entries.c.id, entries.c.content, entries.c.made, entries.c.manifest, entries.c.origin)
    rows = connection.execute(select(*columns).where(among(entries.c.id, ids))).all()
    named = _origins(store, connection, {row[4] for row in rows})
    for i, content, made, manifest, source in rows:
        if source not in named:
            raise RegisterError(f"the register is damaged: nothing says where entry {i} comes from", hint=BACKUP)
        kind, origin, model, where = named[source]
        yield i, Entry(
            content=f"sha256:{content.hex()}", kind=kind, origin=origin, model=model, source=where, digests=tuple(digests.get(i, ())),
            parents=tuple(parents.get(i, ())), manifest="" if manifest is None else f"sha256:{manifest.hex()}", made=_time(made),
        )  # fmt: skip


def _digests(store: Store, connection: Connection, ids: Sequence[int]) -> dict[int, list[Digest]]:
    found: dict[int, list[Digest]] = {}
    known = all_schemes(connection)
    shown = select(prints.c.entry, prints.c.scheme, prints.c.bits).where(store.dialect.among(prints.c.entry, ids)).order_by(prints.c.scheme)
    for i, scheme, bits in connection.execute(shown).all():
        name, version, parameters, _ = known[scheme]
        found.setdefault(i, []).append(Digest(name, version, parameters, bytes(bits)))
    return found


def _origins(store: Store, connection: Connection, ids: Iterable[int]) -> dict[int, tuple[Any, ...]]:
    """Kind, origin, model and source, which many entries share."""
    columns = (origins.c.id, origins.c.kind, origins.c.origin, origins.c.model, origins.c.source)
    asked = select(*columns).where(store.dialect.among(origins.c.id, sorted(ids)))
    return {row[0]: tuple(row[1:]) for row in connection.execute(asked).all()}


@lru_cache(maxsize=1024)
def _time(seconds: int) -> str:
    """As text; entries come in batches with one time."""
    return made_text(seconds)


def all_schemes(connection: Connection) -> dict[int, Scheme]:
    """Every scheme of the register, by its number."""
    columns = (schemes.c.id, schemes.c.scheme, schemes.c.version, schemes.c.parameters, schemes.c.n_bytes)
    rows = connection.execute(select(*columns)).all()
    return {i: (name, version, _parameters(name, text), n_bytes) for i, name, version, text, n_bytes in rows}


def _parameters(name: str, text: str) -> tuple[tuple[str, Any], ...]:
    try:
        return tuple(sorted(json.loads(text).items()))
    except (ValueError, TypeError, AttributeError) as error:
        raise RegisterError(f"the register is damaged: it has lost the parameters of the fingerprint {name!r}", hint=BACKUP) from error


def ids_by_content(
    store: Store, connection: Connection, contents: Iterable[bytes], *, with_manifest: bool = False
) -> dict[bytes, list[int]]:
    """Numbers of the entries of each content that is known; all, or those with a manifest."""
    wanted = list(dict.fromkeys(contents))
    found: dict[bytes, list[int]] = {}
    for start in range(0, len(wanted), _CHUNK):
        asked = select(entries.c.content, entries.c.id).where(store.dialect.among(entries.c.content, wanted[start : start + _CHUNK]))
        if with_manifest:
            asked = asked.where(entries.c.manifest.is_not(None))
        for content, i in connection.execute(asked.order_by(entries.c.id)).all():
            found.setdefault(bytes(content), []).append(i)
    return found
