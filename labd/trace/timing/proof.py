"""Where the windows of a trace lie, and whether independent witnesses agree on it.

The best witness there is places the windows: the sync load, else the trigger's pulse, else the steps of the current at
the edges; never a mixture in which one could hide what another shows. Each other witness is then asked by itself, and
the steps are searched over the whole span that the clocks allow, whatever the pulse or the load say. One that disagrees
disputes the placement; a placement by a pulse that no step of the current confirms is not proven.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from labd.trace.journal import Bracket, Trial
from labd.trace.reader import Trace
from labd.trace.timing.load import LoadFound, by_burst, find_load
from labd.trace.timing.pulse import confirmed, steps_by_pulse
from labd.trace.timing.response import response_alone
from labd.trace.timing.scene import HALF, KINDS, NAMES, SLACK_S, Scene, jump_said, rate_said, scene_of, shifted_said
from labd.trace.timing.steps import (
    CONTRAST,
    FAR_S,
    LAG_S,
    ROUGH_S,
    StepsFound,
    contrast,
    search_steps,
)
from labd.trace.timing.timebase import AnchorKind, Timebase, TimebaseError
from labd.trace.timing.witness import Basis, Statement, Verdict, Witness

SHIFT_S = 0.25e-3
"""What a filter may make the load's steps later than the trigger's pulse, s."""
PARTS, LOW = 4, 0.5
"""A window of which one of so many parts draws less than this share of the usual is not one of the board's."""
UNEQUAL = 5e-3
"""Windows of as many inferences differ by no more than this share, unless all of them scatter."""
LAP_SHARE = 0.01
LAP_STEP_S = 2e-3
"""Lap times may differ from the window by the error of an RC oscillator, and by two steps of a coarse counter, s."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The timebase of a trace, and what the witnesses say of it.

    Args:
        timebase: From ticks to samples.
        basis: What it is made of.
        statements: What each witness says.
        response: What the analyzer's filter smears a step by, in samples, see `labd.trace.timing.response`; None if
            that is not known.
    """

    timebase: Timebase
    basis: Basis
    statements: tuple[Statement, ...]
    response: float | None = None

    @property
    def disputes(self) -> tuple[Statement, ...]:
        """The witnesses that disagree."""
        return tuple(each for each in self.statements if each.verdict is Verdict.DISAGREES)


def trace_timebase(trace: Trace) -> Timebase:
    """The timebase of a trace alone; see `prove`."""
    return prove(trace).timebase


def prove(trace: Trace) -> Proof:
    """Place a trace's windows, and ask every witness.

    Raises:
        TimebaseError: nothing ties edges to samples, or not clearly.
        TraceError: the trace cannot be read, or declares no tick rate.
    """
    scene = scene_of(trace)
    if trace.meta.tick_clock_ppm == 0 and trace.meta.sample_clock_ppm == 0 and scene.syncs:
        said = "edges and samples are stamped by one clock"
        statement = Statement(Witness.PULSE, Verdict.AGREES, said)
        timebase = scene.clocks.fit(scene.syncs)
        return Proof(timebase, Basis.ONE_CLOCK, (statement, *_alike(trace.trials(), scene)))
    rough, why = scene.roughly()
    load, statements = _load(scene)
    response = None
    if load is not None:
        timebase, basis, response = load.base, Basis.LOAD, load.response
        statements += _pulse_by_load(scene, timebase)
        statements += _steps_by_load(scene, timebase, rough)
    elif scene.syncs:
        timebase, basis = scene.clocks.fit(scene.syncs), Basis.PULSE
        if scene.edges:
            timebase, found = steps_by_pulse(scene, timebase, rough)
            statements += confirmed(found)
    else:
        timebase, basis = _by_steps(scene, rough, why, statements), Basis.STEPS
    if load is None:
        places = [timebase.sample(edge.ticks)[0] for edge in scene.edges]
        response = response_alone(scene.signal, list(zip(places[::2], places[1::2], strict=True)))
    statements += _brackets(scene, timebase)
    statements += _alike(trace.trials(), scene)
    return Proof(timebase, basis, tuple(statements), response)


_REMEDY = "wire a sync load, or the edge source's sync pin to the analyzer's trigger"


