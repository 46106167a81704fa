"""Parquet: the same columns as a sealed trace's, of a window or at a lower rate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from labd.trace.export.events import description
from labd.trace.export.landing import landing
from labd.trace.export.selection import Selection, Series, SeriesName
from labd.trace.export.written import Progress, Written


def write_parquet(selection: Selection, path: Path, progress: Progress) -> Written:
    """Write a column a series, zstd, a row group of at most 256,000 samples; `labd.about` tells which samples they are.

    Raises:
        TraceError: the trace cannot be read, or the disk refuses the file.
    """
    series = selection.series
    fields = [pa.field(s.name.value, pa.from_numpy_dtype(s.dtype), False, {"unit": s.unit}) for s in series]
    schema = pa.schema(fields, metadata={"labd.about": description(selection)})
    floats = [s.name.value for s in series if s.dtype.kind == "f"]
    with (
        landing(path) as part,
        pq.ParquetWriter(
            part, schema, compression="zstd", use_dictionary=False, use_byte_stream_split=floats
        ) as writer,
    ):
        for piece in selection.pieces(series):
            writer.write_batch(_batch(schema, series, piece.values))
            progress(piece.first + len(piece), selection.rows)
    return Written((path,))


def _batch(
    schema: pa.Schema, series: tuple[Series, ...], values: Mapping[SeriesName, npt.NDArray[Any]]
) -> pa.RecordBatch:
    return pa.record_batch([pa.array(values[s.name], type=pa.from_numpy_dtype(s.dtype)) for s in series], schema=schema)
