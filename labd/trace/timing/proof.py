"""Where the windows of a trace lie, and whether independent witnesses agree on it.

The best witness there is places the windows: the sync load, else the trigger's pulse, else the steps of the current at
the edges; never a mixture in which one could hide what another shows. Each other witness is then asked by itself, and
the steps are searched over the whole span that the clocks allow, whatever the pulse or the load say. One that disagrees
disputes the placement; a placement by a pulse that no step of the current confirms is not proven.

A trigger's pulse tells nothing of what delays the current on its way through the analyzer, nor of a trigger that is
slower than declared. Where the steps of *both* kinds of edges lie to the same side of it, by more than its latency
explains, the windows are moved by the lesser of the two, and that much is in doubt. One kind alone may be shifted by
the board's own work: then nothing is moved, and as much is in doubt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from drivers.api import Quantity
from labd.trace.journal import Bracket, Trial
from labd.trace.layout import is_digital
from labd.trace.reader import Trace
from labd.trace.timing.jumps import find_jump
from labd.trace.timing.load import LoadFound, by_burst, find_load
from labd.trace.timing.steps import (
    CONTRAST,
    FAR_S,
    LAG_S,
    ROUGH_S,
    Signal,
    StepsFound,
    contrast,
    find_roughly,
    scattered,
    search_steps,
)
from labd.trace.timing.timebase import Anchor, AnchorKind, Clocks, Timebase, TimebaseError, rate_prior
from labd.trace.timing.windows import TimedEdge, window_edges
from labd.trace.timing.witness import Basis, Statement, Verdict, Witness

SLACK_S = 20e-3
"""What a bracket is widened by: how long an instrument takes from a command to what it does, s."""
SHIFT_S = 0.25e-3
"""What a filter may make the load's steps later than the trigger's pulse, s."""
U_PULSE_MIN_S = 0.2e-6
"""What no trigger is known better than, s."""
HALF = 0.5
"""If more of a kind's edges have steps than this share, those that have none are missed, and most windows is more."""
RATES = 4.0
"""So many standard uncertainties may the rate of the samples lie off what both clocks' makers state."""
PARTS, LOW = 4, 0.5
"""A window of which one of so many parts draws less than this share of the usual is not one of the board's."""
UNEQUAL = 5e-3
"""Windows of as many inferences differ by no more than this share, unless all of them scatter."""
LAP_SHARE = 0.01
LAP_STEP_S = 2e-3
"""Lap times may differ from the window by the error of an RC oscillator, and by two steps of a coarse counter, s."""

_KINDS = (AnchorKind.OPENING, AnchorKind.CLOSING)
_NAMES = {AnchorKind.OPENING: "opening", AnchorKind.CLOSING: "closing"}


@dataclass(frozen=True, slots=True)
class Proof:
    """The timebase of a trace, and what the witnesses say of it.

    Args:
        timebase: From ticks to samples.
        basis: What it is made of.
        statements: What each witness says.
        response: What the analyzer's filter smears a step by, in samples, see `labd.trace.timing.response`.
    """

    timebase: Timebase
    basis: Basis
    statements: tuple[Statement, ...]
    response: float = 0.0

    @property
    def disputes(self) -> tuple[Statement, ...]:
        """The witnesses that disagree."""
        return tuple(each for each in self.statements if each.verdict is Verdict.DISAGREES)


@dataclass(frozen=True, slots=True)
class _Scene:
    """All that there is to ask about."""

    trace: Trace
    signal: Signal
    edges: tuple[TimedEdge, ...]
    syncs: tuple[Anchor, ...]

    @property
    def clocks(self) -> Clocks:
        return self.signal.clocks

    def middles(self, ticks: int) -> tuple[float, float]:
        """Least and largest sample index that a tick can have by the bracket of the first sample."""
        least, largest = 0.0, math.inf
        for bracket in self.trace.brackets():
            reach = abs(ticks - bracket.earliest_ticks) / self.clocks.ticks_per_sample
            slack = SLACK_S / self.clocks.period_s + 3 * self.clocks.u_stretch * reach
            earliest, latest = (
                bracket.sample + (ticks - at) / self.clocks.ticks_per_sample
                for at in (bracket.latest_ticks, bracket.earliest_ticks)
            )
            least, largest = max(least, earliest - slack), min(largest, latest + slack)
        return least, largest


