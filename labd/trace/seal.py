"""Sealing: the hot stream becomes Parquet, checked sample by sample, and only then goes.

The order makes a kill at any line harmless: the Parquet file is written beside and renamed when it is complete and
durable; `seal.json`, with the digests of all that stays, is the last thing written, whole or not at all; the hot file
is removed after it. Started again, sealing begins anew if there is no seal, and only clears up if there is one.

`salvage` is for what was cut off: it takes every whole batch, makes the pyramid again where it is behind or torn, and
seals with the state `salvaged`. Neither touches a trace that is being recorded: the writer holds its lock.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from labd.errors import TraceError
from labd.trace.journal import JOURNAL, JournalFile
from labd.trace.layout import (
    BLOCK,
    END_OF_STREAM,
    PARQUET,
    PYRAMID,
    SAMPLES,
    SEAL,
    is_digital,
    locked,
    samples_schema,
    sync_file,
    sync_folder,
    write_durably,
)
from labd.trace.meta import META, TraceMeta, read_meta
from labd.trace.pyramid import PyramidFile, Summariser, read_pyramid
from labd.trace.samples import HotSamples, SealedSamples, read_column

ROW_GROUP = 250 * BLOCK
"""Samples of a row group: whole blocks, 1 MB a float column, some 4,000 groups for a billion samples."""

PIECE = 64 * BLOCK
SEALED_FILES = (META, JOURNAL, PYRAMID, PARQUET)
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class SealState(StrEnum):
    """How a trace ended."""

    SEALED = "sealed"
    SALVAGED = "salvaged"


class Seal(BaseModel):
    """What `seal.json` says: the trace is complete, holds `rows` samples, and its files have these SHA-256 digests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    trace_id: str
    state: SealState
    rows: int = Field(ge=0)
    sha256: dict[Literal["meta.json", "journal.jsonl", "pyramid.arrow", "samples.parquet"], Digest]

    def encode(self) -> bytes:
        """The bytes of `seal.json`; there is only one way to write a seal down."""
        return self.model_dump_json(indent=1).encode() + b"\n"


def read_seal(folder: Path) -> Seal | None:
    """Read a trace's seal; None if it has none. Raises `TraceError` if it is damaged."""
    path = folder / SEAL
    try:
        data = path.read_bytes()
        seal = Seal.model_validate_json(data)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TraceError(f"the seal cannot be read: {error.strerror}", where=str(path)) from error
    except ValidationError as error:
        raise TraceError(f"the seal is damaged: {error.errors()[0]['msg']}", where=str(path)) from error
    if seal.encode() != data or set(seal.sha256) != set(SEALED_FILES):
        raise TraceError("the seal is damaged", where=str(path))
    return seal


def seal(folder: Path) -> Seal:
    """Seal a closed trace; harmless if it is sealed already. Blocks for about 0.1 s a million samples.

    Raises:
        TraceError: it was cut off and needs `salvage`, is being recorded, does not read back as it was written, or the
            disk refuses it. The hot file is then still there.
    """
    meta = read_meta(folder)
    with locked(folder):
        done = _clear_up(folder)
        if done is not None:
            return done
        if not _is_whole(folder, meta):
            raise TraceError("the recording was cut off", where=str(folder), remedy="salvage it")
        return _finish(folder, meta, SealState.SEALED)


def salvage(folder: Path) -> Seal:
    """Seal whatever a crash has left; a trace that lacks nothing is simply sealed.

    Raises:
        TraceError: its sidecar was never finished (then it holds no sample), it is being recorded, or the disk
            refuses it.
    """
    meta = read_meta(folder)
    with locked(folder):
        done = _clear_up(folder)
        if done is not None:
            return done
        if _is_whole(folder, meta):
            return _finish(folder, meta, SealState.SEALED)
        if not (folder / JOURNAL).exists():
            JournalFile(folder / JOURNAL).close()
        if not (folder / SAMPLES).exists():
            if (folder / PARQUET).exists():
                raise TraceError("the samples were taken away before the trace was sealed", where=str(folder / SAMPLES))
            (folder / SAMPLES).touch()
        sync_file(folder / SAMPLES)  # what was never synced before is about to be vouched for
        sync_file(folder / JOURNAL)
        _rebuild_pyramid(folder, meta)
        return _finish(folder, meta, SealState.SALVAGED)


