"""The trigger's pulse as what places the windows, and the board's own current as its witness.

A pulse tells nothing of what delays the current on its way through the analyzer, nor of a trigger that is slower than
declared. Where the steps of *both* kinds of edges, or what repeats between them, lie to the same side of it, by more
than its latency explains, the windows are moved by the lesser of the two, and that much is in doubt. One kind alone may
be shifted by the board's own work: then nothing is moved, and as much is in doubt.
"""

from __future__ import annotations

import math
from dataclasses import replace

from labd.trace.timing.repeats import UNSURE_S, find_repeats
from labd.trace.timing.scene import HALF, KINDS, NAMES, Scene, jump_said, rate_said, shifted_said
from labd.trace.timing.steps import (
    FAR_S,
    LAG_S,
    ROUGH_S,
    StepsFound,
    scattered,
)
from labd.trace.timing.timebase import AnchorKind, Timebase
from labd.trace.timing.witness import Statement, Verdict, Witness


def steps_by_pulse(scene: Scene, wired: Timebase, rough: list[tuple[int, float]]) -> tuple[Timebase, list[Statement]]:
    """The steps against the trigger's pulse; also its place, with the rate that they tell and the doubt they leave."""
    off_s = min(scene.offs_s(rough, wired), key=abs, default=None)
    near = scene.near(wired)
    seen = [] if near is None else [kind for kind in KINDS if near.sees(kind, 1.0)]
    # Rate and place are told apart: the steps say how fast, the wire says where.
    anchors = [] if near is None else [anchor for anchor in near.anchors if anchor.kind in seen]
    rates = scattered(anchors)
    base = scene.clocks.fit([*scene.syncs, *rates])
    repeats_s = {} if len(seen) == len(KINDS) else _repeats_s(scene, base)
    told = set(seen) | set(repeats_s)
    if not told or (off_s is None and len(told) < len(KINDS)):
        return wired, [Statement(Witness.STEPS, Verdict.SILENT, "no kind of edges has a clear step at each of them")]
    for kind in set(KINDS) - told:
        if near is not None and near.sees(kind, HALF) and _ends_short(scene, near, kind):
            said = f"the first or the last of the {NAMES[kind]} edges have no steps of the current, and others have"
            return wired, [Statement(Witness.STEPS, Verdict.DISAGREES, said)]
    if off_s is not None and abs(off_s) > ROUGH_S and len(repeats_s) < len(KINDS):
        said = f"the current puts the windows {1e3 * off_s:+.3g} ms from where the trigger's pulse does"
        return wired, [Statement(Witness.STEPS, Verdict.DISAGREES, said)]
    jump = jump_said(anchors, scene.clocks) or rate_said(scene.clocks.fit([*scene.syncs, *anchors]), scene.clocks)
    if jump:
        return wired, [Statement(Witness.STEPS, Verdict.DISAGREES, f"the steps do not fit: {jump}")]
    shifts_s = {
        kind: near.shift_s(kind, base, scene.clocks.period_s) if near is not None and kind in seen else repeats_s[kind]
        for kind in KINDS
        if kind in told
    }
    common_s, said = _common_s(shifts_s), _said(shifts_s, seen)
    latency_s = math.sqrt(3) * max(sync.u_sample for sync in scene.syncs) * scene.clocks.period_s
    far = bool(repeats_s) and max(map(abs, shifts_s.values())) > FAR_S
    if far or abs(common_s) > (LAG_S + latency_s if len(told) == len(KINDS) else FAR_S):
        return wired, [Statement(Witness.STEPS, Verdict.DISAGREES, said)]
    late = common_s / scene.clocks.period_s if abs(common_s) > latency_s else 0.0
    moved = late if len(told) == len(KINDS) else 0.0
    syncs = [
        replace(sync, sample=sync.sample + moved, u_sample=math.hypot(sync.u_sample, late / math.sqrt(3)))
        for sync in scene.syncs
    ]
    return scene.clocks.fit([*syncs, *rates]), [Statement(Witness.STEPS, Verdict.AGREES, said)]


def _said(shifts_s: dict[AnchorKind, float], seen: list[AnchorKind]) -> str:
    """What the kinds of edges tell, by steps or by what repeats."""
    parts = [shifted_said({kind: shifts_s[kind] for kind in seen})] if seen else []
    for kind in [kind for kind in shifts_s if kind not in seen]:
        what = "begins" if kind is AnchorKind.OPENING else "ends"
        where = f" {1e3 * shifts_s[kind]:+.3g} ms from them" if shifts_s[kind] else ""
        parts.append(f"what repeats {what} at the {NAMES[kind]} edges{where}, to {1e3 * UNSURE_S:g} ms")
    return "; ".join(parts)


def _repeats_s(scene: Scene, wired: Timebase) -> dict[AnchorKind, float]:
    """By how much later than its edges what repeats begins and ends, less what it is not told to, s."""
    inferences = {trial.started.inferences for trial in scene.trace.trials()}
    if len(inferences) != 1:
        return {}
    (count,) = inferences
    repeats_s = find_repeats(scene.signal, scene.edges, count * scene.inference_s(), count, wired)
    unsure_s = max(UNSURE_S, scene.clocks.period_s)
    return {kind: math.copysign(max(0.0, abs(each) - unsure_s), each) for kind, each in repeats_s.items()}


def _ends_short(scene: Scene, near: StepsFound, kind: AnchorKind) -> bool:
    """Whether the edges of a kind that have no step are all after those that have, or before: samples were lost."""
    found = {anchor.ticks for anchor in near.anchors if anchor.kind is kind}
    missing = [edge.ticks not in found for edge in scene.edges if edge.kind is kind]
    return missing == sorted(missing) or missing == sorted(missing, reverse=True)


def _common_s(shifts_s: dict[AnchorKind, float]) -> float:
    """What the steps of all kinds that are seen are shifted by at least, to one side; 0 if to both sides, s."""
    least, largest = min(shifts_s.values()), max(shifts_s.values())
    if least * largest <= 0:
        return 0.0
    return min(least, largest, key=abs)


def confirmed(statements: list[Statement]) -> list[Statement]:
    """A pulse that nothing confirms proves nothing."""
    if statements[0].verdict is not Verdict.SILENT:
        return [Statement(Witness.PULSE, Verdict.AGREES, "the trigger's pulse places the windows"), *statements]
    said = f"nothing confirms the trigger's pulse: {statements[0].said}"
    return [Statement(Witness.PULSE, Verdict.DISAGREES, said), *statements]
