"""What Alembic runs: it works on the one connection and transaction that `labd.model.migrations` opened."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import Enum
from sqlmodel import SQLModel

from labd.model.tables import UtcDateTime


def render_plain(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write revisions in plain SQL types: they must run unchanged when labd's own types have moved on."""
    if kind == "type" and isinstance(item, Enum):
        return f"sa.String({item.length})"
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
    render_item=render_plain,
    compare_type=True,
    transactional_ddl=True,
)
context.run_migrations()
