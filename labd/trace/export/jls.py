"""JLS, as the Joulescope UI opens it: signals by the names that it knows, on the time of day of the recording.

The UI shows `current`, `voltage`, `power` and `gpi[0]` to `gpi[3]` and passes over every other signal, so power is
written too where the columns tell it. JLS knows whole numbers of samples a second only; the UI takes the time between
the first and the last UTC entry of a signal for true, and these are exact, so its time axis is right at any period.
It reads markers from a file beside the recording, `<name>.anno.jls`; the same ones are in the recording itself.

A bit signal is written by whole bytes: up to seven samples follow its last one, at its level.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyjls

from labd.trace.export.events import Events, description, read_events, whole_rate
from labd.trace.export.landing import REMEDY, ExportError, landing
from labd.trace.export.selection import Selection, Series, SeriesName
from labd.trace.export.written import Progress, Written, noted
from labd.trace.reader import PIECE

EPOCH = dt.datetime(2018, 1, 1, tzinfo=dt.UTC)
SECOND = 1 << 30
"""A second of JLS time (`jls/time.h`: 34Q30 since 2018)."""
UTC_EVERY = 16 * PIECE
"""Samples between two entries of the time of day."""
PINS = 8
NOTES, ABOUT = 0, 0x101
"""Kinds of user data: what the UI shows as the recording's notes, and labd's own description as JSON."""
SIGNALS = {SeriesName.CURRENT, SeriesName.VOLTAGE, SeriesName.POWER, SeriesName.ENERGY}


@dataclass(frozen=True, slots=True)
class _Signal:
    """A signal of the file; `pin` is the bit of the digital series that it holds."""

    number: int
    name: str
    series: Series
    pin: int | None = None


@dataclass(frozen=True, slots=True)
class _Marker:
    """A marker of the UI: where, as a sample of the export, how, and its text."""

    sample: int
    kind: int
    text: str


def write_jls(selection: Selection, path: Path, progress: Progress) -> Written:
    """Write the recording, and the markers beside it if there are any.

    Raises:
        TraceError: the rate is too far from a whole number, the trace cannot be read, or the disk refuses the file.
    """
    rate, remark = whole_rate(selection)
    events = read_events(selection.trace)
    markers = _markers(selection, events)
    signals = _signals(selection)
    beside = path.with_name(f"{path.stem}.anno.jls")
    with ExitStack() as files:
        part = files.enter_context(landing(path))
        if markers:
            _write_markers(selection, files.enter_context(landing(beside)), rate, signals, markers)
        with _writer(part) as writer:
            _define(writer, selection, rate, signals)
            writer.user_data(NOTES, _notes(selection))
            writer.user_data(ABOUT, description(selection))
            _mark(writer, signals[0].number, markers)
            _write_samples(writer, selection, signals, progress)
        _check(part, path, {s.number: selection.rows for s in signals})
    paths = (path, beside) if markers else (path,)
    return Written(paths, noted([remark, events.remark]))


def _signals(selection: Selection) -> list[_Signal]:
    series = selection.with_power(selection.series)
    analog = [s for s in series if s.name in SIGNALS]
    signals = [_Signal(number, one.name.value, one) for number, one in enumerate(analog, start=1)]
    for one in series:
        if one.name is SeriesName.DIGITAL:
            begin = len(signals) + 1
            signals += [_Signal(begin + pin, f"gpi[{pin}]", one, pin) for pin in range(PINS)]
    return signals


def _define(writer: pyjls.Writer, selection: Selection, rate: int, signals: Sequence[_Signal]) -> None:
    """Declare who recorded, what, and when the first and the last sample were taken."""
    who = selection.meta.instrument
    writer.source_def(
        source_id=1,
        name=f"{who.model}-{who.serial}",
        vendor=who.maker,
        model=who.model,
        version=who.firmware,
        serial_number=who.serial,
    )
    for signal in signals:
        writer.signal_def(
            signal_id=signal.number,
            source_id=1,
            signal_type=pyjls.SignalType.FSR,
            data_type=pyjls.DataType.F32 if signal.pin is None else pyjls.DataType.U1,
            sample_rate=rate,
            name=signal.name,
            units=signal.series.unit,
        )


def _utc(selection: Selection, sample: int) -> int:
    """Time of day of a sample of the export in JLS units, by the host's clock at the start of the recording."""
    since = selection.meta.started_at - EPOCH
    begun = Fraction(since // dt.timedelta(microseconds=1), 1_000_000)
    return round((begun + selection.start + sample * selection.period) * SECOND)


def _write_samples(writer: pyjls.Writer, selection: Selection, signals: Sequence[_Signal], progress: Progress) -> None:
    series = tuple({signal.series.name: signal.series for signal in signals}.values())
    last = selection.rows - 1
    for piece in selection.pieces(series):
        stop = piece.first + len(piece)
        for signal in signals:
            values = piece.values[signal.series.name]
            if signal.pin is None:
                # the binding takes no read-only views
                writer.fsr_f32(signal.number, piece.first, np.require(values, np.float32, ["C", "W"]))
            else:
                writer.fsr(signal.number, piece.first, _packed(values, signal.pin))
            if piece.first % UTC_EVERY == 0:
                writer.utc(signal.number, piece.first, _utc(selection, piece.first))
            if stop == selection.rows and last > piece.first // UTC_EVERY * UTC_EVERY:
                writer.utc(signal.number, last, _utc(selection, last))
        progress(stop, selection.rows)


def _packed(values: npt.NDArray[Any], pin: int) -> npt.NDArray[np.uint8]:
    """One pin, a bit a sample, first sample in the lowest bit; the last byte is filled up with the last level."""
    level = values & np.uint8(1 << pin)
    missing = -len(level) % 8
    if missing:
        level = np.append(level, np.full(missing, level[-1], dtype=np.uint8))
    return np.packbits(level, bitorder="little")  # whatever is not 0 is a 1


def _markers(selection: Selection, events: Events) -> list[_Marker]:
    """Windows as pairs of markers with their trial's number as text; the beginnings of what is marked as text."""
    markers: list[_Marker] = []
    number = 0
    for trial in events.trials:
        ends = [_place(selection, float(trial[key])) for key in ("start_s", "stop_s")]
        if None in ends:
            continue
        number += 1
        start, stop = (int(end) for end in ends if end is not None)
        label = f"trial {trial['index']}: {trial['inferences']} inferences"
        markers += [
            _Marker(start, pyjls.AnnotationType.VMARKER, f"{number}a"),
            _Marker(start, pyjls.AnnotationType.TEXT, label),
            _Marker(stop, pyjls.AnnotationType.VMARKER, f"{number}b"),
        ]
    for mark in events.marked:
        begin, end = max(int(mark["start"]), selection.first), min(int(mark["stop"]), selection.stop)
        if begin < end:
            kind = mark["kind"].decode().replace("_", " ")
            text = f"{kind}: {end - begin} samples"
            markers.append(_Marker((begin - selection.first) // selection.factor, pyjls.AnnotationType.TEXT, text))
    return sorted(markers, key=lambda marker: marker.sample)


def _place(selection: Selection, time_s: float) -> int | None:
    """The sample of the export that holds a time; None if it lies outside, or there is none."""
    if not np.isfinite(time_s):
        return None
    sample = int((Fraction(time_s) - selection.start) // selection.period)
    return sample if 0 <= sample < selection.rows else None


def _mark(writer: pyjls.Writer, signal: int, markers: Sequence[_Marker]) -> None:
    for marker in markers:
        writer.annotation(signal, marker.sample, float("nan"), marker.kind, 0, marker.text)


def _write_markers(
    selection: Selection, path: Path, rate: int, signals: Sequence[_Signal], markers: Sequence[_Marker]
) -> None:
    """The file beside the recording: the same signal without samples, on the same time, with the markers."""
    signal = signals[0]
    with _writer(path) as writer:
        _define(writer, selection, rate, [signal])
        for sample in sorted({0, selection.rows - 1}):
            writer.utc(signal.number, sample, _utc(selection, sample))
        _mark(writer, signal.number, markers)
    _check(path, path, {})


def _notes(selection: Selection) -> str:
    meta = selection.meta
    return (
        f"labd trace {meta.trace_id}: board {meta.board}, {meta.benchmark}, job {meta.job_id}, run {meta.run_id}; "
        f"one sample every {float(selection.period)!r} s, the first is {float(selection.start)!r} s into the trace"
    )


def _writer(path: Path) -> pyjls.Writer:
    try:
        return pyjls.Writer(str(path))
    except RuntimeError as error:
        raise ExportError(f"the file cannot be begun: {error}", where=str(path), remedy=REMEDY) from error


def _check(part: Path, path: Path, lengths: dict[int, int]) -> None:
    """See that all arrived: the library writes in a thread of its own, and does not say when the disk refuses.

    The file's header holds its length once it was closed well (`jls/format.h`, `jls_file_header_s`).
    """
    with part.open("rb") as file:
        header = file.read(32)
        size = file.seek(0, 2)
    if len(header) < 32 or struct.unpack_from("<Q", header, 16)[0] != size:
        raise ExportError("the file did not come out whole; the disk may be full", where=str(path), remedy=REMEDY)
    try:
        with pyjls.Reader(str(part)) as reader:
            short = any(not rows <= reader.signals[n].length <= rows + 7 for n, rows in lengths.items())
    except (RuntimeError, KeyError) as error:
        raise ExportError(
            "the file cannot be read back; the disk may be full", where=str(path), remedy=REMEDY
        ) from error
    if short:
        raise ExportError("the file lacks samples; the disk may be full", where=str(path), remedy=REMEDY)
