"""Sessions of EEMBC's EnergyRunner (MLPerf Tiny v0.5 to v1.3): `log.txt`, `results.txt`, and a trace for energy.

`trace1-timestamps.json` lists the falling edges of the timing pin in s since the trace's start. `results.txt` names a
window by its opening edge, counted from 1: window 2 lies between the second edge and the third.
"""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from labd.benchmarks import Mode
from labd.trace.sessions.energy_file import EnergyFile, samples_before
from labd.trace.sessions.energyrunner_log import Dialogue, read_dialogue
from labd.trace.sessions.monitors import monitor_named
from labd.trace.sessions.published import (
    Capture,
    Printed,
    PrintedWindow,
    ResultsSet,
    SessionError,
    SessionFormat,
    Span,
)
from labd.trace.sessions.results_text import read_results_text
from labd.trace.sessions.set_files import ENERGY_FILES, LOG, MARK, POSTPROC, RESULTS, TIMES_FILES, file_of

_COARSEST = 3
"""Times are printed to 1 ms, or finer; trailing zeros are left out, so the finest one printed tells."""
_FINEST = 9
_LONGEST_S = 10**9
"""A time beyond this is nonsense: 30 years."""
_PRINTED_STEP = Decimal("0.011")
"""`results.txt` prints times to 0.01 s; how halves are rounded differs."""


def read_energyrunner(folder: Path) -> ResultsSet:
    """Read one results set; what was measured shows in what lies there.

    Raises:
        SessionError: a file is missing, damaged or foreign, or contradicts another; it names file and field.
    """
    results, postproc, log = (file_of(folder, name) for name in (RESULTS, POSTPROC, LOG))
    if not results.exists() and postproc.exists():
        results = postproc
    printed = read_results_text(results)
    files = {"results": results}
    if printed.windows or any(folder.glob(ENERGY_FILES)) or any(folder.glob(TIMES_FILES)):
        mode = Mode.ENERGY
    else:
        mode = Mode.PERFORMANCE if printed.rates else Mode.ACCURACY
    if log.exists() or mode is not Mode.ACCURACY:
        files["log"] = log
        dialogue = read_dialogue(log)
    else:
        dialogue = Dialogue()
    captures: tuple[Capture, ...] = ()
    if mode is Mode.ENERGY:
        if not printed.windows:
            raise SessionError(
                "it prints no energy window, and a trace lies beside it",
                where=str(results),
                remedy="its energies are lost: bring the file again",
            )
        energy, times = _pair(folder, printed)
        files |= {"energy": energy, "timestamps": times}
        captures = (_capture(energy, times, printed),)
    return ResultsSet(
        format=SessionFormat.ENERGYRUNNER,
        mode=mode,
        folder=folder,
        files=files,
        printed=printed,
        inferences=dialogue.inferences,
        captures=captures,
        board=dialogue.board,
        profile=dialogue.profile,
        model=dialogue.model,
        runner=dialogue.runner,
        monitor=monitor_named(dialogue.monitor),
        voltage_v=dialogue.voltage_v,
        began=dialogue.began,
        dataset=dialogue.dataset,
    )


def _pair(folder: Path, printed: Printed) -> tuple[Path, Path]:
    """The trace that the windows were cut from: the only one, or the one whose edges fit them."""
    pairs = [
        (path, path.with_name(path.name.replace("-energy.bin", "-timestamps.json")))
        for path in sorted(folder.glob(ENERGY_FILES))
    ]
    if not pairs:
        expected = folder / "trace1-energy.bin"
        raise SessionError(f"{expected.name} is missing", where=str(expected))
    if len(pairs) == 1:
        return pairs[0]
    fitting = [pair for pair in pairs if pair[1].exists() and _fits(pair[1], printed)]
    if len(fitting) != 1:
        raise SessionError(
            f"{len(fitting)} of its {len(pairs)} traces have edges where {RESULTS} has windows",
            where=str(folder),
            remedy="leave only the trace that was scored",
        )
    return fitting[0]


def _fits(path: Path, printed: Printed) -> bool:
    try:
        times = read_times(path)
        for window in printed.windows:
            _edges(path, times, window)
    except SessionError:
        return False
    return True


def read_times(path: Path) -> tuple[Decimal, ...]:
    """Read the edges of a trace, s since its start.

    Raises:
        SessionError: the file is missing, or no list of times that never go back.
    """
    where = str(path)
    try:
        document = json.loads(path.read_text(encoding=MARK), parse_float=Decimal, parse_constant=Decimal)
    except FileNotFoundError as error:
        raise SessionError(f"{path.name} is missing", where=where) from error
    except OSError as error:
        raise SessionError(f"it cannot be read: {error.strerror}", where=where) from error
    except (ValueError, RecursionError) as error:
        raise SessionError(f"it is not JSON: {error}", where=where) from error
    if not isinstance(document, list):
        raise SessionError("it is no list of times", where=where)
    times = []
    for number, value in enumerate(document, start=1):
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise SessionError(f"timestamp {number} is {value!r}, not a number", where=where)
        time_s = Decimal(value)
        if not time_s.is_finite() or not 0 <= time_s <= _LONGEST_S:
            raise SessionError(f"timestamp {number} is {value!s:.40}, not a time from 0 s on", where=where)
        times.append(time_s)
    for number, (earlier, later) in enumerate(pairwise(times), start=2):
        if later < earlier:
            raise SessionError(
                f"timestamp {number} is {later} s, before the one ahead of it ({earlier} s)", where=where
            )
    return tuple(times)


def _edges(path: Path, times: tuple[Decimal, ...], window: PrintedWindow) -> tuple[Decimal, Decimal]:
    """Opening and closing edge of a window, held against what `results.txt` prints of it."""
    where = str(path)
    if not 1 <= window.index < len(times):
        raise SessionError(f"{RESULTS} has a window {window.index}, and there are {len(times)} timestamps", where=where)
    opening, closing = times[window.index - 1], times[window.index]
    if closing <= opening:
        raise SessionError(f"window {window.index} has no length: both its edges are at {opening} s", where=where)
    for what, ours, theirs in (
        ("opens at", opening, window.start_s),
        ("lasts", closing - opening, window.duration_s),
    ):
        if theirs is not None and abs(ours - theirs) > _PRINTED_STEP:
            raise SessionError(f"window {window.index} {what} {ours} s, {RESULTS} says {theirs} s", where=where)
    return opening, closing


def _capture(energy: Path, times_path: Path, printed: Printed) -> Capture:
    file = EnergyFile.open(energy)
    times = read_times(times_path)
    edges = [(window, *_edges(times_path, times, window)) for window in printed.windows]
    ends_s = file.rows * file.period_s
    for window, _, closing in edges:
        if closing > ends_s:
            raise SessionError(
                f"window {window.index} closes at {closing} s, the trace ends at {ends_s:.6g} s", where=str(energy)
            )
    file.check()
    flat = [float(time) for _, opening, closing in edges for time in (opening, closing)]
    places = samples_before(flat, rows=file.rows, period_s=file.period_s)
    decimals = max((-int(time.as_tuple().exponent) for time in times), default=0)
    resolution = Decimal(1).scaleb(-min(max(decimals, _COARSEST), _FINEST))
    return Capture(
        name=energy.name,
        samples=file,
        unit_uj=1.0,
        period_s=file.period_s,
        resolution_s=float(resolution),
        edges=tuple(round(time / resolution) for time in times),
        windows=tuple(
            Span(window.index, float(opening), float(closing), first, end)
            for (window, opening, closing), first, end in zip(edges, places[::2], places[1::2], strict=True)
        ),
    )
