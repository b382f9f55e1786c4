"""What is wrong in a register: tables against each other, indexes against tables, signatures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from sqlalchemy import Connection, and_, func, or_, select

from studbook.errors import RegisterError, StudbookError
from studbook.provenance import open_signed
from studbook.records import Claim, DetectorCalibration, Receipt, from_bytes
from studbook.registry.indexes import Indexes, is_indexed, n_prints
from studbook.registry.lineage import on_a_cycle
from studbook.registry.reading import Scheme, all_schemes
from studbook.registry.schema import claims, edges, entries, limits, manifests, origins, prints, schemes, verdicts
from studbook.registry.signed import MAX_SIGNED
from studbook.registry.store import Store
from studbook.registry.values import Problem

MOST = 1000
"""Problems that are listed."""
_PROBES = 500
_CROWD = 1_000


def problems_of(store: Store, indexes: Indexes) -> list[Problem]:
    """Everything that is wrong, at most ``MOST`` problems."""
    found: list[Problem] = []
    for part in (_database, _entries, _prints, _exact_digests, _lineage, _signed, _manifests, _limits):
        try:
            with store.read() as connection:
                found.extend(islice(part(store, connection), MOST - len(found)))
        except RegisterError as error:
            found.append(Problem("database", store.location, error.message))
        if len(found) >= MOST:
            return found
    if any(problem.part == "database" for problem in found):
        return found  # indexes follow a table that can be read
    return [*found, *_indexes(store, indexes)][:MOST]


def _database(store: Store, connection: Connection) -> Iterator[Problem]:
    for text in store.dialect.check(connection):
        yield Problem("database", store.location, text)


def _entries(_store: Store, connection: Connection) -> Iterator[Problem]:
    n, last = connection.execute(select(func.count(), func.max(entries.c.id)).select_from(entries)).one()
    if n != (last or 0):
        yield Problem("entries", "", f"{n:,} entries are numbered up to {last:,}: some were taken out")
    wrong = select(entries.c.id).where(or_(func.length(entries.c.content) != 32, func.length(entries.c.manifest) != 32)).limit(MOST)
    for (i,) in connection.execute(wrong):
        yield Problem("entries", str(i), "its content or manifest isn't a SHA-256")
    absent = select(entries.c.id).outerjoin(origins, origins.c.id == entries.c.origin).where(origins.c.id.is_(None)).limit(MOST)
    for (i,) in connection.execute(absent):
        yield Problem("entries", str(i), "nothing says where it comes from")


def _prints(_store: Store, connection: Connection) -> Iterator[Problem]:
    known = all_schemes(connection)
    columns = (prints.c.scheme, func.count(), func.max(prints.c.row))
    for number, n, last in connection.execute(select(*columns).group_by(prints.c.scheme)):
        name = known[number][0] if number in known else f"scheme {number}"
        if number not in known:
            yield Problem("fingerprints", name, "nothing says which scheme it is")
        if n != last + 1:
            yield Problem("fingerprints", name, f"{n:,} fingerprints are numbered up to {last + 1:,}: some were taken out")
    lost = (
        select(prints.c.scheme, prints.c.row).outerjoin(entries, entries.c.id == prints.c.entry).where(entries.c.id.is_(None)).limit(MOST)
    )
    for number, row in connection.execute(lost):
        yield Problem("fingerprints", f"scheme {number}, row {row}", "there is no entry that it belongs to")
    joined = prints.join(schemes, and_(schemes.c.id == prints.c.scheme, func.length(prints.c.bits) != schemes.c.n_bytes))
    for number, row in connection.execute(select(prints.c.scheme, prints.c.row).select_from(joined).limit(MOST)):
        yield Problem("fingerprints", f"scheme {number}, row {row}", "it has another number of bits than its scheme")


def _exact_digests(_store: Store, connection: Connection) -> Iterator[Problem]:
    table = prints.join(schemes, schemes.c.id == prints.c.scheme).join(entries, entries.c.id == prints.c.entry)
    asked = select(entries.c.content).select_from(table).where(schemes.c.scheme == "text_exact", prints.c.bits != entries.c.content)
    for (content,) in connection.execute(asked.limit(MOST)):
        yield Problem("fingerprints", f"sha256:{bytes(content).hex()}", "its exact digest is another text's")


def _lineage(_store: Store, connection: Connection) -> Iterator[Problem]:
    table = edges.outerjoin(entries, entries.c.id == edges.c.entry)
    owned = select(edges.c.child, edges.c.parent, edges.c.entry, entries.c.content).select_from(table).where(edges.c.entry != 0)
    for child, parent, i, content in connection.execute(owned):
        if content is None:
            yield Problem("lineage", child, f"it comes from {parent} by entry {i}, which isn't there")
        elif f"sha256:{bytes(content).hex()}" != child:
            yield Problem("lineage", child, f"it comes from {parent} by entry {i}, which is another content's")
    parents: dict[str, set[str]] = {}
    for child, parent in connection.execute(select(edges.c.child, edges.c.parent)):
        parents.setdefault(child, set()).add(parent)
    if (caught := on_a_cycle(parents)) is not None:
        yield Problem("lineage", caught, "it is its own ancestor")


def _signed(_store: Store, connection: Connection) -> Iterator[Problem]:
    kinds: tuple[tuple[str, Any, type[Any]], ...] = (("claims", claims, Claim), ("verdicts", verdicts, Receipt))
    for part, table, cls in kinds:
        for key, signer, data in connection.execute(select(table.c.id, table.c.signer, table.c.data)):
            name = f"sha256:{bytes(key).hex()}"
            try:
                found = open_signed(bytes(data), cls, name, max_bytes=MAX_SIGNED)
            except StudbookError as error:
                yield Problem(part, name, error.message)
                continue
            if found.id != name or str(found.key) != signer:
                yield Problem(part, name, f"it is {found.id}, signed by {found.key}")


def _manifests(_store: Store, connection: Connection) -> Iterator[Problem]:
    for key, data in connection.execute(select(manifests.c.id, manifests.c.data)):
        if hashlib.sha256(data).digest() != bytes(key):
            yield Problem("manifests", f"sha256:{bytes(key).hex()}", "its bytes have another SHA-256")


def _limits(_store: Store, connection: Connection) -> Iterator[Problem]:
    for scheme, data in connection.execute(select(limits.c.scheme, limits.c.calibration).where(limits.c.calibration.is_not(None))):
        try:
            from_bytes(DetectorCalibration, bytes(data), f"the limit of {scheme}")
        except StudbookError as error:
            yield Problem("limits", scheme, error.message)


def _indexes(store: Store, indexes: Indexes) -> Iterator[Problem]:
    """Every index has the table's rows, and finds a sample of them, spread over all, where they stand."""
    with store.read() as connection:
        known = {number: scheme for number, scheme in all_schemes(connection).items() if is_indexed(scheme)}
    for number, scheme in known.items():
        n = indexes.follow(store, number, scheme).n_rows
        with store.read() as connection:
            total = n_prints(connection, number)
            rows = sorted({int(row) for row in np.linspace(0, total - 1, min(_PROBES, total))})
            asked = select(prints.c.row, prints.c.bits).where(prints.c.scheme == number, store.dialect.among(prints.c.row, rows))
            sample = {row: bytes(bits) for row, bits in connection.execute(asked)}
        if n > total:
            yield Problem("index", scheme[0], f"it has {n:,} rows, the table {total:,}")
        sound = {row: bits for row, bits in sample.items() if len(bits) == scheme[3]}
        yield from _probe(store, indexes, number, scheme, sound)


def _probe(store: Store, indexes: Indexes, number: int, scheme: Scheme, sample: dict[int, bytes]) -> Iterator[Problem]:
    if not sample:
        return
    wanted = list(sample)
    packed = np.frombuffer(b"".join(sample.values()), np.uint8).reshape(len(sample), -1)
    which, rows, _ = indexes.search(store, number, scheme, packed, 128 if scheme[0] == "minhash" else 0)
    found, counts = set(zip(which.tolist(), rows.tolist(), strict=True)), np.bincount(which, minlength=len(wanted))
    # Where very many rows are the same, an index may stop short of some.
    lost = [row for i, row in enumerate(wanted) if (i, row) not in found and counts[i] < _CROWD]
    if lost:
        indexes.drop(number)
        text = f"{len(lost)} of {len(wanted)} fingerprints aren't found at their row, {lost[0]} for one"
        yield Problem("index", scheme[0], f"{text}; it was thrown away, and is made again at the next search")
