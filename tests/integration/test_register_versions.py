"""Registers of every version are opened, and brought up to date wholly or not at all."""

from __future__ import annotations

import hashlib
import multiprocessing

import pytest
from sqlalchemy import inspect, text

from studbook.errors import RegisterError
from studbook.fingerprints import MinHash
from studbook.records import Entry, canonical_bytes
from studbook.registry import Added, Register, text_content
from studbook.registry.schema import tables
from studbook.registry.store import Store
from studbook.registry.store_postgres import PostgresDialect
from studbook.registry.store_sqlite import SqliteDialect
from studbook.registry.versions import KNOWN, VERSION, migrate, version_of

TEXT = "a text that was entered by an older studbook"
FORK = multiprocessing.get_context("fork")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request, tmp_path):
    return str(tmp_path / "register.db") if request.param == "sqlite" else request.getfixturevalue("postgres_server").new_database()


def dialect_of(place: str):
    from pathlib import Path

    return PostgresDialect(place) if "://" in place else SqliteDialect(Path(place), create=True)


def build_version_1(place: str) -> Entry:
    """A register as version 1 wrote it, statement by statement; gives the entry in it."""
    dialect = dialect_of(place)
    entry = Entry(
        text_content(TEXT), "text", "generated", "old-model", digests=(MinHash().digest(TEXT),), parents=("sha256:" + 64 * "b",),
        made="2026-01-31T12:00:00Z",
    )  # fmt: skip
    source = {"kind": "text", "origin": "generated", "model": "old-model", "source": ""}
    digest = entry.digests[0]
    scheme = {
        "scheme": "minhash", "version": digest.version, "parameters": canonical_bytes(dict(digest.parameters)).decode(), "n_bytes": 256,
    }  # fmt: skip
    keys = [hashlib.sha256(canonical_bytes(values)).digest() for values in (source, scheme)]
    with dialect.engine.connect() as connection:
        dialect.begin_write(connection)
        dialect.prepare(connection)
        migrate(connection, "0001")
        for statement, values in (
            (
                "INSERT INTO origins (id, key, kind, origin, model, source) VALUES (1, :key, :kind, :origin, :model, :source)",
                {"key": keys[0], **source},
            ),
            (
                "INSERT INTO schemes (id, key, scheme, version, parameters, n_bytes)"
                " VALUES (1, :key, :scheme, :version, :parameters, :n_bytes)",
                {"key": keys[1], **scheme},
            ),
            (
                "INSERT INTO entries (id, content, origin, made) VALUES (1, :content, 1, 1769860800)",
                {"content": bytes.fromhex(entry.content[7:])},
            ),
            ("INSERT INTO prints (scheme, row, entry, bits) VALUES (1, 0, 1, :bits)", {"bits": digest.bits}),
            (
                "INSERT INTO edges (entry, child, parent, relation) VALUES (1, :child, :parent, 'derived-from')",
                {"child": entry.content, "parent": entry.parents[0]},
            ),
        ):
            connection.execute(text(statement), values)
        connection.commit()
    dialect.engine.dispose()
    return entry


def test_a_register_of_version_1_is_brought_up_to_date(place, tmp_path):
    entry = build_version_1(place)
    with Register.open(place, index=tmp_path / "index") as register:
        assert register.stats().version == VERSION == KNOWN[-1]
        assert register.get(entry.content) == (entry,)
        assert register.add_texts([TEXT], model="old-model") == Added(0, 1)
        assert [match.how for match in register.find_texts([TEXT + " indeed"])[0]] == ["near"]
        register.set_limit("minhash", 0.5)
        assert register.verify() == []


def test_migrations_give_the_tables_that_the_code_describes(place, tmp_path):
    Register.open(place, create=True, index=tmp_path / "index").close()
    dialect = dialect_of(place)
    with dialect.engine.connect() as connection:
        found = inspect(connection)
        assert set(found.get_table_names()) == {*tables.tables, "alembic_version"}
        for name, table in tables.tables.items():
            columns = {column["name"]: column["nullable"] for column in found.get_columns(name)}
            assert columns == {column.name: bool(column.nullable) for column in table.columns}, name
            assert found.get_pk_constraint(name)["constrained_columns"] == [column.name for column in table.primary_key], name
            indexes = {each["name"] for each in found.get_indexes(name) if not each.get("duplicates_constraint")}
            assert indexes == {index.name for index in table.indexes}, name
    dialect.engine.dispose()


def test_a_migration_that_fails_leaves_the_old_register(place, monkeypatch, tmp_path):
    entry = build_version_1(place)
    dialect = dialect_of(place)
    with dialect.engine.connect() as connection:
        dialect.begin_write(connection)
        connection.execute(text("CREATE TABLE limits (something TEXT)"))  # in the way
        connection.commit()
    with pytest.raises(RegisterError, match="limits"):
        Register.open(place, index=tmp_path / "index")
    with dialect.engine.connect() as connection:
        assert version_of(connection) == "0001"
        connection.execute(text("DROP TABLE limits"))
        connection.commit()
    dialect.engine.dispose()
    with Register.open(place, index=tmp_path / "index") as register:
        assert register.get(entry.content) == (entry,)


def test_a_newer_one_is_refused(place, tmp_path):
    Register.open(place, create=True, index=tmp_path / "index").close()
    dialect = dialect_of(place)
    with dialect.engine.connect() as connection:
        dialect.begin_write(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '0003'"))
        connection.commit()
    with pytest.raises(RegisterError, match="newer studbook"):
        Store(dialect, create=True)
    dialect.engine.dispose()


def bring_up(place: str, index) -> None:
    with Register.open(place, index=index) as register:
        assert register.find_texts([TEXT])


def test_many_processes_bring_it_up_to_date_at_once(place, tmp_path):
    build_version_1(place)
    processes = [FORK.Process(target=bring_up, args=(place, tmp_path / "index")) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
