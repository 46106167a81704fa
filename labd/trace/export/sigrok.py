"""sigrok session (`.sr`), as sigrok-cli and PulseView open it: a zip with `version`, `metadata`, and raw samples.

Layout as libsigrok's `session_file.c` and `session_driver.c` read it (0.5.2 and later): logic samples in `logic-1-1`,
a byte each; analog ones in `analog-1-<n>-1`, float32, where n counts on from the logic channels. Names of members are
cut to 14 characters there, so there is no room for the numbers of many chunks; a member may be as long as it likes, is
read 4 MB at a time, and so each channel is one member. All analog channels are shown in volts: the unit stands in the
channel's name. The sample rate is a whole number of Hz.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from labd.trace.export.events import description, whole_rate
from labd.trace.export.landing import landing
from labd.trace.export.npz import member, write_series
from labd.trace.export.selection import Selection, Series, SeriesName
from labd.trace.export.written import Progress, Written, noted, of_pass

PINS = 8
CHANNELS = {
    SeriesName.CURRENT: "current_A",
    SeriesName.VOLTAGE: "voltage_V",
    SeriesName.POWER: "power_W",
    SeriesName.ENERGY: "energy_J",
}


def write_sigrok(selection: Selection, path: Path, progress: Progress) -> Written:
    """Write a sigrok session; the count behind reduced samples has no place in it.

    Raises:
        TraceError: the rate is too far from a whole number, the trace cannot be read, or the disk refuses the file.
    """
    rate, remark = whole_rate(selection)
    logic = [s for s in selection.series if s.name is SeriesName.DIGITAL]
    analog = [s for s in selection.series if s.name in CHANNELS]
    members = [(one, "logic-1-1") for one in logic]
    begin = 1 + PINS * len(logic)
    members += [(one, f"analog-1-{begin + place}-1") for place, one in enumerate(analog)]
    with landing(path) as part, zipfile.ZipFile(part, "w") as archive:
        _text(archive, "version", "2")
        _text(archive, "metadata", _metadata(rate, logic, analog))
        _text(archive, "labd.json", description(selection))  # sigrok passes over it
        for number, (one, name) in enumerate(members):
            told = of_pass(progress, number, len(members))
            with archive.open(member(name, one.dtype.itemsize * selection.rows), "w") as stream:
                write_series(stream, selection, one, told)
    return Written((path,), noted([remark]))


def _text(archive: zipfile.ZipFile, name: str, text: str) -> None:
    data = text.encode()
    archive.writestr(member(name, len(data)), data)


def _metadata(rate: int, logic: list[Series], analog: list[Series]) -> str:
    lines = ["[global]", "sigrok version=0.5.2", "", "[device 1]"]
    if logic:
        lines += ["capturefile=logic-1", f"total probes={PINS}"]
    lines += [f"samplerate={rate} Hz", f"total analog={len(analog)}"]
    if logic:
        lines += [f"probe{pin + 1}=pin{pin}" for pin in range(PINS)]
    begin = 1 + PINS * len(logic)
    lines += [f"analog{begin + place}={CHANNELS[one.name]}" for place, one in enumerate(analog)]
    if logic:
        lines.append("unitsize=1")
    return "\n".join(lines) + "\n"
