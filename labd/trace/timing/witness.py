"""What witnesses say of where a trace's windows lie: each agrees, is silent, or disagrees, in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Witness(StrEnum):
    """What knows something of the place of the windows."""

    PULSE = "pulse"  # the trigger's pulse, by wire
    LOAD = "load"  # the sync load's steps, by wire
    STEPS = "steps"  # what the board's own current does at the windows' edges
    BRACKET = "bracket"  # when the capture was asked to begin and had ended, by the edge source's clock
    LENGTHS = "lengths"  # windows of as many inferences last as long
    LAPS = "laps"  # the board's own lap times


class Verdict(StrEnum):
    """What a witness says."""

    AGREES = "agrees"
    SILENT = "silent"
    DISAGREES = "disagrees"


class Basis(StrEnum):
    """What the windows of a trace are placed by."""

    LOAD = "load"
    PULSE = "pulse"
    STEPS = "steps"
    ONE_CLOCK = "one_clock"  # samples and edges were stamped by one clock


@dataclass(frozen=True, slots=True)
class Statement:
    """What one witness says, in a sentence without a final stop."""

    witness: Witness
    verdict: Verdict
    said: str
