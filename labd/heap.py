"""How the daemon takes memory and gives it back: it works for months, and must not spread.

Source: mallopt(3). glibc gives each thread an arena of its own, so that threads do not wait for each other at every
allocation; under the interpreter's lock they would not, and what one arena has free no other can use. It also learns
from each large block that was freed to take such blocks from the heap, where they leave holes; the interpreter's table
of interned strings, to which every path adds its parts, is such a block, and is made anew each time that it is full.
"""

from __future__ import annotations

import ctypes

MAPPED_BYTES = 1 << 20
"""From this size on a block is mapped by itself, and given back when it is freed. What sockets read into is smaller."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def keep_heap_small() -> None:
    """Let threads that begin from now on share the main heap, and give large blocks back.

    With another C library than glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(_TRIM_THRESHOLD, 2 * MAPPED_BYTES)
