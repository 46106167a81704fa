"""How a picture of a trace looks: its size, its axis, its colours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from drivers.api import IntervalKind

DPI = 96


class Scale(StrEnum):
    """How the quantity goes up the axis."""

    LINEAR = "linear"
    LOG = "log"


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of a picture."""

    paper: str
    ink: str
    faint: str
    grid: str
    line: str
    band: str
    window: str
    inference: str
    warm_up: str
    sync: str
    warning: str
    marks: dict[IntervalKind, str]


_MARKS = {
    IntervalKind.GAP: "#808080",
    IntervalKind.OVERFLOW: "#D55E00",
    IntervalKind.CLIPPED: "#CC79A7",
    IntervalKind.NO_READING: "#E69F00",
}
HATCHES = {
    IntervalKind.GAP: "////",
    IntervalKind.OVERFLOW: "xxxx",
    IntervalKind.CLIPPED: "\\\\\\\\",
    IntervalKind.NO_READING: "....",
}

LIGHT = Palette(
    paper="#FFFFFF",
    ink="#1A1A1A",
    faint="#5E5E5E",
    grid="#E4E4E4",
    line="#005C94",
    band="#9CC9E6",
    window="#FBF1D9",
    inference="#F5D58F",
    warm_up="#EFEFEF",
    sync="#009E73",
    warning="#B34700",
    marks=_MARKS,
)
DARK = Palette(
    paper="#16191D",
    ink="#ECECEC",
    faint="#A6A6A6",
    grid="#2E3339",
    line="#8CD0FF",
    band="#2A6C96",
    window="#33301F",
    inference="#5A4A1E",
    warm_up="#23272C",
    sync="#2BC79A",
    warning="#FF9A57",
    marks=_MARKS,
)


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture is made: size in pixels, axis, colours."""

    width: int = 1600
    height: int = 600
    scale: Scale = Scale.LINEAR
    palette: Palette = LIGHT

    @property
    def pixels(self) -> int:
        """Bins that a signal is worth, about the width of its axes."""
        return round(0.93 * self.width)

    @property
    def font_px(self) -> float:
        """Height of the type that axes and labels are set in."""
        return min(max(6.0 + self.width / 150, 9.0), 22.0)
