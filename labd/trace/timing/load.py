"""The sync load: pulses of a known load across the board's supply, which any analyzer sees as steps of the current.

The edge source switches a resistor while the board idles, before the first trial, between trials and after the last,
and stamps both edges of each pulse. Their pattern in time is known, and so are the sign and the size of each step. So
they tie offset *and* rate of the two clocks, by wire, without a trigger input; samples that were lost or doubled
between two of them show as a length that does not fit; and what delays the current on its way through the analyzer
delays these steps as it delays the board's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from labd.trace.journal import LoadPulse
from labd.trace.meta import SyncLoad
from labd.trace.timing.alignment import align
from labd.trace.timing.area import locate
from labd.trace.timing.steps import REACH, SPREAD_S, U_ALIGNED, U_SAMPLE_MIN, Signal
from labd.trace.timing.timebase import Anchor, AnchorKind, Timebase, TimebaseError

SIDE = 6
"""Samples on each side of a step that its levels are taken from, at most."""
MOST = 0.5
"""So large a share of the pulses' edges must be seen: a board that wakes for a moment hides some."""
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
        tick_rate_hz: Declared rate of the edge source's clock, Hz.
    """

    anchors: tuple[Anchor, ...]
    edges: int
    step_a: float
    expected_a: float
    base: Timebase
    tick_rate_hz: float


def find_load(
    signal: Signal,
    pulses: Sequence[LoadPulse],
    load: SyncLoad,
    supply_v: float,
    middles: tuple[float, float] = (0.0, math.inf),
) -> LoadFound:
    """Locate the load's steps.

    Args:
        signal: The current.
        pulses: The pulses, in order, at least one.
        load: The declared load.
        supply_v: Voltage across it, V.
        middles: Least and largest sample index that the middle between first and last edge can have.

    Raises:
        TimebaseError: too few of the steps are there, or they are of another size.
    """
    small, fold = signal.folded()
    clocks = small.clocks
    edges = [(ticks, sign) for pulse in pulses for ticks, sign in ((pulse.on_ticks, 1.0), (pulse.off_ticks, -1.0))]
    middle = (edges[0][0] + edges[-1][0]) // 2
    distances = [(ticks - middle) / clocks.ticks_per_sample for ticks, _ in edges]
    signs = [sign for _, sign in edges]
    span = middles[0] / fold, min(middles[1] / fold, float(small.rows))
    aligned = align(small.read, small.rows, distances, 2.0 * clocks.u_stretch, span, signs=signs)
    reach = max(distances[-1], 1.0)
    base = clocks.fit(
        [
            Anchor(ticks, aligned.middle + side * reach * (1 + aligned.stretch), U_ALIGNED)
            for ticks, side in ((edges[0][0], -1.0), (edges[-1][0], 1.0))
        ]
    )
    expected_a = supply_v / load.ohm
    found: list[tuple[Anchor, float]] = []
    for _ in range(3):
        found = _load_anchors(small, edges, base, load, expected_a)
        if len(found) < max(2, MOST * len(edges)):
            raise TimebaseError(
                f"of {len(edges)} edges of the sync load {len(found)} are seen as steps of {1e3 * expected_a:.3g} mA "
                f"within {100 * load.tolerance:g} %",
                remedy="check its switch, its wiring to the board's supply, and its value in lab.toml",
            )
        base = clocks.fit([anchor for anchor, _ in found])
    anchors = [
        replace(a, sample=fold * a.sample, u_sample=fold * a.u_sample, u_shared=fold * a.u_shared) for a, _ in found
    ]
    return LoadFound(
        anchors=tuple(anchors),
        edges=len(edges),
        step_a=math.fsum(step for _, step in found) / len(found),
        expected_a=expected_a,
        base=signal.clocks.fit(anchors),
        tick_rate_hz=clocks.tick_rate_hz,
    )


def by_burst(found: LoadFound) -> tuple[Anchor, ...]:
    """One anchor a burst: the median of its edges, which a board that wakes for a moment moves little."""
    anchors, base = found.anchors, found.base
    gap = BURST_S * found.tick_rate_hz
    cuts = [k for k in range(1, len(anchors)) if anchors[k].ticks - anchors[k - 1].ticks > gap]
    bursts = [anchors[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(anchors)], strict=True)]
    made = []
    for burst in bursts:
        ticks = (burst[0].ticks + burst[-1].ticks) // 2
        off = median(anchor.sample - base.sample(anchor.ticks)[0] for anchor in burst)
        made.append(replace(burst[0], ticks=ticks, sample=base.sample(ticks)[0] + off))
    return tuple(made)


def _load_anchors(
    signal: Signal, edges: Sequence[tuple[int, float]], predicted: Timebase, load: SyncLoad, expected_a: float
) -> list[tuple[Anchor, float]]:
    """Locate the steps near where a map predicts them; those of another sign or size are left out."""
    period_s = signal.clocks.period_s
    places = [predicted.sample(ticks) for ticks, _ in edges]
    fences = [0.0, *(place for place, _ in places), float(signal.rows)]
    found = []
    for (ticks, sign), (place, u_place), before, after in zip(edges, places, fences[:-2], fences[2:], strict=True):
        reach = max(REACH * min(u_place, 1.0), SPREAD_S / period_s)
        lo, hi = math.floor(place - reach), math.floor(place + reach) + 1
        first = max(0, lo - SIDE, math.ceil(before + reach))
        last = min(signal.rows, hi + SIDE, math.floor(after - reach))
        if lo - first < 2 or last - hi < 2:
            continue
        located = locate(signal.read(first, last).astype(float), lo - first, hi - first, signal.noise_rms)
        if located is None:
            continue
        off_a = abs(sign * located.step - expected_a)
        if off_a > load.tolerance * expected_a + 3 * located.u_step:
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