def trace_timebase(trace: Trace) -> Timebase:
    """The timebase of a trace alone; see `prove`."""
    return prove(trace).timebase


def prove(trace: Trace) -> Proof:
    """Place a trace's windows, and ask every witness.

    Raises:
        TimebaseError: nothing ties edges to samples, or not clearly.
        TraceError: the trace cannot be read, or declares no tick rate.
    """
    scene = _scene(trace)
    if trace.meta.tick_clock_ppm == 0 and trace.meta.sample_clock_ppm == 0 and scene.syncs:
        said = "edges and samples are stamped by one clock"
        statement = Statement(Witness.PULSE, Verdict.AGREES, said)
        timebase = scene.clocks.fit(scene.syncs)
        return Proof(timebase, Basis.ONE_CLOCK, (statement, *_alike(trace.trials(), scene)))
    rough, why = _roughly(scene)
    load, statements = _load(scene)
    response = 0.0
    if load is not None:
        timebase, basis, response = load.base, Basis.LOAD, load.response
        statements += _pulse_by_load(scene, timebase)
        statements += _steps_by_load(scene, timebase, rough)
    elif scene.syncs:
        timebase, basis = scene.clocks.fit(scene.syncs), Basis.PULSE
        if scene.edges:
            timebase, found = _steps_by_pulse(scene, timebase, rough)
            statements += _confirmed(found)
    else:
        timebase, basis = _by_steps(scene, rough, why, statements), Basis.STEPS
    statements += _brackets(scene, timebase)
    statements += _alike(trace.trials(), scene)
    return Proof(timebase, basis, tuple(statements), response)


_REMEDY = "wire a sync load, or the edge source's sync pin to the analyzer's trigger"


def _scene(trace: Trace) -> _Scene:
    meta = trace.meta
    if meta.tick_rate_hz is None or meta.tick_clock_ppm is None:
        raise TimebaseError("the trace declares no tick rate", where=trace.where)
    column = next((c for c in meta.columns if c.quantity is Quantity.CURRENT), None) or next(
        (c for c in meta.columns if not is_digital(c.quantity)), None
    )
    if column is None:
        raise TimebaseError("the trace has no column in which an edge can be a step", where=trace.where)
    quantity = column.quantity

    def read(start: int, stop: int) -> npt.NDArray[np.float32]:
        return np.asarray(trace.samples(quantity, start, stop), dtype=np.float32)

    u_stretch = max(rate_prior(meta.sample_clock_ppm, meta.tick_clock_ppm), 1e-9)
    clocks = Clocks(tick_rate_hz=meta.tick_rate_hz, period_s=meta.period_s, u_stretch=u_stretch)
    syncs = tuple(
        Anchor(pulse.ticks, pulse.sample, max(pulse.u_latency_s, U_PULSE_MIN_S) / meta.period_s)
        for pulse in trace.sync_pulses()
    )
    signal = Signal(read, trace.rows, column.accuracy.noise_rms, column.sample, clocks)
    return _Scene(trace, signal, window_edges(trace), syncs)


def _roughly(scene: _Scene) -> tuple[list[tuple[int, float]], str]:
    """Where the current alone puts the edges: a tick, and its place in samples; or why it does not.

    All edges together, and each kind by itself: where a board goes on as before at one kind of edges, that kind is seen
    elsewhere, and the other one in its place.
    """
    if not scene.edges:
        return [], "no window has two edges"
    found, why = [], ""
    for kinds in (_KINDS, *((kind,) for kind in _KINDS)):
        edges = [edge for edge in scene.edges if edge.kind in kinds]
        middle = (edges[0].ticks + edges[-1].ticks) // 2
        for repeat_s in (_inference_s(scene), 0.0):
            try:
                place = find_roughly(scene.signal, edges, repeat_s, scene.middles(middle))
            except TimebaseError as error:
                why = why or error.message
            else:
                found.append((middle, place.middle))
                break
    return found, why


