"""What a picture of a trace says in words, from the fullest form to the shortest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from drivers.api import Quantity, SampleKind
from labd.cli.picture.scene import OneInference, OneWindow, Scene, Stretch, WholeRun
from labd.cli.picture.windows import ShownWindow
from labd.cli.table import quantity
from labd.plus_minus import STANDARD, plus_minus, with_k
from labd.service.placement import disputed_by, placed_by
from labd.trace.timing.witness import Verdict

SHORT_ID = 28
"""Letters of a trace's id that a picture shows; of a longer one the middle is left out."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """An SI prefix and what it stands for."""

    scale: float
    name: str


_PREFIXES = tuple(
    Prefix(scale, name)
    for scale, name in ((1e-12, "p"), (1e-9, "n"), (1e-6, "µ"), (1e-3, "m"), (1.0, ""), (1e3, "k"), (1e6, "M"))
)


def prefix_of(most: float) -> Prefix:
    """The prefix for an axis that reaches up to `most`, or for a figure of that size."""
    return next((prefix for prefix in reversed(_PREFIXES) if most >= 0.9999 * prefix.scale), _PREFIXES[0])


@dataclass(frozen=True, slots=True)
class Headline:
    """Two lines, each with a left and a right end; for each end, texts from the fullest to the shortest."""

    left: tuple[tuple[str, ...], tuple[str, ...]]
    right: tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Footer:
    """Small type: what a pixel stands for, what lines and hatches are, and what is missing."""

    zoom: str
    key: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """A text over a span of time, s."""

    name: str
    start_s: float
    stop_s: float
    text: str


def headline(scene: Scene) -> Headline:
    """Who, what, how much, with what."""
    meta = scene.meta
    made_by = " ".join(word for word in (meta.instrument.maker.split(" ")[0], meta.instrument.model) if word)
    rate = f"{quantity(1 / meta.period_s, 'S/s')}"
    trace = _short(meta.trace_id)
    return Headline(
        left=((f"{meta.benchmark} · {meta.mode.value} · {meta.board}",), (_energies(scene), _energies(scene, brief=1))),
        right=(
            (f"trace {trace} · {made_by} · {rate}", f"{trace} · {rate}", trace),
            (_sight(scene),),
        ),
    )


def _energies(scene: Scene, brief: int = 0) -> str:
    windows = scene.run.windows
    if not windows:
        return "no windows"
    inferences = {window.inferences for window in windows}
    each = f" of {inferences.pop()} inferences" if len(inferences) == 1 else ""
    energy_j = scene.run.energy_j
    count = f"{len(windows)} window{'s' if len(windows) > 1 else ''}{each}"
    if energy_j is None:
        return f"{count}, none scored" if any(window.refused for window in windows) else count
    median = "" if brief else "median "
    disputed = "place DISPUTED, " if scene.run.proof is not None and scene.run.proof.disputes else ""
    return f"{count}, {disputed}{median}{_energy(energy_j, scene.run.uncertainty_j, with_k)} an inference"


def _energy_of(window: ShownWindow) -> str:
    return window.refused if window.energy_j is None else _energy(window.energy_j, window.uncertainty_j)


def _energy(
    energy_j: float, uncertainty_j: float | None, write: Callable[[float, float, str], str] = plus_minus
) -> str:
    prefix = prefix_of(abs(energy_j))
    unit = f"{prefix.name}J"
    if uncertainty_j is None:
        return f"{energy_j / prefix.scale:.5g} {unit}"
    return write(energy_j / prefix.scale, uncertainty_j / prefix.scale, unit)


def _sight(scene: Scene) -> str:
    match scene.sight:
        case WholeRun():
            return f"whole run, {quantity(scene.stop_s - scene.start_s, 's')}"
        case OneWindow(trial):
            return f"window of trial {trial}"
        case OneInference():
            part = scene.inference
            return "" if part is None else f"inference {part.number} (0 to {part.of - 1}) of trial {part.trial}"
        case Stretch():
            return f"{quantity(scene.stop_s - scene.start_s, 's')} of the run"


