"""The trigger input of a virtual N6705C: a level over time, of which some stretches are triggers.

The maker asks for "a low-true signal" of "a minimum pulse width of 2 microseconds" (N6705A user's guide, p. 66; N6705C
guide, p. 203). Nothing there says what a line does that is low already when a log is initiated. For the trigger pins
of the same command set "the pin's polarity setting determines which edge generates a trigger-in event" (N6900 guide,
p. 154), so an edge is taken for the trigger here too: such a log waits for the next fall. That is an inference; the
fault `level_trigger` is the other reading, in which such a log starts as soon as it is initiated.
"""

from __future__ import annotations

from collections.abc import Callable

LOW_MIN_S = 2e-6
"""Shortest low pulse that is a trigger, s."""


class TriggerLine:
    """What is wired to the input; high until it is driven, by its resistor.

    Args:
        triggered: Called once for each pulse that lasted long enough, with the rack time of its falling edge, s.
    """

    def __init__(self, triggered: Callable[[float], None]) -> None:
        self._triggered = triggered
        self._fell_s: float | None = None
        self._told = False

    @property
    def low(self) -> bool:
        """Whether the line is low."""
        return self._fell_s is not None

    def drive(self, level: int, at_s: float) -> None:
        """Take a level, from rack time `at_s` on; the same one again changes nothing."""
        if level:
            self.look(at_s)
            self._fell_s = None
        elif self._fell_s is None:
            self._fell_s, self._told = at_s, False

    def look(self, now_s: float) -> None:
        """Tell of a pulse that has lasted long enough by now and was not told of."""
        if self._fell_s is not None and not self._told and now_s - self._fell_s >= LOW_MIN_S * (1 - 1e-6):
            self._told = True
            self._triggered(self._fell_s)