def _inference_s(scene: _Scene) -> float:
    """How long an inference lasts, the median of the windows, s."""
    return float(np.median(list(_each_s(scene).values())))


def _each_s(scene: _Scene) -> dict[int, float]:
    """How long an inference of each trial lasts by the edges, s."""
    inferences = {trial.index: trial.started.inferences for trial in scene.trace.trials()}
    return {
        opening.trial: (closing.ticks - opening.ticks) / scene.clocks.tick_rate_hz / inferences[opening.trial]
        for opening, closing in zip(scene.edges[::2], scene.edges[1::2], strict=True)
    }


def _load(scene: _Scene) -> tuple[LoadFound | None, list[Statement]]:
    """The sync load's steps, where it was pulsed."""
    meta, pulses = scene.trace.meta, scene.trace.load_pulses()
    if meta.sync_load is None or not pulses:
        return None, []
    try:
        found = find_load(scene.signal, pulses, meta.sync_load, meta.supply_voltage_v, scene.middles)
    except TimebaseError as error:
        return None, [Statement(Witness.LOAD, Verdict.DISAGREES, f"the sync load is not seen: {error.message}")]
    jump = _jump(by_burst(found), scene.clocks) or _rate(found.base, scene.clocks)
    if jump:
        return found, [Statement(Witness.LOAD, Verdict.DISAGREES, f"the sync load's steps do not fit: {jump}")]
    said = (
        f"{len(found.anchors)} of {found.edges} steps are there, of {1e3 * found.step_a:.4g} mA "
        f"where {1e3 * found.expected_a:.4g} mA are expected"
    )
    return found, [Statement(Witness.LOAD, Verdict.AGREES, said)]


def _jump(anchors: Sequence[Anchor], clocks: Clocks) -> str:
    """What a jump of the sample index means; empty without one."""
    jump = find_jump(anchors, clocks)
    if jump is None:
        return ""
    what = "lost" if jump.samples < 0 else "too many"
    return f"{abs(jump.samples):.1f} ± {jump.u_samples:.1f} (k = 1) samples are {what} within the trace"


def _rate(base: Timebase, clocks: Clocks) -> str:
    """What a rate of the samples means that neither clock can have; empty for one that they can."""
    if abs(base.stretch) <= RATES * clocks.u_stretch:
        return ""
    what = "lost" if base.stretch < 0 else "too many"
    return f"samples come {1e6 * base.stretch:+.0f} ppm off their rate, which means that some are {what}"


def _pulse_by_load(scene: _Scene, timebase: Timebase) -> list[Statement]:
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


def _steps_by_load(scene: _Scene, wired: Timebase, rough: list[tuple[int, float]]) -> list[Statement]:
    """The steps against the load: a pin that is another board's shows, the board's own work beside an edge does not."""
    near = _near(scene, wired)
    seen = [] if near is None else [kind for kind in _KINDS if near.sees(kind)]
    if near is not None and seen:
        return [Statement(Witness.STEPS, Verdict.AGREES, _shifted(_shifts_s(scene, near, wired)))]
    offs_s = _offs_s(scene, rough, wired)
    if offs_s and min(map(abs, offs_s)) <= ROUGH_S:
        said = f"the windows are found roughly, {1e3 * min(offs_s, key=abs):+.2g} ms from where the sync load says"
        return [Statement(Witness.STEPS, Verdict.AGREES, said)]
    if len(offs_s) > len(_KINDS) and max(offs_s) - min(offs_s) <= ROUGH_S:
        said = f"the current puts the windows {1e3 * offs_s[0]:+.3g} ms from where the sync load does"
        return [Statement(Witness.STEPS, Verdict.DISAGREES, said)]
    if _idles_within(scene, wired):
        said = "the board idles in a part of its windows, and nothing happens at their edges"
        return [Statement(Witness.STEPS, Verdict.DISAGREES, said)]
    return [Statement(Witness.STEPS, Verdict.SILENT, "the current has no clear steps at the edges")]


def _idles_within(scene: _Scene, wired: Timebase) -> bool:
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


