"""Version 2: calibrated limits, by which a register says itself what counts as near; entries by their manifest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of limits, and an index of manifests."""
    op.create_table(
        "limits",
        sa.Column("scheme", sa.Text, primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("calibration", sa.LargeBinary),
    )
    op.create_index("entries_manifest", "entries", ["manifest"], sqlite_where=sa.text("manifest IS NOT NULL"),
                    postgresql_where=sa.text("manifest IS NOT NULL"))  # fmt: skip
