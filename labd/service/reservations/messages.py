"""What clients send and get about reservations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from labd.model.states import ReservationState
from labd.service.messages import BoardChoice, ClientName, Message, Number

Purpose = Annotated[str, StringConstraints(max_length=256)]
Duration = Annotated[float, Field(gt=0, le=31_622_400)]
"""Seconds; `[reservation]` of lab.toml says how many are allowed."""


class ReservationRequest(Message):
    """Asks for a board for a person: one by id, one with tags, one that meets a requirement, or any."""

    board: BoardChoice | None = None
    require: Annotated[str, StringConstraints(max_length=1000)] | None = None
    purpose: Purpose = ""
    duration_s: Duration


class ReservationRef(Message):
    """Names one reservation."""

    id: Number


class ReservationExtension(Message):
    """Asks for a reservation to last so much longer."""

    id: Number
    duration_s: Duration


class ReservationHandOver(Message):
    """Asks for a reservation to be somebody else's."""

    id: Number
    to: ClientName


class ReservationQuery(Message):
    """Asks for a page of reservations, newest first."""

    state: ReservationState | None = None
    owner: ClientName | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    before: Number | None = None
    """Only reservations older than this number."""


class ReservationDocument(Message):
    """A reservation; `board_id` and the dates from `starts_at` on are null until it has a board.

    A board that is being given back is still held, with `reason` set, until its output is off.
    """

    id: int
    state: ReservationState
    owner: str
    purpose: str
    board: BoardChoice | None
    require: str
    duration_s: float
    board_id: str | None
    requested_at: datetime
    starts_at: datetime | None
    ends_at: datetime | None
    warned_at: datetime | None
    ended_at: datetime | None
    reason: str


class ReservationPage(Message):
    """Reply to `reservation.list`, newest first; `next_before` asks for the next page, None at the end."""

    reservations: tuple[ReservationDocument, ...]
    next_before: int | None
