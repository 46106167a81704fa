"""What a look at a board's health finds: the steps with their figures, and what they amount to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class CheckStep(StrEnum):
    """The steps of a check, in their order."""

    PORT = "port"
    RAIL_OFF = "rail_off"
    IMAGE = "image"
    POWER_ON = "power_on"
    HANDSHAKE = "handshake"
    IDLE = "idle"
    TIMING = "timing"


class Outcome(StrEnum):
    """What a check says of a board."""

    PASSED = "passed"
    FAILED = "failed"
    DANGEROUS = "dangerous"  # failed by what can damage hardware: it is not tried again at once
    HINDERED = "hindered"  # an instrument was in the way: it says nothing of the board


@dataclass(frozen=True, slots=True)
class Finding:
    """What one step saw.

    Args:
        step: The step.
        passed: Whether it was in order.
        message: What was wrong, one sentence; empty if nothing was.
        figures: What was measured, with the unit in each key.
    """

    step: CheckStep
    passed: bool
    message: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Examination:
    """A finished check: its outcome, and the steps as far as they came."""

    outcome: Outcome
    findings: tuple[Finding, ...]

    @property
    def reason(self) -> str:
        """What was wrong, one sentence; empty for a board that passed."""
        return next((f"{each.step}: {each.message}" for each in self.findings if not each.passed), "")

    def document(self) -> dict[str, Any]:
        """The findings by the name of their step, as they are kept."""
        return {
            each.step.value: {"passed": each.passed, "message": each.message, **each.figures} for each in self.findings
        }
