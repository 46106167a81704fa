"""Ties timing edges to samples by the steps of the current: the timebase of a trace from its folder alone.

Each edge is located below the sample by the area method. About the edge the signal goes from a level A to a level B
inside a sample; the samples between are means, so the area under them tells where:

    position = lo + Σ_{k=lo}^{hi-1} (x_k − B) / (A − B)

lo and hi enclose where the edge is *predicted* to lie, with its uncertainty; they do not depend on the samples they
enclose, and the fraction is never clipped, so noise does not bend the result. A and B come from the samples next to
[lo, hi): few where the board is restless, more where it is steady.

What the board is restless by is its code's, and its code is the same at every edge of a kind: single edges fall on
quiet or on lively samples by chance, so all edges of a kind are given one and the same doubt, from all of them
together. The instrument's noise is each edge's own.

The board pulses the pin, waiting until the pulse is over, and then computes; when it has computed, it pulses again. So
the step is expected at the end of an opening pulse and at the start of a closing one. What other work lies between pin
and step is not known: ± half a pulse, as a rectangular distribution, is the doubt about it, shared by all of a kind.

Nor is it known what a board does next to an edge: inferences commonly end with light layers (pooling, dense, softmax)
and begin with the fetching of inputs, and then the current steps before a closing edge or after an opening one. In
less than a sample that is not seen; and a light layer that draws what the board draws after the window is not seen
however long it is. It is taken to last for up to a sample, or `HIDDEN_S` if that is longer, and to differ from the
level by up to the whole step, both with equal chance. Most of the shift is the same at all edges of a kind; the rest
goes with where in its sample the edge falls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from drivers.api import Edge, Quantity, SampleKind
from labd.trace.layout import is_digital
from labd.trace.reader import Trace
from labd.trace.timing.alignment import Reader, align
from labd.trace.timing.timebase import Anchor, AnchorKind, Timebase, TimebaseError, fit_timebase, rate_prior

Floats = npt.NDArray[np.float64]

SIDE = 8
"""Samples next to an edge that its levels are taken from, at most."""
CLEAR = 6.0
RESTLESS = 3.0
"""A step counts if it is larger than so many standard deviations of the noise and of the levels' restlessness."""
U_ALIGNED = 0.5
"""Standard uncertainty of a place found by `align`, in samples."""
U_INSTANT = 1 / math.sqrt(12)
"""A sample that is an instant tells the place of a step only to within a sample."""
U_GLUE_S = 2e-6
U_GLUE_SHARED_S = 3.5e-6
"""Between a closing edge and its line on the UART the board does something else for up to 40 µs, at a level that
differs from the line's by up to a fifth of the step: that shifts the step by up to 8 µs, in part alike at each edge."""
HIDDEN_S = 200e-6
"""How long light layers next to an edge are taken to last at most: pooling, dense and softmax of small nets at 80 MHz
take about 100 µs together."""
U_HIDDEN_SHARED = 1 / 3
"""Work of length T, unlike the level by a share d of the step, shifts it by d T; with both uniform up to 1
E[d² T²] = (1/3)², in the longest T and alike at all edges of a kind."""
U_HIDDEN = 0.1
"""If it lasts less than a sample but reaches beyond the edge's own sample, of which a part p lies inside, only
d min(p, T) counts: over p that varies by E[d²] E[T³/3 - T⁴/4] = 1/3 · 1/30 = 0.105², in samples, each edge's own."""
REACH = 2.0
"""So many standard uncertainties of its predicted place enclose a step; what hides is bounded, it has no long tails."""
SEEN = 1
"""How many observations the doubt about each edge is worth, against the scatter that the places themselves show."""
U_SAMPLE_MIN = 1e-3
"""What no step is located better than, in samples: the board's own rise time."""


