"""Version 1: entries, fingerprints, lineage, signed records, manifests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of version 1."""
    whole = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table("meta", sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False))
    op.create_table(
        "origins",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", sa.LargeBinary, nullable=False, unique=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("kind", "origin", "model", "source")),
    )
    op.create_index("ix_origins_model", "origins", ["model"])
    op.create_table(
        "schemes",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("scheme", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("n_bytes", sa.Integer, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("id", whole, primary_key=True, autoincrement=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("origin", sa.Integer, nullable=False),
        sa.Column("made", sa.BigInteger, nullable=False),
        sa.Column("manifest", sa.LargeBinary),
        sa.UniqueConstraint("content", "origin"),
    )
    op.create_index("entries_origin", "entries", ["origin"])
    op.create_table(
        "prints",
        sa.Column("scheme", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("row", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("entry", sa.BigInteger, nullable=False),
        sa.Column("bits", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("prints_entry", "prints", ["entry"])
    _create_lineage()
    _create_signed()


def _create_lineage() -> None:
    op.create_table(
        "edges",
        sa.Column("entry", sa.BigInteger, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("child", "parent", "relation")),
    )
    op.create_index("edges_child", "edges", ["child"])
    op.create_index("edges_parent", "edges", ["parent"])


def _create_signed() -> None:
    op.create_table(
        "claims",
        sa.Column("id", sa.LargeBinary, primary_key=True),
        sa.Column("signer", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "verdicts",
        sa.Column("id", sa.LargeBinary, primary_key=True),
        sa.Column("claim", sa.LargeBinary, nullable=False),
        sa.Column("signer", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_verdicts_claim", "verdicts", ["claim"])
    op.create_table("manifests", sa.Column("id", sa.LargeBinary, primary_key=True), sa.Column("data", sa.LargeBinary, nullable=False))
