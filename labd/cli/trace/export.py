"""Files of other tools' formats made of traces, with a bar while it takes, and how they are shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from labd.cli.table import print_json, print_table, quantity, remarks
from labd.errors import TraceError
from labd.trace.export.formats import Format
from labd.trace.export.placing import trial_span
from labd.trace.export.selection import Selection, Span, select
from labd.trace.export.writing import export
from labd.trace.files import TraceFiles
from labd.trace.reader import Trace


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a trace goes into a file, as the options say it.

    Args:
        window: Start and stop, s, each None for the trace's own; None for the whole trace, or the trial's window.
        trial: Number of a trial; None for none.
        margin_s: What is added on both sides of the trial's window, s.
        rate_hz: Rate to come down to, Hz; None for every sample.
    """

    window: tuple[float | None, float | None] | None
    trial: int | None
    margin_s: float
    rate_hz: float | None


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was made of a trace; the main one of `paths` is the first."""

    trace_id: str
    form: Format
    paths: tuple[Path, ...]
    size: int
    sha256: str
    samples: int
    rate_hz: float
    start_s: float
    remarks: tuple[str, ...]


def make_file(files: TraceFiles, form: Format, part: Part, out: Path) -> Exported:
    """Export a trace, and see what came of it.

    Args:
        files: The trace, here or in a lab.
        form: The format.
        part: Which part of it.
        out: A folder that is there, for a file by the trace's id, or the file.

    Raises:
        TraceError: the trace has no such part, the format cannot hold it, or the disk refuses the file.
    """
    trace = Trace.open(files)
    selection = _selection(trace, part)
    path = out
    try:
        path = out / f"{trace.meta.trace_id}{form.suffix}" if out.is_dir() else out
        if path.exists() and not path.is_file():  # a new file takes its place: never that of a device
            raise TraceError("is not an ordinary file", where=str(path), remedy="name another with --out")
        path.parent.mkdir(parents=True, exist_ok=True)
        with _sample_bars(trace.meta.trace_id) as progressed:
            written = export(selection, form, path, progressed)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = path.stat().st_size
    except OSError as error:
        raise TraceError(f"cannot be written: {error.strerror or error}", where=str(path)[:256]) from error
    return Exported(
        trace_id=trace.meta.trace_id,
        form=form,
        paths=written.paths,
        size=size,
        sha256=digest,
        samples=selection.rows,
        rate_hz=selection.rate_hz,
        start_s=float(selection.start),
        remarks=written.remarks,
    )


def _selection(trace: Trace, part: Part) -> Selection:
    span = None
    if part.trial is not None:
        span = trial_span(trace, part.trial, part.margin_s)
    elif part.window is not None:
        start_s, stop_s = part.window
        span = Span(0.0 if start_s is None else start_s, trace.duration_s if stop_s is None else stop_s)
    return select(trace, window=span, rate_hz=part.rate_hz)


@contextmanager
def _sample_bars(trace_id: str) -> Iterator[Callable[[int, int], None]]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} samples"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=remarks(), transient=True) as bars:
        task = bars.add_task(trace_id, total=0)

        def progressed(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield progressed


def show_files(made: Sequence[Exported], *, json: bool) -> None:
    """Print what was made: a table, or one JSON document."""
    if json:
        print_json({"traces": [_document(each) for each in made]})
        return
    rows = [
        (str(e.paths[0]), quantity(e.size, "B"), f"{e.samples:,}", quantity(e.rate_hz, "Hz", 9), e.sha256) for e in made
    ]
    print_table("", ("file", "size", "samples", "rate", "sha256"), rows)
    for each in made:
        for remark in each.remarks:
            remarks().print(f"{each.trace_id}: {remark}", markup=False)


def _document(exported: Exported) -> dict[str, object]:
    return {
        "id": exported.trace_id,
        "format": exported.form.value,
        "path": str(exported.paths[0]),
        "beside": [str(path) for path in exported.paths[1:]],
        "size": exported.size,
        "sha256": exported.sha256,
        "samples": exported.samples,
        "rate_hz": exported.rate_hz,
        "start_s": exported.start_s,
        "remarks": list(exported.remarks),
    }
