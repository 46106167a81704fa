"""What happens to a trace after its last sample: sealed or salvaged, then noted; never left open behind a crash."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from labd.bench.sealing import beside_captures
from labd.bench.shield import shielded
from labd.clock import WALL
from labd.errors import StoreError, TraceError
from labd.model import ledger_measures, ledger_traces
from labd.model.database import Database
from labd.model.states import TraceState
from labd.model.tables import Trace
from labd.trace.layout import PARQUET, SAMPLES
from labd.trace.meta import TraceMeta
from labd.trace.recorder import TraceRecorder
from labd.trace.seal import Seal, salvage, seal


@asynccontextmanager
async def recording(meta: TraceMeta, database: Database, traces_dir: Path) -> AsyncIterator[TraceRecorder]:
    """Record a trace inside the block; at its end it is closed, sealed and noted, whatever has happened.

    A trace that cannot be sealed stays as it is, and is salvaged at the next start.

    Raises:
        TraceError: it could not be begun, or could not be sealed after a block that went well.
    """
    # A task of its own: a cancel while the trace is begun must not lose sight of what was begun.
    begun = asyncio.create_task(_begin(meta, database, traces_dir), name=f"begin-{meta.trace_id}")
    try:
        yield await asyncio.shield(begun)
    except BaseException:
        try:
            await shielded(_end_recording(begun, database), f"seal-{meta.trace_id}")
        except (TraceError, StoreError) as error:
            structlog.get_logger().error("trace_seal_failed", trace=meta.trace_id, error=str(error))
        raise
    await shielded(_end_recording(begun, database), f"seal-{meta.trace_id}")


async def _begin(meta: TraceMeta, database: Database, traces_dir: Path) -> TraceRecorder:
    row = Trace(id=meta.trace_id, run_id=meta.run_id, period_s=meta.period_s, started_at=meta.started_at)
    await database.write(lambda session: ledger_measures.start_trace(session, row))
    try:
        return await TraceRecorder.start(traces_dir, meta)
    except TraceError:
        await _end(database, meta.trace_id, TraceState.LOST)
        raise


async def _end_recording(begun: asyncio.Task[TraceRecorder], database: Database) -> None:
    await asyncio.wait({begun})
    if begun.exception() is not None:
        return  # it holds nothing, and who waited for it knows why
    recorder = begun.result()
    await recorder.close()
    sealed = await beside_captures(seal, recorder.folder)
    await _note(database, recorder.folder, sealed)


async def salvage_left(database: Database, traces_dir: Path) -> None:
    """Salvage every trace that was left open by a dead daemon or on a full disk; one without samples is noted as lost.

    One that holds some and cannot be sealed now stays open, and is tried again when this is called again.
    """
    for trace in await database.read(ledger_traces.left_open):
        folder = traces_dir / trace.id
        log = structlog.get_logger().bind(trace=trace.id)
        try:
            sealed = await beside_captures(salvage, folder)
        except (TraceError, OSError) as error:
            if await asyncio.to_thread(_holds_samples, folder):
                log.error("trace_salvage_failed", error=str(error), folder=str(folder))
                continue
            log.warning("trace_lost", error=str(error))
            await _end(database, trace.id, TraceState.LOST)
        else:
            await _note(database, folder, sealed)
            log.info("trace_salvaged", rows=sealed.rows)


async def _note(database: Database, folder: Path, sealed: Seal) -> None:
    size = await asyncio.to_thread(_size_of, folder)
    digest = hashlib.sha256(sealed.encode()).hexdigest()
    await _end(database, folder.name, TraceState(sealed.state.value), rows=sealed.rows, size=size, sha256=digest)


def _holds_samples(folder: Path) -> bool:
    """Whether there is anything to be salvaged; the first of these files is made once the sidecar is durable."""
    return any((folder / name).exists() for name in (SAMPLES, PARQUET))


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


async def _end(
    database: Database, trace_id: str, state: TraceState, *, rows: int = 0, size: int = 0, sha256: str = ""
) -> None:
    await database.write(
        lambda session: ledger_measures.end_trace(
            session, trace_id, state, rows=rows, size=size, sha256=sha256, now=WALL.now()
        )
    )
