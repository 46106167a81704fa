"""The frames that a native board and the rack exchange through two pipes (docs/reference/native-link.md)."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from labd.errors import LabError

LINK_VERSION = 1

FRAME = np.dtype([("cycle", "<u8"), ("kind", "u1"), ("a", "u1"), ("b", "<u2"), ("c", "<u4")])
"""One frame of 16 bytes, little endian."""

Frames = npt.NDArray[Any]
"""Frames in order: a structured array of `FRAME`, shape (n,)."""


class LinkError(LabError):
    """A program on the other side of the pipes does not speak the link."""

    kind = "link"


class Kind(IntEnum):
    """What a frame says."""

    HELLO = 0x01
    ACTIVITY = 0x02
    PIN = 0x03
    TX = 0x04
    BAUD = 0x05
    WAIT = 0x06
    RX = 0x81


class Activity(IntEnum):
    """What a board does, as far as its supply current shows it."""

    OFF = 0
    BOOT = 1
    IDLE = 2
    CPU = 3
    MEMORY = 4
    CONV = 5
    DENSE = 6
    POOL = 7
    SOFTMAX = 8


_FROM_BOARD = np.zeros(256, dtype=bool)
_FROM_BOARD[[Kind.HELLO, Kind.ACTIVITY, Kind.PIN, Kind.TX, Kind.BAUD, Kind.WAIT]] = True


class FrameReader:
    """Cuts what comes out of a board's pipe into frames, whatever the sizes of the reads."""

    def __init__(self) -> None:
        self._rest = b""
        self._cycle = 0

    def feed(self, data: bytes) -> Frames:
        """Return the frames that are whole now, shape (n,).

        Raises:
            LinkError: a kind or an activity that the link does not have, or cycles that go back.
        """
        data = self._rest + data
        whole = len(data) - len(data) % FRAME.itemsize
        self._rest = data[whole:]
        frames = np.frombuffer(data[:whole], dtype=FRAME)
        if not len(frames):
            return frames
        unknown = ~_FROM_BOARD[frames["kind"]]
        if unknown.any():
            raise LinkError(f"a frame of unknown kind 0x{frames['kind'][unknown][0]:02x}")
        activities = frames["a"][frames["kind"] == Kind.ACTIVITY]
        if len(activities) and (activities.max() > max(Activity) or activities.min() == Activity.OFF):
            raise LinkError("an activity that the link does not have")
        cycles = frames["cycle"]
        if int(cycles[0]) < self._cycle or (cycles[1:] < cycles[:-1]).any():
            raise LinkError("the cycle counter went back")
        self._cycle = int(cycles[-1])
        return frames


def frame(kind: Kind, cycle: int, a: int = 0, b: int = 0, c: int = 0) -> bytes:
    """Return one frame, 16 bytes."""
    return np.array([(cycle, kind, a, b, c)], dtype=FRAME).tobytes()