def verify(folder: Path) -> Seal:
    """Check every byte of a sealed trace against its seal.

    Raises:
        TraceError: it is not sealed, or a file, which is named, is missing or not what was sealed.
    """
    found = read_seal(folder)
    if found is None:
        raise TraceError("the trace is not sealed", where=str(folder))
    for name, expected in found.sha256.items():
        if _digest(folder / name) != expected:
            raise TraceError("the file is not what was sealed", where=str(folder / name))
    meta = read_meta(folder)
    if meta.trace_id != found.trace_id or SealedSamples(folder / PARQUET, meta).rows != found.rows:
        raise TraceError("the seal is damaged or another trace's", where=str(folder / SEAL))
    return found


def _clear_up(folder: Path) -> Seal | None:
    """End a sealing that was cut off after its seal was written."""
    found = read_seal(folder)
    if found is not None and (folder / SAMPLES).exists():
        (folder / SAMPLES).unlink()
        sync_folder(folder)
    for part in folder.glob("*.part"):
        part.unlink()
    return found


def _is_whole(folder: Path, meta: TraceMeta) -> bool:
    """Whether the recording was closed: both streams have their end, and agree on how long they are."""
    for name in (SAMPLES, PYRAMID):
        try:
            with (folder / name).open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - len(END_OF_STREAM)))
                if file.read() != END_OF_STREAM:
                    return False
        except FileNotFoundError:
            return False
    pyramid = read_pyramid(folder / PYRAMID, meta)
    return int(pyramid["count"].sum()) == HotSamples(folder / SAMPLES, meta).rows and (folder / JOURNAL).exists()


def _rebuild_pyramid(folder: Path, meta: TraceMeta) -> None:
    hot = HotSamples(folder / SAMPLES, meta)
    part = folder / (PYRAMID + ".part")
    file = PyramidFile(part, meta)
    try:
        summarise = Summariser(meta)
        for start in range(0, hot.rows, PIECE):
            stop = min(start + PIECE, hot.rows)
            columns = {q: read_column(hot, q, start, stop) for q in meta.quantities}
            file.add(summarise.rows(start, columns, 0, stop - start))
            file.flush()
        file.finish()
    except OSError as error:
        raise TraceError(f"the pyramid cannot be written: {error}", where=str(part)) from error
    finally:
        file.close()
    sync_file(part)
    part.replace(folder / PYRAMID)
    sync_folder(folder)


def _finish(folder: Path, meta: TraceMeta, state: SealState) -> Seal:
    hot = HotSamples(folder / SAMPLES, meta)
    part = folder / (PARQUET + ".part")
    try:
        _write_parquet(part, hot, meta)
        _compare(part, hot, meta)
        sync_file(part)
        part.replace(folder / PARQUET)
        for name in SEALED_FILES:
            sync_file(folder / name)
        sync_folder(folder)
        made = Seal(
            trace_id=meta.trace_id,
            state=state,
            rows=hot.rows,
            sha256={name: _digest(folder / name) for name in SEALED_FILES},
        )
        write_durably(folder / SEAL, made.encode())
        (folder / SAMPLES).unlink()
        sync_folder(folder)
    except OSError as error:
        raise TraceError(f"the trace cannot be sealed: {error}", where=str(folder)) from error
    return made


def _write_parquet(path: Path, hot: HotSamples, meta: TraceMeta) -> None:
    schema = samples_schema(meta)
    floats = [q.value for q in meta.quantities if not is_digital(q)]
    digital = [q.value for q in meta.quantities if is_digital(q)]
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=digital,
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
        version="2.6",
    ) as writer:
        for start in range(0, hot.rows, ROW_GROUP):
            stop = min(start + ROW_GROUP, hot.rows)
            columns = [pa.array(read_column(hot, q, start, stop)) for q in meta.quantities]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=ROW_GROUP)


def _compare(path: Path, hot: HotSamples, meta: TraceMeta) -> None:
    """Read the Parquet file back and hold it against the hot samples, bit by bit (a NaN equals itself here)."""
    cold = SealedSamples(path, meta)
    if cold.rows != hot.rows:
        raise TraceError(f"{cold.rows} samples were read back of {hot.rows}", where=str(path))
    for start in range(0, hot.rows, ROW_GROUP):
        stop = min(start + ROW_GROUP, hot.rows)
        for quantity in meta.quantities:
            ours, theirs = (read_column(source, quantity, start, stop) for source in (hot, cold))
            bits = np.dtype(f"u{ours.itemsize}")
            if not np.array_equal(ours.view(bits), theirs.view(bits)):
                raise TraceError(f"samples {start} to {stop} do not read back as written", where=str(path))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TraceError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
