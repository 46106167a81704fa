"""Sessions of the MLCommons runner (MLPerf Tiny from v1.3): `results.json`, `results.txt`, `log.txt`.

`results.json` is one list with an entry a trial, the samples of its energy among them: JSON has to be parsed as a
whole, so memory grows with the file (a sample takes some 10 bytes on disk and 50 while it is read). The runner counts
1,000 samples a second, whatever the monitor; `power.timestamps` are numbers of the sample at which the monitor's event
came, and the last two make the window.

Of streaming wakeword an entry is a recording that was played to the board: when the board reported the word, where the
word is said, and when it computed. Where `results.json` is missing, accuracy and streaming results are read as far as
`results.txt` goes, and the set says what it lacks.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from labd.benchmarks import Mode
from labd.trace.sessions.monitors import LPM01A, Monitor
from labd.trace.sessions.published import (
    Capture,
    Inference,
    Printed,
    ResultsSet,
    SessionError,
    SessionFormat,
    Span,
    Stream,
)
from labd.trace.sessions.results_text import read_results_text
from labd.trace.sessions.set_files import LOG, MARK, RESULTS, RESULTS_JSON, file_of

RATE_HZ = 1000
"""The runner's own constant: it divides sample counts by it to get seconds."""
_MONITOR_BAUD = "at 3686400 baud"
"""Only the LPM01A is spoken to at this rate (UM2269)."""
_MODES = {"e": Mode.ENERGY, "p": Mode.PERFORMANCE, "a": Mode.ACCURACY}

Finite = Annotated[float, Field(allow_inf_nan=False)]
Energy = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
"""A sample beyond a megajoule is nonsense."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Infer(_Entry):
    results: list[Finite] = []
    iterations: int = Field(ge=1)
    warmups: int = Field(ge=0)
    start_time: int | None = None
    end_time: int | None = None
    detections: list[int] | None = None
    detection_windows: list[tuple[Finite, Finite]] = []


class _DutyCycle(_Entry):
    start_times_s: list[Finite] = []
    stop_times_s: list[Finite] = []


class _Power(_Entry):
    samples: list[Energy] = Field(min_length=1)
    timestamps: list[tuple[str, Annotated[int, Field(ge=0)]]]
    voltage: Finite | None = None


class _Trial(_Entry):
    file: str = ""
    true_class: int | None = Field(default=None, alias="class")
    infer: _Infer | None = None
    power: _Power | None = None
    dutycycle: _DutyCycle | None = None
    mode: Literal["e", "p", "a"] | None = None
    error: str = ""


_TRIALS = TypeAdapter(list[_Trial])


@dataclass(frozen=True, slots=True)
class _InMemory:
    """Samples that JSON brought, J each, float64 of shape (rows,)."""

    values: npt.NDArray[np.float64]

    @property
    def rows(self) -> int:
        """Number of samples."""
        return len(self.values)

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Samples `start` to `stop`, J."""
        return self.values[start:stop]


def read_mlcommons(folder: Path) -> ResultsSet:
    """Read one results set.

    Raises:
        SessionError: a file is missing, damaged or foreign, or contradicts another; it names file and field.
    """
    path, results, log_path = (file_of(folder, name) for name in (RESULTS_JSON, RESULTS, LOG))
    printed = read_results_text(results)
    if not path.exists() and (printed.is_streaming or not (printed.windows or printed.rates)):
        return _without_trials(folder, results, log_path, printed)
    trials = _read_trials(path)
    log = _read_log(log_path)
    modes = {trial.mode for trial in trials if trial.mode is not None}
    if len(modes) > 1:
        raise SessionError(f"its trials are of several modes: {sorted(modes)}", where=str(path))
    mode = _MODES[modes.pop()] if modes else _mode_of(printed, folder)
    if mode is Mode.ENERGY and not printed.windows:
        raise SessionError("it prints no energy of a trial, and samples lie beside it", where=str(results))
    captures = _captures(path, trials, printed) if mode is Mode.ENERGY else ()
    voltages = {trial.power.voltage for trial in trials if trial.power is not None}
    streams = tuple(_stream(trial, trial.infer) for trial in trials if trial.infer and trial.infer.detections)
    asked = [trial for trial in trials if trial.infer and not trial.infer.detections]
    read = ResultsSet(
        format=SessionFormat.MLCOMMONS,
        mode=mode,
        folder=folder,
        files={"results": results, "json": path, "log": log_path},
        printed=printed,
        inferences=tuple(_inference(trial, trial.infer) for trial in asked if trial.infer is not None),
        captures=captures,
        monitor=_monitor(log) if mode is Mode.ENERGY else None,
        voltage_v=voltages.pop() if len(voltages) == 1 else None,
        streams=streams,
        lacks=tuple(
            f"{path.name}[{number}] tells of an error: {trial.error:.80}"
            for number, trial in enumerate(trials)
            if trial.error
        ),
    )
    return _told(read, log)


def _without_trials(folder: Path, results: Path, log_path: Path, printed: Printed) -> ResultsSet:
    """What `results.txt` says alone."""
    log = _read_log(log_path) if log_path.exists() else {}
    read = ResultsSet(
        format=SessionFormat.MLCOMMONS,
        mode=_mode_of(printed, folder),
        folder=folder,
        files={"results": results} | ({"log": log_path} if log else {}),
        printed=printed,
        inferences=(),
        lacks=(f"{RESULTS_JSON} is missing: what {RESULTS} prints is not checked",),
    )
    return _told(read, log)


