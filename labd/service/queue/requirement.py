"""What a job that was asked for wants of a board, as the scheduler reads it."""

from __future__ import annotations

from labd.schedule.grammar import canonical
from labd.schedule.match import Requirement
from labd.service.messages import JobSpec


def requirement_of(spec: JobSpec) -> Requirement:
    """What the job asks of a board. Raises `ExpressionError` if `require` cannot be read."""
    return Requirement(
        benchmark=spec.benchmark,
        mode=spec.mode,
        board_id=spec.board.id if spec.board else None,
        tags=frozenset(spec.board.tags) if spec.board else frozenset(),
        voltage_v=spec.voltage_v,
        firmware=spec.firmware.name if spec.firmware else None,
        require=canonical(spec.require) if spec.require else "",
    )
