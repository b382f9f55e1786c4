"""The register on a server: PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Connection, any_, create_engine, literal
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from studbook.errors import ConfigError, MissingExtraError, RegisterError, RegisterUnavailableError, StorageError, StudbookError
from studbook.registry.store import BACKUP, WAIT_S

_LOCK = 0x5374_7564_626F_6F6B  # one writer at a time, so that rows appear in the order of their numbers
_SCHEMA = "studbook"
_TYPES = {"id": "int8", "row": "int8", "entry": "int8", "made": "int8", "scheme": "int4", "origin": "int4"}
_TEXTS = {"child", "parent", "relation"}


class PostgresDialect:
    """See ``studbook.registry.store.Dialect``. The tables lie in a schema of their own, ``studbook``.

    Args:
        location: ``postgresql://user@host:port/database``; a password may be in it, in ``PGPASSWORD`` or in ``~/.pgpass``.

    Raises:
        ConfigError: No such address.
        MissingExtraError: psycopg isn't installed.
    """

    def __init__(self, location: str) -> None:
        url = _url(location)
        self.location = _shown(url)
        try:
            import psycopg
        except ImportError as error:
            raise MissingExtraError(
                "a register on PostgreSQL needs psycopg, not installed", hint="pip install 'studbook[postgres]'"
            ) from error
        self._psycopg = psycopg
        options = f"-c search_path={_SCHEMA} -c lock_timeout={WAIT_S}s -c client_min_messages=warning"
        self.engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            hide_parameters=True,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "options": options, "application_name": "studbook"},
        )

    def begin_write(self, connection: Connection) -> None:
        """See ``Dialect``."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")

    def begin_read(self, connection: Connection) -> None:
        """See ``Dialect``."""
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def prepare(self, connection: Connection) -> None:
        """Make the schema."""
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}")

    def insert_many(self, connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """See ``Dialect``."""
        driver: Any = connection.connection.driver_connection
        names = ", ".join(f'"{name}"' for name in columns)
        with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types([_TYPES.get(name, "text" if name in _TEXTS else "bytea") for name in columns])
            for row in rows:
                copy.write_row(row)

    def among(self, column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """See ``Dialect``."""
        return column == any_(literal(list(values), ARRAY(column.type)))

    def refusal(self, error: BaseException) -> Exception | None:
        """See ``Dialect``."""
        if not isinstance(error, self._psycopg.Error):
            return None
        state = error.sqlstate or ""
        words = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        kind, message, hint = _refusal(state, words)
        if kind is None and isinstance(error, self._psycopg.OperationalError | self._psycopg.InterfaceError):
            kind, message = RegisterUnavailableError, "can't be reached"
            hint = "start the server, then repeat: nothing that was acknowledged is lost"
        return None if kind is None else kind(f"the register {self.location} {message}: {words}", hint=hint)

    def check(self, connection: Connection) -> list[str]:
        """Nothing: the server watches over its own files."""
        return []


def _refusal(state: str, words: str) -> tuple[type[StudbookError] | None, str, str]:
    """What a state of the server's (SQLSTATE) means; where no connection was made there is only its message."""
    if state in ("53100", "53200"):
        return StorageError, "can't be written", "free some space on the server; what was acknowledged is there"
    if state[:2] == "28" or state in ("3D000", "42501", "25006") or "does not exist" in words or "authentication" in words:
        return RegisterError, "can't be opened", "check user, database and rights; the password goes into ~/.pgpass"
    if state[:2] == "XX":
        return RegisterError, "is damaged", BACKUP
    if state == "55P03":
        return RegisterUnavailableError, f"is busy, others have been writing for {WAIT_S} s", "try again"
    return None, "", ""


def _url(location: str) -> URL:
    try:
        url = make_url(location)
    except (ArgumentError, ValueError):
        url = None
    if url is None or "@" in (url.host or ""):  # part of a password; not chained, so that no message has it
        raise ConfigError(
            "the register's address can't be read, expected postgresql://user@host:port/database",
            hint="write @, : and / in a password as %40, %3A and %2F",
        )
    if url.get_backend_name() != "postgresql":
        raise ConfigError(f"the register's address begins with {url.drivername[:40]!r}, expected postgresql://")
    return url


def _shown(url: URL) -> str:
    """The address without a password, wherever in it one may be."""
    bare = url.difference_update_query(("password", "sslpassword"))
    # URL.set takes None for "as it was".
    return URL.create(bare.drivername, bare.username, None, bare.host, bare.port, bare.database, bare.query).render_as_string()
