"""Which boards can serve a job: a pure function of its requirement, the lab's configuration and the boards' facts.

A requirement has one text, its canonical JSON: jobs with equal texts can do on the same boards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from labd.benchmarks import Mode
from labd.config import Board, LabConfig
from labd.config.derived import BoardFacts, lab_facts
from labd.schedule.expression import check_names, holds, why_not
from labd.schedule.grammar import parse


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
        require: What the board's facts have to meet, in the canonical text of the requirement language; empty for
            nothing.
    """

    benchmark: str
    mode: Mode
    board_id: str | None = None
    tags: frozenset[str] = frozenset()
    voltage_v: float | None = None
    firmware: str | None = None
    require: str = ""

    @property
    def captures(self) -> bool:
        """Whether a run of the job records a trace."""
        return self.mode is Mode.ENERGY

    def canonical(self) -> str:
        """The one text that all equal requirements have: JSON with its keys in order, and none that says nothing."""
        said = {
            "benchmark": self.benchmark,
            "board_id": self.board_id,
            "firmware": self.firmware,
            "mode": self.mode.value,
            "require": self.require or None,
            "tags": sorted(self.tags) or None,
            "voltage_v": self.voltage_v,
        }
        return json.dumps({key: value for key, value in said.items() if value is not None}, separators=(",", ":"))

    @staticmethod
    @lru_cache(maxsize=8192)
    def parse(text: str) -> Requirement:
        """The requirement whose canonical text this is; equal texts give the same object."""
        said = json.loads(text)
        return Requirement(
            benchmark=said["benchmark"],
            mode=Mode(said["mode"]),
            board_id=said.get("board_id"),
            tags=frozenset(said.get("tags", ())),
            voltage_v=said.get("voltage_v"),
            firmware=said.get("firmware"),
            require=said.get("require", ""),
        )


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why no board can ever serve a job: the field of the job, and each board with its reason."""

    field: str
    message: str
    reasons: Mapping[str, str]


_CHECKS = ("board.id", "board.tags", "require", "mode", "benchmark", "firmware.name", "voltage_v")
"""Fields of a job in the order in which a board is held against them."""


def refusal(requirement: Requirement, board: Board, config: LabConfig, facts: BoardFacts) -> tuple[str, str] | None:
    """Why `board` cannot serve the job, as (field of the job, reason); None if it can.

    Args:
        requirement: What the job asks.
        board: The board.
        config: Its lab.
        facts: What is known of the board.
    """
    missing = requirement.tags - set(board.tags)
    found: tuple[str, str] | None = None
    if requirement.board_id is not None and requirement.board_id != board.id:
        found = "board.id", "is another board"
    elif missing:
        found = "board.tags", f"lacks {', '.join(sorted(missing))}"
    elif requirement.require and not holds(parse(requirement.require), facts):
        found = "require", why_not(parse(requirement.require), facts)
    elif not board.can(requirement.mode):
        found = "mode", f"is not wired for {requirement.mode}"
    elif config.firmware_for(board, requirement.benchmark, requirement.mode, requirement.firmware) is None:
        field = "benchmark" if requirement.firmware is None else "firmware.name"
        found = field, f"has no {requirement.mode.image} image of {requirement.benchmark} in lab.toml"
    elif requirement.voltage_v is not None and requirement.voltage_v > board.limits.voltage_max_v:
        found = "voltage_v", f"takes at most {board.limits.voltage_max_v:g} V"
    return found


def candidates(requirement: Requirement, config: LabConfig, facts: Mapping[str, BoardFacts] | None = None) -> list[str]:
    """Ids of all boards that can serve the job, in the order of lab.toml; arguments as of `can_ever_match`."""
    known = lab_facts(config, {}) if facts is None else facts
    return [board.id for board in config.board if refusal(requirement, board, config, known[board.id]) is None]


def can_ever_match(
    requirement: Requirement, config: LabConfig, facts: Mapping[str, BoardFacts] | None = None
) -> Mismatch | None:
    """None if some board of the lab can serve the job; else why each cannot.

    Args:
        requirement: What the job asks.
        config: The lab.
        facts: What is known of each board, by id; None for what `lab.toml` alone tells.

    Raises:
        ExpressionError: `require` cannot be read, or speaks of something that no board of the lab says.
    """
    known = lab_facts(config, {}) if facts is None else facts
    if requirement.require and known:
        check_names(parse(requirement.require), frozenset[str]().union(*known.values()))
    found: dict[str, tuple[str, str]] = {}
    for board in config.board:
        refused = refusal(requirement, board, config, known[board.id])
        if refused is None:
            return None
        found[board.id] = refused
    # The board that came closest tells which field is at fault.
    field = max((field for field, _ in found.values()), key=_CHECKS.index, default="board.id")
    reasons = {board_id: reason for board_id, (_, reason) in found.items()}
    listing = "; ".join(f"{board_id} {reason}" for board_id, reason in reasons.items()) or "the lab has no boards"
    return Mismatch(field=field, message=f"no board can serve this job: {listing}", reasons=reasons)
