"""The pyramid: a row per 1,000 samples, so that plots and energies never read what they need not.

A row tells where its block starts, how many samples it holds (1,000, fewer only in the last row of a closed trace) and,
for each analog column and for power, `finite`, `min`, `max`, `sum` and `sumsq`. Power is computed sample by sample in
float64; sums are accumulated in float64.

What is not finite (the NaN that stand for a gap, or whatever an instrument sent) is left out of all five figures:
`finite` says how many samples they rest on, so `finite < count` tells a reader that a sum is not the whole block's. A
block with no finite sample has NaN as its min and max and 0 as its sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from drivers.api import Quantity
from labd.errors import TraceError
from labd.trace.layout import BLOCK, END_OF_STREAM, is_digital, pyramid_schema, summarised
from labd.trace.meta import PowerSource, TraceMeta

Floats = npt.NDArray[np.float64]
Columns = Mapping[Quantity, npt.NDArray[Any]]
Rows = dict[str, npt.NDArray[Any]]

STRIDE = 128
"""Blocks worked on at once: many, so that what each call costs is paid seldom (measured)."""


def power_of(meta: TraceMeta, columns: Columns) -> Floats:
    """Power of each sample, W, float64 of shape (n,). Raises `TraceError` if the columns do not tell it."""
    match meta.power_source:
        case PowerSource.POWER:
            return columns[Quantity.POWER].astype(np.float64)
        case PowerSource.ENERGY:
            return columns[Quantity.ENERGY].astype(np.float64) / meta.period_s
        case PowerSource.PRODUCT:
            power = columns[Quantity.CURRENT].astype(np.float64)
            with np.errstate(invalid="ignore"):
                power *= columns[Quantity.VOLTAGE]
            return power
        case PowerSource.NONE:
            raise TraceError("power does not follow from the columns of this trace", where=meta.trace_id)


def power_columns(meta: TraceMeta) -> tuple[Quantity, ...]:
    """The columns that `power_of` needs."""
    needed = {
        PowerSource.POWER: (Quantity.POWER,),
        PowerSource.ENERGY: (Quantity.ENERGY,),
        PowerSource.PRODUCT: (Quantity.CURRENT, Quantity.VOLTAGE),
        PowerSource.NONE: (),
    }
    return needed[meta.power_source]


class Summariser:
    """Turns samples into rows; keeps its working memory, so it serves one thread."""

    def __init__(self, meta: TraceMeta) -> None:
        self._meta = meta
        self._names = summarised(meta)
        self._recorded = tuple(q for q in meta.quantities if not is_digital(q))
        self._wide = np.empty((len(self._names), STRIDE * BLOCK), dtype=np.float64)
        self._narrow = np.empty(STRIDE * BLOCK, dtype=np.float32)
        self._ones = np.ones(BLOCK)

    def rows(self, first: int, columns: Columns, start: int, stop: int) -> Rows:
        """Summarise samples `start` to `stop` of `columns`; the last row may be a partial block.

        Args:
            first: Index in the trace of sample `start`, a multiple of 1,000.
            columns: Arrays of the trace's columns.
            start: First sample of the arrays to take.
            stop: End of the samples to take.
        """
        parts = []
        with np.errstate(invalid="ignore", over="ignore"):
            for at in range(start, stop, STRIDE * BLOCK):
                end = min(at + STRIDE * BLOCK, stop)
                whole = at + (end - at) // BLOCK * BLOCK
                if whole > at:
                    parts.append(self._some(first + at - start, columns, at, whole, BLOCK))
                if end > whole:
                    parts.append(self._some(first + whole - start, columns, whole, end, end - whole))
        if len(parts) < 2:
            return parts[0] if parts else {}
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _some(self, first: int, columns: Columns, start: int, stop: int, size: int) -> Rows:
        count = (stop - start) // size
        shape = (len(self._names), count)
        wide = self._wide[:, : stop - start]
        narrow = [columns[q][start:stop] for q in self._recorded]
        for k, samples in enumerate(narrow):
            wide[k] = samples
        if len(self._names) > len(narrow):
            narrow.append(self._power(narrow, wide))
        blocks = wide.reshape(*shape, size)
        total, squares = np.vecdot(blocks, self._ones[:size]), np.vecdot(blocks, blocks)  # twice as fast as `sum`
        low, high = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
        starts = np.arange(0, stop - start, size)
        for k, samples in enumerate(narrow):  # `reduceat` is a third faster here than `min(axis=1)`
            np.minimum.reduceat(samples, starts, out=low[k])
            np.maximum.reduceat(samples, starts, out=high[k])
        finite = np.full(shape, size, dtype=np.uint32)
        # A sum of float32 samples cannot overflow in float64: it is finite exactly if every sample is.
        for k, row in np.argwhere(~np.isfinite(total)):
            good = blocks[k, row][np.isfinite(blocks[k, row])]
            finite[k, row] = len(good)
            total[k, row], squares[k, row] = good.sum(), good @ good
            low[k, row], high[k, row] = (good.min(), good.max()) if len(good) else (np.nan, np.nan)
        rows: Rows = {
            "first": first + np.arange(count, dtype=np.uint64) * np.uint64(size),
            "count": np.full(count, size, dtype=np.uint32),
        }
        for k, name in enumerate(self._names):
            rows |= {
                f"{name}_finite": finite[k],
                f"{name}_min": low[k],
                f"{name}_max": high[k],
                f"{name}_sum": total[k],
                f"{name}_sumsq": squares[k],
            }
        return rows

    def _power(self, narrow: list[npt.NDArray[Any]], wide: Floats) -> npt.NDArray[np.float32]:
        """Put the power that follows from the recorded columns into the last row of `wide`; return it rounded."""
        power, rounded = wide[-1], self._narrow[: wide.shape[1]]
        at = {q: k for k, q in enumerate(self._recorded)}
        if self._meta.power_source is PowerSource.PRODUCT:
            current, voltage = at[Quantity.CURRENT], at[Quantity.VOLTAGE]
            np.multiply(wide[current], wide[voltage], out=power)
            # Products of float32 are exact in float64, so this rounds them just once as well, and faster.
            np.multiply(narrow[current], narrow[voltage], out=rounded)
        else:
            np.divide(wide[at[Quantity.ENERGY]], self._meta.period_s, out=power)
            rounded[:] = power
        return rounded


def join_rows(meta: TraceMeta, parts: Sequence[Rows]) -> Rows:
    """One set of rows out of several, with the right types also for none."""
    full = [part for part in parts if part]
    if full:
        return {name: np.concatenate([part[name] for part in full]) for name in full[0]} if len(full) > 1 else full[0]
    schema = pyramid_schema(meta)
    return {field.name: np.empty(0, dtype=field.type.to_pandas_dtype()) for field in schema}


class PyramidFile:
    """Writes `pyramid.arrow`. Rows wait here until `flush`: they can be made again from the samples."""

    def __init__(self, path: Path, meta: TraceMeta) -> None:
        self._meta = meta
        self._schema = pyramid_schema(meta)
        self._waiting: list[Rows] = []
        self.waiting = 0
        self.bytes = 0
        self._out = pa.OSFile(str(path), "wb")
        self._stream = pa.ipc.new_stream(self._out, self._schema)

    def add(self, rows: Rows) -> None:
        """Take rows in their order."""
        if rows:
            self._waiting.append(rows)
            self.waiting += len(rows["first"])

    def flush(self) -> None:
        """Write what waits as one batch."""
        if not self._waiting:
            return
        rows = join_rows(self._meta, self._waiting)
        self._stream.write_batch(pa.RecordBatch.from_pydict(rows, schema=self._schema))
        self._waiting, self.waiting = [], 0
        self.bytes = self._out.tell()

    def finish(self) -> None:
        """Write what waits and the end of the stream."""
        self.flush()
        self._stream.close()
        self.bytes = self._out.tell()

    def close(self) -> None:
        """Let go of the file, finished or not."""
        self._out.close()


def read_pyramid(path: Path, meta: TraceMeta) -> Rows:
    """Read all whole batches of a pyramid, of a growing or torn one too.

    Raises:
        TraceError: its schema is another trace's, or its rows do not follow one another.
    """
    try:
        data = pa.memory_map(str(path))
    except FileNotFoundError:
        return join_rows(meta, [])
    except OSError as error:
        raise TraceError(f"the pyramid cannot be read: {error}", where=str(path)) from error
    batches = whole_batches(data, pyramid_schema(meta), path)
    rows = join_rows(meta, [{name: batch.column(name).to_numpy() for name in batch.schema.names} for batch in batches])
    first = rows["first"]
    if not np.array_equal(first, np.arange(len(first), dtype=np.uint64) * np.uint64(BLOCK)) or not np.all(
        rows["count"][:-1] == BLOCK
    ):
        raise TraceError("the pyramid's blocks do not follow one another", where=str(path))
    return rows


def whole_batches(data: Any, schema: pa.Schema, path: Path) -> list[pa.RecordBatch]:
    """All whole record batches of an Arrow IPC stream, zero-copy if it is memory-mapped; a torn tail is left out.

    A stream that ends before its schema holds none. Raises `TraceError` if the schema is not `schema`.
    """
    if data.size() == 0:
        return []
    try:
        stream = pa.ipc.open_stream(data)
    except (pa.ArrowInvalid, OSError) as error:
        data.seek(0)
        if END_OF_STREAM[:4].startswith(data.read(4)):  # every message begins so: torn before its schema was complete
            return []
        raise TraceError(f"this is not an Arrow stream: {error}", where=str(path)) from error
    if not stream.schema.equals(schema, check_metadata=True):
        raise TraceError("the file's columns are not those that the sidecar declares", where=str(path))
    batches = []
    while True:
        try:
            batches.append(stream.read_next_batch())
        except StopIteration:
            return batches
        except (pa.ArrowInvalid, OSError):
            return batches
