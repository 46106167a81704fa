"""What goes wrong in a rack without telling anybody, done to a run's script before it is sampled or to its samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.truth.boards import TrueWindow
from tests.truth.runs import Anchor, Script

SYNC_PULSE_S = 10e-6
"""An analyzer of the other polarity starts at the end of the pulse, so much after its leading edge; or when armed."""

Change = Callable[[Script, np.random.Generator], None]


def _nothing(_script: Script, _rng: np.random.Generator) -> None:
    """Nothing is changed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault.

    Args:
        name: What it is.
        before: What it does to the script before anything is sampled.
        after: What it does once the samples are there.
        peaks: Whether it is in the board: bursts beyond the range.
        small: Whether it may be accepted with an error that is stated.
    """

    name: str
    before: Change = _nothing
    after: Change = _nothing
    peaks: bool = False
    small: bool = False


def faults(anchor: Anchor) -> list[Fault]:
    """The faults that can befall a run with such an anchor; a capture that no pulse starts cannot start it late."""
    found = []
    if anchor.pulsed:
        found += [
            Fault(f"sync {shift_s * 1e3:+g} ms", before=_shifted(shift_s))
            for shift_s in (0.2e-3, 1e-3, 10e-3, 50e-3, -10e-3)
        ]
        found += [
            Fault("triggered at the pulse's other edge", before=_shifted(SYNC_PULSE_S), small=True),
            Fault("triggered when it was armed", before=_armed),
        ]
    for count in (1, 2, 5, 50):
        found += [
            Fault(f"{count} samples lost", after=_lost(count), small=count <= 2),
            Fault(f"{count} samples doubled", after=_doubled(count), small=count <= 2),
        ]
    found += [
        Fault("opening edge lost, one inside", before=_edge(0)),
        Fault("closing edge lost, one inside", before=_edge(1)),
        Fault("clipped within periods", peaks=True),
    ]
    return found


def _shifted(shift_s: float) -> Change:
    def change(script: Script, _rng: np.random.Generator) -> None:
        script.first_s += shift_s

    return change


def _armed(script: Script, rng: np.random.Generator) -> None:
    script.first_s -= float(rng.uniform(5e-3, 0.3))


def _place(script: Script, rng: np.random.Generator) -> int:
    return int(rng.integers(1, len(script.amps) - 100))


def _lost(count: int) -> Change:
    def change(script: Script, rng: np.random.Generator) -> None:
        at = _place(script, rng)
        gone = slice(at, at + count)
        script.amps, script.volts = np.delete(script.amps, gone), np.delete(script.volts, gone)

    return change


def _doubled(count: int) -> Change:
    def change(script: Script, rng: np.random.Generator) -> None:
        at = _place(script, rng)
        script.amps = np.insert(script.amps, at, script.amps[at : at + count])
        script.volts = np.insert(script.volts, at, script.volts[at : at + count])

    return change


def _edge(which: int) -> Change:
    """The edge of a window of a trial drawn at random is not reported, and one 5 % inside is."""

    def change(script: Script, rng: np.random.Generator) -> None:
        trial = int(rng.integers(len(script.windows)))
        window: TrueWindow = script.windows[trial]
        inside_s = 0.05 * (window.stop_s - window.start_s)
        script.edges[trial][which] += inside_s if which == 0 else -inside_s

    return change
