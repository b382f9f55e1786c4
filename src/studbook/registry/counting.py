"""How much a register holds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select

from studbook.registry.indexes import n_prints
from studbook.registry.reading import all_schemes
from studbook.registry.schema import claims, edges, entries, manifests, origins, verdicts
from studbook.registry.store import Store
from studbook.registry.values import Stats
from studbook.registry.versions import VERSION

_MODELS = 20


def stats_of(store: Store, id_: str) -> Stats:
    """Counts, all of one moment."""
    with store.read() as connection:
        counted = select(entries.c.origin, func.count().label("n")).group_by(entries.c.origin).subquery()
        columns = (origins.c.kind, origins.c.origin, origins.c.model, counted.c.n)
        rows = connection.execute(select(*columns).join(counted, counted.c.origin == origins.c.id)).all()
        by_origin: dict[str, int] = {}
        by_model: dict[str, int] = {}
        for kind, origin, model, n in rows:
            by_origin[f"{kind}, {origin}"] = by_origin.get(f"{kind}, {origin}", 0) + n
            if model:
                by_model[model] = by_model.get(model, 0) + n
        prints = [(_label(scheme), n_prints(connection, number)) for number, scheme in all_schemes(connection).items()]
        return Stats(
            store.location, id_, VERSION, sum(n for *_, n in rows), tuple(sorted(by_origin.items())),
            tuple(sorted(by_model.items(), key=lambda item: (-item[1], item[0]))[:_MODELS]), tuple(sorted(prints)),
            *(_count(connection, table) for table in (edges, claims, verdicts, manifests)),
        )  # fmt: skip


def sizes_of(store: Store) -> dict[str, int]:
    """How many entries, and how many fingerprints by scheme, by their last numbers: nothing is counted."""
    with store.read() as connection:
        last = connection.execute(select(func.max(entries.c.id))).scalar()
        found = {"entries": int(last or 0)}
        for number, (name, *_) in all_schemes(connection).items():
            found[name] = found.get(name, 0) + n_prints(connection, number)
    return found


def _label(scheme: tuple[Any, ...]) -> str:
    name, version, parameters, _ = scheme
    settings = "&".join(f"{key}={value}" for key, value in parameters)
    return f"{name}/{version}{'?' if settings else ''}{settings}"


def _count(connection: Connection, table: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())
