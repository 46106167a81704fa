"""Sends a file of an archived trace: whole or a range of it, straight through from the object store."""

from __future__ import annotations

from typing import Any

import structlog
from aiohttp import web

from labd.errors import TraceError
from labd.keep.archive import Archive
from labd.trace.files import FileMissingError
from labd.trace.layout import SEAL
from labd.trace.object_files import PlaceError

_log = structlog.get_logger(__name__)


async def list_archived(archive: Archive, trace_id: str) -> dict[str, Any]:
    """The files of an archived trace, as those of a local one are listed.

    Raises:
        HTTPNotFound: the archive has no such trace.
        HTTPBadGateway: the archive cannot be used right now.
    """
    try:
        seal, sizes = await archive.seal(trace_id), await archive.sizes(trace_id)
    except PlaceError as error:
        raise out_of_reach(error) from error
    except TraceError as error:
        _log.warning("archived_trace_not_served", trace=trace_id, error=str(error))
        raise web.HTTPNotFound from error
    digests = {str(name): digest for name, digest in seal.sha256.items()}
    files = [
        {"name": name, "size": sizes[name], "sha256": digests.get(name)} for name in (*digests, SEAL) if name in sizes
    ]
    return {"trace_id": trace_id, "state": seal.state.value, "files": files}


async def send_archived(request: web.Request, archive: Archive, trace_id: str, name: str) -> web.StreamResponse:
    """Answer a request for a file of a trace that lies in the archive only.

    Memory does not depend on the size of the file. What was archived is never changed, so a tag of it is its size.

    Raises:
        HTTPNotFound: the archive has no such file.
        HTTPRequestRangeNotSatisfiable: the range does not lie in it.
        HTTPBadGateway: the archive cannot be used right now.
    """
    try:
        size = await archive.size(trace_id, name)
    except FileMissingError as error:
        raise web.HTTPNotFound from error
    except PlaceError as error:
        raise out_of_reach(error) from error
    etag = f"archived-{size:x}"
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    if any(tag.value in (etag, "*") for tag in request.if_none_match or ()):
        raise web.HTTPNotModified(headers={"ETag": f'"{etag}"'})
    part = _range(request, size, etag)
    start, stop = part or (0, size)
    response = web.StreamResponse(status=206 if part else 200, headers=headers)
    response.etag = etag
    response.content_length = stop - start
    if part:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        async for piece in archive.span(trace_id, name, start, stop):
            await response.write(piece)
        await response.write_eof()
    except ConnectionResetError:  # the client has what it wanted
        _log.debug("archived_file_not_taken", trace=trace_id, file=name)
    except TraceError as error:
        # the status is sent: only a broken connection tells the client that this is not all
        if request.transport is not None:
            request.transport.abort()
        raise out_of_reach(error) from error
    return response


def out_of_reach(error: TraceError) -> web.HTTPBadGateway:
    """The answer where the archive does not do its part; it does not tell where that lies."""
    return web.HTTPBadGateway(text=f"the archive cannot be used: {error.message}\n")


def _range(request: web.Request, size: int, etag: str) -> tuple[int, int] | None:
    """What part of the file is asked for; None without a range, or if the file is not the one that is meant."""
    meant = request.headers.get("If-Range")
    if "Range" not in request.headers or (meant is not None and meant != f'"{etag}"'):
        return None
    refused = web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    try:
        asked = request.http_range
    except ValueError as error:
        raise refused from error
    start, stop, _ = asked.indices(size)
    if start >= stop or (asked.start or 0) >= size:
        raise refused
    return start, stop