@dataclass(frozen=True, slots=True)
class TimedEdge:
    """An edge of a window.

    Args:
        ticks: Its time.
        pulse: How long the pin stayed, in ticks.
        kind: Whether it opens or closes.
        trial: Number of its trial.
    """

    ticks: int
    pulse: int
    kind: AnchorKind
    trial: int


@dataclass(frozen=True, slots=True)
class Located:
    """Where a step lies, in samples: its own standard uncertainty (noise) and the shared one (restless levels)."""

    position: float
    u_noise: float
    u_levels: float


def window_edges(trace: Trace) -> tuple[TimedEdge, ...]:
    """The edges of all trials that have exactly two that count, in order."""
    found: list[TimedEdge] = []
    for trial in trace.trials():
        counted = trace.counted(trial.edges)
        if len(counted) == 2:
            for edge, kind in zip(counted, (AnchorKind.OPENING, AnchorKind.CLOSING), strict=True):
                found.append(TimedEdge(edge.ticks, _pulse(trace, trial.edges, edge), kind, trial.index))
    return tuple(found)


def trace_timebase(trace: Trace) -> Timebase:
    """Fit the timebase of a trace from its sync pulses and the steps at its windows' edges.

    Raises:
        TimebaseError: nothing ties edges to samples, or not clearly.
        TraceError: the trace cannot be read, or declares no tick rate.
    """
    meta = trace.meta
    if meta.tick_rate_hz is None or meta.tick_clock_ppm is None:
        raise TimebaseError("the trace declares no tick rate", where=trace.where)
    u_stretch = max(rate_prior(meta.sample_clock_ppm, meta.tick_clock_ppm), 1e-9)
    syncs = [
        Anchor(pulse.ticks, pulse.sample, max(pulse.u_latency_s / meta.period_s, U_SAMPLE_MIN))
        for pulse in trace.sync_pulses()
    ]
    column = next((c for c in meta.columns if c.quantity is Quantity.CURRENT), None) or next(
        (c for c in meta.columns if not is_digital(c.quantity)), None
    )
    if column is None:
        raise TimebaseError("the trace has no column in which an edge can be a step", where=trace.where)
    quantity = column.quantity

    def read(start: int, stop: int) -> npt.NDArray[np.float32]:
        return np.asarray(trace.samples(quantity, start, stop), dtype=np.float32)

    return fit_steps(
        read,
        trace.rows,
        window_edges(trace),
        syncs=syncs,
        tick_rate_hz=meta.tick_rate_hz,
        period_s=meta.period_s,
        u_stretch=u_stretch,
        noise_rms=column.accuracy.noise_rms,
        kind=column.sample,
    )


def fit_steps(
    read: Reader,
    rows: int,
    edges: Sequence[TimedEdge],
    *,
    syncs: Sequence[Anchor] = (),
    tick_rate_hz: float,
    period_s: float,
    u_stretch: float,
    noise_rms: float,
    kind: SampleKind = SampleKind.MEAN,
) -> Timebase:
    """Fit a timebase to a signal and its edges.

    Args:
        read: The signal in which the edges are steps.
        rows: Its samples.
        edges: The edges of the windows, in order.
        syncs: Anchors that are known without the signal.
        tick_rate_hz: Declared rate of the edges' clock, Hz.
        period_s: Sample period, s.
        u_stretch: Standard uncertainty of the ratio of the clocks, relative.
        noise_rms: Standard deviation of a sample by the instrument's noise, in the signal's unit.
        kind: What a sample stands for.

    Raises:
        TimebaseError: nothing ties edges to samples, or not clearly.
    """
    clocks = {"tick_rate_hz": tick_rate_hz, "period_s": period_s, "u_stretch": u_stretch}
    if not edges:
        return fit_timebase(syncs, **clocks)
    if syncs:
        fit = fit_timebase(syncs, **clocks)
    else:
        ends = edges[0].ticks, edges[-1].ticks
        middle = (ends[0] + ends[1]) // 2
        distances = [(edge.ticks - middle) / (tick_rate_hz * period_s) for edge in edges]
        aligned = align(read, rows, distances, 2.0 * u_stretch, (0.0, float(rows)))
        # The search has seen all edges: it knows the stretch to a sample over their span.
        reach = max(distances[-1], 1.0)
        begin = [
            Anchor(tick, aligned.middle + sign * reach * (1 + aligned.stretch), U_ALIGNED)
            for tick, sign in zip(ends, (-1.0, 1.0), strict=True)
        ]
        fit = fit_timebase(begin, **clocks)
    for _ in range(3):
        anchors = step_anchors(
            read, rows, edges, fit, noise_rms=noise_rms, tick_rate_hz=tick_rate_hz, period_s=period_s, kind=kind
        )
        if not anchors and not syncs:
            raise TimebaseError(
                "no edge comes with a step of the current that is clear enough",
                remedy="wire the edge source's sync pin to the analyzer's trigger",
            )
        fit = fit_timebase([*syncs, *anchors], **clocks)
    return fit


