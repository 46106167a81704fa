"""The steps of the current at the windows' edges, as a witness of where the edges lie among the samples.

The board pulses the pin, waiting until the pulse is over, and then computes; when it has computed, it pulses again. So
a step is expected at the end of an opening pulse and at the start of a closing one. What other work lies between pin
and step is not known: inputs are fetched, inferences end with light layers, results are formatted at the level of the
last layer. It shifts the steps of all edges of a kind alike, by up to `LAG_S`. So steps place a trace no better than
that; but from edge to edge they tell the rate of the clocks, and whether samples were lost, to a part of a sample.

They are looked for twice. `find_roughly` knows nothing but the distances of the edges and how long an inference lasts:
over the whole span that the clocks allow it finds, to `ROUGH_S`, where what repeats begins and ends, independently of
every other witness. `search_steps` then says what single steps are there, or where another witness says it is.

What the board is restless by is its code's, and its code is the same at every edge of a kind: single edges fall on
quiet or on lively samples by chance, so all edges of a kind are given one and the same doubt, from all of them
together. The instrument's noise is each edge's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from drivers.api import SampleKind
from labd.trace.timing.alignment import Alignment, Reader, align, means_of, shift_of
from labd.trace.timing.area import SIDE, Located, locate, locate_repeating
from labd.trace.timing.timebase import Anchor, AnchorKind, Clocks, Timebase
from labd.trace.timing.windows import TimedEdge

STEP_S = 100e-6
"""Steps are looked for in means of about this time, s: shorter than what shifts them, longer than most filters."""
LAG_S = 0.5e-3
"""Work between a pin's edge and the step of the current that is not told apart from the window's own, s."""
FAR_S = 1e-3
"""How far from a predicted edge its step is looked for, s."""
ROUGH_S = 3e-3
"""What a place that was found roughly may be off by, s."""
SPREAD_S = 0.25e-3
"""A step is taken to be over this long before and after its place, s: an analyzer of 2 kHz needs so long."""
REACH = 2.0
"""So many standard uncertainties of its predicted place enclose a step, if that is more."""
U_ALIGNED = 0.5
"""Standard uncertainty of a place found by `align`, in samples."""
U_INSTANT = 1 / math.sqrt(12)
"""A sample that is an instant tells the place of a step only to within a sample."""
U_OWN = 0.1
"""What a board's work beside an edge moves its step by at the least, from edge to edge, until it is seen to be less."""
U_SAMPLE_MIN = 1e-3
"""What no step is located better than, in samples: the board's own rise time."""
SEEN = 1
"""How many observations the doubt about each edge is worth, against the scatter that the places themselves show."""
CONTRAST = 0.1
"""By what share of it the mean over whole inferences must change at an edge to tell where that is."""
LEVEL_S = 2e-3
"""Levels beside an edge are taken over whole inferences of about this time, or one if it lasts longer, s."""
MOST = 0.8
"""A kind of edges counts as seen if so large a share of the trials has a clear step of one sign."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A column in which an edge of the timing pin is a step.

    Args:
        read: Its samples.
        rows: How many there are.
        noise_rms: Standard deviation of one by the instrument's noise, in the column's unit.
        kind: What one stands for.
        clocks: The sample clock and that of the edges.
    """

    read: Reader
    rows: int
    noise_rms: float
    kind: SampleKind
    clocks: Clocks

    def folded(self) -> tuple[Signal, int]:
        """The same in means of about `STEP_S`, and of how many samples those are."""
        fold = max(1, round(STEP_S / self.clocks.period_s))
        if fold == 1:
            return self, 1

        def read(start: int, stop: int) -> npt.NDArray[np.float32]:
            return means_of(self.read, start * fold, stop * fold, fold).astype(np.float32)

        clocks = replace(self.clocks, period_s=fold * self.clocks.period_s)
        noise = self.noise_rms / math.sqrt(fold)
        return replace(self, read=read, rows=self.rows // fold, noise_rms=noise, clocks=clocks), fold


@dataclass(frozen=True, slots=True)
class StepsFound:
    """Steps that were located at edges.

    Args:
        anchors: One an edge that has a clear step.
        rises: Level after each step less that before it, in the signal's unit.
        edges: How many edges of each kind there are.
        base: The map by these anchors alone; None without any.
    """

    anchors: tuple[Anchor, ...]
    rises: tuple[float, ...]
    edges: Mapping[AnchorKind, int]
    base: Timebase | None

    def sees(self, kind: AnchorKind, share: float = MOST) -> bool:
        """Whether so large a share of the edges of a kind has a clear step of one sign."""
        signs = [math.copysign(1.0, r) for a, r in zip(self.anchors, self.rises, strict=True) if a.kind is kind]
        return bool(signs) and max(signs.count(1.0), signs.count(-1.0)) >= share * self.edges[kind]

    @property
    def whole(self) -> bool:
        """Whether both kinds of edges are seen, and the current goes one way at one kind and back at the other."""
        if not all(self.sees(kind) for kind in (AnchorKind.OPENING, AnchorKind.CLOSING)):
            return False
        rises = {
            kind: float(np.median([r for a, r in zip(self.anchors, self.rises, strict=True) if a.kind is kind]))
            for kind in (AnchorKind.OPENING, AnchorKind.CLOSING)
        }
        return rises[AnchorKind.OPENING] * rises[AnchorKind.CLOSING] < 0

    def shift_s(self, kind: AnchorKind, base: Timebase, period_s: float) -> float:
        """By how much later the steps of a kind lie than a map says, their median, s; a kind that is seen."""
        return period_s * shift_of_kind(self.anchors, kind, base)


def shift_of_kind(anchors: Sequence[Anchor], kind: AnchorKind, base: Timebase) -> float:
    """By how much later the anchors of a kind lie than a map says, their median, in samples; at least one of them."""
    return float(np.median([a.sample - base.sample(a.ticks)[0] for a in anchors if a.kind is kind]))


def scattered(anchors: Sequence[Anchor]) -> tuple[Anchor, ...]:
    """The anchors, with no less doubt about each than its kind really scatters by about a line over the ticks."""
    made: list[Anchor] = []
    for kind in sorted({anchor.kind for anchor in anchors}):
        of_kind = [anchor for anchor in anchors if anchor.kind is kind]
        off = _off_a_line([anchor.ticks for anchor in of_kind], [anchor.sample for anchor in of_kind])
        free = len(of_kind) - 2
        spread = math.sqrt(float(off @ off) / free) if free > 0 else of_kind[0].u_shared
        made += [replace(anchor, u_sample=max(anchor.u_sample, spread)) for anchor in of_kind]
    return tuple(made)


def _off_a_line(ticks: Sequence[int], samples: Sequence[float]) -> npt.NDArray[np.float64]:
    """Residuals of samples about a line over ticks, shape (n,)."""
    x = np.array([tick - ticks[0] for tick in ticks], dtype=np.float64)
    y = np.array([sample - samples[0] for sample in samples])
    line = np.column_stack([np.ones_like(x), x / max(float(x[-1]), 1.0)])
    residuals: npt.NDArray[np.float64] = y - line @ np.linalg.lstsq(line, y, rcond=None)[0]
    return residuals


def find_roughly(
    signal: Signal,
    edges: Sequence[TimedEdge],
    inference_s: float,
    middles: tuple[float, float] = (0.0, math.inf),
) -> Alignment:
    """Find where the windows lie, to `ROUGH_S`: where the current, over whole inferences, steps at most edges.

    Args:
        signal: The current.
        edges: The edges of the windows, in order, at least one.
        inference_s: How long one inference lasts, s.
        middles: Least and largest sample index that the middle between first and last can have.

    Returns:
        The best place, in samples of `signal`.

    Raises:
        TimebaseError: they do not fit in, or far places fit about equally well.
    """
    small, fold = signal.folded()
    found = _aligned(small, edges, (middles[0] / fold, middles[1] / fold), inference_s)
    return replace(found, middle=found.middle * fold)


def _aligned(small: Signal, edges: Sequence[TimedEdge], middles: tuple[float, float], inference_s: float) -> Alignment:
    clocks = small.clocks
    middle = (edges[0].ticks + edges[-1].ticks) // 2
    distances = [(edge.ticks - middle) / clocks.ticks_per_sample for edge in edges]
    span = middles[0], min(middles[1], float(small.rows))
    repeat = inference_s / clocks.period_s
    return align(small.read, small.rows, distances, 2.0 * clocks.u_stretch, span, repeat=repeat)


def search_steps(
    signal: Signal,
    edges: Sequence[TimedEdge],
    inference_s: float,
    middles: tuple[float, float] = (0.0, math.inf),
) -> StepsFound:
    """Find single steps by the distances between the edges alone.

    Args:
        signal: Where they are steps.
        edges: The edges of the windows, in order, at least one.
        inference_s: How long one inference lasts, s.
        middles: Least and largest sample index that the middle between first and last can have.

    Raises:
        TimebaseError: they do not fit in, or two places fit about equally well.
    """
    small, fold = signal.folded()
    clocks = small.clocks
    ends = edges[0].ticks, edges[-1].ticks
    aligned = _aligned(small, edges, (middles[0] / fold, middles[1] / fold), 0.0)
    # The search has seen all edges: it knows the stretch to a sample over their span.
    reach = max((ends[1] - ends[0]) / 2 / clocks.ticks_per_sample, 1.0)
    base = clocks.fit(
        [
            Anchor(tick, aligned.middle + sign * reach * (1 + aligned.stretch), U_ALIGNED)
            for tick, sign in zip(ends, (-1.0, 1.0), strict=True)
        ]
    )
    far = max(1, math.ceil(FAR_S / clocks.period_s))
    divided = contrast(small, edges, base, inference_s, FAR_S)
    shifts = {}
    for kind in (AnchorKind.OPENING, AnchorKind.CLOSING):
        shift_s, rise = divided.get(kind, (0.0, 0.0))
        shifts[kind] = shift_s / clocks.period_s
        if abs(rise) < CONTRAST:
            places = np.array([base.sample(edge.ticks)[0] for edge in edges if edge.kind is kind])
            shifts[kind] = float(shift_of(small.read, small.rows, places, np.zeros(len(places)), fold=1, reach=far))
    return _settled(small, fold, edges, base, shifts=shifts, inference_s=inference_s)


def contrast(
    signal: Signal, edges: Sequence[TimedEdge], base: Timebase, inference_s: float, reach_s: float
) -> Mapping[AnchorKind, tuple[float, float]]:
    """Where, about the place that a map gives it, each kind of edges divides unlike stretches of whole inferences.

    Args:
        signal: The current.
        edges: The edges of the windows, in order.
        base: The map.
        inference_s: How long one inference lasts, s.
        reach_s: How far from its place it is looked for, s.

    Returns:
        Of each kind: by how much later it lies than the map says, s; and by how much the mean rises there, over all
        edges of the kind, as a share of the larger side.
    """
    small, fold = signal.folded()
    period_s = small.clocks.period_s
    span = max(1, round(LEVEL_S / inference_s)) * inference_s / period_s
    reach, room = math.ceil(reach_s / period_s), math.ceil(span) + 2
    shifts = np.arange(-reach, reach + 1)
    found = {}
    for kind in (AnchorKind.OPENING, AnchorKind.CLOSING):
        before, after, count = np.zeros(len(shifts)), np.zeros(len(shifts)), 0
        for place in [base.sample(edge.ticks)[0] / fold for edge in edges if edge.kind is kind]:
            first, last = math.floor(place) - reach - room, math.floor(place) + reach + room + 2
            if first < 0 or last > small.rows:
                continue
            sums = np.concatenate([[0.0], np.cumsum(small.read(first, last).astype(np.float64))])
            at = place - first + shifts
            index = np.arange(len(sums), dtype=np.float64)
            here = np.interp(at, index, sums)
            before += (here - np.interp(at - span, index, sums)) / span
            after += (np.interp(at + span, index, sums) - here) / span
            count += 1
        rise = (after - before) / np.maximum(np.maximum(np.abs(after), np.abs(before)), 1e-30)
        best = int(np.argmax(np.abs(after - before)))
        if count and np.isfinite(rise[best]):
            found[kind] = (float(shifts[best]) * period_s, float(rise[best]))
    return found


def _settled(
    small: Signal,
    fold: int,
    edges: Sequence[TimedEdge],
    base: Timebase,
    *,
    shifts: Mapping[AnchorKind, float],
    inference_s: float,
) -> StepsFound:
    """Locate the steps about a map that becomes better by them, and say where they are in whole samples."""
    found: list[tuple[Anchor, float]] = []
    for _ in range(3):
        found = _step_anchors(small, edges, base, shifts, inference_s)
        if not found:
            break
        anchors = [anchor for anchor, _ in found]
        base = small.clocks.fit(anchors)
        shifts = {kind: shift_of_kind(anchors, kind, base) for kind in sorted({anchor.kind for anchor in anchors})}
    whole = [anchor.unfolded(fold) for anchor, _ in found]
    clocks = replace(small.clocks, period_s=small.clocks.period_s / fold)
    return StepsFound(
        anchors=tuple(whole),
        rises=tuple(rise for _, rise in found),
        edges={kind: sum(edge.kind is kind for edge in edges) for kind in (AnchorKind.OPENING, AnchorKind.CLOSING)},
        base=clocks.fit(whole) if whole else None,
    )


def _step_anchors(
    signal: Signal,
    edges: Sequence[TimedEdge],
    predicted: Timebase,
    shifts: Mapping[AnchorKind, float],
    inference_s: float,
) -> list[tuple[Anchor, float]]:
    """Locate the step at each edge near where a map predicts it; edges without a clear step are left out."""
    period_s, per_sample = signal.clocks.period_s, signal.clocks.ticks_per_sample
    lags = [edge.pulse / per_sample if edge.kind is AnchorKind.OPENING else 0.0 for edge in edges]
    places = []
    for edge, lag in zip(edges, lags, strict=True):
        place, u_place = predicted.sample(edge.ticks)
        places.append((place + lag + shifts.get(edge.kind, 0.0), min(u_place, 1.0)))
    found: list[tuple[TimedEdge, float, Located]] = []
    for kind in (AnchorKind.OPENING, AnchorKind.CLOSING):
        of_kind = [each for each in zip(edges, lags, places, strict=True) if each[0].kind is kind]
        best: list[tuple[TimedEdge, float, Located]] = []
        # As single steps if all of them are clear: that is finer. Otherwise over whole inferences, all alike.
        for repeat in (0.0, inference_s / period_s):
            by_this = []
            for edge, lag, (place, u_place) in of_kind:
                reach = max(REACH * u_place, SPREAD_S / period_s) + 0.5 * edge.pulse / per_sample
                at = _located(signal, kind, place, repeat=repeat, reach=reach)
                if at is not None:
                    by_this.append((edge, at.position - lag, at))
            if len(by_this) > len(best):
                best = by_this
            if len(best) == len(of_kind):
                break
        found += best
    found.sort(key=lambda each: each[0].ticks)
    # Anchors of a kind must share one and the same amount, or the fit would extrapolate beyond the best of them.
    own = {kind: _restlessness([each for each in found if each[0].kind is kind]) for kind in AnchorKind}
    u_kind = U_INSTANT if signal.kind is SampleKind.INSTANT else 0.0
    return [
        (
            Anchor(
                ticks=edge.ticks,
                sample=sample,
                u_sample=math.hypot(located.u_noise, own[edge.kind], u_kind, U_SAMPLE_MIN),
                u_shared=LAG_S / period_s / math.sqrt(3),
                kind=edge.kind,
                trial=edge.trial,
            ),
            located.step,
        )
        for edge, sample, located in found
    ]


def _located(signal: Signal, kind: AnchorKind, place: float, *, repeat: float, reach: float) -> Located | None:
    """The step at an edge; what repeats, if anything does, lies after an opening edge and before a closing one."""
    inside = 2 * reach + SIDE + 2 * repeat + 2 if repeat else reach + SIDE + 2
    before, after = (reach + SIDE + 2, inside) if kind is AnchorKind.OPENING else (inside, reach + SIDE + 2)
    first, last = max(0, math.floor(place - before)), min(signal.rows, math.ceil(place + after))
    lo, hi = math.floor(place - reach) - first, math.floor(place + reach) + 1 - first
    if lo < 2 or last - first - hi < 2:
        return None
    samples = signal.read(first, last).astype(np.float64)
    if not repeat:
        trimmed = max(0, lo - SIDE)
        located = locate(samples[trimmed : hi + SIDE], lo - trimmed, hi - trimmed, signal.noise_rms)
        return None if located is None else replace(located, position=first + trimmed + located.position)
    if kind is AnchorKind.OPENING:
        located = locate_repeating(samples, place - first, repeat, reach, signal.noise_rms)
        return None if located is None else replace(located, position=first + located.position)
    located = locate_repeating(samples[::-1], last - place, repeat, reach, signal.noise_rms)
    return None if located is None else replace(located, position=last - located.position, step=-located.step)


def _restlessness(found: Sequence[tuple[TimedEdge, float, Located]]) -> float:
    """What restless levels make of the doubt about each edge of a kind, in samples.

    The mean square over all edges, `U_OWN` at least. Counted as `SEEN` observations, it is drawn down by the scatter
    that the places really have about a line over the ticks, never up: a single place that is far off is to be found.
    """
    if not found:
        return 0.0
    mean_square = max(U_OWN**2, sum(at.u_levels**2 for _, _, at in found) / len(found))
    free = len(found) - 2
    if free > 0:
        off = _off_a_line([edge.ticks for edge, _, _ in found], [sample for _, sample, _ in found])
        mean_square = min(mean_square, (SEEN * mean_square + float(off @ off)) / (SEEN + free))
    return math.sqrt(mean_square)
