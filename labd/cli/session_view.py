"""How a published session is shown: tables of its windows and medians, or one JSON document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from labd.cli.table import print_table
from labd.plus_minus import STANDARD, plus_minus
from labd.score.uncertainty import Estimate, TermName
from labd.service.sessions.compared import Compared
from labd.service.sessions.scoring import SessionScore
from labd.service.sessions.windows import WindowFigures
from labd.trace.sessions.folders import LeftOut

_WINDOWS_OWN = (TermName.EDGE_PLACEMENT, TermName.EDGE_SAMPLE, TermName.NOISE)
"""What is uncertain of each window by itself: where its edges lie, and the digits of its samples."""


def session_document(scores: Sequence[SessionScore], left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """The document of one session; of several, one that holds them all, each under its name."""
    missing = [{"path": str(each.folder), "reason": str(each.reason)} for each in left_out]
    if len(scores) == 1:
        return {**scores[0].document(), "left_out": missing}
    formats = {each.format.value for each in scores}
    return {
        "format": formats.pop() if len(formats) == 1 else None,
        "sessions": [{"session": each.name, **each.document()} for each in scores],
        "left_out": missing,
    }


def print_session(score: SessionScore) -> None:
    """Print the windows, where there are some, and the medians."""
    if score.windows:
        columns = (
            "window",
            "start, s",
            "duration, s",
            "published, µJ",
            "ours, µJ",
            "differs, µJ",
            "labd's own",
            "with the monitor's error",
            "per inference",
        )
        print_table(
            f"{score.name}: energy windows ({score.format.value}), ± {STANDARD}", columns, map(_row, score.windows)
        )
    rows = [row for row in _medians(score) if any(cell != "-" for cell in row[1:])]
    heads = ("figure", "published", "ours", "labd's own", "with the monitor's error")
    behind = "" if score.own_uj_per_inference is None else f", ± {STANDARD}"
    print_table(f"{score.name}: the session{behind}", heads, rows)


def _row(window: WindowFigures) -> tuple[str, ...]:
    own = window.own
    each = None if own is None or window.inferences is None else own.scaled(1 / window.inferences)
    return (
        str(window.index),
        f"{window.start_s:.3f}",
        f"{window.duration_s:.3f}",
        str(window.printed),
        str(window.energy),
        str(window.energy - window.printed),
        *_own(own),
        _own(each)[0],
    )


def _own(figure: Estimate | None) -> tuple[str, str]:
    """A figure with what is uncertain of it alone, and with the error that the monitor puts on all of them alike."""
    if figure is None:
        return "-", "-"
    alone = figure.part(*_WINDOWS_OWN)
    whole = plus_minus(figure.value, figure.standard_uncertainty, "µJ")
    return plus_minus(figure.value, alone, "µJ"), whole[whole.index("±") :]


def _medians(score: SessionScore) -> Iterator[tuple[str, ...]]:
    energy = _own(score.own_uj_per_inference)
    yield "median energy per inference", *_sides(score.uj_per_inference, " µJ"), *energy
    yield "median throughput", *_sides(score.inferences_per_s, " inferences/s"), "-", "-"
    yield f"accuracy ({score.accuracy_metric or 'of no known metric'})", *_sides(score.accuracy, ""), "-", "-"
    if score.stream is not None:
        yield "duty cycle", *_sides(score.stream.duty_cycle, ""), "-", "-"
        for name, figure in score.stream.counts():
            yield name.replace("_", " "), *_sides(figure, ""), "-", "-"
    count = score.inferences_per_window
    yield "inferences a window", "-" if count is None else str(count), "-", "-", "-"


def _sides(figure: Compared, unit: str) -> tuple[str, str]:
    published, ours = ("-" if each is None else f"{each:.10g}{unit}" for each in (figure.published, figure.ours))
    return published, "as published" if figure.as_published else ours
