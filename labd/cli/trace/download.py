"""Downloads a trace over HTTP: in pieces that can be resumed, and trusted only after its digests agree with its seal.

A file grows as `<name>.part` and takes its name when it is whole and checked, so what carries the name is right.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from labd.errors import LabError, NotFoundError, TraceError, UnreachableError
from labd.trace.layout import SEAL
from labd.trace.seal import Seal

PIECE = 1 << 18
"""Bytes written at once."""
ATTEMPTS = 5
"""Broken downloads in a row without a single new byte, after which it is given up."""
AGAIN_S = 0.5

Progressed = Callable[[str, int, int], None]
"""Told the file, the bytes that are there, and the bytes that it will have."""


class TraceFile(BaseModel):
    """A file of a trace as the lab lists it; `sha256` is None while it is being written."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    size: int = Field(ge=0)
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None


@dataclass(frozen=True, slots=True)
class Pulled:
    """A trace on the local disk; `sealed` tells whether its files were checked against its seal."""

    trace_id: str
    folder: Path
    files: tuple[TraceFile, ...]
    sealed: bool


class _Listing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    trace_id: str
    files: tuple[TraceFile, ...]


async def pull_trace(url: str, folder: Path, *, timeout_s: float, progressed: Progressed) -> Pulled:
    """Bring a trace into `folder`; what is there already and right is not fetched again.

    Args:
        url: Where the lab lists the trace's files.
        folder: Where to put them; made if it does not exist.
        timeout_s: Longest silence of the server, s.
        progressed: Told how far each file is.

    Raises:
        NotFoundError: the lab has no such trace.
        UnreachableError: the server cannot be reached, or breaks off again and again.
        TraceError: a file is not what was sealed, or the disk refuses it.
    """
    url = url.rstrip("/") + "/"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        source = _Source(session, url, progressed)
        listing = await source.list()
        try:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            return await _pull_files(source, listing, folder)
        except OSError as error:
            raise TraceError(f"cannot be written: {error.strerror or error}", where=str(folder)) from error


async def _pull_files(source: _Source, listing: _Listing, folder: Path) -> Pulled:
    sealed: dict[str, str] = {}
    if listed := [file for file in listing.files if file.name == SEAL]:
        await source.pull(listed[0], _Target(folder, listed[0]))
        sealed = {str(name): digest for name, digest in (await asyncio.to_thread(_read_seal, folder)).sha256.items()}
    for file in listing.files:
        if file.name != SEAL:
            checked = file.model_copy(update={"sha256": sealed.pop(file.name, file.sha256)})
            await source.pull(checked, _Target(folder, checked))
    if sealed:
        raise TraceError(f"the lab does not offer {', '.join(sorted(sealed))}, which was sealed", where=source.url)
    return Pulled(listing.trace_id, folder, listing.files, sealed=bool(listed))


def _read_seal(folder: Path) -> Seal:
    try:
        return Seal.model_validate_json((folder / SEAL).read_bytes())
    except ValidationError as error:
        remedy = "remove it and pull again"
        raise TraceError("the seal cannot be read", where=str(folder / SEAL), remedy=remedy) from error


@dataclass(frozen=True, slots=True)
class _Target:
    """One file on the local disk, whole or in part."""

    folder: Path
    file: TraceFile

    @property
    def part(self) -> Path:
        return self.folder / f"{self.file.name}.part"

    def there(self) -> int:
        """Bytes that have arrived."""
        return self.part.stat().st_size if self.part.exists() else 0

    def open(self, begins: int) -> BinaryIO:
        """The part, cut to `begins` bytes and ready for more."""
        self.part.touch()
        stream = self.part.open("r+b")
        stream.truncate(begins)
        stream.seek(begins)
        return stream

    def is_done(self) -> bool:
        """Whether the whole file is there from before, and right."""
        return self._is_right(self.folder / self.file.name)

    def finish(self) -> bool:
        """Give the part its name if it is right; drop it if not."""
        self.part.touch()  # an empty file has no bytes to arrive
        if not self._is_right(self.part):
            self.part.unlink()
            return False
        self.part.replace(self.folder / self.file.name)
        return True

    def _is_right(self, path: Path) -> bool:
        if not path.exists() or path.stat().st_size != self.file.size:
            return False
        if self.file.sha256 is None:
            return path == self.part  # a file that could not be checked may have changed since
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == self.file.sha256


@dataclass(frozen=True, slots=True)
class _Source:
    """A trace on the lab's server."""

    session: aiohttp.ClientSession
    url: str
    progressed: Progressed

    async def list(self) -> _Listing:
        """The files of the trace."""
        try:
            async with self.session.get(self.url) as response:
                self._check(response)
                return _Listing.model_validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error
        except ValidationError as error:
            remedy = "check the address"
            raise TraceError("the list of files cannot be read", where=self.url, remedy=remedy) from error

    async def pull(self, file: TraceFile, target: _Target) -> None:
        """Bring one file, going on where an earlier attempt broke off."""
        if await asyncio.to_thread(target.is_done):
            self.progressed(file.name, file.size, file.size)
            return
        failures = 0
        while (there := target.there()) < file.size:
            try:
                await self._go_on(file, target, there)
            except (aiohttp.ClientError, TimeoutError) as error:
                failures = 0 if target.there() > there else failures + 1
                if failures >= ATTEMPTS:
                    raise self._unreachable(error) from error
                await asyncio.sleep(AGAIN_S)
        if not await asyncio.to_thread(target.finish):
            remedy = "pull again; if it repeats, verify the trace in the lab"
            raise TraceError(f"{file.name} has not arrived as it was sealed", where=self.url, remedy=remedy)

    async def _go_on(self, file: TraceFile, target: _Target, there: int) -> None:
        span = {"Range": f"bytes={there}-{file.size - 1}"}
        async with self.session.get(self.url + file.name, headers=span) as response:
            self._check(response)
            found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            # a server that ignores the range sends all: then the file begins anew
            begins = int(found.group(1)) if response.status == 206 and found is not None else 0
            arrived = begins
            with target.open(begins) as stream:
                async for piece in response.content.iter_chunked(PIECE):
                    arrived += stream.write(piece)
                    if arrived > file.size:
                        raise TraceError(f"{file.name} is longer than the lab says", where=self.url)
                    self.progressed(file.name, arrived, file.size)
        if arrived == there:
            raise aiohttp.ClientPayloadError(f"{file.name} ends before its size")

    def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 404:
            remedy = "labctl job show names a job's traces"
            raise NotFoundError("the lab has no such trace", where=self.url, remedy=remedy)
        if response.status in (502, 503, 504):  # an archive behind the lab is out of reach, for now
            raise aiohttp.ClientPayloadError(f"the server answers {response.status} {response.reason}")
        if response.status not in (200, 206):
            raise LabError(f"the server answers {response.status} {response.reason}", where=self.url)

    def _unreachable(self, error: Exception) -> UnreachableError:
        message = f"traces cannot be pulled: {str(error) or 'no answer in time'}"
        return UnreachableError(message, where=self.url, remedy="check the address, and pull again to go on")
