"""Sealing: the hot stream becomes Parquet, checked sample by sample, and only then goes.

The pyramid is made anew on the way, from the same samples: so it cannot tell anything else than they do, whatever has
become of its file since it was recorded.

The order makes a kill at any line harmless: these files are written beside and renamed when they are complete and
durable; `seal.json`, with the digests of all that stays, is the last thing written, whole or not at all; the hot files
are removed after it. Started again, sealing begins anew if there is no seal, and only clears up if there is one.

`salvage` is for what was cut off: see `labd.trace.rescue` for what it takes. Neither touches a trace that is being
recorded: the writer holds its lock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from drivers.api import Quantity
from labd.errors import TraceError
from labd.trace.files import FileMissingError, LocalFiles, TraceFiles, files_of
from labd.trace.journal import JOURNAL
from labd.trace.layout import (
    BLOCKS,
    HOT,
    PARQUET,
    PYRAMID,
    SEAL,
    is_digital,
    locked,
    samples_schema,
    sync_file,
    sync_folder,
    write_durably,
)
from labd.trace.levels import making_levels
from labd.trace.meta import META, TraceMeta, read_meta
from labd.trace.pyramid import Columns
from labd.trace.rescue import Found, examine, repair
from labd.trace.samples import HotSamples, SealedSamples, read_column

ROW_GROUP = BLOCKS[2]
"""Samples of a row group: whole blocks, 1 MB a float column, some 4,000 groups for a billion samples."""
FEW = 256
"""Most values of a column, in any of the row groups looked at, for which a dictionary of them serves better."""
LOOKED_AT = 4
DIGEST_PIECE = 1 << 22

MADE = (PARQUET, *PYRAMID)
"""What a seal makes from the hot samples."""
SEALED_FILES = (META, JOURNAL, *PYRAMID, PARQUET)
"""What a seal vouches for."""
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SealedFile = Literal[
    "meta.json",
    "journal.jsonl",
    "pyramid-0.bin",
    "pyramid-1.bin",
    "pyramid-2.bin",
    "pyramid-3.bin",
    "samples.parquet",
]

Progressed = Callable[[int, int], None]
"""Told the samples that were sealed and checked so far, and all there are; each counts twice."""


class SealState(StrEnum):
    """How a trace ended."""

    SEALED = "sealed"
    SALVAGED = "salvaged"


class Seal(BaseModel):
    """What `seal.json` says: the trace is complete, holds `rows` samples, and its files have these SHA-256 digests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    trace_id: str
    state: SealState
    rows: int = Field(ge=0)
    sha256: dict[SealedFile, Digest]

    def encode(self) -> bytes:
        """The bytes of `seal.json`; there is only one way to write a seal down."""
        return self.model_dump_json(indent=1).encode() + b"\n"


def read_seal(where: Path | TraceFiles) -> Seal | None:
    """Read a trace's seal; None if it has none. Raises `TraceError` if it is damaged."""
    files = files_of(where)
    path = f"{files.where}/{SEAL}"
    try:
        data = files.read(SEAL)
        seal = Seal.model_validate_json(data)
    except FileMissingError:
        return None
    except ValidationError as error:
        raise TraceError(f"the seal is damaged: {error.errors()[0]['msg']}", where=path) from error
    if seal.encode() != data or set(seal.sha256) != set(SEALED_FILES):
        raise TraceError("the seal is damaged", where=path)
    return seal


def seal(folder: Path, progressed: Progressed = lambda done, of: None) -> Seal:
    """Seal a closed trace; harmless if it is sealed already. Blocks for about 0.05 s a million samples.

    Args:
        folder: The trace's folder.
        progressed: Told now and then how far it is, in the calling thread.

    Raises:
        TraceError: it was cut off and needs `salvage`, is being recorded, does not read back as it was written, or the
            disk refuses it. The hot files are then still there.
    """
    meta = read_meta(folder)
    with locked(folder):
        done = _clear_up(folder)
        if done is not None:
            return done
        found = examine(folder, meta)
        if found.amiss:
            raise TraceError(f"the recording was cut off: {found.amiss}", where=str(folder), remedy="salvage it")
        return _finish(folder, meta, found, SealState.SEALED, progressed)


def salvage(folder: Path, progressed: Progressed = lambda done, of: None) -> Seal:
    """Seal whatever a crash has left; a trace that lacks nothing is simply sealed.

    Raises:
        TraceError: its sidecar was never finished (then it holds no sample), its samples cannot be told from what was
            never written, it is being recorded, or the disk refuses it.
    """
    meta = read_meta(folder)
    with locked(folder):
        done = _clear_up(folder)
        if done is not None:
            return done
        found = examine(folder, meta)
        if not found.amiss:
            return _finish(folder, meta, found, SealState.SEALED, progressed)
        repair(folder, found)
        return _finish(folder, meta, found, SealState.SALVAGED, progressed)


