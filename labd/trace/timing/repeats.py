"""Where what repeats begins and ends: a board infers again and again between its edges, and not outside of them.

Steps at an edge may be hidden by what the board does beside it: bytes on the wire, light layers, bursts. But within a
window the current at any time is that one inference later, and before it begins or after it has ended it is not. So at
all edges of a kind together the mean square difference

    E(u) = mean over edges of (i(u) - i(u + T))²,    u = time into the window

is small from the begin of the first inference on, and large before. T is an inference: it is sought near the window
over N, which also holds what is not inference, where the inside differs least. E is smoothed by a running median, since
a phase that is a little longer from time to time makes it large for a moment.

It tells a begin to about `UNSURE_S`: chance may make what comes before alike to an inference for a while. The first two
edges and the last two must tell it by themselves too: where samples were lost between them, they tell another one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from labd.trace.timing.alignment import means_of
from labd.trace.timing.steps import LAG_S, Signal
from labd.trace.timing.timebase import AnchorKind, Timebase
from labd.trace.timing.windows import TimedEdge

Floats = npt.NDArray[np.float64]

BIN_S = 10e-6
"""The current is compared in means of about this time, s."""
SMOOTH_S = 70e-6
"""Length of the running median, s."""
REACH_S = 1.2e-3
"""How far from an edge a begin or an end is looked for, s."""
INSIDE_S = 1.1e-3
"""So far into a window it is surely inferring, s."""
COMPARED_S = 1.5e-3
"""At least so much of the inside is compared with an inference later, s."""
UNSURE_S = 100e-6
"""What a begin or an end may be off by, s."""
ALIKE = 3.0
"""Outside, E is more than so many times what it seldom exceeds inside,"""
CLEAR = 3.0
"""and by so many times more in most of what is left of there."""
LEVEL = 0.5
"""The inside draws what the window draws, to such a share."""
T_STEP = 0.25
"""T is sought in steps of so many bins."""
T_BINS = 4
"""An inference of fewer bins is not told."""


@dataclass(frozen=True, slots=True)
class _Beside:
    """The current beside the edges of a kind: `u_s` into the window, s, shape (m,); A, shape (edges, m)."""

    u_s: Floats
    amps: Floats

    @property
    def first(self) -> int:
        """The first bin that is surely inside."""
        return int(np.searchsorted(self.u_s, INSIDE_S))

    @property
    def inside(self) -> Floats:
        """The current from there on."""
        return self.amps[:, self.first :]

    def later(self, start: int, span: float, count: int) -> Floats:
        """`count` bins from `start` + `span` on, between bins where that is not whole, shape (edges, count)."""
        first = start + math.floor(span)
        part = span - math.floor(span)
        return (1 - part) * self.amps[:, first : first + count] + part * self.amps[:, first + 1 : first + 1 + count]


def find_repeats(
    signal: Signal, edges: Sequence[TimedEdge], window_s: float, inferences: int, base: Timebase
) -> Mapping[AnchorKind, float]:
    """By how much later than its edges what repeats begins, and ends, s; a kind is missing where it cannot be told.

    Args:
        signal: The current.
        edges: The edges of the windows.
        window_s: Length of a window, s.
        inferences: N of it.
        base: Where the edges are thought to lie.
    """
    fold = max(1, round(BIN_S / signal.clocks.period_s))
    bin_s = fold * signal.clocks.period_s
    longest_s = window_s / inferences
    shortest_s = longest_s - 2 * LAG_S / inferences
    if shortest_s < T_BINS * bin_s or window_s < 2 * (INSIDE_S + COMPARED_S + 2 * longest_s):
        return {}
    noise = signal.noise_rms / math.sqrt(fold)
    spans = np.arange(shortest_s / bin_s, longest_s / bin_s + T_STEP, T_STEP)
    level = _level(signal, edges, base, math.ceil(COMPARED_S / longest_s) * longest_s)
    found = {}
    for kind in (AnchorKind.OPENING, AnchorKind.CLOSING):
        beside = _beside(signal, [edge for edge in edges if edge.kind is kind], base, fold, longest_s)
        if beside is None or not abs(float(beside.inside.mean()) - level) <= LEVEL * abs(level):
            continue
        begin_s = _begin_s(beside, spans, bin_s, noise)
        if begin_s is not None:
            found[kind] = begin_s if kind is AnchorKind.OPENING else -begin_s
    return found


def _level(signal: Signal, edges: Sequence[TimedEdge], base: Timebase, length_s: float) -> float:
    """Mean current about the middle of the windows, A; not a number if none was recorded."""
    length = math.ceil(length_s / signal.clocks.period_s)
    middles = [
        math.floor((base.sample(opening.ticks)[0] + base.sample(closing.ticks)[0] - length) / 2)
        for opening, closing in zip(edges[::2], edges[1::2], strict=True)
    ]
    means = [signal.read(at, at + length).mean(dtype=np.float64) for at in middles if 0 <= at <= signal.rows - length]
    return float(np.mean(means)) if means else math.nan


def _beside(
    signal: Signal, edges: Sequence[TimedEdge], base: Timebase, fold: int, inference_s: float
) -> _Beside | None:
    """The current beside edges of one kind, closing ones turned around; None if none was recorded."""
    bin_s = fold * signal.clocks.period_s
    out = math.ceil(REACH_S / bin_s) + 2
    into = math.ceil((INSIDE_S + max(COMPARED_S, inference_s) + inference_s) / bin_s) + 4
    bins = np.arange(-out, into)
    rows = []
    for edge in edges:
        opens = edge.kind is AnchorKind.OPENING
        place = base.sample(edge.ticks)[0] / fold
        first = math.floor(place) - (out if opens else into) - 1
        last = math.floor(place) + (into if opens else out) + 2
        if first < 0 or last * fold > signal.rows:
            continue
        means = means_of(signal.read, first * fold, last * fold, fold)
        rows.append(np.interp(place + (bins if opens else -bins), np.arange(first, last) + 0.5, means))
    return _Beside(np.asarray(bins * bin_s, dtype=np.float64), np.array(rows)) if rows else None


def _begin_s(beside: _Beside, spans: Floats, bin_s: float, noise: float) -> float | None:
    """Where, into the window, what repeats begins; None if nothing does, or not alike."""
    inside = beside.first
    count = min(math.ceil(max(COMPARED_S / bin_s, spans[-1])), len(beside.u_s) - inside - math.ceil(spans[-1]) - 2)
    here = beside.amps[:, inside : inside + count]
    unlike = [float(np.mean((here - beside.later(inside, span, count)) ** 2)) for span in spans]
    span = float(spans[int(np.argmin(unlike))])
    squares = (beside.amps[:, : inside + count] - beside.later(0, span, inside + count)) ** 2
    begins = [
        _first_alike(part.mean(axis=0), inside, bin_s, 2 * noise**2 * (1 + 4 * math.sqrt(2 / len(part))))
        for part in (squares, squares[:2], squares[-2:])
    ]
    told = [begin for begin in begins if begin is not None]
    if len(told) < len(begins) or (max(told) - min(told)) * bin_s > 2 * UNSURE_S:
        return None
    return float(beside.u_s[told[0]])


def _first_alike(squares: Floats, inside: int, bin_s: float, floor_a2: float) -> int | None:
    """From which bin on E stays as small as inside; None if it is nowhere clearly larger.

    Args:
        squares: E, A², shape (m,).
        inside: The first bin that is surely inside.
        bin_s: Length of a bin, s.
        floor_a2: What noise makes of it at the most, A².
    """
    smooth = median_filter(squares, size=2 * round(SMOOTH_S / bin_s / 2) + 1, mode="nearest")
    limit = max(ALIKE * float(np.percentile(smooth[inside:], 95)), floor_a2)
    unlike = np.flatnonzero(smooth[:inside] > limit)
    if not len(unlike):
        return None
    begin = int(unlike[-1]) + 1
    if float(np.median(smooth[:begin][-math.ceil(2 * SMOOTH_S / bin_s) :])) < CLEAR * limit:
        return None
    return begin
