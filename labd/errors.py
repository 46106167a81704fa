"""One root error and few branches; each says what failed, where, and what to do about it."""

from __future__ import annotations

import errno
from dataclasses import dataclass


class LabError(Exception):
    """Root of all errors that labd raises on purpose.

    Args:
        message: What failed, one sentence without a final stop.
        where: The thing it failed on: a configuration key, a topic, a file, a board id.
        remedy: What a person can do about it, one sentence; empty where there is nothing to do.
    """

    kind = "lab_error"

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}; {self.remedy}" if self.remedy else text


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a configuration file.

    Args:
        key: The key as people write it, `board[0].supply.voltage_v`; empty if the whole file is meant.
        line: Its line, counted from 1; None where there is none to show.
        message: What is wrong, one sentence without a final stop.
        remedy: What to write instead.
    """

    key: str
    line: int | None
    message: str
    remedy: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        subject = f"{self.key}: " if self.key else ""
        return f"{place}{subject}{self.message}; {self.remedy}"


class ConfigError(LabError):
    """`lab.toml` or `rack.toml` cannot be used.

    Args:
        message, where, remedy: As for every `LabError`.
        faults: All that is wrong with the file, in the order of its lines; each is one line of `str()`.
    """

    kind = "config"

    def __init__(self, message: str, *, where: str = "", remedy: str = "", faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.faults = faults

    def __str__(self) -> str:
        return "\n  ".join([super().__str__(), *map(str, self.faults)])


class RequestError(LabError):
    """A request that the lab refuses; `where` names the field."""

    kind = "bad_request"


class NotFoundError(RequestError):
    """What a request names does not exist."""

    kind = "not_found"


class ConflictError(RequestError):
    """A request that the present state of its subject forbids."""

    kind = "conflict"


class UnmatchableError(RequestError):
    """No board of this lab can ever satisfy the job."""

    kind = "unmatchable"


class StateError(LabError):
    """A transition that a state machine does not have: a fault in labd itself."""

    kind = "state"


class DutError(LabError):
    """The board's side of the dialogue went wrong."""

    kind = "dut"


class TraceError(LabError):
    """A trace cannot be written, read, sealed or trusted."""

    kind = "trace"


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error came about because a disk, or somebody's share of it, is full; its causes are looked through."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


class ScoreError(LabError):
    """A score cannot be made from what was measured."""

    kind = "score"


class StoreError(LabError):
    """The database cannot be opened, migrated or written."""

    kind = "store"


class StoreFullError(StoreError):
    """The database's disk has no room for a change."""

    kind = "store_full"


class OccupiedError(LabError):
    """Another daemon has what this one needs for itself."""

    kind = "occupied"


class UnreachableError(LabError):
    """A broker, daemon or server does not answer."""

    kind = "unreachable"
