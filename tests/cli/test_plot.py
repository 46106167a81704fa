"""Pictures of traces, read back: what is written in them, what is shaded, and that no text touches another."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from drivers.api import Interval, IntervalKind, Quantity
from labd.cli.picture.drawing import draw, encode
from labd.cli.picture.look import DARK, Look, Scale
from labd.cli.picture.scene import OneInference, OneWindow, Sight, Stretch, WholeRun, make_scene
from labd.cli.picture.text import prefix_of
from labd.trace.reader import Trace
from tests.cli.staged_run import StagedRun

SVG = "{http://www.w3.org/2000/svg}"
RUN = StagedRun()
MARKED = StagedRun(
    trials=2,
    marks=(
        Interval(IntervalKind.GAP, 900, 1000),
        Interval(IntervalKind.CLIPPED, 1100, 1101),
        Interval(IntervalKind.CLIPPED, 1102, 1103),
        Interval(IntervalKind.OVERFLOW, 9000, 9400),
    ),
    spoilt={500: 9.91e37},
)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    runs = {
        "five": RUN,
        "ten": StagedRun(trials=10),
        "forty": StagedRun(trials=40, inferences=4, load_s=0.05),
        "marked": MARKED,
        "fast": StagedRun(trials=1, inferences=5000, inference_s=0.1e-3),
        "few": StagedRun(trials=1, inferences=3, warmups=1, period_s=40e-3, inference_s=0.12),
        "untied": StagedRun(trials=2, synced=False, quantities=(Quantity.VOLTAGE,)),
        "idle": StagedRun(trials=0, marks=(Interval(IntervalKind.GAP, 100, 300),)),
        "long-names": StagedRun(
            trials=2, meta={"trace_id": "t" * 128, "board": "b" * 60, "benchmark": "a-benchmark-of-a-very-long-name"}
        ),
    }
    folder = tmp_path_factory.mktemp("runs")
    return {name: Trace.open(run.record(folder / name)) for name, run in runs.items()}


def figure_of(trace: Trace, sight: Sight, look: Look, quantity: Quantity | None = None) -> Figure:
    return draw(make_scene(trace, sight, quantity=quantity, pixels=look.pixels), look)


def svg_of(trace: Trace, sight: Sight, look: Look | None = None, quantity: Quantity | None = None) -> ET.Element:
    return ET.fromstring(encode(figure_of(trace, sight, look or Look(), quantity), "svg", trace.meta.trace_id))


def texts(svg: ET.Element) -> list[str]:
    """Every line of text."""
    return [words for text in svg.iter(f"{SVG}text") if (words := "".join(text.itertext()).strip())]


def named(svg: ET.Element, start: str) -> list[str]:
    """The parts of the picture whose name starts so."""
    return [part.get("id", "") for part in svg.iter() if part.get("id", "").startswith(start)]


def test_a_whole_run_says_who_what_how_much_and_with_what(traces: dict[str, Trace]) -> None:
    svg = svg_of(traces["five"], WholeRun())
    said = texts(svg)
    assert "digits01 · energy · b1" in said
    assert "trace t1 · Keysight N6705C · 4.883 kS/s" in said
    (summary,) = (line for line in said if "median" in line)
    assert summary.startswith("5 windows of 40 inferences, median 1.0")
    assert " ± " in summary
    assert summary.endswith(" mJ (k = 1) an inference")
    assert any("±: standard uncertainty, k = 1" in line for line in said), "the windows' labels have no room for it"
    assert {"current [mA]", "time [s]", "sync pulse", "whole run, 8.65 s"} <= set(said)
    assert [line for line in said if line.startswith("trial")] == [f"trial {k}" for k in range(5)]
    assert sum(line.endswith("mJ") and "±" in line for line in said) == 5
    assert any(line.startswith("envelope of 29 samples a pixel") for line in said)
    assert any("falling edges of pin 0" in line for line in said)
    assert named(svg, "window-") == [f"window-{k}" for k in range(5)]
    assert len(named(svg, "edge-")) == 10
    assert named(svg, "envelope")


def test_one_window_names_what_the_board_did(traces: dict[str, Trace]) -> None:
    svg = svg_of(traces["five"], OneWindow(2))
    assert {"load", "warm-up", "trial 2", "results, load", "window of trial 2"} <= set(texts(svg))
    assert named(svg, "window-") == ["window-2"]
    assert named(svg, "warm-up") == ["warm-up"]


def test_one_inference_is_shaded_between_its_neighbours(traces: dict[str, Trace]) -> None:
    svg = svg_of(traces["five"], OneInference(17, 2))
    said = texts(svg)
    assert {"inference 17", "16", "18", "time from the start of trial 2's window [ms]"} <= set(said)
    assert "inference 17 (0 to 39) of trial 2" in said
    assert any(
        line.startswith("each step is one sample, the mean of 204.8 µs; an inference lasts 122") for line in said
    )
    assert named(svg, "inference") == ["inference"]
    assert not named(svg, "envelope")


def test_a_sample_longer_than_an_inference_is_admitted(traces: dict[str, Trace]) -> None:
    said = texts(svg_of(traces["fast"], OneInference(100)))
    assert any("a sample is longer than an inference (100 µs)" in line for line in said)


def test_marks_are_hatched_and_named(traces: dict[str, Trace]) -> None:
    svg = svg_of(traces["marked"], WholeRun())
    assert {"gap", "overflow"} <= set(texts(svg))
    assert any("hatched: gap (1), clipped (2), overflow (1), no reading (1)" in line for line in texts(svg))
    assert len(named(svg, "mark-")) == 5
    assert len(list(svg.iter(f"{SVG}pattern"))) >= 3


def test_what_is_missing_is_said(traces: dict[str, Trace]) -> None:
    said = texts(svg_of(traces["untied"], WholeRun()))
    assert "no windows" in said
    assert any(line.startswith("edges have no time: ") for line in said)


@pytest.mark.parametrize(
    ("quantity", "axis"),
    [
        (Quantity.CURRENT, "current [mA]"),
        (Quantity.VOLTAGE, "voltage [V]"),
        (Quantity.POWER, "power [mW]"),
        (Quantity.ENERGY, "energy a sample [µJ]"),
    ],
)
def test_axes_have_units_with_prefixes(traces: dict[str, Trace], quantity: Quantity, axis: str) -> None:
    assert axis in texts(svg_of(traces["five"], Stretch(1.0, 1.5), quantity=quantity))


def test_a_step_of_energy_is_called_what_it_is(traces: dict[str, Trace]) -> None:
    said = texts(svg_of(traces["five"], OneInference(17, 2), quantity=Quantity.ENERGY))
    assert any(line.startswith("each step is one sample, the energy of 204.8 µs") for line in said)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_trace_gives_the_same_picture(traces: dict[str, Trace], suffix: str) -> None:
    first, second = (encode(figure_of(traces["five"], WholeRun(), Look()), suffix, "t1") for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("width", "height"), [(1600, 600), (800, 400), (400, 250)])
def test_a_picture_has_the_size_that_was_asked_for(traces: dict[str, Trace], width: int, height: int) -> None:
    png = encode(figure_of(traces["five"], WholeRun(), Look(width=width, height=height)), "png", "t1")
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (width, height)


def test_an_axis_begins_at_zero_or_is_logarithmic(traces: dict[str, Trace]) -> None:
    linear = figure_of(traces["five"], WholeRun(), Look()).axes[0]
    assert linear.get_ylim()[0] <= 0 <= linear.get_ylim()[0] + 1e-9
    log = figure_of(traces["five"], WholeRun(), Look(scale=Scale.LOG)).axes[0]
    assert log.get_yscale() == "log"
    low, high = log.get_ylim()
    assert 0 < low < 0.8
    assert high > 15


def test_nothing_but_a_gap_can_be_drawn(traces: dict[str, Trace]) -> None:
    for scale in Scale:
        gap = Stretch(120 * RUN.period_s, 200 * RUN.period_s)
        assert "gap" in texts(svg_of(traces["idle"], gap, Look(scale=scale)))


SIGHTS: dict[str, Sight] = {
    "run": WholeRun(),
    "window": OneWindow(0),
    "inference": OneInference(1),
    "stretch": Stretch(0.1, 0.9),
}


@pytest.mark.parametrize("size", [(1600, 600), (800, 400), (400, 250)])
@pytest.mark.parametrize("name", ["five", "ten", "forty", "marked", "fast", "few", "untied", "idle", "long-names"])
def test_no_text_touches_another_or_leaves_the_picture(
    traces: dict[str, Trace], name: str, size: tuple[int, int]
) -> None:
    for kind, sight in SIGHTS.items():
        if name in ("idle", "untied") and kind in ("window", "inference"):
            continue
        if name == "idle" and kind == "stretch":
            continue
        look = Look(*size, palette=DARK)
        figure = figure_of(traces[name], sight, look)
        canvas = figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        figure.draw_without_rendering()
        renderer = canvas.get_renderer()
        axes = figure.axes[0]
        ticks = [
            label
            for axis in (axes.xaxis, axes.yaxis)
            for tick in axis.get_major_ticks()
            if (label := tick.label1).get_text()
            and axis.get_view_interval()[0] <= tick.get_loc() <= axis.get_view_interval()[1]
        ]
        shown = [text for text in (*figure.texts, *ticks, axes.xaxis.label, axes.yaxis.label) if text.get_text()]
        boxes = {f"{text.get_text()!r}": text.get_window_extent(renderer) for text in shown}
        outside = [
            words for words, b in boxes.items() if b.x0 < 0 or b.y0 < 0 or b.x1 > size[0] + 0.5 or b.y1 > size[1] + 0.5
        ]
        touching = [
            (one, other)
            for (one, a), (other, b) in combinations(boxes.items(), 2)
            if min(a.x1, b.x1) > max(a.x0, b.x0) + 0.5 and min(a.y1, b.y1) > max(a.y0, b.y0) + 0.5
        ]
        assert (kind, outside, touching) == (kind, [], [])


@pytest.mark.parametrize(
    ("most", "scale", "name"),
    [(0.0123, 1e-3, "m"), (1.0, 1.0, ""), (0.99999, 1.0, ""), (5e-8, 1e-9, "n"), (0.0, 1e-12, "p")],
)
def test_prefixes_fit_what_an_axis_reaches(most: float, scale: float, name: str) -> None:
    prefix = prefix_of(most)
    assert (prefix.scale, prefix.name) == (scale, name)