def _load(scene: Scene) -> tuple[LoadFound | None, list[Statement]]:
    """The sync load's steps, where it was pulsed."""
    meta, pulses = scene.trace.meta, scene.trace.load_pulses()
    if meta.sync_load is None or not pulses:
        return None, []
    try:
        found = find_load(scene.signal, pulses, meta.sync_load, meta.supply_voltage_v, scene.middles)
    except TimebaseError as error:
        return None, [Statement(Witness.LOAD, Verdict.DISAGREES, f"the sync load is not seen: {error.message}")]
    jump = jump_said(by_burst(found), scene.clocks) or rate_said(found.base, scene.clocks)
    if jump:
        return found, [Statement(Witness.LOAD, Verdict.DISAGREES, f"the sync load's steps do not fit: {jump}")]
    said = (
        f"{len(found.anchors)} of {found.edges} steps are there, of {1e3 * found.step_a:.4g} mA "
        f"where {1e3 * found.expected_a:.4g} mA are expected"
    )
    return found, [Statement(Witness.LOAD, Verdict.AGREES, said)]


def _pulse_by_load(scene: Scene, timebase: Timebase) -> list[Statement]:
    """The trigger's pulse against the load's steps, which the analyzer's filter makes late."""
    statements = []
    for sync in scene.syncs:
        place, u_place = timebase.sample(sync.ticks)
        early_s = (place - sync.sample) * scene.clocks.period_s
        room_s = SHIFT_S + 3 * math.hypot(u_place, sync.u_sample) * scene.clocks.period_s
        said = f"the trigger's pulse lies {1e3 * early_s:+.3g} ms from where the sync load says"
        verdict = Verdict.AGREES if abs(early_s) <= room_s else Verdict.DISAGREES
        statements.append(Statement(Witness.PULSE, verdict, said))
    return statements


def _steps_by_load(scene: Scene, wired: Timebase, rough: list[tuple[int, float]]) -> list[Statement]:
    """The steps against the load: a pin that is another board's shows, the board's own work beside an edge does not."""
    near = scene.near(wired)
    shifts_s = {} if near is None else scene.shifts_s(near, wired)
    if shifts_s and max(map(abs, shifts_s.values())) <= ROUGH_S:
        return [Statement(Witness.STEPS, Verdict.AGREES, shifted_said(shifts_s))]
    offs_s = scene.offs_s(rough, wired)
    if offs_s and min(map(abs, offs_s)) <= ROUGH_S:
        said = f"the windows are found roughly, {1e3 * min(offs_s, key=abs):+.2g} ms from where the sync load says"
        return [Statement(Witness.STEPS, Verdict.AGREES, said)]
    if len(offs_s) > len(KINDS) and max(offs_s) - min(offs_s) <= ROUGH_S:
        said = f"the current puts the windows {1e3 * offs_s[0]:+.3g} ms from where the sync load does"
        return [Statement(Witness.STEPS, Verdict.DISAGREES, said)]
    if _idles_within(scene, wired):
        said = "the board idles in a part of its windows, and nothing happens at their edges"
        return [Statement(Witness.STEPS, Verdict.DISAGREES, said)]
    return [Statement(Witness.STEPS, Verdict.SILENT, "the current has no clear steps at the edges")]


def _idles_within(scene: Scene, wired: Timebase) -> bool:
    """Whether most windows have a part that draws much less than is usual in them."""
    idle = 0
    pairs = list(zip(scene.edges[::2], scene.edges[1::2], strict=True))
    for opening, closing in pairs:
        start, stop = (
            min(max(0, round(wired.sample(edge.ticks)[0])), scene.signal.rows) for edge in (opening, closing)
        )
        bounds = np.linspace(start, stop, PARTS + 1).astype(int).tolist()
        parts = [scene.signal.read(a, b).mean(dtype=np.float64) for a, b in pairwise(bounds) if b > a]
        idle += len(parts) < PARTS or min(parts) < LOW * float(np.median(parts))
    return idle > HALF * len(pairs)


