"""The two figures of a published energy window: by its runner's convention to the printed digit, and labd's own.

labd's is the energy of the samples between the two edges, with the parts of the samples that an edge cuts
(`labd.score.window`). Its standard uncertainty is made of

- the resolution of the edges' times, as a rectangle of that width on each edge, times the power that is won or lost
  when the edge moves;
- how the power ran inside the two samples that the edges cut;
- the digits with which the monitor sent its samples;
- the monitor's stated accuracy, where its maker states one (`labd.trace.sessions.monitors`).

What no document states (the error of a monitor's sample clock, the accuracy of an unknown monitor) is not in it, and
`unstated` names it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from drivers.api import Interval, Quantity
from labd.bench.window import is_recorded, read_window
from labd.score.reading import Instrument, Placement, WindowReading
from labd.score.uncertainty import Estimate
from labd.score.window import score_window
from labd.service.sessions.compared import rounded_as
from labd.trace.sessions.convert import energy_column
from labd.trace.sessions.energy_file import pieces
from labd.trace.sessions.published import Capture, PrintedWindow, ResultsSet, SessionError, Span

MICRO = 1e-6


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """One published window.

    Args:
        index: The number it is printed under.
        start_s: Its opening edge, s from the capture's start.
        duration_s: From edge to edge, s.
        inferences: N; None if the session does not tell.
        printed: The energy as printed, µJ.
        energy: The energy by the runner's convention, rounded as the printed one, µJ.
        per_inference: The same for one inference, not rounded, µJ; None without N.
        own: labd's figure, µJ; None if too few samples lie beside its edges.
    """

    index: int
    start_s: float
    duration_s: float
    inferences: int | None
    printed: Decimal
    energy: Decimal
    per_inference: float | None
    own: Estimate | None

    @property
    def is_reproduced(self) -> bool:
        """Whether our energy has the printed digits."""
        return self.energy == self.printed


def window_figures(results: ResultsSet) -> tuple[WindowFigures, ...]:
    """Both figures of each window of an energy results set, in the order printed.

    Raises:
        SessionError: the log and `results.txt` differ in the inferences of a window, or a file was changed meanwhile.
    """
    if not results.captures:
        return ()
    spans = {span.index: (capture, span) for capture, span in results.spans}
    return tuple(
        _figures(results, printed, number, *spans[printed.index])
        for number, printed in enumerate(results.printed.windows)
    )


def unstated(results: ResultsSet) -> str:
    """What the uncertainty lacks because nobody states it, one sentence."""
    monitor = results.monitor
    if monitor is None:
        return "the session's monitor is not known here: its accuracy and digits are not in the uncertainty"
    return (
        f"the uncertainty holds the limits of ±{monitor.gain * 100:g} % that {monitor.maker} states for the "
        f"{monitor.model} ({monitor.source}); {monitor.unknown} are not stated, and not in it"
    )


def _figures(results: ResultsSet, printed: PrintedWindow, number: int, capture: Capture, span: Span) -> WindowFigures:
    total = math.fsum(
        float(capture.samples.read(start, stop).astype(np.float64).sum())
        for start, stop in pieces(span.first, span.end)
    )
    energy_uj = total * capture.unit_uj
    inferences = _inferences(results, printed, number)
    return WindowFigures(
        index=span.index,
        start_s=span.start_s,
        duration_s=round(span.stop_s - span.start_s, 9),
        inferences=inferences,
        printed=printed.energy_uj,
        energy=rounded_as(energy_uj, printed.energy_uj),
        per_inference=None if inferences is None else energy_uj / inferences,
        own=own_energy(capture, span, results, inferences or 1, number),
    )


def _inferences(results: ResultsSet, printed: PrintedWindow, number: int) -> int | None:
    """N by `results.txt`, held against the log where that has an `infer` for each window."""
    if len(results.inferences) != len(results.printed.windows):
        return printed.inferences
    asked = results.inferences[number].inferences
    if printed.inferences is not None and printed.inferences != asked:
        raise SessionError(
            f"window {printed.index} has {printed.inferences} inferences, the board was asked for {asked}",
            where=str(results.files["results"]),
        )
    return asked


def own_energy(capture: Capture, span: Span, results: ResultsSet, inferences: int, trial: int) -> Estimate | None:
    """labd's figure of a window, µJ; None if too few samples lie beside its edges."""
    u_edge = capture.resolution_s / capture.period_s / math.sqrt(12)
    placement = Placement(
        start=span.start_s / capture.period_s,
        stop=span.stop_s / capture.period_s,
        u_start=u_edge,
        u_stop=u_edge,
        correlation=0.0,
    )
    if not is_recorded(placement, capture.samples.rows):
        return None
    source = _Source(capture)
    reading = read_window(source, (Quantity.ENERGY,), placement, trial=trial, inferences=inferences)
    return _score(capture, results, reading).scaled(1 / MICRO)


def _score(capture: Capture, results: ResultsSet, reading: WindowReading) -> Estimate:
    typical = reading.power_w * capture.period_s / (capture.unit_uj * MICRO)
    column = energy_column(results.monitor, results.voltage_v, capture, typical)
    instrument = Instrument(columns=(column,), period_s=capture.period_s, clock_ppm=0.0)
    energy = score_window(reading, instrument).energy_j
    # A limit of error of 0 is one that nobody stated: it is no term, and must not be shown as one.
    return Estimate.combine(energy.value, [term for term in energy.terms if term.standard_uncertainty > 0])


@dataclass(frozen=True, slots=True)
class _Source:
    """A capture as the scorer reads recordings: one column, in J a sample, nothing marked."""

    capture: Capture

    @property
    def rows(self) -> int:
        """Number of samples."""
        return self.capture.samples.rows

    def samples(self, quantity: Quantity, start: int, stop: int) -> npt.NDArray[Any]:
        """Energy of samples `start` to `stop`, J."""
        return np.asarray(self.capture.samples.read(start, stop).astype(np.float64) * (self.capture.unit_uj * MICRO))

    def power(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """Power of samples `start` to `stop`, W."""
        return np.asarray(self.samples(Quantity.ENERGY, start, stop) / self.capture.period_s)

    def marked(self, start: float, stop: float) -> tuple[Interval, ...]:
        """Nothing: the runners keep no record of what was lost."""
        return ()
