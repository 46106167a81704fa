"""Writes a selection of a trace as a format."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from labd.trace.export.csv_text import write_csv
from labd.trace.export.formats import Format
from labd.trace.export.hdf5 import write_hdf5
from labd.trace.export.jls import write_jls
from labd.trace.export.landing import ExportError
from labd.trace.export.npz import write_npz
from labd.trace.export.parquet import write_parquet
from labd.trace.export.selection import Selection
from labd.trace.export.sigrok import write_sigrok
from labd.trace.export.written import Progress, Written


class Writer(Protocol):
    """Writes a selection as one format; raises `TraceError`, and leaves nothing behind then."""

    def __call__(self, selection: Selection, path: Path, progress: Progress) -> Written:
        """Write the file `path`, whole and durable."""
        ...


_WRITERS: Mapping[Format, Writer] = {
    Format.CSV: write_csv,
    Format.NPZ: write_npz,
    Format.HDF5: write_hdf5,
    Format.JLS: write_jls,
    Format.SR: write_sigrok,
    Format.PARQUET: write_parquet,
}


def export(selection: Selection, form: Format, path: Path, progress: Progress = lambda done, total: None) -> Written:
    """Write a selection of a trace into a file.

    The file takes its name when it is whole and durable; what had the name before is replaced then.

    Args:
        selection: Which samples, at which rate (`labd.trace.export.selection.select`).
        form: The format.
        path: The file; its folder must be there.
        progress: Told how many samples are done, and how many there are in all.

    Raises:
        ExportError: the disk has no room, or refuses the file.
        TraceError: the format cannot hold it, or the trace cannot be read. Nothing is left under the name.
    """
    _see_room(selection, path)
    return _WRITERS[form](selection, path, progress)


def _see_room(selection: Selection, path: Path) -> None:
    """Refuse before anything is written what cannot fit."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise ExportError(f"the folder cannot be used: {error.strerror}", where=str(path.parent)) from error
    # a quarter of the arrays: what compresses best takes about that, so that what is refused would never have fitted
    needed = selection.rows * sum(s.dtype.itemsize for s in selection.series) // 4
    if needed > free:
        raise ExportError(
            f"the file needs at least {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
            where=str(path.parent),
            remedy="free some space, take a shorter --window or a lower --rate, or name another place with --out",
        )
