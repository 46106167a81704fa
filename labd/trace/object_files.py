"""The files of a trace in an object store: an S3 bucket, a lab's own HTTP server, or memory.

A request costs a round trip, so bytes come in aligned pieces that are kept, and a reader that goes on where it stopped
gets ever more at once. So a footer, a row group or a stretch of the pyramid is a request or two, and a window of a long
trace costs about the bytes of that window.
"""

from __future__ import annotations

import io
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
import pyarrow as pa
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import HTTPStore

from labd.errors import TraceError, UnreachableError
from labd.trace.files import FileMissingError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

PIECE = 1 << 18
"""Bytes of a piece; requests begin and end at multiples of it."""
REQUEST_PIECES = 32
"""Most pieces of one request, so that each ends well within its deadline on a slow line too."""
KEPT_PIECES = 128
"""Pieces kept of all files of a trace, 32 MB."""
AHEAD_PIECES = 16
"""Most pieces fetched ahead of a reader that goes straight on."""

CLIENT: ClientConfig = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60)}
"""Deadlines of one request, its body included."""
RETRY: RetryConfig = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 2},
}
"""Requests that fail by chance (5xx, broken connection) are sent again after a jittered pause, for 20 s in all."""

FAULTS = (BaseError, OSError, ValueError)
"""What obstore raises; `place_error` tells what it means."""


class PlaceError(TraceError):
    """The place where a trace lies does not do what it is asked; the trace itself may well be whole."""

    kind = "trace_place"


class PlaceUnreachableError(PlaceError, UnreachableError):
    """The place where a trace lies does not answer."""

    kind = "unreachable"


def http_files(url: str) -> ObjectFiles:
    """The files of a trace behind a lab's server: `http://host:port/v1/traces/<id>`.

    Nothing is asked of the server yet.

    Raises:
        TraceError: it is no such URL, or carries credentials.
    """
    remedy = "write http://host:port/v1/traces/<id>"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise TraceError(f"{url!r} is not an http address: {error}", remedy=remedy) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise TraceError(f"{url!r} is not an http address", remedy=remedy)
    if "@" in parts.netloc:
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        raise TraceError("the address carries credentials", where=shown, remedy="use a proxy that asks who it is")
    where = url.rstrip("/")
    try:
        store = HTTPStore(where, client_options={**CLIENT, "allow_http": True}, retry_config=RETRY)
    except FAULTS as error:
        raise place_error(error, where) from error
    return ObjectFiles(store, "", where)


