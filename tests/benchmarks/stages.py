"""What is done with a long trace, a stage at a time: each is made ready first, so that its idle memory can be taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from labd.trace.export.formats import Format
from labd.trace.export.selection import select
from labd.trace.export.writing import export
from labd.trace.reader import Trace
from labd.trace.seal import seal
from labd.trace.sessions.convert import convert_session, session_digest
from labd.trace.sessions.folders import find_sessions
from tests.benchmarks.traces import recording
from tests.trace.sessions.published_folders import EnergyRunnerSession

LONG = "long"
Ready = Callable[[Path, int], Callable[[], object]]


def _record(folder: Path, samples: int) -> Callable[[], object]:
    return recording(folder, LONG, samples)


def _seal(folder: Path, _: int) -> Callable[[], object]:
    return partial(seal, folder / LONG)


def _export(form: Format, folder: Path, samples: int) -> Callable[[], object]:
    """Export the whole trace, 45 GB of CSV of a billion samples at most; what was written is dropped at once."""
    trace, out = Trace.open(folder / LONG), folder / f"export{form.suffix}"

    def work() -> None:
        selection = select(trace)
        if selection.rows != samples:
            raise ValueError(f"the trace holds {selection.rows} samples, not {samples}")
        for path in export(selection, form, out).paths:
            path.unlink()

    return work


def _import(folder: Path, samples: int) -> Callable[[], object]:
    """Import an EnergyRunner session: one of a few seconds whose trace goes on for the rest of `samples`."""
    session = EnergyRunnerSession(folder / "session")
    binary = session.write_energy() / "trace1-energy.bin"
    more = np.tile(np.float32(20.0) + np.linspace(0, 1, 1000, dtype="<f4"), 1000)
    with binary.open("ab") as file:
        left = samples - len(session.samples_uj)
        while left > 0:
            more[:left].tofile(file)
            left -= len(more)

    def work() -> None:
        (found,) = find_sessions(session.folder)
        (made,) = convert_session(found, session_digest(found), folder / "imported", lambda: None)
        if made.seal.rows < samples:
            raise ValueError(f"{made.folder} does not hold {samples} samples")

    return work


STAGES: Mapping[str, Ready] = {
    "record": _record,
    "seal": _seal,
    **{f"export {form}": partial(_export, form) for form in Format},
    "import": _import,
}
"""By name, in their order: how to make a stage ready in a folder that has what the stages before it left."""
