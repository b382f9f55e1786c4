"""Which version a register's tables have, and the way to the newest."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from studbook.errors import RegisterError

VERSION = "0002"
"""Of the tables that this studbook reads and writes."""
KNOWN = ("0001", "0002")
_FOLDER = Path(__file__).resolve().parent / "migrations"


def version_of(connection: Connection) -> str | None:
    """The version of a register's tables; ``None`` where there are none at all.

    Raises:
        RegisterError: The tables are somebody else's.
    """
    names = set(inspect(connection).get_table_names())
    if not names:
        return None
    if not {"alembic_version", "meta", "entries"} <= names:
        listed = ", ".join(sorted(names)[:5])
        raise RegisterError(f"the database is no register: it has the tables {listed}", hint="choose another, or a new one")
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return str(found)


def check_version(found: str) -> None:
    """Refuse a version that this studbook doesn't know.

    Raises:
        RegisterError: It is one.
    """
    if found not in KNOWN:
        raise RegisterError(
            f"the register was written by a newer studbook: its tables have version {found[:20]}, this one reads up to {VERSION}",
            hint="pip install --upgrade studbook",
        )


def migrate(connection: Connection, to: str = VERSION) -> None:
    """Make the tables, or bring older ones up to date, all in the caller's transaction: it happens wholly or not at all.

    Args:
        connection: In a transaction that keeps other writers out.
        to: The version to stop at; tests make old registers with it.
    """
    # Here and not above: a register that is up to date doesn't pay for Alembic.
    from alembic import command
    from alembic.config import Config

    new = version_of(connection) is None
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(config, to)
    if new:
        connection.execute(text("INSERT INTO meta (name, value) VALUES ('id', :id)"), {"id": secrets.token_hex(16)})
