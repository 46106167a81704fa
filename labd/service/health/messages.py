"""What clients send and get about the health of boards and instruments."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import StringConstraints

from labd.model.states import CheckTrigger
from labd.service.messages import BoardDocument, EventDocument, Id, InstrumentDocument, Message

Reason = Annotated[str, StringConstraints(min_length=1, max_length=256, strip_whitespace=True)]
"""Why a person does something, for everybody else to read."""


class BoardRef(Message):
    """Names one board."""

    id: Id


class BoardWithdrawal(Message):
    """Takes a board out of work."""

    id: Id
    reason: Reason


class InstrumentQuery(Message):
    """Asks for all instruments."""


class InstrumentRef(Message):
    """Names one instrument."""

    id: Id


class InstrumentWithdrawal(Message):
    """Takes an instrument into a person's hands."""

    id: Id
    reason: Reason


class CheckDocument(Message):
    """One look at a board's health.

    `passed` is null while it is under way, when it was cut off, and when an instrument was in the way. Each step of
    `findings` says whether it `passed`, a `message` if not, and its figures with their units in the keys.
    """

    id: int
    trigger: CheckTrigger
    started_at: datetime
    ended_at: datetime | None
    passed: bool | None
    findings: dict[str, dict[str, Any]]
    coverage_factor: Literal[1] = 1
    """k of every uncertainty in `findings` (`u_...`): they are standard uncertainties."""


class BoardDetail(Message):
    """Reply to `board.get`: the board, what its lease holds, its last checks and its last changes, newest first."""

    board: BoardDocument
    holds: tuple[str, ...]
    firmware_sha256: str
    """Digest of the image that it got last; empty if none is known."""
    checks: tuple[CheckDocument, ...]
    changes: tuple[EventDocument, ...]


class InstrumentPage(Message):
    """Reply to `instrument.list`, by id."""

    instruments: tuple[InstrumentDocument, ...]


class InstrumentDetail(Message):
    """Reply to `instrument.get`: the instrument, the boards wired to it, and its last changes, newest first."""

    instrument: InstrumentDocument
    boards: tuple[str, ...]
    changes: tuple[EventDocument, ...]
