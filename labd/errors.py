"""One root error and few branches; each says what failed, where, and what to do about it."""

from __future__ import annotations


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


class ConfigError(LabError):
    """`lab.toml` or `rack.toml` cannot be used."""

    kind = "config"


class RequestError(LabError):
    """A request that the lab refuses; `where` names the field."""

    kind = "bad_request"


class UnknownRequestError(RequestError):
    """The verb of a request is not one of the lab's."""

    kind = "unknown_request"


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


class ScoreError(LabError):
    """A score cannot be made from what was measured."""

    kind = "score"


class StoreError(LabError):
    """The database cannot be opened, migrated or written."""

    kind = "store"


class UnreachableError(LabError):
    """A broker, daemon or server does not answer."""

    kind = "unreachable"