def step_anchors(
    read: Reader,
    rows: int,
    edges: Sequence[TimedEdge],
    predicted: Timebase,
    *,
    noise_rms: float,
    tick_rate_hz: float,
    period_s: float,
    kind: SampleKind = SampleKind.MEAN,
) -> tuple[Anchor, ...]:
    """Locate the step at each edge, near where a timebase predicts it; edges without a clear step are left out."""
    ticks_per_sample = tick_rate_hz * period_s
    lags = [edge.pulse / ticks_per_sample if edge.kind is AnchorKind.OPENING else 0.0 for edge in edges]
    predictions = [predicted.sample(edge.ticks) for edge in edges]
    places = [(place + lag, u_place) for (place, u_place), lag in zip(predictions, lags, strict=True)]
    fences = [0.0, *(place for place, _ in places), float(rows)]
    found: list[tuple[TimedEdge, float, Located]] = []
    for edge, lag, (place, u_place), before, after in zip(edges, lags, places, fences[:-2], fences[2:], strict=True):
        reach = REACH * u_place + 0.5 * edge.pulse / ticks_per_sample
        lo, hi = math.floor(place - reach), math.floor(place + reach) + 1
        first = max(0, lo - SIDE, math.ceil(min(before + reach, lo)))
        last = min(rows, hi + SIDE, math.floor(max(after - reach, hi)))
        if lo - first < 2 or last - hi < 2:
            continue
        located = locate(read(first, last).astype(np.float64), lo - first, hi - first, noise_rms)
        if located is not None:
            found.append((edge, first + located.position - lag, located))
    # Anchors of a kind must share one and the same amount, or the fit would extrapolate beyond the best of them.
    levels = {which: _restlessness([each for each in found if each[0].kind is which]) for which in AnchorKind}
    pulse = max((edge.pulse for edge in edges), default=0) / ticks_per_sample / math.sqrt(12)
    hidden = U_HIDDEN_SHARED * max(1.0, HIDDEN_S / period_s)
    anchors = []
    for edge, sample, located in found:
        glue = 1.0 / period_s if edge.kind is AnchorKind.CLOSING else 0.0
        own, common = levels[edge.kind]
        u_kind = U_INSTANT if kind is SampleKind.INSTANT else 0.0
        anchors.append(
            Anchor(
                ticks=edge.ticks,
                sample=sample,
                u_sample=math.hypot(located.u_noise, own, u_kind, U_SAMPLE_MIN, U_GLUE_S * glue),
                u_shared=math.hypot(common, hidden, pulse, U_GLUE_SHARED_S * glue),
                kind=edge.kind,
                trial=edge.trial,
            )
        )
    return tuple(anchors)


