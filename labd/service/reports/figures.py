"""The charts of a morning report, as SVG that stands inside a page.

Colours are of Okabe and Ito's set, which colour-blind people can tell apart. Matplotlib takes half a second to load:
import this module in the thread that writes a page, not before.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from statistics import median
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from labd.score.regression import Direction, Quantity
from labd.service.reports.messages import BoardNight, ChangeFound, GoldenDrift
from labd.service.reports.text import NAMES, one_line

INK, FAINT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
BLUE, GREEN, RED, ORANGE, SKY = "#0072b2", "#009e73", "#d55e00", "#e69f00", "#56b4e9"
_SCALES = {Quantity.ENERGY: (1e6, "µJ"), Quantity.THROUGHPUT: (1.0, "inferences/s"), Quantity.ACCURACY: (100.0, "%")}
_STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": GRID,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "text.parse_math": False,  # cells and boards are called as people like, also with a dollar
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "labd",
}


def change_chart(change: ChangeFound) -> str:
    """A cell over its nights: baseline, the level since the change, uncertainties (k = 1), and when the alarm came."""
    scale, unit = _SCALES[change.quantity]
    tint = RED if change.direction is Direction.WORSE else GREEN
    with style.context(["default", _STYLE], after_reset=True):
        figure = Figure(figsize=(5.6, 2.9), layout="constrained")
        axes = figure.subplots()
        base = change.baseline_value * scale
        level = base * (1 + change.change) if change.quantity.relative else base + change.change * scale
        last = change.points[-1].at
        axes.axhline(base, color=BLUE, linewidth=1, linestyle=(0, (4, 3)))
        for night in change.baseline_nights:
            axes.axvspan(night - 0.5, night + 0.5, color=SKY, alpha=0.14, linewidth=0)
        stop = last if change.ended_night is None else change.ended_night - 1
        axes.plot([change.since_night - 0.5, stop + 0.5], [level, level], color=tint, linewidth=1.4)
        for inside in (False, True):
            chosen = [point for point in change.points if (change.since_night <= point.at <= stop) is inside]
            shown = [(point.at, point.value * scale, point.standard_uncertainty * scale) for point in chosen]
            line = {"color": tint if inside else INK, "ecolor": tint if inside else FAINT, "elinewidth": 1}
            _points(axes, shown, change.steps_alone, markersize=3.6, capsize=0, **line)
        axes.axvline(change.alarm_night, color=tint, linewidth=0.9, linestyle=":")
        axes.annotate(
            "alarm",
            (change.alarm_night, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -9),
            textcoords="offset points",
            color=tint,
            fontsize=8,
        )
        axes.set_title(one_line(change.cell), loc="left", fontsize=10, fontweight="bold")
        axes.set_title(one_line(change.board), loc="right", fontsize=9, color=FAINT)
        axes.set_xlabel("night")
        axes.set_ylabel(f"{NAMES[change.quantity]}, {unit} (bars: k = 1)")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.grid(axis="x", visible=False)
        return _svg(figure)


def boards_chart(boards: tuple[BoardNight, ...]) -> str:
    """What the runs of each board came to, with the share of the night that it was busy."""
    with style.context(["default", _STYLE], after_reset=True):
        figure = Figure(figsize=(5.6, 0.7 + 0.26 * len(boards)), layout="constrained")
        axes = figure.subplots()
        places = range(len(boards))
        left = [0] * len(boards)
        for name, tint in (("done", GREEN), ("failed", RED), ("invalid", ORANGE), ("interrupted", FAINT)):
            counts = [int(getattr(board, name)) for board in boards]
            if any(counts):
                axes.barh(places, counts, left=left, color=tint, height=0.66, label=name)
            left = [before + count for before, count in zip(left, counts, strict=True)]
        for place, (board, end) in enumerate(zip(boards, left, strict=True)):
            axes.annotate(
                f"busy {board.utilisation:.0%}",
                (end, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=FAINT,
                fontsize=8,
            )
        axes.set_yticks(places, [one_line(board.id) for board in boards])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.margins(x=0.14)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4, frameon=False, fontsize=8)
        return _svg(figure)


def golden_chart(golden: tuple[GoldenDrift, ...]) -> str:
    """The golden job of each board against its own median, in its band; uncertainties with k = 1."""
    with style.context(["default", _STYLE], after_reset=True):
        rows = (len(golden) + 1) // 2
        figure = Figure(figsize=(11.4, 0.4 + 1.6 * rows), layout="constrained")
        panels = figure.subplots(rows, 2, squeeze=False, sharex=True).flatten()
        for axes, one in zip(panels, golden, strict=False):
            _golden_panel(axes, one)
        for axes in panels[len(golden) :]:
            axes.set_visible(False)
        for axes in panels[max(len(golden) - 2, 0) : len(golden)]:
            axes.set_xlabel("days before the report")
            axes.tick_params(labelbottom=True)
        return _svg(figure)


def _golden_panel(axes: Axes, one: GoldenDrift) -> None:
    tint = RED if one.outside else ORANGE if one.drifting else BLUE
    usual = median(point.value for point in one.points[:-1])
    axes.axhspan(-one.band * 100, one.band * 100, color=GREEN, alpha=0.08, linewidth=0)
    axes.axhline(0, color=FAINT, linewidth=0.6)
    shown = [
        (point.at, (point.value / usual - 1) * 100, point.standard_uncertainty / usual * 100) for point in one.points
    ]
    _points(axes, shown, one.steps_alone, markersize=3, color=tint, elinewidth=0.8)
    told = "outside its band" if one.outside else "drifting" if one.drifting else "steady"
    slope = "" if one.slope_per_week is None else f", {one.slope_per_week:+.2%} a week"
    axes.set_title(f"{one_line(one.board)}: {told}{slope}", loc="left", fontsize=9.5, color=tint)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g} %" if value else "0 %"))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _points(
    axes: Axes, shown: Sequence[tuple[float, float, float]], steps_alone: Collection[float], **look: Any
) -> None:
    """Draw points (at, value, standard uncertainty); those at `steps_alone`, which no wire has placed, are open."""
    for alone, face in ((False, look["color"]), (True, "white")):
        chosen = [point for point in shown if (point[0] in steps_alone) is alone]
        if chosen:
            at, values, uncertainties = zip(*chosen, strict=True)
            axes.errorbar(at, values, yerr=uncertainties, fmt="o", markerfacecolor=face, **look)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": "labd"})
    text = out.getvalue()
    return text[text.index("<svg") :]