def _told(read: ResultsSet, log: Mapping[str, str]) -> ResultsSet:
    """The same set with what the log says of board and time."""
    return replace(
        read,
        board=log.get("name", ""),
        profile=log.get("profile", ""),
        model=log.get("model", ""),
        runner="MLCommons runner",
        began=_moment(log.get("began", "")),
    )


def _read_trials(path: Path) -> list[_Trial]:
    where = str(path)
    try:
        trials = _TRIALS.validate_json(path.read_bytes().removeprefix(BOM_UTF8))
    except FileNotFoundError as error:
        raise SessionError(f"{path.name} is missing", where=where) from error
    except OSError as error:
        raise SessionError(f"it cannot be read: {error.strerror}", where=where) from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise SessionError(f"it is not what the runner writes: {place} {first['msg']}".strip(), where=where) from error
    if not trials:
        raise SessionError("it holds no trial", where=where)
    return trials


def _inference(trial: _Trial, infer: _Infer) -> Inference:
    laps = (infer.start_time, infer.end_time)
    return Inference(
        input=trial.file,
        expected=trial.true_class,
        inferences=infer.iterations,
        warmups=infer.warmups,
        results=tuple(infer.results),
        laps_us=tuple(lap for lap in laps if lap is not None),
    )


def _stream(trial: _Trial, infer: _Infer) -> Stream:
    cycle = trial.dutycycle or _DutyCycle()
    frames = min(len(cycle.start_times_s), len(cycle.stop_times_s))
    return Stream(
        detections_ms=tuple(infer.detections or ()),
        windows_s=tuple(infer.detection_windows),
        starts_s=tuple(cycle.start_times_s[:frames]),
        stops_s=tuple(cycle.stop_times_s[:frames]),
    )


def _captures(path: Path, trials: Sequence[_Trial], printed: Printed) -> tuple[Capture, ...]:
    """One recording a trial; a window is printed under the number of its trial."""
    where = str(path)
    captures = []
    for window in printed.windows:
        if window.index >= len(trials) or trials[window.index].power is None:
            raise SessionError(f"{RESULTS} has a trial {window.index}, and there are no samples of it", where=where)
    numbered = {window.index: window for window in printed.windows}
    for number, trial in enumerate(trials):
        if trial.power is None:
            continue
        name = f"{path.name}[{number}]"
        events = [index for _, index in trial.power.timestamps]
        rows = len(trial.power.samples)
        if events != sorted(events):
            raise SessionError(f"[{number}].power.timestamps go back: {events}", where=where)
        windows: tuple[Span, ...] = ()
        if number in numbered:
            windows = (_span(where, number, events, rows, numbered[number].duration_s),)
        captures.append(
            Capture(
                name=name,
                samples=_InMemory(np.asarray(trial.power.samples, dtype=np.float64)),
                unit_uj=1e6,
                period_s=1 / RATE_HZ,
                resolution_s=1 / RATE_HZ,
                edges=tuple(events),
                windows=windows,
            )
        )
    return tuple(captures)


def _span(where: str, number: int, events: list[int], rows: int, printed_s: Decimal) -> Span:
    if len(events) < 2:
        raise SessionError(f"[{number}].power.timestamps has {len(events)} events, a window takes 2", where=where)
    first, end = events[-2:]
    if not first < end <= rows:
        raise SessionError(
            f"[{number}].power.timestamps: the window from sample {first} to {end} does not lie in {rows} samples",
            where=where,
        )
    duration_s = (end - first) / RATE_HZ
    if abs(duration_s - float(printed_s)) > 0.5 / RATE_HZ:
        raise SessionError(
            f"[{number}].power.timestamps are {duration_s} s apart, {RESULTS} says {printed_s} s", where=where
        )
    return Span(number, first / RATE_HZ, end / RATE_HZ, first, end)


def _mode_of(printed: Printed, folder: Path) -> Mode:
    if printed.windows:
        return Mode.ENERGY
    if printed.is_streaming:  # it prints the same of performance and of accuracy
        return Mode.ACCURACY if folder.name.lower() == Mode.ACCURACY else Mode.PERFORMANCE
    return Mode.PERFORMANCE if printed.rates else Mode.ACCURACY


_FACTS = {
    "name": re.compile(r"^Device name retrieved: (.*)$"),
    "profile": re.compile(r"^Device profile retrieved: (.*)$"),
    "model": re.compile(r"^Device model retrieved: (.*)$"),
    "began": re.compile(r"^Logging initialized\. Writing output to .*?(\d{8}_\d{6})"),
    "monitor": re.compile(rf"^Initializing SerialDevice on port: \S+ ({_MONITOR_BAUD})$"),
}


def _read_log(path: Path) -> dict[str, str]:
    """What the log says of board and monitor."""
    facts: dict[str, str] = {}
    try:
        with path.open(encoding=MARK, errors="replace") as file:
            for row in file:
                for fact, pattern in _FACTS.items():
                    if found := pattern.match(row.strip()):
                        facts[fact] = found[1]
    except FileNotFoundError as error:
        raise SessionError(f"{path.name} is missing", where=str(path)) from error
    except OSError as error:
        raise SessionError(f"it cannot be read: {error.strerror}", where=str(path)) from error
    if not facts:
        raise SessionError("it holds no line of the MLCommons runner's log", where=str(path))
    return facts


def _monitor(log: dict[str, str]) -> Monitor | None:
    return LPM01A if "monitor" in log else None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
