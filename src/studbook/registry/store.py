"""A register's database: opening it, transactions, bulk statements, and its refusals in one clear line.

What SQLite and PostgreSQL do differently is in here and in ``store_sqlite`` and ``store_postgres``; all else is the same code for both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from studbook.errors import RegisterError, RegisterUnavailableError, StudbookError
from studbook.registry.versions import VERSION, check_version, migrate, version_of

WAIT_S = 60
"""How long one writer waits for another."""
BACKUP = "take it from a backup, or import what was exported of it"
"""What to do with a damaged register."""
_STUMBLES = (TypeError, ValueError, LookupError, ArithmeticError)


class Dialect(Protocol):
    """What a kind of database does in its own way.

    Attributes:
        engine: SQLAlchemy's.
        location: Where the database is, without a password.
    """

    engine: Engine
    location: str

    def begin_write(self, connection: Connection) -> None:
        """Begin a transaction that waits for other writers, and keeps them out until it ends."""
        ...

    def begin_read(self, connection: Connection) -> None:
        """Begin a transaction that sees one state of the database."""
        ...

    def prepare(self, connection: Connection) -> None:
        """Whatever a new register needs before its tables."""
        ...

    def insert_many(self, connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert many rows that aren't there."""
        ...

    def among(self, column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Whether a column has one of many values: numbers, texts, or bytes of one length."""
        ...

    def refusal(self, error: BaseException) -> Exception | None:
        """The driver's error as one of ours, or ``None`` where it is no refusal of the database."""
        ...

    def check(self, connection: Connection) -> list[str]:
        """What the database itself finds wrong with its file."""
        ...


class Store:
    """An open database with the tables of a register.

    Args:
        dialect: The kind of database, opened.
        create: Make the register where there is none.

    Raises:
        RegisterError: No register, a damaged one, or one of a newer studbook.
        RegisterUnavailableError: The database can't be reached.
        StorageError: The disk refused.
    """

    def __init__(self, dialect: Dialect, *, create: bool) -> None:
        self.dialect = dialect
        self.location = dialect.location
        self._process = os.getpid()
        with self.read() as connection:
            found = version_of(connection)
        if found is None and not create:
            raise RegisterError(f"{self.location} is empty, and no register", hint=f"make one: studbook registry new {self.location}")
        if found is not None:
            check_version(found)
        if found != VERSION:
            with self.write() as connection:
                dialect.prepare(connection)
                found = version_of(connection)  # another process may have been faster
                if found is not None:
                    check_version(found)
                if found != VERSION:
                    migrate(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the register."""
        with self._refusals(), self._engine().connect() as connection:
            self.dialect.begin_read(connection)
            yield connection
            connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is the only writer; once the block ended well, what it wrote is on the disk."""
        with self._refusals(), self._engine().connect() as connection:
            self.dialect.begin_write(connection)
            yield connection
            connection.commit()

    def close(self) -> None:
        """Give the connections back."""
        self._engine().dispose()

    def _engine(self) -> Engine:
        if self._process != os.getpid():
            # Connections don't survive a fork; the parent goes on using its own.
            self.dialect.engine.dispose(close=False)
            self._process = os.getpid()
        return self.dialect.engine

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            cause = error.orig if error.orig is not None else error
            raise self.dialect.refusal(cause) or _unexpected(self.location, cause) from error
        except SQLAlchemyError as error:
            raise RegisterUnavailableError(f"the register {self.location} gave no connection: {_line(error)}", hint="try again") from error
        except Exception as error:
            found = self.dialect.refusal(error) or self._damage(error)
            if found is None:
                raise
            raise found from error

    def _damage(self, error: Exception) -> Exception | None:
        """Where our code stumbled over what the database gave: an error of ours if the database finds its own file damaged."""
        if isinstance(error, StudbookError) or not isinstance(error, _STUMBLES):
            return None
        try:
            with self._engine().connect() as connection:
                found = self.dialect.check(connection)
        except SQLAlchemyError as refused:
            found = [_line(refused)]
        if not found:
            return None
        return RegisterError(f"the register {self.location} is damaged: {found[0][:200]}", hint=BACKUP)


def _unexpected(location: str, error: BaseException) -> RegisterError:
    return RegisterError(f"the register {location} refused: {_line(error)}", hint="studbook registry verify says what is wrong with it")


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
