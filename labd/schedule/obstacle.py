"""What can stand between a waiting job and a board: a word of the explanation, and of the answer to `job.why`."""

from __future__ import annotations

from enum import StrEnum


class Obstacle(StrEnum):
    """What stands between a job and a board."""

    NONE = "none"  # the board is free: only the order of jobs stands before it
    UNFIT = "unfit"  # it can never serve the job
    AVOIDED = "avoided"  # the job failed on it, and others can serve it
    BUSY = "busy"
    RESERVED = "reserved"
    CHECKED = "checked"
    STATE = "state"  # suspect, quarantined, in maintenance or offline
    RESOURCE = "resource"  # something that it shares is held
    INSTRUMENT = "instrument"
    SPACE = "space"  # no capture may start
