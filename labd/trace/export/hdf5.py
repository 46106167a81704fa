"""HDF5: a dataset a series in the root, with its unit and how it was recorded; the trace's story in groups beside it.

The oldest format of the file is asked for (`libver="earliest"`), so that MATLAB, LabVIEW, Igor and old h5py open it.

HDF5 does not survive a disk that refuses a write: closing the file then ends the process (1.14). So it writes through
`_Disk`, which keeps the refusal to itself until the file is closed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from labd.trace.export.events import describe, journal_lines, read_events
from labd.trace.export.landing import landing
from labd.trace.export.selection import Selection, Series
from labd.trace.export.written import Progress, Written, noted
from labd.trace.reader import PIECE


def write_hdf5(selection: Selection, path: Path, progress: Progress) -> Written:
    """Write the series as chunked datasets, `edges`, `marked` and `trials` as tables, `meta` and `journal` as text.

    Raises:
        TraceError: the trace cannot be read, or the disk refuses the file.
    """
    events = read_events(selection.trace)
    with landing(path) as part, _opened(part) as disk, h5py.File(disk, "w", libver="earliest") as file:
        _describe(file, selection)
        file.create_dataset("journal", data=journal_lines(selection.trace), dtype=h5py.string_dtype())
        for name, table in (("edges", events.edges), ("marked", events.marked), ("trials", events.trials)):
            file.create_dataset(name, data=table)
        series = selection.series
        datasets = [_dataset(file, one, selection) for one in series]
        for piece in selection.pieces(series):
            stop = piece.first + len(piece)
            for one, dataset in zip(series, datasets, strict=True):
                dataset[piece.first : stop] = piece.values[one.name]
            if disk.refusal is not None:
                break
            progress(stop, selection.rows)
    return Written((path,), noted([events.remark]))


def _describe(file: h5py.File, selection: Selection) -> None:
    about = describe(selection)
    del about["meta"]
    for key, value in about.items():
        file.attrs[key] = value
    file.attrs["started_at"] = selection.meta.started_at.isoformat()
    file.create_dataset("meta", data=selection.meta.model_dump_json(), dtype=h5py.string_dtype())


def _dataset(file: h5py.File, series: Series, selection: Selection) -> h5py.Dataset:
    """An empty dataset of the right length; a chunk is written whole, so none is ever read back."""
    rows = selection.rows
    dataset = file.create_dataset(series.name.value, (rows,), dtype=series.dtype, chunks=(min(rows, PIECE),))
    dataset.attrs["unit"] = series.unit
    dataset.attrs["period_s"] = float(selection.period)
    dataset.attrs["start_s"] = float(selection.start)
    if series.column is None:
        dataset.attrs["provenance"] = "computed"
        return dataset
    column = series.column
    dataset.attrs["provenance"] = column.provenance.value
    dataset.attrs["sample"] = column.sample.value if selection.factor == 1 else "mean"
    dataset.attrs["range_max"] = column.accuracy.range_max
    dataset.attrs["gain"] = column.accuracy.gain
    dataset.attrs["offset"] = column.accuracy.offset
    dataset.attrs["noise_rms"] = column.accuracy.noise_rms
    return dataset


class _Disk:
    """A file as HDF5 wants one. Once the disk has refused a write, further ones are dropped."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0
        self.refusal: OSError | None = None
        """What the disk said to the first write that it refused."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._at = offset if whence == os.SEEK_SET else os.fstat(self._fd).st_size + offset
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        rest = memoryview(data).cast("B")
        length = len(rest)
        try:
            while rest and self.refusal is None:
                written = os.pwrite(self._fd, rest, self._at)
                rest, self._at = rest[written:], self._at + written
        except OSError as error:
            self.refusal = error
        return length

    def read(self, size: int) -> bytes:
        """Read what was written; h5py tells a file by it."""
        data = bytearray(size)
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        """Read what was written; zeros where nothing was."""
        view = memoryview(buffer).cast("B")
        got = os.preadv(self._fd, [view], self._at)
        view[got:] = bytes(len(view) - got)
        self._at += got
        return len(view)

    def truncate(self, size: int) -> int:
        """Set the length."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            self.refusal = self.refusal or error
        return size

    def flush(self) -> None:
        """Nothing is held back here."""


@contextmanager
def _opened(path: Path) -> Iterator[_Disk]:
    """A new file; raises `OSError` at the end if the disk has refused any of it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        disk = _Disk(fd)
        yield disk
        if disk.refusal is not None:
            raise disk.refusal
    finally:
        os.close(fd)
