"""What happens to a trace after its last sample: sealed or salvaged, then noted; never left open behind a crash."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import structlog

from labd.errors import TraceError
from labd.model import ledger
from labd.model.database import Database
from labd.model.states import TraceState
from labd.trace.recorder import TraceRecorder
from labd.trace.seal import Seal, salvage, seal


async def close_and_seal(recorder: TraceRecorder, database: Database) -> None:
    """End a recording and seal it; one that cannot be sealed stays as it is and is salvaged at the next start."""
    folder = recorder.folder
    try:
        await recorder.close()
        sealed = await asyncio.to_thread(seal, folder)
    except TraceError as error:
        structlog.get_logger().error("trace_seal_failed", trace=folder.name, error=str(error))
        return
    await _note(database, folder, sealed)


async def salvage_left(database: Database, traces_dir: Path) -> None:
    """Salvage every trace that a dead daemon left open; one without a single file is noted as lost."""
    for trace in await database.read(ledger.open_traces):
        folder = traces_dir / trace.id
        log = structlog.get_logger().bind(trace=trace.id)
        try:
            sealed = await asyncio.to_thread(salvage, folder)
        except TraceError as error:
            log.warning("trace_lost", error=str(error))
            await _end(database, trace.id, TraceState.LOST)
        else:
            await _note(database, folder, sealed)
            log.info("trace_salvaged", rows=sealed.rows)


async def _note(database: Database, folder: Path, sealed: Seal) -> None:
    size = await asyncio.to_thread(_size_of, folder)
    digest = hashlib.sha256(sealed.encode()).hexdigest()
    await _end(database, folder.name, TraceState(sealed.state.value), rows=sealed.rows, size=size, sha256=digest)


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


async def _end(
    database: Database, trace_id: str, state: TraceState, *, rows: int = 0, size: int = 0, sha256: str = ""
) -> None:
    await database.write(
        lambda session: ledger.end_trace(session, trace_id, state, rows=rows, size=size, sha256=sha256)
    )
