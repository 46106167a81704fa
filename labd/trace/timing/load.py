"""The sync load: pulses of a known load across the board's supply, which any analyzer sees as steps of the current.

The edge source switches a resistor while the board idles, before the first trial, between trials and after the last,
and stamps both edges of each pulse. Their pattern in time is known, and so are the sign and the size of each step. So
they tie offset *and* rate of the two clocks, by wire, without a trigger input; samples that were lost or doubled
between two of them show as a length that does not fit; and what delays the current on its way through the analyzer
delays these steps as it delays the board's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from labd.trace.journal import LoadPulse
from labd.trace.meta import SyncLoad
from labd.trace.timing.alignment import Floats, align, shift_of
from labd.trace.timing.area import locate
from labd.trace.timing.response import response_of
from labd.trace.timing.steps import REACH, SPREAD_S, U_ALIGNED, U_SAMPLE_MIN, Signal
from labd.trace.timing.timebase import Anchor, AnchorKind, Timebase, TimebaseError

SIDE = 6
"""Samples on each side of a step that its levels are taken from, at most."""
OUTLIER = 5.0
"""An edge that lies so many standard deviations off the others', by their median, was not the load's alone."""
MOST = 0.5
"""So large a share of the pulses' edges must be seen: a board that wakes for a moment hides some."""
OF_BURST = 0.3
"""And so large a share of those of each burst, which tell the place by themselves."""
DROP = 0.01
"""What the supply may fall by under the load, relative."""
FAR_S = 30e-3
"""How far from where the others say a burst is looked for, s."""
U_OFF = 0.02
"""Edges of a burst within so many samples of each other are alike."""
BURST_S = 50e-3
"""Pulses of a burst follow each other by less than this, s."""


@dataclass(frozen=True, slots=True)
class LoadFound:
    """The load's steps in a trace.

    Args:
        anchors: One an edge of a pulse that was seen.
        edges: How many edges the pulses have.
        step_a: Mean size of the steps, A.
        expected_a: What supply and resistor make, A.
        base: The map by these anchors.
        response: What the analyzer's filter smears a step by, in samples, see `labd.trace.timing.response`.
        tick_rate_hz: Declared rate of the edge source's clock, Hz.
    """

    anchors: tuple[Anchor, ...]
    edges: int
    step_a: float
    expected_a: float
    base: Timebase
    response: float | None
    tick_rate_hz: float


def find_load(
    signal: Signal,
    pulses: Sequence[LoadPulse],
    load: SyncLoad,
    supply_v: float,
    middles: Callable[[int], tuple[float, float]],
) -> LoadFound:
    """Locate the load's steps.

    Args:
        signal: The current.
        pulses: The pulses, in order, at least one.
        load: The declared load.
        supply_v: Voltage across it, V.
        middles: Least and largest sample index that a tick can have.

    Raises:
        TimebaseError: too few of the steps are there, or they are of another size.
    """
    small, fold = signal.folded()
    clocks = small.clocks
    edges = [(ticks, sign) for pulse in pulses for ticks, sign in ((pulse.on_ticks, 1.0), (pulse.off_ticks, -1.0))]
    expected_a = supply_v / load.ohm
    edges, base = _aligned(small, edges, expected_a, middles, fold)
    found: list[tuple[Anchor, float]] = []
    for burst in _bursts([ticks for ticks, _ in edges], clocks.tick_rate_hz):
        seen = _burst_anchors(small, edges[burst], base, load, expected_a)
        if len(seen) < OF_BURST * len(edges[burst]):
            at_s = (edges[burst][0][0] - edges[0][0]) / clocks.tick_rate_hz
            where = f"of a burst, {at_s:.3g} s after the first one,"
            raise _unseen(len(seen), len(edges[burst]), where, load, expected_a)
        found += seen
    if len(found) < MOST * len(edges):
        raise _unseen(len(found), len(edges), "of all bursts", load, expected_a)
    anchors = [anchor.unfolded(fold) for anchor, _ in found]
    base = signal.clocks.fit(anchors)
    return LoadFound(
        anchors=tuple(anchors),
        edges=len(edges),
        step_a=math.fsum(step for _, step in found) / len(found),
        expected_a=expected_a,
        base=base,
        response=response_of(signal, [base.sample(anchor.ticks)[0] for anchor in anchors]),
        tick_rate_hz=clocks.tick_rate_hz,
    )


def _aligned(
    small: Signal,
    edges: list[tuple[int, float]],
    expected_a: float,
    middles: Callable[[int], tuple[float, float]],
    fold: int,
) -> tuple[list[tuple[int, float]], Timebase]:
    """A first map by the whole pattern; a burst at either end may lie outside a capture that began late or ended early.

    Returns:
        The edges that lie within the capture, and the map.
    """
    clocks = small.clocks
    bursts = _bursts([ticks for ticks, _ in edges], clocks.tick_rate_hz)
    for first, last in ((0, len(bursts)), (1, len(bursts)), (0, len(bursts) - 1), (1, len(bursts) - 1)):
        if last <= first:
            continue
        part = edges[bursts[first].start : bursts[last - 1].stop]
        middle = (part[0][0] + part[-1][0]) // 2
        distances = [(ticks - middle) / clocks.ticks_per_sample for ticks, _ in part]
        low, high = middles(middle)
        span = low / fold, min(high / fold, float(small.rows))
        rises = [sign * expected_a for _, sign in part]
        try:
            aligned = align(small.read, small.rows, distances, 2.0 * clocks.u_stretch, span, rises=rises)
        except TimebaseError:
            if last - first <= max(1, len(bursts) - 2):
                raise
            continue
        reach = max(distances[-1], 1.0)
        ends = ((part[0][0], -1.0), (part[-1][0], 1.0))
        return part, clocks.fit(
            [Anchor(ticks, aligned.middle + side * reach * (1 + aligned.stretch), U_ALIGNED) for ticks, side in ends]
        )
    raise TimebaseError("the sync load's pulses lie outside of the capture")


