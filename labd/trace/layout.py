"""The files of a trace folder, their schemas, and how a file is made to survive a power cut.

meta.json               labd.trace.meta           before the first sample, never changed
journal.jsonl           labd.trace.journal        grows while recording
pyramid-0.bin to -3     labd.trace.pyramid        grow while recording: fixed records, level k a row per 1,000 · 16^k
samples.index           labd.trace.index          hot: 64 bytes a batch, written before the batch
samples.arrow           labd.trace.samples        hot: Arrow IPC stream, a column a quantity
samples.parquet         labd.trace.seal           sealed: the same samples
seal.json               labd.trace.seal           last; from then on the hot files are not needed
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from drivers.api import Quantity
from labd.errors import TraceError
from labd.trace.meta import PowerSource, TraceMeta

SAMPLES = "samples.arrow"
INDEX = "samples.index"
PARQUET = "samples.parquet"
SEAL = "seal.json"

LEVELS = 4
FANOUT = 16
"""Rows of a level that make one of the next coarser level."""
BLOCK = 1000
"""Samples of a row of the finest level."""
BLOCKS = tuple(BLOCK * FANOUT**level for level in range(LEVELS))
"""Samples of a row, by level."""
PYRAMID = tuple(f"pyramid-{level}.bin" for level in range(LEVELS))
"""Names of the levels' files, the finest first."""
HOT = (SAMPLES, INDEX)
"""What a sealed trace does without."""

POWER = "power"
"""Name of the power's columns in the pyramid, whether it was recorded or is a product."""

END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""Last bytes of an Arrow IPC stream that was closed (Arrow columnar format, IPC streaming format)."""


def is_digital(quantity: Quantity) -> bool:
    """Whether a column holds bits rather than numbers."""
    return quantity is Quantity.DIGITAL


def samples_schema(meta: TraceMeta) -> pa.Schema:
    """Schema of the samples: float32, digital uint8, with each column's declaration as JSON in its metadata."""
    fields = []
    for column in meta.columns:
        declared = {
            "sample": column.sample.value,
            "provenance": column.provenance.value,
            "range_max": column.accuracy.range_max,
            "gain": column.accuracy.gain,
            "offset": column.accuracy.offset,
            "noise_rms": column.accuracy.noise_rms,
        }
        kind = pa.uint8() if is_digital(column.quantity) else pa.float32()
        fields.append(
            pa.field(column.quantity.value, kind, nullable=False, metadata={"labd.column": json.dumps(declared)})
        )
    return pa.schema(fields, metadata={"labd.trace_id": meta.trace_id, "labd.period_s": repr(meta.period_s)})


def summarised(meta: TraceMeta) -> tuple[str, ...]:
    """Names of what the pyramid summarises: every analog column, and power where the columns tell it."""
    names = tuple(q.value for q in meta.quantities if not is_digital(q))
    if POWER in names or meta.power_source is PowerSource.NONE:
        return names
    return (*names, POWER)


def pyramid_row(meta: TraceMeta) -> np.dtype[np.void]:
    """A row of the pyramid: where its block starts, how long it is, and five figures for each summarised name.

    Its size is a power of two, so no row lies across the sectors of a disk: after a power cut it is there as it was
    written, or not at all. The eight-byte figures come first, so each lies where the processor likes it.
    """
    names = summarised(meta)
    wide = ["first", *(f"{name}_{figure}" for name in names for figure in ("sum", "sumsq"))]
    kinds = ["<u8", *["<f8"] * (2 * len(names))]
    narrow, small = ["count"], ["<u4"]
    for name in names:
        narrow += [f"{name}_finite", f"{name}_min", f"{name}_max"]
        small += ["<u4", "<f4", "<f4"]
    offsets = [*range(0, 8 * len(wide), 8), *range(8 * len(wide), 8 * len(wide) + 4 * len(narrow), 4)]
    size = max(64, 1 << (offsets[-1] + 4 - 1).bit_length())
    return np.dtype({"names": [*wide, *narrow], "formats": [*kinds, *small], "offsets": offsets, "itemsize": size})


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes) -> None:
    """Put a whole file in its place at once: it is there, complete and durable, or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    sync_file(part)
    part.replace(path)
    sync_folder(path.parent)


def lock_fd(fd: int, folder: Path) -> None:
    """Keep everybody else from changing this trace for as long as `fd` is open; the kernel frees it on kill -9.

    Raises:
        TraceError: the trace is being recorded or sealed right now.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TraceError("the trace is being recorded or sealed right now", where=str(folder)) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the trace's lock, that of its folder. Raises `TraceError` if somebody else does, or it is no folder."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise TraceError(f"the trace folder cannot be opened: {error.strerror}", where=str(folder)) from error
    try:
        lock_fd(fd, folder)
        yield
    finally:
        os.close(fd)
