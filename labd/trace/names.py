"""Which names traces can have: none that leads out of the place where they lie."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

TraceId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")]
"""Name of a trace and of its folder: it can never leave the store."""
