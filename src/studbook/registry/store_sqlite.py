"""The register in a file: SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, LargeBinary, create_engine, event, func, literal, select
from sqlalchemy.engine import URL

from studbook.errors import RegisterError, RegisterUnavailableError, StorageError, StudbookError
from studbook.files import storage
from studbook.registry.store import BACKUP, WAIT_S

_HEADER = b"SQLite format 3\x00"
_SPACE = "free some space; what was acknowledged is there"

_WRITABLE = "make the file and its folder writable, or copy it elsewhere"
_REFUSALS: dict[int, tuple[type[StudbookError], str, str]] = {
    sqlite3.SQLITE_FULL: (StorageError, "can't be written", _SPACE),
    sqlite3.SQLITE_IOERR: (StorageError, "can't be read or written", _SPACE),
    sqlite3.SQLITE_BUSY: (RegisterUnavailableError, f"is busy, others have been writing for {WAIT_S} s", "try again"),
    sqlite3.SQLITE_LOCKED: (RegisterUnavailableError, f"is busy, others have been writing for {WAIT_S} s", "try again"),
    sqlite3.SQLITE_READONLY: (RegisterError, "can't be written", _WRITABLE),
    sqlite3.SQLITE_CANTOPEN: (RegisterError, "can't be opened", _WRITABLE),
    sqlite3.SQLITE_PERM: (RegisterError, "can't be opened", _WRITABLE),
    sqlite3.SQLITE_NOTADB: (RegisterError, "is damaged", BACKUP),
    sqlite3.SQLITE_CORRUPT: (RegisterError, "is damaged", BACKUP),
}


class SqliteDialect:
    """See ``studbook.registry.store.Dialect``.

    The journal is written ahead (WAL) and flushed at every commit, so that a power cut takes nothing that was acknowledged.

    Args:
        path: The file.
        create: Make it where there is none.

    Raises:
        RegisterError: No such file, a folder, or something else than a database.
        StorageError: The folder can't be made.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.location = str(path)
        _check_file(path, create=create)
        if create:
            with storage(path):
                path.parent.mkdir(parents=True, exist_ok=True)
        self.engine = create_engine(
            URL.create("sqlite", database=str(path)), hide_parameters=True, connect_args={"timeout": WAIT_S, "isolation_level": None}
        )
        event.listen(self.engine, "connect", _configure)

    def begin_write(self, connection: Connection) -> None:
        """See ``Dialect``."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def begin_read(self, connection: Connection) -> None:
        """See ``Dialect``."""
        connection.exec_driver_sql("BEGIN")

    def prepare(self, connection: Connection) -> None:
        """Nothing to do."""

    def insert_many(self, connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """See ``Dialect``."""
        if not rows:
            return
        marks = ", ".join("?" * len(columns))
        connection.exec_driver_sql(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", list(rows))  # noqa: S608 - our own names

    def among(self, column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """See ``Dialect``. All values travel as one parameter, because thousands of them would cost more than the look-up."""
        if not values or not isinstance(values[0], bytes):
            listed = func.json_each(json.dumps(list(values))).table_valued("value")
            return column.in_(select(listed.c.value))
        width = len(values[0])
        places = func.json_each(json.dumps(list(range(0, width * len(values), width)))).table_valued("value")
        return column.in_(select(func.substr(literal(b"".join(values), LargeBinary), places.c.value + 1, width)))

    def refusal(self, error: BaseException) -> Exception | None:
        """See ``Dialect``."""
        if not isinstance(error, sqlite3.Error):
            return None
        kind, message, hint = _REFUSALS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, (None, "", ""))
        return None if kind is None else kind(f"the register {self.location} {message}: {str(error)[:200]}", hint=hint)

    def check(self, connection: Connection) -> list[str]:
        """See ``Dialect``."""
        found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found


def _configure(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    try:
        for setting in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -65536", "trusted_schema = OFF", "cell_size_check = ON"):
            cursor.execute(f"PRAGMA {setting}")
    except UnicodeDecodeError as error:  # SQLite's message quotes a damaged schema
        damaged = sqlite3.DatabaseError("its schema isn't UTF-8")
        damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damaged from error
    finally:
        cursor.close()


def _check_file(path: Path, *, create: bool) -> None:
    make = f"make one: studbook registry new {path}"
    if path.is_dir():
        raise RegisterError(f"{path} is a folder, expected the file of a register", hint="name a file in it")
    if not path.exists():
        if not create:
            raise RegisterError(f"there is no register at {path}", hint=make)
        return
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise RegisterError(f"the register {path} can't be read: {error.strerror or error}", hint="is it yours?") from error
    if head and head != _HEADER:
        raise RegisterError(f"{path} is no register: it isn't an SQLite database", hint=make.replace(str(path), "FILE"))
    if not head and not create:
        raise RegisterError(f"{path} is an empty file, and no register", hint=make)
