"""From a location to an open store."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sqlalchemy import select

from studbook.errors import ConfigError, RegisterError
from studbook.registry.schema import meta
from studbook.registry.store import Dialect, Store
from studbook.registry.store_postgres import PostgresDialect
from studbook.registry.store_sqlite import SqliteDialect

_SERVER = re.compile(r"[a-z][a-z0-9+]*://")
_ID = re.compile(r"[0-9a-f]{32}")


def open_store(location: str | Path, *, create: bool) -> tuple[Store, Path, str]:
    """The store at a location, the folder where its indexes lie, and the register's own random name.

    Raises:
        ConfigError: A location that can't be read.
        RegisterError: No register.
        RegisterUnavailableError: The server can't be reached.
    """
    if not isinstance(location, str | Path) or not str(location) or "\0" in str(location):
        raise ConfigError("the register's location is empty, expected a path, or postgresql://user@host:port/database")
    server = isinstance(location, str) and _SERVER.match(location) is not None
    path = Path(location)
    dialect: Dialect = PostgresDialect(str(location)) if server else SqliteDialect(path, create=create)
    store = Store(dialect, create=create)
    with store.read() as connection:
        id_ = str(connection.execute(select(meta.c.value).where(meta.c.name == "id")).scalar())
    if not _ID.fullmatch(id_):
        raise RegisterError(f"the register {store.location} has lost its name", hint="import what was exported of it into a new one")
    return store, _cache() / "registers" / id_ if server else path.with_name(f"{path.name}.index"), id_


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "studbook"