def verify(where: Path | TraceFiles) -> Seal:
    """Check every byte of a sealed trace against its seal.

    Raises:
        TraceError: it is not sealed, or a file, which is named, is missing or not what was sealed.
    """
    files = files_of(where)
    found = read_seal(files)
    if found is None:
        raise TraceError("the trace is not sealed", where=files.where)
    for name, expected in found.sha256.items():
        if _digest(files, name) != expected:
            raise TraceError("the file is not what was sealed", where=f"{files.where}/{name}")
    meta = read_meta(files)
    if meta.trace_id != found.trace_id or SealedSamples(files, meta).rows != found.rows:
        raise TraceError("the seal is damaged or another trace's", where=f"{files.where}/{SEAL}")
    return found


def _clear_up(folder: Path) -> Seal | None:
    """End a sealing that was cut off after its seal was written."""
    found = read_seal(folder)
    if found is not None and any((folder / name).exists() for name in HOT):
        for name in HOT:
            (folder / name).unlink(missing_ok=True)
        sync_folder(folder)
    for part in folder.glob("*.part"):
        part.unlink()
    return found


def _finish(folder: Path, meta: TraceMeta, found: Found, state: SealState, progressed: Progressed) -> Seal:
    hot = found.samples
    part, *levels = parts = tuple(folder / f"{name}.part" for name in MADE)
    try:
        with making_levels(tuple(levels), meta) as take:
            _write_parquet(part, hot, meta, take, lambda rows: progressed(rows, 2 * hot.rows))
        _compare(part, hot, meta, lambda rows: progressed(hot.rows + rows, 2 * hot.rows))
        sync_file(part)
        for made, name in zip(parts, MADE, strict=True):
            made.replace(folder / name)
        for name in SEALED_FILES:
            sync_file(folder / name)
        sync_folder(folder)
        files = LocalFiles(folder)
        written = Seal(
            trace_id=meta.trace_id,
            state=state,
            rows=hot.rows,
            sha256={name: _digest(files, name) for name in SEALED_FILES},
        )
        write_durably(folder / SEAL, written.encode())
        for name in HOT:
            (folder / name).unlink(missing_ok=True)
        sync_folder(folder)
    except OSError as error:
        raise TraceError(f"the trace cannot be sealed: {error}", where=str(folder)) from error
    return written


def _write_parquet(
    path: Path,
    hot: HotSamples,
    meta: TraceMeta,
    take: Callable[[int, Columns], None],
    progressed: Callable[[int], None],
) -> None:
    """Write the Parquet file; what goes into it is handed to `take` as well."""
    schema = samples_schema(meta)
    few = [q for q in meta.quantities if is_digital(q) or _has_few_values(hot, q)]
    with pq.ParquetWriter(
        path,
        schema,
        # The places in a small dictionary hardly shrink any more: they are left as they are, and read twice as fast.
        compression={q.value: "none" if q in few else "zstd" for q in meta.quantities},
        use_dictionary=[q.value for q in few],
        column_encoding={q.value: "BYTE_STREAM_SPLIT" for q in meta.quantities if q not in few},
        version="2.6",
        write_page_checksum=True,
    ) as writer:
        for start in range(0, hot.rows, ROW_GROUP):
            stop = min(start + ROW_GROUP, hot.rows)
            columns = {q: read_column(hot, q, start, stop) for q in meta.quantities}
            writer.write_table(
                pa.Table.from_arrays([pa.array(values) for values in columns.values()], schema=schema),
                row_group_size=ROW_GROUP,
            )
            take(start, columns)
            progressed(stop)


def _has_few_values(hot: HotSamples, quantity: Quantity) -> bool:
    """Whether a column takes few values, as readings of a converter within a range do: judged by some row groups."""
    for start in np.linspace(0, max(0, hot.rows - ROW_GROUP), LOOKED_AT).astype(np.int64).tolist():
        values = read_column(hot, quantity, start, min(start + ROW_GROUP, hot.rows))
        if len(np.unique(values.view(np.uint32))) > FEW:
            return False
    return True


def _compare(path: Path, hot: HotSamples, meta: TraceMeta, progressed: Callable[[int], None]) -> None:
    """Read the Parquet file back and hold it against the hot samples, bit by bit (a NaN equals itself here)."""
    cold = SealedSamples(LocalFiles(path.parent), meta, path.name)
    if cold.rows != hot.rows:
        raise TraceError(f"{cold.rows} samples were read back of {hot.rows}", where=str(path))
    for start in range(0, hot.rows, ROW_GROUP):
        stop = min(start + ROW_GROUP, hot.rows)
        for quantity in meta.quantities:
            ours, theirs = (read_column(source, quantity, start, stop) for source in (hot, cold))
            bits = np.dtype(f"u{ours.itemsize}")
            if not np.array_equal(ours.view(bits), theirs.view(bits)):
                raise TraceError(f"samples {start} to {stop} do not read back as written", where=str(path))
        progressed(stop)


def _digest(files: TraceFiles, name: str) -> str:
    state, size = hashlib.sha256(), files.size(name)
    for start in range(0, size, DIGEST_PIECE):
        state.update(files.span(name, start, min(start + DIGEST_PIECE, size)))
    return state.hexdigest()