def _steps_by_pulse(scene: _Scene, wired: Timebase, rough: list[tuple[int, float]]) -> tuple[Timebase, list[Statement]]:
    """The steps against the trigger's pulse; also its place, with the rate that they tell and the doubt they leave."""
    off_s = min(_offs_s(scene, rough, wired), key=abs, default=None)
    near = _near(scene, wired)
    seen = [] if near is None else [kind for kind in _KINDS if near.sees(kind, 1.0)]
    if near is None or not seen or off_s is None:
        return wired, [Statement(Witness.STEPS, Verdict.SILENT, "no kind of edges has a clear step at each of them")]
    for kind in set(_KINDS) - set(seen):
        if near.sees(kind, HALF) and _ends_short(scene, near, kind):
            said = f"the first or the last of the {_NAMES[kind]} edges have no steps of the current, and others have"
            return wired, [Statement(Witness.STEPS, Verdict.DISAGREES, said)]
    if abs(off_s) > ROUGH_S:
        said = f"the current puts the windows {1e3 * off_s:+.3g} ms from where the trigger's pulse does"
        return wired, [Statement(Witness.STEPS, Verdict.DISAGREES, said)]
    anchors = [anchor for anchor in near.anchors if anchor.kind in seen]
    jump = _jump(anchors, scene.clocks) or _rate(scene.clocks.fit([*scene.syncs, *anchors]), scene.clocks)
    if jump:
        return wired, [Statement(Witness.STEPS, Verdict.DISAGREES, f"the steps do not fit: {jump}")]
    # Rate and place are told apart: the steps say how fast, the wire says where.
    rates = scattered(anchors)
    shifts_s = {
        kind: near.shift_s(kind, scene.clocks.fit([*scene.syncs, *rates]), scene.clocks.period_s) for kind in seen
    }
    common_s, said = _common_s(shifts_s), _shifted(shifts_s)
    latency_s = math.sqrt(3) * max(sync.u_sample for sync in scene.syncs) * scene.clocks.period_s
    if abs(common_s) > (LAG_S + latency_s if len(seen) == len(_KINDS) else FAR_S):
        return wired, [Statement(Witness.STEPS, Verdict.DISAGREES, said)]
    late = common_s / scene.clocks.period_s if abs(common_s) > latency_s else 0.0
    moved = late if len(seen) == len(_KINDS) else 0.0
    syncs = [
        replace(sync, sample=sync.sample + moved, u_sample=math.hypot(sync.u_sample, late / math.sqrt(3)))
        for sync in scene.syncs
    ]
    return scene.clocks.fit([*syncs, *rates]), [Statement(Witness.STEPS, Verdict.AGREES, said)]


def _ends_short(scene: _Scene, near: StepsFound, kind: AnchorKind) -> bool:
    """Whether the edges of a kind that have no step are all after those that have, or before: samples were lost."""
    found = {anchor.ticks for anchor in near.anchors if anchor.kind is kind}
    missing = [edge.ticks not in found for edge in scene.edges if edge.kind is kind]
    return missing == sorted(missing) or missing == sorted(missing, reverse=True)


def _shifts_s(scene: _Scene, near: StepsFound, base: Timebase) -> dict[AnchorKind, float]:
    return {kind: near.shift_s(kind, base, scene.clocks.period_s) for kind in _KINDS if near.sees(kind)}


def _shifted(shifts_s: dict[AnchorKind, float]) -> str:
    said = ", ".join(f"{_NAMES[kind]} ones {1e3 * shift_s:+.3g} ms" for kind, shift_s in shifts_s.items())
    return f"steps of the current lie at the edges, {said} from them"


