"""Where a trace's samples are read from: the hot Arrow stream, memory-mapped, or the sealed Parquet file."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from drivers.api import Quantity
from labd.errors import TraceError
from labd.trace.layout import is_digital, samples_schema
from labd.trace.meta import TraceMeta
from labd.trace.pyramid import whole_batches


class Samples(Protocol):
    """Random access to the columns of a trace, in chunks that its file happens to have."""

    rows: int

    def chunks(self, quantity: Quantity, start: int, stop: int) -> Iterator[npt.NDArray[Any]]:
        """The pieces of a column that make up samples `start` to `stop`, in order; read-only views."""
        ...


def read_column(source: Samples, quantity: Quantity, start: int, stop: int) -> npt.NDArray[Any]:
    """Samples `start` to `stop` of a column as one array: a view if they lie in one piece."""
    parts = list(source.chunks(quantity, start, stop))
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return np.empty(0, dtype=np.uint8 if is_digital(quantity) else np.float32)
    return np.concatenate(parts)


class HotSamples:
    """The samples of a hot stream as they were when it was opened: whole batches only."""

    def __init__(self, path: Path, meta: TraceMeta) -> None:
        self._batches = whole_batches(pa.memory_map(str(path)), samples_schema(meta), path)
        self._starts = np.array(
            list(accumulate((batch.num_rows for batch in self._batches), initial=0)), dtype=np.int64
        )
        self._names = [q.value for q in meta.quantities]
        self.rows = int(self._starts[-1])

    def chunks(self, quantity: Quantity, start: int, stop: int) -> Iterator[npt.NDArray[Any]]:
        """The pieces of a column that make up samples `start` to `stop`."""
        place = self._names.index(quantity.value)
        at = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            begin, end = int(self._starts[at]), int(self._starts[at + 1])
            upto = min(stop, end)
            yield self._batches[at].column(place).to_numpy()[start - begin : upto - begin]
            start, at = upto, at + 1


class SealedSamples:
    """The samples of a Parquet file; keeps the columns of the row groups that it read last."""

    KEPT = 8

    def __init__(self, path: Path, meta: TraceMeta) -> None:
        self._path = path
        try:
            self._file = pq.ParquetFile(path, memory_map=True, pre_buffer=False)
        except FileNotFoundError as error:
            raise TraceError("the sealed samples are missing", where=str(path)) from error
        except (pa.ArrowInvalid, OSError) as error:
            raise TraceError(f"the sealed samples cannot be read: {error}", where=str(path)) from error
        if not self._file.schema_arrow.remove_metadata().equals(samples_schema(meta).remove_metadata()):
            raise TraceError("the file's columns are not those that the sidecar declares", where=str(path))
        footer = self._file.metadata
        sizes = (footer.row_group(k).num_rows for k in range(footer.num_row_groups))
        self._starts = np.array(list(accumulate(sizes, initial=0)), dtype=np.int64)
        self.rows = int(self._starts[-1])
        self._cache: OrderedDict[tuple[int, Quantity], npt.NDArray[Any]] = OrderedDict()

    def chunks(self, quantity: Quantity, start: int, stop: int) -> Iterator[npt.NDArray[Any]]:
        """The pieces of a column that make up samples `start` to `stop`."""
        group = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            begin, end = int(self._starts[group]), int(self._starts[group + 1])
            upto = min(stop, end)
            yield self._column(group, quantity)[start - begin : upto - begin]
            start, group = upto, group + 1

    def _column(self, group: int, quantity: Quantity) -> npt.NDArray[Any]:
        key = (group, quantity)
        if key not in self._cache:
            try:
                table = self._file.read_row_group(group, columns=[quantity.value], use_threads=False)
            except (pa.ArrowInvalid, OSError) as error:
                raise TraceError(f"row group {group} cannot be read: {error}", where=str(self._path)) from error
            values = table.column(0).combine_chunks()
            chunk = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
            self._cache[key] = chunk.to_numpy(zero_copy_only=True)
            if len(self._cache) > self.KEPT:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]
