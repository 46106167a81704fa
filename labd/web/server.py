"""Serves trace files for reading: lists, whole files and ranges of them; nothing can be changed here.

A trace that is no longer in the lab's folder is served from the archive, under the same address, also if it leaves the
folder while somebody asks for it.

A name that is not a trace's, or not a file of a trace, does not exist: no path is ever made of what a client sends
before it has been found in a closed set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from labd.errors import ConfigError, TraceError
from labd.keep.names import TraceIdError, checked_id
from labd.keep.store import TraceStore, is_own
from labd.trace.journal import JOURNAL
from labd.trace.layout import INDEX, PARQUET, PYRAMID, SAMPLES, SEAL
from labd.trace.meta import META
from labd.trace.seal import read_seal
from labd.web.archived import list_archived, send_archived

FILES = (META, JOURNAL, *PYRAMID, INDEX, SAMPLES, PARQUET, SEAL)
"""All files of a trace folder; nothing else is served."""
ARCHIVED = "archived"
"""State in the list of all traces of one that is in the archive only: to tell more would cost a request a trace."""
INCOMPLETE = "X-Labd-Incomplete"
"""Header of a list of all traces that lacks those of the archive."""
_TRACES: web.AppKey[TraceStore] = web.AppKey("traces", TraceStore)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs: its address, and where it lists the traces."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Where the traces are listed, without a final slash."""
        return f"http://{self.host}:{self.port}/v1/traces"


@asynccontextmanager
async def serve_traces(traces: TraceStore, listen: str) -> AsyncIterator[Served]:
    """Serve the traces of a lab for as long as the context lasts.

    Args:
        traces: Where they lie.
        listen: `host:port`; port 0 for any that is free.

    Raises:
        ConfigError: the address cannot be used.
    """
    host, _, port = listen.rpartition(":")
    app = web.Application(middlewares=[_unreadable_told])
    app[_TRACES] = traces
    app.add_routes(
        [
            web.get("/healthz", _health),
            web.get("/v1/traces", _list_traces),
            web.get("/v1/traces/", _list_traces),
            web.get("/v1/traces/{trace}", _list_files),
            web.get("/v1/traces/{trace}/", _list_files),
            web.get("/v1/traces/{trace}/{file}", _send_file),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"cannot listen on {listen!r}: {error}", where="http.listen", remedy="name a free host:port"
            ) from error
        yield Served(host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


@web.middleware
async def _unreadable_told(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """A disk that does not give what lies on it is the lab's fault, not the client's, and no mistake of labd's."""
    try:
        return await handler(request)
    except ConnectionError:  # the client has gone
        raise
    except (TraceError, OSError) as error:
        _log.error("traces_not_served", path=request.path, error=str(error))
        raise web.HTTPServiceUnavailable(text="the lab's traces cannot be read; see its log\n") from error


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"ok": True})


async def _list_traces(request: web.Request) -> web.Response:
    traces = request.app[_TRACES]
    here = await asyncio.to_thread(_local_traces, traces)
    there: list[str] = []
    headers = {}
    try:
        there = await traces.archive.ids() if traces.archive is not None else []
    except TraceError as error:
        _log.warning("archive_not_listed", error=str(error))
        headers[INCOMPLETE] = "the archive cannot be used"
    archived = [{"trace_id": name, "state": ARCHIVED} for name in there if name not in here]
    local = [{"trace_id": name, "state": state} for name, state in here.items()]
    found = sorted([*local, *archived], key=lambda trace: trace["trace_id"])
    return web.json_response(found, headers=headers)


async def _list_files(request: web.Request) -> web.Response:
    traces, trace_id = request.app[_TRACES], _trace_id(request)
    listing = await asyncio.to_thread(_files, traces, trace_id)
    if listing is not None:
        return web.json_response(listing)
    if traces.archive is None:
        raise web.HTTPNotFound
    return web.json_response(await list_archived(traces.archive, trace_id))


async def _send_file(request: web.Request) -> web.StreamResponse:
    traces, trace_id, name = request.app[_TRACES], _trace_id(request), request.match_info["file"]
    if name not in FILES:
        raise web.HTTPNotFound
    path = traces.folder(trace_id) / name
    if await asyncio.to_thread(lambda: traces.is_local(trace_id) and is_own(path)):
        return web.FileResponse(path)
    if traces.archive is None or await asyncio.to_thread(traces.is_local, trace_id):
        raise web.HTTPNotFound
    return await send_archived(request, traces.archive, trace_id, name)


def _trace_id(request: web.Request) -> str:
    try:
        return checked_id(request.match_info["trace"])
    except TraceIdError as error:
        raise web.HTTPNotFound from error


def _local_traces(traces: TraceStore) -> dict[str, str]:
    return {name: _seal(traces.folder(name))[0] for name in traces.local_ids()}


def _files(traces: TraceStore, trace_id: str) -> dict[str, Any] | None:
    """The files of the local copy; None if there is none, or none any more."""
    if not traces.is_local(trace_id):
        return None
    folder = traces.folder(trace_id)
    state, digests = _seal(folder)
    sizes = {name: size for name in FILES if (size := _size(folder / name)) is not None}
    if not is_own(folder / META):  # a copy goes at once and whole: so it was all there when it was listed, or is gone
        return None
    files = [{"name": name, "size": size, "sha256": digests.get(name)} for name, size in sizes.items()]
    return {"trace_id": trace_id, "state": state, "files": files}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if is_own(path) else None
    except FileNotFoundError:  # its trace has just been sealed, or has gone
        return None


def _seal(folder: Path) -> tuple[str, Mapping[str, str]]:
    """How the trace stands, and the digests that its seal vouches for."""
    try:
        seal = read_seal(folder)
    except TraceError as error:
        _log.warning("seal_damaged", trace=folder.name, error=str(error))
        return "damaged", {}
    if seal is None:
        return "recording", {}
    return seal.state.value, {str(name): digest for name, digest in seal.sha256.items()}
