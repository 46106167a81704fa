"""Which boards can serve a job: a pure function of the job's requirement and the lab's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labd.benchmarks import Mode
from labd.config import Board, LabConfig


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a job asks of a board.

    Args:
        benchmark: Benchmark id.
        mode: What is measured.
        board_id: This board and no other; None for any.
        tags: Tags that the board must have, all of them.
        voltage_v: Supply voltage, V; None for the board's own.
        firmware: Name of the build in lab.toml; None for any that fits.
    """

    benchmark: str
    mode: Mode
    board_id: str | None = None
    tags: frozenset[str] = frozenset()
    voltage_v: float | None = None
    firmware: str | None = None

    @property
    def captures(self) -> bool:
        """Whether a run of the job records a trace."""
        return self.mode is Mode.ENERGY


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why no board can ever serve a job: the field of the job, and each board with its reason."""

    field: str
    message: str
    reasons: Mapping[str, str]


_CHECKS = ("board.id", "board.tags", "mode", "benchmark", "firmware.name", "voltage_v")
"""Fields of a job in the order in which a board is held against them."""


def refusal(requirement: Requirement, board: Board, config: LabConfig) -> tuple[str, str] | None:
    """Why `board` cannot serve the job, as (field of the job, reason); None if it can."""
    missing = requirement.tags - set(board.tags)
    if requirement.board_id is not None and requirement.board_id != board.id:
        return "board.id", "is another board"
    if missing:
        return "board.tags", f"lacks {', '.join(sorted(missing))}"
    if not board.can(requirement.mode):
        return "mode", f"is not wired for {requirement.mode}"
    if config.firmware_for(board, requirement.benchmark, requirement.mode, requirement.firmware) is None:
        field = "benchmark" if requirement.firmware is None else "firmware.name"
        return field, f"has no {requirement.mode.image} image of {requirement.benchmark} in lab.toml"
    if requirement.voltage_v is not None and requirement.voltage_v > board.limits.voltage_max_v:
        return "voltage_v", f"takes at most {board.limits.voltage_max_v:g} V"
    return None


def candidates(requirement: Requirement, config: LabConfig) -> list[str]:
    """Ids of all boards that can serve the job, in the order of lab.toml."""
    return [board.id for board in config.board if refusal(requirement, board, config) is None]


def can_ever_match(requirement: Requirement, config: LabConfig) -> Mismatch | None:
    """None if some board of the lab can serve the job; else why each cannot."""
    refusals = {board.id: refusal(requirement, board, config) for board in config.board}
    found = {board_id: refused for board_id, refused in refusals.items() if refused is not None}
    if len(found) < len(refusals):
        return None
    # The board that came closest tells which field is at fault.
    field = max((field for field, _ in found.values()), key=_CHECKS.index, default="board.id")
    reasons = {board_id: reason for board_id, (_, reason) in found.items()}
    listing = "; ".join(f"{board_id} {reason}" for board_id, reason in reasons.items()) or "the lab has no boards"
    return Mismatch(field=field, message=f"no board can serve this job: {listing}", reasons=reasons)
