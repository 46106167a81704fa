"""The keeping of traces: pinned, archived, dropped from the local folder, removed and why."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision; traces that are there already are local, unpinned and not archived."""
    with op.batch_alter_table("trace") as trace:
        trace.add_column(sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
        trace.add_column(sa.Column("local", sa.Boolean(), nullable=False, server_default=sa.true()))
        trace.add_column(sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True))
        trace.add_column(sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
        trace.add_column(sa.Column("reason", sa.String(), nullable=False, server_default=""))
    op.create_index("trace_by_age", "trace", ["started_at", "id"])
    op.create_index("trace_by_place", "trace", ["state", "local", "archived_at"])


def downgrade() -> None:
    """Take the schema back to the revision before; what was removed is then called lost."""
    op.execute("UPDATE trace SET state = 'lost' WHERE state = 'removed'")
    op.drop_index("trace_by_place", "trace")
    op.drop_index("trace_by_age", "trace")
    with op.batch_alter_table("trace") as trace:
        for column in ("reason", "removed_at", "archived_at", "local", "pinned"):
            trace.drop_column(column)