def locate(signal: Floats, lo: int, hi: int, noise_rms: float) -> Located | None:
    """Locate the step between samples `lo` and `hi` by its area; None if it is not clear.

    Args:
        signal: The step with its neighbours, at least two on each side, shape (n,).
        lo: First sample that the step may lie in.
        hi: End of those.
        noise_rms: Standard deviation of a sample by noise.
    """
    if not np.isfinite(signal).all():
        return None
    above, below = _level(signal[:lo][::-1], noise_rms), _level(signal[hi:], noise_rms)
    step = above.value - below.value
    if abs(step) <= CLEAR * noise_rms + RESTLESS * math.hypot(above.restless, below.restless):
        return None
    position = lo + float((signal[lo:hi] - below.value).sum()) / step
    left, right = position - lo, hi - position
    u_noise = math.sqrt((hi - lo) * noise_rms**2 + (left * above.noise) ** 2 + (right * below.noise) ** 2)
    u_levels = math.hypot(left * above.restless, right * below.restless)
    return Located(position, u_noise / abs(step), u_levels / abs(step))


def _restlessness(found: Sequence[tuple[TimedEdge, float, Located]]) -> tuple[float, float]:
    """What restless levels make of the doubt about each edge of a kind: its own part, and the shared one, in samples.

    The mean square over all edges is that of either part, for how much repeats from edge to edge is not known; the own
    part is `U_HIDDEN` at least. Counted as `SEEN` observations, it is drawn down by the scatter that the places really
    have about a line over the ticks, never up: a single place that is far off is to be found as an outlier.
    """
    if not found:
        return 0.0, 0.0
    shared = math.sqrt(sum(at.u_levels**2 for _, _, at in found) / len(found))
    mean_square = max(U_HIDDEN, shared) ** 2
    free = len(found) - 2
    if free > 0:
        x = np.array([edge.ticks - found[0][0].ticks for edge, _, _ in found], dtype=np.float64)
        y = np.array([sample - found[0][1] for _, sample, _ in found])
        line = np.column_stack([np.ones_like(x), x / x[-1]])
        off = y - line @ np.linalg.lstsq(line, y, rcond=None)[0]
        mean_square = min(mean_square, (SEEN * mean_square + float(off @ off)) / (SEEN + free))
    return math.sqrt(mean_square), shared


@dataclass(frozen=True, slots=True)
class _Level:
    value: float
    noise: float
    restless: float


def _level(samples: Floats, noise_rms: float) -> _Level:
    """Level next to an edge, from samples with the nearest first.

    Half the mean square of consecutive differences, less the noise, is what the board itself is restless by (q). The
    mean of n samples then misses the level at the edge by noise²/n + q (n + 1)/2 as for a random walk; the best n of
    1, 2, 4, 8 is taken.
    """
    differences = np.array([b - a for a, b in pairwise(samples.tolist())])
    # With few differences noise alone reaches 1 + 3 √(2/m) times its mean square: only what is beyond is the board's.
    mean_square = float(np.mean(differences**2)) / 2
    beyond = mean_square > noise_rms**2 * (1 + 3 * math.sqrt(2 / len(differences)))
    q = max(0.0, mean_square - noise_rms**2) if beyond else 0.0
    counts = [n for n in (1, 2, 4, 8) if n <= len(samples)]
    n = min(counts, key=lambda n: noise_rms**2 / n + q * (n + 1) / 2)
    return _Level(float(samples[:n].mean()), noise_rms / math.sqrt(n), math.sqrt(q * (n + 1) / 2))


def _pulse(trace: Trace, edges: Sequence[Edge], edge: Edge) -> int:
    """Ticks from an edge to the next one of its pin, at most the hold-off; the declared pulse if none came."""
    assert trace.meta.tick_rate_hz is not None
    longest = max(trace.meta.hold_off_s, trace.meta.pulse_s) * trace.meta.tick_rate_hz
    for other in edges:
        if other.pin == edge.pin and other.level != edge.level and 0 < other.ticks - edge.ticks <= longest:
            return other.ticks - edge.ticks
    return round(trace.meta.pulse_s * trace.meta.tick_rate_hz)
