"""Window readings made of plain arrays, as the glue makes them of a trace."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from drivers.api import Accuracy, Column, Provenance, Quantity, SampleKind
from labd.score.edge_sample import EdgePower
from labd.score.moments import Tally
from labd.score.reading import Instrument, Placement, WindowReading

PERIOD_S = 204.8e-6
CURRENT = Accuracy(range_max=0.1, gain=2.5e-4, offset=10e-6, noise_rms=3.8e-6)
VOLTAGE = Accuracy(range_max=20.0, gain=2.5e-4, offset=1.2e-3, noise_rms=825e-6)
NOTHING = Accuracy(range_max=1.0, gain=0.0, offset=0.0, noise_rms=0.0)


def instrument(current: Accuracy = CURRENT, voltage: Accuracy = VOLTAGE, clock_ppm: float = 50.0) -> Instrument:
    columns = tuple(
        Column(quantity, SampleKind.MEAN, Provenance.MEASURED, accuracy)
        for quantity, accuracy in ((Quantity.CURRENT, current), (Quantity.VOLTAGE, voltage))
    )
    return Instrument(columns=columns, period_s=PERIOD_S, clock_ppm=clock_ppm)


def reading(
    current_a: npt.NDArray[np.float64],
    voltage_v: npt.NDArray[np.float64],
    placement: Placement,
    *,
    trial: int = 0,
    inferences: int = 100,
) -> WindowReading:
    power = current_a * voltage_v
    first, last, near = math.floor(placement.start), math.floor(placement.stop), placement.neighbours
    columns = {Quantity.CURRENT: current_a, Quantity.VOLTAGE: voltage_v}
    moments = {}
    for quantity, samples in columns.items():
        tally = Tally()
        tally.add(samples[first + 1 : last])
        moments[quantity] = tally.moments()
    return WindowReading(
        trial=trial,
        inferences=inferences,
        placement=placement,
        whole=last - first - 1,
        power_w=float(power[first + 1 : last].mean()),
        moments=moments,
        first=EdgePower(
            outside=power[first - near : first][::-1],
            cut=float(power[first]),
            inside=power[first + 1 : first + 1 + near],
            share=first + 1 - placement.start,
        ),
        last=EdgePower(
            outside=power[last + 1 : last + 1 + near],
            cut=float(power[last]),
            inside=power[last - near : last][::-1],
            share=placement.stop - last,
        ),
    )


def exact(start: float, stop: float) -> Placement:
    return Placement(start=start, stop=stop, u_start=0.0, u_stop=0.0, correlation=0.0)