def _by_steps(scene: Scene, rough: list[tuple[int, float]], why: str, statements: list[Statement]) -> Timebase:
    """The map by steps alone; adds what they say."""
    if not rough:
        raise TimebaseError(why, remedy=_REMEDY)
    reach, (ticks, place) = ROUGH_S / scene.clocks.period_s, rough[0]
    middle = place + ((scene.edges[0].ticks + scene.edges[-1].ticks) // 2 - ticks) / scene.clocks.ticks_per_sample
    found = search_steps(scene.signal, scene.edges, scene.inference_s(), (middle - reach, middle + reach))
    if found.base is None:
        raise TimebaseError("no edge comes with a step of the current that is clear enough", remedy=_REMEDY)
    statements += _steps_alone(scene, found, found.base)
    return found.base


def _steps_alone(scene: Scene, found: StepsFound, base: Timebase) -> list[Statement]:
    """Whether steps alone are enough: at both kinds of edges, in most trials, up at one and down at the other."""
    if not found.whole:
        missing = [NAMES[kind] for kind in KINDS if not found.sees(kind)]
        what = f"{' and '.join(missing)} edges have no clear steps" if missing else "they go the same way at both ends"
        return [Statement(Witness.STEPS, Verdict.DISAGREES, f"the steps of the current do not tell: {what}")]
    jump = jump_said(found.anchors, scene.clocks) or rate_said(base, scene.clocks)
    if jump:
        return [Statement(Witness.STEPS, Verdict.DISAGREES, f"the steps do not fit: {jump}")]
    divided = contrast(scene.signal, scene.edges, base, scene.inference_s(), ROUGH_S)
    for kind in KINDS:
        off_s, rise = divided.get(kind, (math.nan, 0.0))
        if not (abs(off_s - found.shift_s(kind, base, scene.clocks.period_s)) <= FAR_S and abs(rise) >= CONTRAST):
            said = f"the current does not change at the {NAMES[kind]} edges where they have steps"
            return [Statement(Witness.STEPS, Verdict.DISAGREES, said)]
    shifts_s = {kind: found.shift_s(kind, base, scene.clocks.period_s) for kind in KINDS}
    longer_s = shifts_s[AnchorKind.CLOSING] - shifts_s[AnchorKind.OPENING]
    longer = "longer" if longer_s > 0 else "shorter"
    said = f"windows between steps of the current are {1e3 * abs(longer_s):.3g} ms {longer} than between the edges"
    verdict = Verdict.AGREES if abs(longer_s) <= 2 * LAG_S else Verdict.DISAGREES
    return [Statement(Witness.STEPS, verdict, said)]


def _brackets(scene: Scene, timebase: Timebase) -> list[Statement]:
    """When the capture began and ended, by commands and answers, against the samples that came."""
    brackets: tuple[Bracket, ...] = scene.trace.brackets()
    if not brackets:
        return [Statement(Witness.BRACKET, Verdict.SILENT, "it was not noted when the capture began and ended")]
    period_s = scene.clocks.period_s
    worst_s = -math.inf
    for bracket in brackets:
        (least, u_least), (largest, u_largest) = (
            timebase.sample(ticks) for ticks in (bracket.earliest_ticks, bracket.latest_ticks)
        )
        out = max(least - 3 * u_least - bracket.sample, bracket.sample - largest - 3 * u_largest)
        worst_s = max(worst_s, out * period_s)
    if worst_s <= SLACK_S:
        said = "the capture began and ended when it was asked to"
        return [Statement(Witness.BRACKET, Verdict.AGREES, said)]
    said = f"the samples lie {1e3 * worst_s:.3g} ms outside of when the capture was asked to begin and had ended"
    return [Statement(Witness.BRACKET, Verdict.DISAGREES, said)]


def _alike(trials: Sequence[Trial], scene: Scene) -> list[Statement]:
    """Windows of as many inferences last as long, and as long as the board's own lap times say."""
    statements = []
    of_trials = scene.each_s()
    each_s = np.array(list(of_trials.values()))
    if len(each_s) > 1:
        middle_s = float(np.median(each_s))
        off = np.abs(each_s / middle_s - 1)
        usual = 1.4826 * float(np.median(off))
        worst = int(np.argmax(off))
        said = f"windows of as many inferences last as long to {100 * float(off[worst]):.2g} %"
        verdict = Verdict.AGREES
        if off[worst] > max(UNEQUAL, 6 * usual if len(each_s) > 2 else 0.0):
            more = 100 * float(each_s[worst] / middle_s - 1)
            said = (
                f"an inference of trial {list(of_trials)[worst]} took {more:+.3g} % more time than those of the others"
            )
            verdict = Verdict.DISAGREES
        statements.append(Statement(Witness.LENGTHS, verdict, said))
    for trial in trials:
        if trial.ended is None or len(trial.ended.laps_us) != 2 or trial.index not in of_trials:
            continue
        lap_s, length_s = (
            1e-6 * (trial.ended.laps_us[1] - trial.ended.laps_us[0]),
            of_trials[trial.index] * trial.started.inferences,
        )
        said = f"trial {trial.index} lasted {lap_s:.6g} s by its laps and {length_s:.6g} s between its edges"
        alike = abs(lap_s - length_s) <= LAP_SHARE * length_s + LAP_STEP_S
        statements.append(Statement(Witness.LAPS, Verdict.AGREES if alike else Verdict.DISAGREES, said))
    return statements
