"""What is this, and what is near it?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection, select

from studbook.errors import RegisterError
from studbook.records import Digest, Entry
from studbook.registry.contents import Packed, Prints
from studbook.registry.indexes import Indexes, is_indexed
from studbook.registry.limits import agreement_of, distances_of
from studbook.registry.reading import Scheme, all_schemes, entries_by_id, ids_by_content
from studbook.registry.schema import entries, prints
from studbook.registry.signed import limit_of
from studbook.registry.store import Store
from studbook.registry.values import Match

MOST_MATCHES = 64
"""Matches of one query; the nearest are kept."""
_CHUNK = 10_000


class Hit(NamedTuple):
    """A match before its entry was looked up. The smaller is the better: exact, then nearest as a share of the limit, then oldest."""

    near: int
    share: float
    entry: int
    scheme: str
    distance: float
    limit: float


def _exactly(entry: int) -> Hit:
    return Hit(0, 0.0, entry, "sha256", 0.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """Digests of one scheme, of which of the outputs asked about each is, and whether entries without a manifest count."""

    name: str
    version: int
    parameters: tuple[tuple[str, object], ...]
    packed: Packed
    rows: Sequence[int]
    with_manifest: bool = False


def find_prints(store: Store, indexes: Indexes, found: Prints, *, with_manifest: bool = False) -> list[list[Hit]]:
    """Hits for each output: the same bytes, and what is near under any of its fingerprints; all, or those with a manifest."""
    hits: list[dict[int, Hit]] = [{} for _ in range(len(found))]
    with store.read() as connection:
        known = ids_by_content(store, connection, found.contents, with_manifest=with_manifest)
    for row, content in enumerate(found.contents):
        for i in known.get(content, ())[:MOST_MATCHES]:
            hits[row][i] = _exactly(i)
    for scheme, packed, rows in found.packed:
        query = Query(scheme.scheme, scheme.version, scheme.parameters, packed, rows.tolist(), with_manifest)
        _near(store, indexes, query, None, hits)
    return [sorted(each.values())[:MOST_MATCHES] for each in hits]


def find_digests(
    store: Store, indexes: Indexes, digests: Sequence[Digest], radius: float | None, *, with_manifest: bool = False
) -> list[list[Hit]]:
    """Hits for each digest: all, or those with a manifest."""
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for i, digest in enumerate(digests):
        groups[digest.scheme, digest.version, digest.parameters, len(digest.bits)].append(i)
    hits: list[dict[int, Hit]] = [{} for _ in digests]
    for rows in groups.values():
        first = digests[rows[0]]
        if first.scheme == "text_exact":
            _exact(store, digests, rows, hits, with_manifest=with_manifest)
            continue
        packed = np.frombuffer(b"".join(digests[i].bits for i in rows), np.uint8).reshape(len(rows), -1)
        _near(store, indexes, Query(first.scheme, first.version, first.parameters, packed, rows, with_manifest), radius, hits)
    return [sorted(each.values())[:MOST_MATCHES] for each in hits]


def _exact(store: Store, digests: Sequence[Digest], rows: Sequence[int], hits: list[dict[int, Hit]], *, with_manifest: bool) -> None:
    with store.read() as connection:
        known = ids_by_content(store, connection, [digests[i].bits for i in rows], with_manifest=with_manifest)
    for row in rows:
        hits[row].update({i: _exactly(i) for i in known.get(digests[row].bits, ())[:MOST_MATCHES]})


def _near(store: Store, indexes: Indexes, query: Query, radius: float | None, hits: list[dict[int, Hit]]) -> None:
    """Add what is near under one fingerprint; an entry that is a hit already keeps its better rank."""
    with store.read() as connection:
        number, scheme = _scheme_of(connection, query)
        limit = _limit(connection, query.name, radius)
    if number is None or not len(query.packed):
        return
    if not is_indexed(scheme):
        raise RegisterError(f"the register can't look up what is near by {query.name} with these parameters", hint="phash, pdq or minhash")
    if query.name == "minhash":
        which, rows, agree = indexes.search(store, number, scheme, query.packed, agreement_of(limit))
        distance = distances_of(agree)
    else:
        which, rows, distance = indexes.search(store, number, scheme, query.packed, min(int(limit), 8 * scheme[3]))
    if query.with_manifest:
        # Before the nearest are taken: others could crowd them out.
        with store.read() as connection:
            kept = np.isin(rows, list(_owners(store, connection, number, np.unique(rows).tolist(), with_manifest=True)))
        which, rows, distance = which[kept], rows[kept], distance[kept]
    order = np.lexsort((rows, distance, which))
    order = order[_nearest_of_each(which[order])]
    which, rows, distance = which[order], rows[order], distance[order]
    with store.read() as connection:
        owners = _owners(store, connection, number, np.unique(rows).tolist())
    for i, row, far in zip(which.tolist(), rows.tolist(), distance.tolist(), strict=True):
        entry = owners.get(row)
        if entry is None:
            continue
        mine = hits[query.rows[i]]
        hit = Hit(1, far / limit if limit else 0.0, entry, query.name, float(far), limit)
        if entry not in mine or hit < mine[entry]:
            mine[entry] = hit


def _nearest_of_each(which: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The first ``MOST_MATCHES`` of each query; they come sorted by query, then distance."""
    starts = np.searchsorted(which, which, side="left")
    return np.asarray(np.arange(len(which)) - starts < MOST_MATCHES)


def _scheme_of(connection: Connection, query: Query) -> tuple[int | None, Scheme]:
    wanted: Scheme = (query.name, query.version, tuple(query.parameters), int(query.packed.shape[1]))
    found = next((number for number, scheme in all_schemes(connection).items() if scheme == wanted), None)
    return found, wanted


def _limit(connection: Connection, name: str, radius: float | None) -> float:
    if radius is not None:
        if not 0 <= radius <= 4096:
            raise RegisterError(f"the radius is {radius}, expected 0 or more")
        return float(radius)
    found = limit_of(connection, name)
    if found is None:
        raise RegisterError(
            f"the register has no limit for {name}, and there is no default", hint=f"give a radius, or: studbook registry limit … {name}"
        )
    return found.value


def _owners(store: Store, connection: Connection, number: int, rows: Sequence[int], *, with_manifest: bool = False) -> dict[int, int]:
    """The entry of each fingerprint."""
    found: dict[int, int] = {}
    for start in range(0, len(rows), _CHUNK):
        part = store.dialect.among(prints.c.row, rows[start : start + _CHUNK])
        asked = select(prints.c.row, prints.c.entry).where(prints.c.scheme == number, part)
        if with_manifest:
            asked = asked.join(entries, entries.c.id == prints.c.entry).where(entries.c.manifest.is_not(None))
        found.update((row, entry) for row, entry in connection.execute(asked).all())
    return found


def matches(store: Store, hits: Sequence[Sequence[Hit]]) -> list[tuple[Match, ...]]:
    """The hits with their entries, whose fingerprints are left out: they are half of the cost."""
    with store.read() as connection:
        found = entries_by_id(store, connection, _ids(hits), fingerprints=False)
    return [tuple(_match(hit, found[hit.entry]) for hit in each if hit.entry in found) for each in hits]


def _ids(hits: Sequence[Sequence[Hit]]) -> Iterable[int]:
    return (hit.entry for each in hits for hit in each)


def _match(hit: Hit, entry: Entry) -> Match:
    return Match(entry, "exact" if hit.scheme == "sha256" else "near", hit.scheme, hit.distance, hit.limit)
