"""The host's wall clock: it dates what people read, and times nothing; each run notes whether it is disciplined."""

from __future__ import annotations

import ctypes

from labd.trace.meta import HostClock

_TIME_ERROR = 5
"""Return value of adjtimex(2) for a clock that is not synchronised."""


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2); only `modes` is set, to 0: read and change nothing. The rest is room."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 512))


def host_clock() -> HostClock:
    """Ask the kernel whether the wall clock is disciplined (adjtimex(2), read only)."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (AttributeError, OSError):
        return HostClock.UNKNOWN
    state = adjtimex(ctypes.byref(_Timex()))
    if state < 0:
        return HostClock.UNKNOWN
    return HostClock.UNSYNCHRONISED if state == _TIME_ERROR else HostClock.SYNCHRONISED