class ObjectFiles:
    """The files of a trace under a prefix of an object store; a `TraceFiles`, for one thread at a time.

    Args:
        store: Any store of obstore, made with deadlines (`CLIENT`, `RETRY`).
        prefix: What the names of the files begin with in it, without a final slash; may be empty.
        where: The place for people, a URL without credentials.
    """

    def __init__(self, store: ObjectStore, prefix: str, where: str) -> None:
        self._store = store
        self._prefix = prefix
        self._where = where
        self._sizes: dict[str, int] = {}
        self._pieces: OrderedDict[tuple[str, int], memoryview] = OrderedDict()
        self._next: dict[str, int] = {}
        """By file, the piece after the last one that was asked for."""
        self._ahead: dict[str, int] = {}
        """By file, how many pieces its reader has earned to be fetched ahead."""

    @property
    def where(self) -> str:
        """The URL."""
        return self._where

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            self.size(name)
        except FileMissingError:
            return False
        return True

    def size(self, name: str) -> int:
        """Bytes of a file when it was first asked for."""
        if name not in self._sizes:
            try:
                self._sizes[name] = obstore.head(self._store, self._path(name))["size"]
            except FAULTS as error:
                raise place_error(error, self._url(name)) from error
        return self._sizes[name]

    def read(self, name: str) -> bytes:
        """A small file whole, as it is now."""
        try:
            return obstore.get(self._store, self._path(name)).bytes().to_bytes()
        except FAULTS as error:
            raise place_error(error, self._url(name)) from error

    def span(self, name: str, start: int, stop: int) -> memoryview:
        """Bytes `start` to `stop` of a file; fetches what is not kept of them."""
        size = self.size(name)
        if not 0 <= start <= stop <= size:
            raise TraceError(f"bytes {start} to {stop} of {size} were asked for", where=self._url(name))
        if start == stop:
            return memoryview(b"")
        first, last = start // PIECE, (stop - 1) // PIECE
        pieces = self._have(name, first, last + 1)
        skip = start - first * PIECE
        if len(pieces) == 1:
            return pieces[0][skip : skip + stop - start]
        pieces[0] = pieces[0][skip:]
        pieces[-1] = pieces[-1][: stop - last * PIECE]
        return memoryview(b"".join(pieces))

    def source(self, name: str) -> pa.NativeFile:
        """The file for Arrow's own readers."""
        return pa.PythonFile(_Reader(self, name, self.size(name)), mode="r")

    def _have(self, name: str, first: int, stop: int) -> list[memoryview]:
        """Pieces `first` to `stop`, in order."""
        missing = [index for index in range(first, self._upto(name, first, stop)) if (name, index) not in self._pieces]
        needed = bool(missing) and missing[0] < stop  # what lies ahead alone can wait
        fetched = self._fetch(name, missing) if needed else {}
        here = {k: fetched[k] if k in fetched else self._pieces[name, k] for k in range(first, stop)}
        for index, piece in (fetched | here).items():
            self._pieces[name, index] = piece
            self._pieces.move_to_end((name, index))
        while len(self._pieces) > KEPT_PIECES:
            self._pieces.popitem(last=False)
        return [here[index] for index in range(first, stop)]

    def _upto(self, name: str, first: int, stop: int) -> int:
        """Where to stop fetching: beyond `stop` for a reader that goes straight on, further each time."""
        before = self._next.get(name, -1)
        if first not in (before - 1, before):  # the last read may have ended within its piece
            self._ahead[name] = 0
        elif stop > before:
            self._ahead[name] = min(2 * self._ahead[name] + 1, AHEAD_PIECES)
        self._next[name] = stop
        return min(stop + self._ahead.get(name, 0), -(-self.size(name) // PIECE))

    def _fetch(self, name: str, missing: list[int]) -> dict[int, memoryview]:
        size = self.size(name)
        runs = list(_runs(missing))
        starts = [begin * PIECE for begin, _ in runs]
        ends = [min(end * PIECE, size) for _, end in runs]
        try:
            parts = obstore.get_ranges(self._store, self._path(name), starts=starts, ends=ends, coalesce=0)
        except FAULTS as error:
            raise place_error(error, self._url(name)) from error
        pieces = {}
        for (begin, end), start, stop, part in zip(runs, starts, ends, parts, strict=True):
            view = memoryview(part)
            if len(view) != stop - start:
                raise TraceError(
                    f"{len(view)} bytes came where {stop - start} were asked for: the file was cut",
                    where=self._url(name),
                )
            for index in range(begin, end):
                at = (index - begin) * PIECE
                # a copy: a view would keep the whole request for one of its pieces
                pieces[index] = view if end - begin == 1 else memoryview(bytes(view[at : at + PIECE]))
        return pieces

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _url(self, name: str) -> str:
        return f"{self._where}/{name}"


def _runs(indices: list[int]) -> Iterator[tuple[int, int]]:
    """Stretches of following indices, as start and stop, none longer than a request may be."""
    begin = end = indices[0]
    for index in indices:
        if index != end or end - begin == REQUEST_PIECES:
            yield begin, end
            begin = index
        end = index + 1
    yield begin, end


class _Reader(io.RawIOBase):
    """A file of `ObjectFiles` as Python knows files; what Arrow reads through."""

    def __init__(self, files: ObjectFiles, name: str, size: int) -> None:
        self._files = files
        self._name = name
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to another place."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1, /) -> memoryview:
        """At most `size` bytes from here on; Arrow takes any buffer, so nothing is copied."""
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        found = self._files.span(self._name, min(self._at, stop), stop)
        self._at += len(found)
        return found


_STATUS = re.compile(r"status code: (\d{3}[A-Za-z ]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")


def place_error(error: Exception, where: str) -> TraceError:
    """What an error of obstore means for a trace; its own text goes on for pages.

    Args:
        error: One of `FAULTS`.
        where: What was asked for, a URL without credentials.
    """
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    said = f"{status.group(1).strip()} {code.group(1) if code else ''}".strip() if status else ""
    if "<Code>NoSuchBucket</Code>" in text:
        return PlaceError("there is no such bucket", where=where, remedy="create it, or correct the address")
    if isinstance(error, FileNotFoundError):
        return FileMissingError("the file is missing", where=where)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or said.startswith(("401", "403")):
        remedy = "check the credentials in the environment and what they may do"
        return PlaceError(f"access is refused: {said or 'no permission'}", where=where, remedy=remedy)
    if said and not said.startswith(("5", "429")):
        return PlaceError(f"the server answers {said}", where=where, remedy="check the address")
    if said or "error sending request" in text or "HTTP error" in text:
        message = f"the server answers {said}" if said else "the server does not answer"
        return PlaceUnreachableError(message, where=where, remedy="check the address and the network, then try again")
    return PlaceError(f"cannot be used: {text.splitlines()[0][:200] if text else error!r}", where=where)
