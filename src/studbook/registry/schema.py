"""The register's tables, as version 2 has them; ``migrations`` has the way there.

Rows of ``entries`` and, for each scheme, of ``prints`` are numbered without a gap in the order in which they were committed: writers wait
for each other, so that whoever follows by number misses nothing. There are no foreign keys, which
would make a bulk insert far slower; ``Register.verify`` checks what they would.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint, text

tables = MetaData()

meta = Table("meta", tables, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))
origins = Table(
    "origins",
    tables,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False, unique=True),  # SHA-256 of the rest: names can be longer than a key may be
    Column("kind", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("model", Text, nullable=False, index=True),
    Column("source", Text, nullable=False),
)
schemes = Table(
    "schemes",
    tables,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False, unique=True),
    Column("scheme", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("parameters", Text, nullable=False),  # canonical JSON
    Column("n_bytes", Integer, nullable=False),
)
entries = Table(
    "entries",
    tables,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    Column("origin", Integer, nullable=False),
    Column("made", BigInteger, nullable=False),  # seconds since 1970, UTC
    Column("manifest", LargeBinary),
    UniqueConstraint("content", "origin"),
    Index("entries_origin", "origin"),
    Index("entries_manifest", "manifest", sqlite_where=text("manifest IS NOT NULL"), postgresql_where=text("manifest IS NOT NULL")),
)
prints = Table(
    "prints",
    tables,
    Column("scheme", Integer, primary_key=True, autoincrement=False),
    Column("row", BigInteger, primary_key=True, autoincrement=False),
    Column("entry", BigInteger, nullable=False),
    Column("bits", LargeBinary, nullable=False),
    Index("prints_entry", "entry"),
    sqlite_with_rowid=False,
)
edges = Table(
    "edges",
    tables,
    Column("entry", BigInteger, primary_key=True, autoincrement=False),  # the entry that names its parent, or 0
    Column("child", Text, primary_key=True),
    Column("parent", Text, primary_key=True),
    Column("relation", Text, primary_key=True),
    Index("edges_child", "child"),
    Index("edges_parent", "parent"),
)
claims = Table(
    "claims",
    tables,
    Column("id", LargeBinary, primary_key=True),
    Column("signer", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
verdicts = Table(
    "verdicts",
    tables,
    Column("id", LargeBinary, primary_key=True),
    Column("claim", LargeBinary, nullable=False, index=True),
    Column("signer", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
manifests = Table("manifests", tables, Column("id", LargeBinary, primary_key=True), Column("data", LargeBinary, nullable=False))
limits = Table(
    "limits",
    tables,
    Column("scheme", Text, primary_key=True),
    Column("value", Float, nullable=False),
    Column("calibration", LargeBinary),  # canonical JSON
)