def _unseen(seen: int, edges: int, where: str, load: SyncLoad, expected_a: float) -> TimebaseError:
    return TimebaseError(
        f"{seen} of the {edges} edges {where} are steps of {1e3 * expected_a:.3g} mA within {100 * load.tolerance:g} %",
        remedy="check its switch, its wiring to the board's supply, and its value in lab.toml",
    )


def _bursts(ticks: Sequence[int], tick_rate_hz: float) -> list[slice]:
    """Which edges are of one burst."""
    cuts = [k for k in range(1, len(ticks)) if ticks[k] - ticks[k - 1] > BURST_S * tick_rate_hz]
    return [slice(start, stop) for start, stop in zip([0, *cuts], [*cuts, len(ticks)], strict=True)]


def by_burst(found: LoadFound) -> tuple[Anchor, ...]:
    """One anchor a burst, which a board that wakes for a moment beside one of its edges moves little."""
    anchors, base = found.anchors, found.base
    made = []
    for burst in _bursts([anchor.ticks for anchor in anchors], found.tick_rate_hz):
        ticks = (anchors[burst][0].ticks + anchors[burst][-1].ticks) // 2
        off = median(anchor.sample - base.sample(anchor.ticks)[0] for anchor in anchors[burst])
        made.append(replace(anchors[burst][0], ticks=ticks, sample=base.sample(ticks)[0] + off))
    return tuple(made)


def _burst_anchors(
    signal: Signal, edges: Sequence[tuple[int, float]], predicted: Timebase, load: SyncLoad, expected_a: float
) -> list[tuple[Anchor, float]]:
    """Locate the steps of one burst, by itself: samples may have been lost since the one before.

    Edges beside which the board woke for a moment are left out, and none of the others is better known than they
    scatter.
    """
    places = np.array([predicted.sample(ticks)[0] for ticks, _ in edges])
    rises = np.array([sign * expected_a for _, sign in edges])
    far = math.ceil(FAR_S / signal.clocks.period_s)
    moved = places + shift_of(signal.read, signal.rows, places, rises, fold=1, reach=far)
    found: list[tuple[Anchor, float]] = []
    for _ in range(2):
        found = _load_anchors(signal, edges, moved, load, expected_a)
        if not found:
            return []
        at = {ticks: place for (ticks, _), place in zip(edges, moved.tolist(), strict=True)}
        off = [anchor.sample - at[anchor.ticks] for anchor, _ in found]
        middle = median(off)
        moved = moved + middle
    spread = 1.4826 * median(abs(each - middle) for each in off)
    room = max(OUTLIER * spread, U_OFF)
    return [
        (replace(anchor, u_sample=max(anchor.u_sample, spread)), step)
        for (anchor, step), each in zip(found, off, strict=True)
        if abs(each - middle) <= room
    ]


def _load_anchors(
    signal: Signal, edges: Sequence[tuple[int, float]], places: Floats, load: SyncLoad, expected_a: float
) -> list[tuple[Anchor, float]]:
    """Locate the steps near their places; those of another sign or size are left out."""
    period_s = signal.clocks.period_s
    reach = max(REACH * U_ALIGNED, SPREAD_S / period_s)
    fences = [0.0, *places.tolist(), float(signal.rows)]
    found = []
    for (ticks, sign), place, before, after in zip(edges, places.tolist(), fences[:-2], fences[2:], strict=True):
        lo, hi = math.floor(place - reach), math.floor(place + reach) + 1
        first = max(0, lo - SIDE, math.ceil(min(before + reach, lo)))
        last = min(signal.rows, hi + SIDE, math.floor(max(after - reach, hi)))
        if lo - first < 2 or last - hi < 2:
            continue
        located = locate(signal.read(first, last).astype(float), lo - first, hi - first, signal.noise_rms)
        if located is None:
            continue
        off_a = abs(sign * located.step - expected_a)
        if off_a > (load.tolerance / (1 - load.tolerance) + DROP) * expected_a + 3 * located.u_step:
            continue
        late = 0.5 * load.switch_s / period_s
        found.append(
            (
                Anchor(
                    ticks=ticks,
                    sample=first + located.position - late,
                    u_sample=math.hypot(located.u_noise, located.u_levels, U_SAMPLE_MIN),
                    u_shared=late / math.sqrt(3),
                    kind=AnchorKind.LOAD,
                ),
                sign * located.step,
            )
        )
    return found
