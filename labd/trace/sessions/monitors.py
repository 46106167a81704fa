"""The energy monitors that published sessions name, as far as their makers' documents are known here.

Nothing is made up: of a monitor that is not listed, and of what a document does not state, labd claims no figure, and
whoever shows an uncertainty says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Monitor:
    """What measured a session.

    Args:
        name: As sessions name it.
        maker: Who makes it.
        model: Its order code.
        gain: Half width of its error, relative.
        significant_digits: Decimal digits of a sample as it sends them.
        current_max_a: End of its range, A.
        source: Documents and sections of the figures.
        unknown: What those documents do not state, for remarks.
    """

    name: str
    maker: str
    model: str
    gain: float
    significant_digits: int
    current_max_a: float
    source: str
    unknown: str

    def step(self, sample: float) -> float:
        """Smallest difference that a sample of this size can show, in the sample's own unit; 0 for a sample of 0."""
        if sample == 0:
            return 0.0
        return float(10.0 ** (math.floor(math.log10(abs(sample))) - self.significant_digits + 1))


LPM01A = Monitor(
    name="lpm01a",
    maker="STMicroelectronics",
    model="X-NUCLEO-LPM01A",
    gain=0.02,
    significant_digits=4,
    current_max_a=0.05,
    source="UM2243 rev 2 section 10 (2 % from 100 nA to 50 mA); UM2269 (ASCII stream dddd±ee)",
    unknown="the error of its sample clock and its noise",
)

_MONITORS = {monitor.name: monitor for monitor in (LPM01A,)}


def monitor_named(name: str) -> Monitor | None:
    """The monitor that a session calls `name`; None if nothing is known of it."""
    return _MONITORS.get(name.lower())
