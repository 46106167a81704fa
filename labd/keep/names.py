"""Which names traces can have: none that leads out of the place where they lie."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from labd.errors import TraceError
from labd.trace.names import TraceId

_ID = TypeAdapter(TraceId)


class TraceIdError(TraceError):
    """A name that no trace can have."""

    kind = "bad_trace_id"


def checked_id(name: str) -> str:
    """The same name, now known to stay within the store. Raises `TraceIdError`."""
    try:
        return _ID.validate_python(name, strict=True)
    except ValidationError as error:
        remedy = "use letters, digits, dashes and underscores"
        raise TraceIdError(f"{name[:256]!r} cannot be the id of a trace", remedy=remedy) from error
