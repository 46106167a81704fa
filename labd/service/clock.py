"""Whether the host's wall clock is synchronised: noted beside times that are for people."""

from __future__ import annotations

import ctypes
import sys

_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""
_TIMEX_BYTES = 512
"""More than `struct timex` has on any Linux; all zero, it asks and sets nothing."""


def clock_synchronized() -> bool | None:
    """Ask the kernel, as `adjtimex(2)` does; None where it cannot be asked."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)
