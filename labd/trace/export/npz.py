"""NumPy: a zip of `.npy` members as `np.load` opens it, nothing compressed, an array a series.

Members are written one after the other as streams, so a series is a pass over the trace: its columns are apart from
each other in a sealed trace, and nothing is read twice there.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from labd.trace.export.events import description, journal_lines, read_events
from labd.trace.export.landing import landing
from labd.trace.export.selection import Selection, Series
from labd.trace.export.written import Progress, Written, noted, of_pass

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of all members, so that the same trace gives the same file."""


def member(name: str, size: int) -> zipfile.ZipInfo:
    """A member that is stored as it is, of a size known before."""
    info = zipfile.ZipInfo(name, EPOCH)
    info.external_attr = 0o644 << 16
    info.file_size = size  # tells zipfile whether it needs the form for more than 4 GB
    return info


def _header(dtype: np.dtype[Any], rows: int) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows,)}
    )
    return stream.getvalue()


def _put(archive: zipfile.ZipFile, name: str, values: npt.NDArray[Any]) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, allow_pickle=False)
    archive.writestr(member(f"{name}.npy", stream.tell()), stream.getvalue())


def write_series(stream: IO[bytes], selection: Selection, series: Series, progress: Progress) -> None:
    """Write all samples of a series, little endian."""
    for piece in selection.pieces((series,)):
        samples = np.ascontiguousarray(piece.values[series.name], dtype=series.dtype)
        stream.write(samples.view(np.uint8).data)
        progress(piece.first + len(piece), selection.rows)


def write_npz(selection: Selection, path: Path, progress: Progress) -> Written:
    """Write the series; `about` and `journal` as text; `edges`, `marked` and `trials` as structured arrays.

    Raises:
        TraceError: the trace cannot be read, or the disk refuses the file.
    """
    events = read_events(selection.trace)
    series = selection.series
    with landing(path) as part, zipfile.ZipFile(part, "w") as archive:
        for number, one in enumerate(series):
            told = of_pass(progress, number, len(series))
            header = _header(one.dtype, selection.rows)
            size = len(header) + one.dtype.itemsize * selection.rows
            with archive.open(member(f"{one.name}.npy", size), "w") as stream:
                stream.write(header)
                write_series(stream, selection, one, told)
        _put(archive, "about", np.array(description(selection)))
        _put(archive, "journal", np.array(journal_lines(selection.trace)))
        for name, table in (("edges", events.edges), ("marked", events.marked), ("trials", events.trials)):
            _put(archive, name, table)
    return Written((path,), noted([events.remark]))
