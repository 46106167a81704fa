"""Serves trace files for reading: lists, whole files and ranges of them; nothing can be changed here.

A name that is not a trace's, or not a file of a trace, does not exist: no path is ever made of what a client sends
before it has been found in a closed set.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from labd.errors import ConfigError, TraceError
from labd.trace.journal import JOURNAL
from labd.trace.layout import PARQUET, PYRAMID, SAMPLES, SEAL
from labd.trace.meta import META
from labd.trace.seal import read_seal

FILES = (META, JOURNAL, PYRAMID, SAMPLES, PARQUET, SEAL)
"""All files of a trace folder; nothing else is served."""
_TRACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_TRACES: web.AppKey[Path] = web.AppKey("traces", Path)

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
async def serve_traces(traces_dir: Path, listen: str) -> AsyncIterator[Served]:
    """Serve the traces of a folder for as long as the context lasts.

    Args:
        traces_dir: Where they lie.
        listen: `host:port`; port 0 for any that is free.

    Raises:
        ConfigError: the address cannot be used.
    """
    host, _, port = listen.rpartition(":")
    app = web.Application()
    app[_TRACES] = traces_dir
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


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"ok": True})


async def _list_traces(request: web.Request) -> web.Response:
    return web.json_response(await asyncio.to_thread(_traces, request.app[_TRACES]))


async def _list_files(request: web.Request) -> web.Response:
    return web.json_response(await asyncio.to_thread(_files, _folder(request)))


async def _send_file(request: web.Request) -> web.FileResponse:
    folder, name = _folder(request), request.match_info["file"]
    if name not in FILES or not await asyncio.to_thread(_is_own, folder / name):
        raise web.HTTPNotFound
    return web.FileResponse(folder / name)


def _folder(request: web.Request) -> Path:
    name = request.match_info["trace"]
    folder = request.app[_TRACES] / name
    if not _TRACE.fullmatch(name) or not _is_own(folder / META):
        raise web.HTTPNotFound
    return folder


def _is_own(file: Path) -> bool:
    """Whether this is a plain file in its own folder: a link could lead out of the store."""
    return file.is_file() and not file.is_symlink() and not file.parent.is_symlink()


def _traces(traces_dir: Path) -> list[dict[str, Any]]:
    names = sorted(folder.name for folder in traces_dir.iterdir() if _TRACE.fullmatch(folder.name))
    return [
        {"trace_id": name, "state": _seal(traces_dir / name)[0]} for name in names if _is_own(traces_dir / name / META)
    ]


def _files(folder: Path) -> dict[str, Any]:
    state, digests = _seal(folder)
    files = [
        {"name": name, "size": (folder / name).stat().st_size, "sha256": digests.get(name)}
        for name in FILES
        if _is_own(folder / name)
    ]
    return {"trace_id": folder.name, "state": state, "files": files}


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