def _near(scene: _Scene, wired: Timebase) -> StepsFound | None:
    """The steps within `FAR_S` of where a map says that the edges lie; None if no window was recorded."""
    recorded = [
        edge
        for pair in zip(scene.edges[::2], scene.edges[1::2], strict=True)
        for edge in pair
        if all(0 < wired.sample(each.ticks)[0] < scene.signal.rows for each in pair)
    ]
    if not recorded:
        return None
    place, u_place = wired.sample((recorded[0].ticks + recorded[-1].ticks) // 2)
    reach = FAR_S / scene.clocks.period_s + 2 * u_place
    try:
        return search_steps(scene.signal, recorded, _inference_s(scene), (place - reach, place + reach))
    except TimebaseError:
        return None


def _common_s(shifts_s: dict[AnchorKind, float]) -> float:
    """What the steps of all kinds that are seen are shifted by at least, to one side; 0 if to both sides, s."""
    least, largest = min(shifts_s.values()), max(shifts_s.values())
    if least * largest <= 0:
        return 0.0
    return min(least, largest, key=abs)


def _offs_s(scene: _Scene, rough: list[tuple[int, float]], wired: Timebase) -> list[float]:
    """By how much later the current alone puts all edges, and each kind of them, than a map, s."""
    return [(place - wired.sample(ticks)[0]) * scene.clocks.period_s for ticks, place in rough]


def _confirmed(statements: list[Statement]) -> list[Statement]:
    """A pulse that nothing confirms proves nothing."""
    if statements[0].verdict is not Verdict.SILENT:
        return [Statement(Witness.PULSE, Verdict.AGREES, "the trigger's pulse places the windows"), *statements]
    said = f"nothing confirms the trigger's pulse: {statements[0].said}"
    return [Statement(Witness.PULSE, Verdict.DISAGREES, said), *statements]


def _by_steps(scene: _Scene, rough: list[tuple[int, float]], why: str, statements: list[Statement]) -> Timebase:
    """The map by steps alone; adds what they say."""
    if not rough:
        raise TimebaseError(why, remedy=_REMEDY)
    reach, (ticks, place) = ROUGH_S / scene.clocks.period_s, rough[0]
    middle = place + ((scene.edges[0].ticks + scene.edges[-1].ticks) // 2 - ticks) / scene.clocks.ticks_per_sample
    found = search_steps(scene.signal, scene.edges, _inference_s(scene), (middle - reach, middle + reach))
    if found.base is None:
        raise TimebaseError("no edge comes with a step of the current that is clear enough", remedy=_REMEDY)
    statements += _steps_alone(scene, found, found.base)
    return found.base


def _steps_alone(scene: _Scene, found: StepsFound, base: Timebase) -> list[Statement]:
    """Whether steps alone are enough: at both kinds of edges, in most trials, up at one and down at the other."""
    if not found.whole:
        missing = [_NAMES[kind] for kind in _KINDS if not found.sees(kind)]
        what = f"{' and '.join(missing)} edges have no clear steps" if missing else "they go the same way at both ends"
        return [Statement(Witness.STEPS, Verdict.DISAGREES, f"the steps of the current do not tell: {what}")]
    jump = _jump(found.anchors, scene.clocks) or _rate(base, scene.clocks)
    if jump:
        return [Statement(Witness.STEPS, Verdict.DISAGREES, f"the steps do not fit: {jump}")]
    divided = contrast(scene.signal, scene.edges, base, _inference_s(scene), ROUGH_S)
    for kind in _KINDS:
        off_s, rise = divided.get(kind, (math.nan, 0.0))
        if not (abs(off_s - found.shift_s(kind, base, scene.clocks.period_s)) <= FAR_S and abs(rise) >= CONTRAST):
            said = f"the current does not change at the {_NAMES[kind]} edges where they have steps"
            return [Statement(Witness.STEPS, Verdict.DISAGREES, said)]
    shifts_s = {kind: found.shift_s(kind, base, scene.clocks.period_s) for kind in _KINDS}
    longer_s = shifts_s[AnchorKind.CLOSING] - shifts_s[AnchorKind.OPENING]
    said = f"windows between steps of the current are {1e3 * longer_s:+.3g} ms longer than between the edges"
    verdict = Verdict.AGREES if abs(longer_s) <= 2 * LAG_S else Verdict.DISAGREES
    return [Statement(Witness.STEPS, verdict, said)]


def _brackets(scene: _Scene, timebase: Timebase) -> list[Statement]:
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


def _alike(trials: Sequence[Trial], scene: _Scene) -> list[Statement]:
    """Windows of as many inferences last as long, and as long as the board's own lap times say."""
    statements = []
    of_trials = _each_s(scene)
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