def footer(scene: Scene) -> Footer:
    """How to read the picture."""
    bins, meta = scene.bins, scene.meta
    period = quantity(meta.period_s, "s")
    if bins.samples == 1:
        kind = next((c.sample for c in meta.columns if c.quantity is scene.quantity), SampleKind.MEAN)
        what = f"the mean of {period}" if kind is SampleKind.MEAN else f"an instant, {period} apart"
        if scene.quantity is Quantity.ENERGY:
            what = f"the energy of {period}"
        zoom = f"each step is one sample, {what}"
    else:
        zoom = f"envelope of {bins.samples:,} samples a pixel: band from least to greatest, line: mean"
    if (part := scene.inference) is not None:
        if part.samples < 1:
            zoom += f"; a sample is longer than an inference ({quantity(part.samples * meta.period_s, 's')})"
        else:
            zoom += f"; an inference lasts {part.samples:.3g} samples"
    key = []
    if scene.edges:
        pins = sorted({edge.pin for edge in scene.edges})
        direction = "rising" if scene.edges[0].rising else "falling"
        key.append(f"vertical lines: {direction} edges of pin {', '.join(map(str, pins))}")
    if scene.windows and scene.inference is None:
        key.append("shaded: windows of trials")
        key.extend(_placed(scene))
        if any(window.uncertainty_j is not None for window in scene.windows):
            key.append(f"±: {STANDARD}")
    if scene.inference is not None:
        key.append(f"dotted: the window in {scene.inference.of} equal parts")
    if scene.phases:
        key.append("warm-up found by its level")
    if scene.marks:
        kinds = Counter(mark.name for mark in scene.marks)
        key.append("hatched: " + ", ".join(f"{kind} ({count})" for kind, count in kinds.items()))
    return Footer(zoom, tuple(key), scene.run.remarks)


def _placed(scene: Scene) -> Iterator[str]:
    """What the windows were placed by, and who agrees: `placed by sync pulse (agreeing: steps, lengths)`."""
    if (proof := scene.run.proof) is None:
        return
    agree = [each.witness.value for each in proof.statements if each.verdict is Verdict.AGREES]
    others = [name for name in dict.fromkeys(agree) if name != proof.basis.value]
    said = f" (agreeing: {', '.join(others)})" if others else ""
    disputed = disputed_by((each.witness, each.verdict) for each in proof.statements)
    yield f"placed by {placed_by(proof.basis)}{said}{disputed}"


def window_labels(scene: Scene) -> Iterator[list[Label]]:
    """Names of the windows, from the fullest to a few numbers."""

    def labels(windows: Sequence[ShownWindow], text: Callable[[ShownWindow], str]) -> list[Label]:
        return [
            Label(f"trial-{w.trial}", max(w.start_s, scene.start_s), min(w.stop_s, scene.stop_s), text(w).rstrip())
            for w in windows
        ]

    yield labels(scene.windows, lambda w: f"trial {w.trial}\n{_energy_of(w)}")
    yield labels(scene.windows, lambda w: f"{w.trial}\n{_energy_of(replace(w, uncertainty_j=None))}")
    for step in (1, 2, 5, 10, 20, 50, 100, 1000):
        yield labels(scene.windows[::step], lambda w: f"{w.trial}")


def inference_labels(scene: Scene) -> Iterator[list[Label]]:
    """Name and energy of the inference in sight."""
    if (part := scene.inference) is not None:
        energy = "" if part.energy_j is None else _energy(part.energy_j, None)
        name = f"inference {part.number}"
        yield [Label("inference", part.start_s, part.stop_s, f"{name}\n{energy}".rstrip())]
        yield [Label("inference", part.start_s, part.stop_s, name)]


def side_labels(scene: Scene) -> list[Label]:
    """What is named only where there is room: phases beside a window, neighbours of an inference."""
    labels = [Label(f"phase-{phase.phase}", phase.start_s, phase.stop_s, phase.phase) for phase in scene.phases]
    return labels + [
        Label(f"neighbour-{number}", start_s, stop_s, str(number))
        for number, start_s, stop_s in scene.neighbours
        if scene.start_s <= 0.5 * (start_s + stop_s) <= scene.stop_s
    ]


def _short(trace_id: str) -> str:
    if len(trace_id) <= SHORT_ID:
        return trace_id
    half = (SHORT_ID - 1) // 2
    return f"{trace_id[:half]}…{trace_id[-half:]}"
