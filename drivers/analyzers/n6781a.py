"""What a Keysight N6781A module can do, as data.

Accuracy: the measurement accuracy that Keysight states for 23 °C ± 5 °C and readings averaged over 0.1 s (N6780 data
sheet 5990-5829EN, p. 6). The sheet itself could not be opened when this was written: compare the figures with it before
they count. Noise that shorter periods add: specifications guide N6700-90001, p. 52, "Measurement Accuracy and
Resolution (with shorter measurement intervals)", taken as a standard deviation, which is on the safe side. The copy of
that page which could be read ends before the current ranges of the N6781A. So their noise is assumed: twice that of
the ranges of the N6785A/N6786A (8 A, 100 mA, 1 mA) on the same page, a sister module of twice the current, whose 20 V
row differs from that of the N6781A by 35 % at most. The 10 µA range is left out for want of any figure.

Keysight states no accuracy for the clock of the external data log. ±50 ppm is assumed: the worst of the ordinary
crystal oscillators, over temperature and age. Nor does it state the delay from a trigger to the first sample; 50 µs is
assumed, two steps of the log's raster of 20.48 µs and some.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drivers.api import Accuracy, Quantity

MODEL = "N6781A"
CLOCK_PPM = 50.0
TRIGGER_DELAY_MAX_S = 50e-6
VOLTAGE_MAX_V = 20.4
CURRENT_MAX_A = 3.06
PARAMETER_PERIOD_S = 102.4e-6
"""Shortest period of the external data log, for each parameter that the mainframe logs (N6700C guide, p. 145)."""
EXTREME_PARAMETERS = 3
"""Parameters of a quantity that is logged with its extremes: mean, minimum and maximum (N6700C guide, p. 145)."""
FIFO_S = 20.0
"""What the FIFO holds, "about 20 seconds" (N6700C guide, p. 143)."""
SOURCE = (
    "Keysight 5990-5829EN p. 6 (accuracy; not compared with the sheet yet), "
    "N6700-90001 p. 52 (noise of the voltage; that of the current is assumed, twice that of the N6785A there), "
    "N6700C Operating and Service Guide pp. 143-147 (external data log); "
    "clock ±50 ppm and trigger delay 50 µs assumed, none stated"
)

NOISE_ASSUMED = 2.0
"""How much larger the noise of a current range is taken than that of the N6785A's."""
_NOISE_PERIODS_S = (51.2e-6, 102.4e-6, 169e-6, 512e-6, 998.4e-6, 1.7e-3, 10e-3, 16.7e-3)


@dataclass(frozen=True, slots=True)
class Range:
    """One measurement range: name in A or V, gain and offset limits, noise at the periods of the table."""

    range_max: float
    gain: float
    offset: float
    noise: tuple[float, ...]

    def accuracy(self, period_s: float) -> Accuracy:
        """Return the limits of error at a sample period; noise between those of the table by log-log interpolation."""
        log_noise = np.interp(math.log(period_s), np.log(_NOISE_PERIODS_S), np.log(self.noise))
        return Accuracy(self.range_max, self.gain, self.offset, math.exp(float(log_noise)))


def _assumed(*noise_a: float) -> tuple[float, ...]:
    """Noise of a current range from the row of the N6785A, A."""
    return tuple(NOISE_ASSUMED * each for each in noise_a)


RANGES: Mapping[Quantity, tuple[Range, ...]] = {
    Quantity.CURRENT: (
        Range(1e-3, 0.025e-2, 100e-9, _assumed(594.3e-9, 306.2e-9, 191e-9, 67.7e-9, 38.8e-9, 23.8e-9, 8.2e-9, 6.9e-9)),
        Range(0.1, 0.025e-2, 10e-6, _assumed(7.1e-6, 5.4e-6, 4.1e-6, 2.5e-6, 1.7e-6, 1.3e-6, 644.2e-9, 471.5e-9)),
        Range(
            3.0, 0.03e-2, 250e-6, _assumed(552.2e-6, 409.7e-6, 313.8e-6, 198.9e-6, 138e-6, 94.4e-6, 45.6e-6, 43.5e-6)
        ),
    ),
    Quantity.VOLTAGE: (
        Range(1.0, 0.025e-2, 75e-6, (90.3e-6, 57e-6, 45.5e-6, 26.7e-6, 22.1e-6, 19.8e-6, 7.1e-6, 4.8e-6)),
        Range(20.0, 0.025e-2, 1.2e-3, (1.2e-3, 993.7e-6, 894.8e-6, 533.4e-6, 297.5e-6, 276.6e-6, 87.4e-6, 69.6e-6)),
    ),
}
"""The ranges of each quantity that it records, smallest first."""


def range_for(quantity: Quantity, largest: float) -> Range | None:
    """Return the smallest range that holds `largest` [A or V]; None if there is none."""
    return next((known for known in RANGES[quantity] if largest <= known.range_max), None)


def parameters_at_once(channels: int, each: int = 2) -> int:
    """Return how many parameters the mainframe logs at most with so many channels in use.

    Every channel logs `each`, or one of them watches peaks meanwhile, which takes three of its current. A channel alone
    never does both at once, so that its watch is in nobody's way.
    """
    return each if channels == 1 else each * (channels - 1) + EXTREME_PARAMETERS


def period_step_s(parameters: int) -> float:
    """Return what log periods round to, s, for the number of parameters that the mainframe logs at once."""
    return 20.48e-6 if parameters <= 4 else 40.96e-6


def period_min_s(parameters: int) -> float:
    """Return the shortest log period, s, for the number of parameters that the mainframe logs at once."""
    step_s = period_step_s(parameters)
    return math.ceil(PARAMETER_PERIOD_S * parameters / step_s - 1e-9) * step_s
