"""Draws a scene: a picture that tells what happened in a run without a caption.

From top to bottom: what was measured, the windows with their energies, the signal with the windows shaded, and in small
type what a pixel stands for. Places are worked out in pixels, and every text is measured before it is put somewhere:
a row of labels says less until all of it fits. Colours are of Okabe and Ito's set, which colour-blind people can tell
apart (Color Universal Design, 2008); what is marked is hatched as well.

Matplotlib takes half a second to load: import this module where a picture is wanted, not before.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from labd.cli.picture.look import DPI, HATCHES, Look, Scale
from labd.cli.picture.phases import Phase
from labd.cli.picture.scene import Scene
from labd.cli.picture.signal import UNITS
from labd.cli.picture.text import (
    Label,
    Prefix,
    footer,
    headline,
    inference_labels,
    prefix_of,
    side_labels,
    window_labels,
)


def draw(scene: Scene, look: Look) -> Figure:
    """Make the picture of a scene."""
    with _styled(look):
        figure = Figure(figsize=(look.width / DPI, look.height / DPI), dpi=DPI, facecolor=look.palette.paper)
        _Drawing(FigureCanvasAgg(figure), scene, look).draw()
        return figure


def encode(figure: Figure, suffix: str, trace_id: str) -> bytes:
    """The picture as a PNG or SVG file; the same picture always gives the same bytes."""
    out = io.BytesIO()
    stamp: dict[str, Any] = {"Date": None, "Creator": "labd"} if suffix == "svg" else {"Software": "labd"}
    with style.context({"svg.fonttype": "none", "svg.hashsalt": trace_id}):
        figure.savefig(out, format=suffix, dpi=DPI, metadata=stamp)
    return out.getvalue()


@contextmanager
def _styled(look: Look) -> Iterator[None]:
    palette = look.palette
    settings: dict[str, Any] = {
        "font.size": look.font_px * 72 / DPI,
        "text.color": palette.ink,
        "axes.edgecolor": palette.faint,
        "axes.labelcolor": palette.ink,
        "xtick.color": palette.faint,
        "ytick.color": palette.faint,
        "xtick.labelcolor": palette.ink,
        "ytick.labelcolor": palette.ink,
        "hatch.linewidth": 0.8,
        "axes.unicode_minus": True,
    }
    with style.context(["default", settings], after_reset=True):
        yield


class _Drawing:
    """One picture in the making; x and y of texts are pixels from the lower left corner."""

    def __init__(self, canvas: FigureCanvasAgg, scene: Scene, look: Look) -> None:
        self._figure = canvas.figure
        self._renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
        self._scene = scene
        self._look = look
        self._palette = look.palette
        self._em = look.font_px
        self._axes: Axes = self._figure.add_axes((0.1, 0.2, 0.8, 0.6))
        self._axes.set_facecolor(look.palette.paper)
        self._time = prefix_of(scene.stop_s - scene.origin_s)
        self._value = Prefix(1.0, "")

    def draw(self) -> None:
        """Signal first, then what is written around it, then what lies in time on it."""
        top = self._heading()
        bottom = self._footing()
        self._signal()
        self._place_axes(bottom, top)
        self._shades()
        self._labels()
        self._names_inside()

    # --- text in pixels ------------------------------------------------------------------------------------------

    def _write(self, x: float, y: float, text: str, gid: str, **kind: Any) -> Text:
        look = self._look
        return self._figure.text(x / look.width, y / look.height, text, gid=gid, **kind)

    def _width(self, text: Text) -> float:
        return float(text.get_window_extent(self._renderer).width)

    def _fitting(self, texts: Sequence[str], room: float, x: float, y: float, gid: str, **kind: Any) -> Text:
        """The first of several texts that is no wider than `room`; the last one is cut to fit."""
        for words in texts:
            text = self._write(x, y, words, gid, **kind)
            if self._width(text) <= room:
                return text
            text.remove()
        words = texts[-1]
        while len(words) > 1:
            words = words[: max(1, math.floor(0.95 * len(words)))]
            text = self._write(x, y, words.rstrip(" ·,;") + " …", gid, **kind)
            if self._width(text) <= room:
                return text
            text.remove()
        return self._write(x, y, "", gid, **kind)

    def _heading(self) -> float:
        """Two lines, each with a right end in faint ink; returns the height of the axes' upper end."""
        em, look = self._em, self._look
        pad = 1.1 * em
        head = headline(self._scene)
        y = look.height - pad
        size = 72 / DPI * em
        kinds: tuple[dict[str, Any], ...] = ({"fontsize": 1.3 * size, "fontweight": "bold"}, {"fontsize": 1.05 * size})
        for k, (left, right, kind) in enumerate(zip(head.left, head.right, kinds, strict=True)):
            room = look.width - 2 * pad
            text = self._fitting(left, room, pad, y, f"title-{k}", va="top", **kind)
            room -= self._width(text) + 1.5 * em
            if room > 4 * em:
                self._fitting(
                    right,
                    room,
                    look.width - pad,
                    y - (0.2 * em if k == 0 else 0.0),
                    f"about-{k}",
                    va="top",
                    ha="right",
                    color=self._palette.faint,
                    fontsize=0.95 * size,
                )
            y -= 1.85 * em if k == 0 else 1.6 * em
        return y - (3.1 * em if self._scene.windows else 0.3 * em)

    def _footing(self) -> float:
        """Small type at the bottom; returns the height of its upper end."""
        em, pad, size = self._em, 1.1 * self._em, 0.85 * self._em * 72 / DPI
        room = self._look.width - 2 * pad
        y = 0.6 * em
        said = footer(self._scene)
        warning = {"va": "bottom", "fontsize": size, "color": self._palette.warning}
        for k, remark in enumerate(reversed(said.remarks)):
            self._fitting((remark,), room, pad, y, f"remark-{k}", **warning)
            y += 1.3 * em
        kind = {"va": "bottom", "fontsize": size, "color": self._palette.faint}
        left = self._write(pad, y, said.zoom, "zoom", **kind)
        right = self._write(pad + room, y, " · ".join(said.key), "key", ha="right", **kind)
        if self._width(left) + self._width(right) + 2 * em <= room:
            return y + 1.3 * em
        left.remove()
        right.remove()
        for k, words in enumerate(reversed(self._lines((said.zoom, *said.key), room, kind))):
            self._fitting((words,), room, pad, y, f"key-{k}", **kind)
            y += 1.3 * em
        return y

    def _lines(self, parts: Sequence[str], room: float, kind: dict[str, Any]) -> list[str]:
        """Parts put together to as few lines as they need."""
        lines: list[str] = []
        for part in parts:
            longer = f"{lines[-1]} · {part}" if lines else part
            text = self._write(0, 0, longer, "", **kind)
            if lines and self._width(text) <= room:
                lines[-1] = longer
            else:
                lines.append(part)
            text.remove()
        return lines

    # --- the signal ----------------------------------------------------------------------------------------------

    def _signal(self) -> None:
        scene, palette, bins = self._scene, self._palette, self._scene.bins
        known = np.concatenate([bins.low, bins.high])
        known = known[np.isfinite(known)]
        most = float(np.abs(known).max()) if len(known) else 0.0
        self._value = value = prefix_of(most or 1.0)
        axes = self._axes
        edges = (bins.limits_s - scene.origin_s) / self._time.scale
        low, high, mean = (values / value.scale for values in (bins.low, bins.high, bins.mean))
        width = 1.5 if 4 * len(mean) < self._look.width else 1.0
        if bins.samples > 1:
            axes.stairs(high, edges, baseline=low, fill=True, color=palette.band, linewidth=0, gid="envelope", zorder=3)
        line = axes.stairs(mean, edges, baseline=None, color=palette.line, linewidth=width, gid="signal", zorder=4)
        line.set_joinstyle("miter")
        axes.set_xlim(
            (scene.start_s - scene.origin_s) / self._time.scale, (scene.stop_s - scene.origin_s) / self._time.scale
        )
        unit = UNITS[scene.quantity]
        name = "energy a sample" if unit == "J" else scene.quantity.value
        axes.set_ylabel(f"{name} [{value.name}{unit}]")
        axes.set_xlabel(f"{scene.origin} [{self._time.name}s]")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=0.35 * self._em, width=0.8)
        axes.grid(visible=True, axis="y", color=palette.grid, linewidth=0.8)
        axes.set_axisbelow(True)
        self._limits(known / value.scale)

    def _limits(self, known: Any) -> None:
        axes = self._axes
        head = 1 + 0.12 * (1 if self._scene.marks or self._scene.syncs_s else 0.4)
        positive = known[known > 0]
        if self._look.scale is Scale.LOG and len(positive):
            least, most = float(positive.min()), float(positive.max())
            axes.set_yscale("log")
            axes.set_ylim(max(least, most * 1e-9) / 1.3, most * (most / least * 1.3) ** (head - 1) * 1.1)
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if most / least > 1e4 else (1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            return
        most = float(known.max()) if len(known) else 1.0
        least = min(0.0, float(known.min())) if len(known) else 0.0
        if most <= least:
            most = least + 1.0
        axes.set_ylim(1.05 * least, max(most, 0.0) * head if most > 0 else 0.05 * abs(least))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))

    def _place_axes(self, bottom: float, top: float) -> None:
        """Give the axes all the room between `bottom` and `top` that their own figures and names leave."""
        look, em, axes = self._look, self._em, self._axes
        axes.xaxis.set_major_locator(MaxNLocator(nbins=max(3, round(look.width / em / 8)), steps=[1, 2, 2.5, 5, 10]))
        self._figure.draw_without_rendering()
        area = axes.get_window_extent(self._renderer)
        names = [axis.get_tightbbox(self._renderer) for axis in (axes.xaxis, axes.yaxis)]
        below = area.y0 - min(box.y0 for box in names if box is not None)
        beside = area.x0 - min(box.x0 for box in names if box is not None)
        x0, y0 = beside + 0.7 * em, bottom + below + 0.5 * em
        x1, y1 = look.width - 1.6 * em, max(top, y0 + em)
        axes.set_position((x0 / look.width, y0 / look.height, (x1 - x0) / look.width, (y1 - y0) / look.height))

    # --- what lies in time on it -----------------------------------------------------------------------------------

    def _at(self, moment_s: float) -> float:
        return (moment_s - self._scene.origin_s) / self._time.scale

    def _pixel(self, moment_s: float) -> float:
        return float(self._axes.transData.transform((self._at(moment_s), 1.0))[0])

    def _shades(self) -> None:
        scene, palette, axes = self._scene, self._palette, self._axes
        for window in scene.windows:
            self._shade(window.start_s, window.stop_s, f"window-{window.trial}", 0, color=palette.window)
        for phase in scene.phases:
            if phase.phase is Phase.WARM_UP:
                self._shade(phase.start_s, phase.stop_s, "warm-up", 0, color=palette.warm_up)
        if (part := scene.inference) is not None:
            self._shade(part.start_s, part.stop_s, "inference", 0.2, color=palette.inference)
            for number, start_s, stop_s in scene.neighbours:
                border_s = start_s if number > part.number else stop_s
                axes.axvline(self._at(border_s), color=palette.faint, linewidth=0.9, linestyle=(0, (1, 3)), zorder=1)
        for k, edge in enumerate(scene.edges):
            axes.axvline(self._at(edge.at_s), color=palette.ink, linewidth=0.9, zorder=5, gid=f"edge-{k}")
        for k, at_s in enumerate(scene.syncs_s):
            dashes = (0, (4, 2))
            axes.axvline(
                self._at(at_s), color=palette.sync, linewidth=1.6, linestyle=dashes, zorder=5, gid=f"sync-{k}"
            ).set_clip_on(False)
        least_s = 2.0 / axes.get_window_extent().width * (scene.stop_s - scene.start_s)
        for k, mark in enumerate(scene.marks):
            color = palette.marks[mark.kind]
            self._shade(
                max(mark.start_s, scene.start_s),
                min(max(mark.stop_s, mark.start_s + least_s), scene.stop_s),
                f"mark-{k}",
                2,
                facecolor=f"{color}30",
                edgecolor=color,
                hatch=HATCHES[mark.kind],
            )

    def _shade(self, start_s: float, stop_s: float, gid: str, zorder: float, **colors: Any) -> None:
        outline = 0.8 if "hatch" in colors else 0.0
        self._axes.axvspan(self._at(start_s), self._at(stop_s), linewidth=outline, zorder=zorder, gid=gid, **colors)

    def _labels(self) -> None:
        """Names and energies above the axes: of windows or of an inference as much as fits, of others what is left."""
        scene = self._scene
        made: list[Text] = []
        for said in window_labels(scene) if scene.inference is None else inference_labels(scene):
            made = [self._over(label, self._palette.ink) for label in said]
            if self._apart(made):
                break
            for text in made:
                text.remove()
            made = []
        for label in side_labels(scene):
            text = self._over(label, self._palette.faint)
            if self._apart([*made, text]):
                made.append(text)
            else:
                text.remove()

    def _over(self, label: Label, color: str) -> Text:
        at_s = 0.5 * (label.start_s + label.stop_s)
        y = self._axes.get_window_extent().y1 + 0.75 * self._em
        return self._write(
            self._pixel(at_s),
            y,
            label.text,
            f"label-{label.name}",
            ha="center",
            va="baseline",
            linespacing=1.3,
            color=color,
        )

    def _apart(self, texts: Sequence[Text]) -> bool:
        boxes = sorted((text.get_window_extent(self._renderer) for text in texts), key=lambda box: box.x0)
        inside = all(box.x0 > 0.2 * self._em and box.x1 < self._look.width - 0.2 * self._em for box in boxes)
        return inside and all(b.x0 - a.x1 > 0.8 * self._em for a, b in pairwise(boxes))

    def _names_inside(self) -> None:
        """Names of marks and sync pulses in the head of the axes; one that would touch another is left to the key."""
        scene, em = self._scene, self._em
        area = self._axes.get_window_extent()
        taken: list[Any] = []
        named = [(mark.start_s, mark.stop_s, mark.name, self._palette.ink) for mark in scene.marks]
        named += [(sync_s, sync_s, "sync pulse", self._palette.sync) for sync_s in scene.syncs_s]
        for start_s, stop_s, words, color in named:
            middle = 0.5 * (self._pixel(max(start_s, scene.start_s)) + self._pixel(min(stop_s, scene.stop_s)))
            text = self._write(
                middle,
                area.y1 - 0.3 * em,
                words,
                f"name-{words}",
                ha="center",
                va="top",
                color=color,
                fontsize=0.85 * em * 72 / DPI,
                bbox={"facecolor": self._palette.paper, "alpha": 0.85, "edgecolor": "none", "pad": 1.0},
            )
            half = 0.5 * self._width(text) + 0.4 * em
            text.set_x(min(max(middle, area.x0 + half), area.x1 - half) / self._look.width)
            box = text.get_window_extent(self._renderer)
            if any(box.x0 < other.x1 + 0.4 * em and other.x0 < box.x1 + 0.4 * em for other in taken):
                text.remove()
            else:
                taken.append(box)
