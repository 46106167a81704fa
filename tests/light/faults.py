"""What can be made to go wrong with a light board, and how the control socket is told."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Faults(BaseModel):
    """All that is wrong with one board; as it comes, nothing.

    Args:
        silent: It says nothing any more.
        unplugged: Its serial adapter is out: the port is not there.
        reboots: It starts again in the middle of every inference.
        flaky: Probability that a window fails in one way or another.
        slow: How many times as long as usual an inference takes.
        drift_per_day: By how much `slow` grows in a day of rack time.
        idle_current: How many times its usual current it draws when it is idle.
        unreachable: Its supply takes no connections; all boards of the supply suffer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    silent: bool = False
    unplugged: bool = False
    reboots: bool = False
    flaky: float = 0.0
    slow: float = 1.0
    drift_per_day: float = 0.0
    idle_current: float = 1.0
    unreachable: bool = False


class Order(BaseModel):
    """A line to the control socket: give a board these faults, or without a board only tell how all are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    board: str | None = None
    faults: Faults = Faults()


class BoardTold(BaseModel):
    """What a board has done so far.

    Args:
        boots: How often it has started.
        windows: Windows that it has brought to their end.
        worked_s: Rack time that it needed for booting, loading and inferring, s.
        powered: Whether its output is on.
    """

    model_config = ConfigDict(frozen=True)

    boots: int
    windows: int
    worked_s: float
    powered: bool


class RackTold(BaseModel):
    """What the rack answers: its time, its own CPU time, and all boards."""

    model_config = ConfigDict(frozen=True)

    now_s: float
    cpu_s: float
    boards: dict[str, BoardTold]
