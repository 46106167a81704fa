"""The queue: order and shares, what only one may hold, reservations, checks, sweeps and who asked for what."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the schema to this revision; jobs that wait already belong to the client that submitted them."""
    _create_sweeps()
    with op.batch_alter_table("job") as job:
        job.drop_index("ix_job_state")
        job.add_column(sa.Column("requester", sa.String(), nullable=False, server_default=""))
        job.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        job.add_column(sa.Column("deadline", _TIME, nullable=True))
        job.add_column(sa.Column("requirement", sa.String(), nullable=True))
        job.add_column(sa.Column("estimate_s", sa.Float(), nullable=False, server_default="0"))
        job.add_column(sa.Column("avoid", sa.JSON(), nullable=False, server_default="[]"))
        job.add_column(sa.Column("forgiven", sa.Integer(), nullable=False, server_default="0"))
        job.add_column(sa.Column("night_id", sa.Integer(), sa.ForeignKey("night.id", name="job_night"), nullable=True))
        job.add_column(sa.Column("cell", sa.Integer(), nullable=True))
    op.execute("UPDATE job SET requester = client")
    live = sa.text("state IN ('queued', 'running', 'parked')")
    op.create_index("job_live", "job", ["state", "id"], sqlite_where=live, postgresql_where=live)
    ended, nights = sa.text("ended_at IS NOT NULL"), sa.text("night_id IS NOT NULL")
    op.create_index("job_by_end", "job", ["ended_at"], sqlite_where=ended, postgresql_where=ended)
    op.create_index("job_of_requester", "job", ["requester", "id"])
    op.create_index(
        "job_of_night", "job", ["night_id", "cell"], unique=True, sqlite_where=nights, postgresql_where=nights
    )
    with op.batch_alter_table("board") as board:
        board.add_column(sa.Column("strikes", sa.Integer(), nullable=False, server_default="0"))
        board.add_column(sa.Column("checked_at", _TIME, nullable=True))
        board.add_column(sa.Column("well_at", _TIME, nullable=True))
        board.add_column(sa.Column("returned_at", _TIME, nullable=True))
        board.add_column(sa.Column("check_due_at", _TIME, nullable=True))
        board.add_column(sa.Column("check_trigger", sa.String(32), nullable=True))
    _create_holds()
    with op.batch_alter_table("request") as request:
        request.add_column(sa.Column("requester", sa.String(), nullable=False, server_default=""))
        request.add_column(sa.Column("params", sa.JSON(), nullable=False, server_default="{}"))
    op.execute("UPDATE request SET requester = client")
    op.create_index("request_by_time", "request", ["answered_at"])
    with op.batch_alter_table("event") as event:
        event.add_column(sa.Column("actor", sa.String(), nullable=False, server_default="labd"))


def _create_sweeps() -> None:
    op.create_table(
        "sweep",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("due_at", _TIME, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sqlite_autoincrement=True,
    )
    there = sa.text("state != 'removed'")
    op.create_index("one_sweep_a_name", "sweep", ["name"], unique=True, sqlite_where=there, postgresql_where=there)
    op.create_table(
        "night",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("sweep_id", sa.Integer(), sa.ForeignKey("sweep.id"), nullable=False),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("state", sa.String(32), nullable=False, index=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("report", sa.JSON(), nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("one_night_a_due", "night", ["sweep_id", "due_at"], unique=True)


def _create_holds() -> None:
    op.create_table(
        "check",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("board_id", sa.String(), sa.ForeignKey("board.id"), nullable=False, index=True),
        sa.Column("trigger", sa.String(32), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("passed", sa.Boolean(), nullable=True),
        sa.Column("findings", sa.JSON(), nullable=False),
    )
    op.create_table(
        "reservation",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("requirement", sa.String(), nullable=False),
        sa.Column("board_id", sa.String(), sa.ForeignKey("board.id"), nullable=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("requested_at", _TIME, nullable=False),
        sa.Column("starts_at", _TIME, nullable=True),
        sa.Column("ends_at", _TIME, nullable=True),
        sa.Column("warned_at", _TIME, nullable=True),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sqlite_autoincrement=True,
    )
    live = sa.text("state != 'ended'")
    op.create_index("reservation_live", "reservation", ["owner", "state"], sqlite_where=live, postgresql_where=live)
    for index, columns, state in (
        ("reservation_waiting", ["requirement", "id"], "waiting"),
        ("reservation_active", ["ends_at"], "active"),
    ):
        there = sa.text(f"state = '{state}'")
        op.create_index(index, "reservation", columns, sqlite_where=there, postgresql_where=there)
    with op.batch_alter_table("lease") as lease:
        lease.alter_column("run_id", existing_type=sa.Integer(), nullable=True)
        lease.add_column(sa.Column("purpose", sa.String(32), nullable=False, server_default="run"))
        lease.add_column(sa.Column("owner", sa.String(), nullable=False, server_default="labd"))
        lease.add_column(
            sa.Column("check_id", sa.Integer(), sa.ForeignKey("check.id", name="lease_check"), nullable=True)
        )
        lease.add_column(
            sa.Column(
                "reservation_id", sa.Integer(), sa.ForeignKey("reservation.id", name="lease_reservation"), nullable=True
            )
        )
    op.create_index("ix_lease_run_id", "lease", ["run_id"])
    op.create_table(
        "hold",
        sa.Column("resource", sa.String(), primary_key=True),
        sa.Column("lease_id", sa.Integer(), sa.ForeignKey("lease.id"), nullable=False, index=True),
    )
    op.create_table(
        "share",
        sa.Column("requester", sa.String(), primary_key=True),
        sa.Column("used_s", sa.Float(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
    )


def downgrade() -> None:
    """Take the schema back to the revision before; sweeps, reservations and checks are forgotten."""
    op.drop_table("share")
    op.drop_table("hold")
    op.execute("DELETE FROM lease WHERE run_id IS NULL")
    op.drop_index("ix_lease_run_id", "lease")
    with op.batch_alter_table("lease") as lease:
        for column in ("reservation_id", "check_id", "owner", "purpose"):
            lease.drop_column(column)
        lease.alter_column("run_id", existing_type=sa.Integer(), nullable=False)
    op.drop_table("reservation")
    op.drop_table("check")
    with op.batch_alter_table("event") as event:
        event.drop_column("actor")
    op.drop_index("request_by_time", "request")
    with op.batch_alter_table("request") as request:
        request.drop_column("params")
        request.drop_column("requester")
    with op.batch_alter_table("board") as board:
        for column in ("check_trigger", "check_due_at", "returned_at", "well_at", "checked_at", "strikes"):
            board.drop_column(column)
    op.execute("UPDATE board SET state = 'offline' WHERE state NOT IN ('online', 'busy', 'offline')")
    op.execute("UPDATE instrument SET state = 'offline' WHERE state NOT IN ('online', 'offline')")
    op.execute("UPDATE job SET state = 'failed' WHERE state = 'parked'")
    for index in ("job_of_requester", "job_of_night", "job_by_end", "job_live"):
        op.drop_index(index, "job")
    with op.batch_alter_table("job") as job:
        for column in (
            "cell",
            "night_id",
            "forgiven",
            "avoid",
            "estimate_s",
            "requirement",
            "deadline",
            "priority",
            "requester",
        ):
            job.drop_column(column)
        job.create_index("ix_job_state", ["state"])
    op.drop_table("night")
    op.drop_table("sweep")
