"""The archive: sealed traces in an object store, each a prefix with the files of its folder.

A trace goes there file by file, and its seal last. Nothing counts before it was read back and its digests agreed with
the seal. So an upload may be cut off at any line: begun again, it finds what is right already and sends the rest. A
deletion takes the seal first. So what has a seal is complete, and what has none is somebody's unfinished work.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import obstore

from labd.errors import TraceError
from labd.keep.names import checked_id
from labd.trace.files import FileMissingError
from labd.trace.layout import SEAL
from labd.trace.object_files import FAULTS, ObjectFiles, PlaceError, place_error
from labd.trace.seal import Seal, read_seal

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PART = 5 << 20
"""Bytes of a part of an upload, the least that S3 takes, and of a request of a check."""
PARTS_MAX = 9_000
"""Most parts of an upload; S3 takes 10,000, so the parts of a file of more than 47 GB are larger."""
PIECE = 1 << 20
"""Bytes that are read of a file at once."""
PARTS_AT_ONCE = 2
PROBE = "labd-probe"
"""What is put there to see whether it takes anything; it lies in no trace's folder."""
ATTEMPTS = 3
"""How often a file is sent that does not read back as it was sent."""


class AnotherTraceError(TraceError):
    """The archive holds a different trace under the same id."""

    kind = "another_trace"


class Archive:
    """Sealed traces in an object store. Its methods are to be awaited; `files` blocks when it is read from.

    All raise `PlaceError` if the store refuses, and `PlaceUnreachableError` if it does not answer in time.

    Args:
        store: A store of obstore, made with deadlines.
        where: Its place for people, a URL without credentials and without a final slash.
    """

    def __init__(self, store: ObjectStore, where: str) -> None:
        self._store = store
        self.where = where
        self._uploading: set[str] = set()

    def files(self, trace_id: str) -> ObjectFiles:
        """The files of a trace, read by range; nothing is asked of the store yet. Raises `TraceIdError`."""
        return ObjectFiles(self._store, checked_id(trace_id), self._url(trace_id))

    async def has(self, trace_id: str) -> bool:
        """Whether a complete trace of that id is there. Raises `TraceIdError`."""
        try:
            await self.size(trace_id, SEAL)
        except FileMissingError:
            return False
        return True

    async def size(self, trace_id: str, name: str) -> int:
        """Bytes of a file. Raises `TraceIdError`, and `FileMissingError` if there is none."""
        return await self._size_at(f"{checked_id(trace_id)}/{name}")

    def span(self, trace_id: str, name: str, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Bytes `start` to `stop` of a file in pieces; memory does not depend on how many.

        Raises:
            TraceIdError: no trace can have that id.
            TraceError: while it is iterated, the file ends early.
        """
        return self._spans(f"{checked_id(trace_id)}/{name}", start, stop)

    async def ids(self) -> list[str]:
        """Ids of all complete traces, sorted; a request for each thousand files."""
        found = []
        try:
            async for batch in obstore.list(self._store):
                found += [path.split("/") for path in (entry["path"] for entry in batch)]
        except FAULTS as error:
            raise place_error(error, self.where) from error
        return sorted(parts[0] for parts in found if len(parts) == 2 and parts[1] == SEAL)

    async def put(self, folder: Path) -> Seal:
        """Bring a sealed trace into the archive, and check what arrived; harmless if it is there already.

        Memory does not depend on the length of the trace. A multipart upload that a kill cuts off stays with the store
        until its lifecycle rule removes it.

        Raises:
            TraceError: the trace is not sealed, a file of it is not what was sealed, or the disk does not give it.
            AnotherTraceError: another trace is there under this id.
        """
        seal = await asyncio.to_thread(_seal_of, folder)
        theirs = await self._read(f"{seal.trace_id}/{SEAL}")
        if theirs is not None and theirs != seal.encode() and _is_seal(theirs):
            raise AnotherTraceError(
                "another trace is there under this id",
                where=self._url(seal.trace_id),
                remedy="give each lab a prefix of its own in archive_url",
            )
        self._uploading.add(seal.trace_id)
        try:
            for name, digest in seal.sha256.items():
                await self._bring(folder / name, f"{seal.trace_id}/{name}", digest)
            if theirs != seal.encode():
                await self._keep(f"{seal.trace_id}/{SEAL}", seal.encode())
        finally:
            self._uploading.discard(seal.trace_id)
        return seal

    def is_uploading(self, trace_id: str) -> bool:
        """Whether `put` is bringing this trace now."""
        return trace_id in self._uploading

    async def seal(self, trace_id: str) -> Seal:
        """The seal of a trace.

        Raises:
            FileMissingError: there is no complete trace of that id.
            TraceError: the seal is damaged, or another trace's.
        """
        found = await self._read(f"{checked_id(trace_id)}/{SEAL}")
        if found is None:
            raise FileMissingError("the file is missing", where=self._url(trace_id, SEAL))
        if not _is_seal(found):
            raise TraceError("the seal is damaged", where=self._url(trace_id, SEAL))
        seal = Seal.model_validate_json(found)
        if seal.trace_id != trace_id:
            raise TraceError(f"the seal is that of {seal.trace_id!r}", where=self._url(trace_id, SEAL))
        return seal

    async def sizes(self, trace_id: str) -> dict[str, int]:
        """Names and bytes of all files of a trace; empty if there are none. Raises `TraceIdError`."""
        prefix = f"{checked_id(trace_id)}/"
        try:
            entries = await obstore.list(self._store, prefix).collect_async()
        except FAULTS as error:
            raise place_error(error, self._url(trace_id)) from error
        return {entry["path"].removeprefix(prefix): entry["size"] for entry in entries}

    async def verify(self, trace_id: str) -> Seal:
        """Read every byte of a trace and check it against its seal.

        Raises:
            TraceError: it is not there, its seal is damaged, or a file, which is named, is missing or damaged.
        """
        seal = await self.seal(trace_id)
        for name, digest in seal.sha256.items():
            path = f"{trace_id}/{name}"
            if await self._digest(path, await self._size_at(path)) != digest:
                raise TraceError("the file is not what was sealed", where=self._url(trace_id, name))
        return seal

    async def delete(self, trace_id: str) -> None:
        """Remove all files of a trace, its seal first; harmless if there is none. Raises `TraceIdError`."""
        names = await self.sizes(trace_id)
        try:
            for some in ([SEAL], sorted(names.keys() - {SEAL})):
                if paths := [f"{trace_id}/{name}" for name in some if name in names]:
                    await obstore.delete_async(self._store, paths)
        except FAULTS as error:
            raise place_error(error, self._url(trace_id)) from error

    async def probe(self) -> None:
        """See whether the store takes a file, gives it back and lets it go; it leaves nothing there.

        Raises:
            PlaceError: it does not.
        """
        await self._keep(PROBE, b"labd was here")
        try:
            await obstore.delete_async(self._store, PROBE)
        except FAULTS as error:
            raise place_error(error, self._url(PROBE)) from error

    async def _read(self, path: str) -> bytes | None:
        try:
            return (await (await obstore.get_async(self._store, path)).bytes_async()).to_bytes()
        except FAULTS as error:
            told = place_error(error, f"{self.where}/{path}")
            if isinstance(told, FileMissingError):
                return None
            raise told from error

    async def _bring(self, file: Path, path: str, digest: str) -> None:
        """See that `path` holds what was sealed; send it if it does not."""
        size = await asyncio.to_thread(_size, file)
        if await self._holds(path, size, digest):
            return
        for _ in range(ATTEMPTS):
            await self._send(file, path, size, digest)
            if await self._holds(path, size, digest):
                return
        raise self._forgetful(path)

    async def _keep(self, path: str, data: bytes) -> None:
        """Put a small file there, and read it back."""
        for _ in range(ATTEMPTS):
            try:
                await obstore.put_async(self._store, path, data, use_multipart=False)
            except FAULTS as error:
                raise place_error(error, f"{self.where}/{path}") from error
            if await self._read(path) == data:
                return
        raise self._forgetful(path)

    async def _send(self, file: Path, path: str, size: int, digest: str) -> None:
        part = max(PART, -(-size // PARTS_MAX))
        try:
            if size <= part:
                data = await asyncio.to_thread(lambda: b"".join(_pieces(file, digest)))
                await obstore.put_async(self._store, path, data, use_multipart=False)
            else:
                await obstore.put_async(
                    self._store,
                    path,
                    _pieces(file, digest),
                    use_multipart=True,
                    chunk_size=part,
                    max_concurrency=PARTS_AT_ONCE,
                )
        except FAULTS as error:
            raise place_error(error, f"{self.where}/{path}") from error

    async def _holds(self, path: str, size: int, digest: str) -> bool:
        """Whether a file is there whole, every byte read."""
        try:
            return await self._size_at(path) == size and await self._digest(path, size) == digest
        except FileMissingError:
            return False

    async def _size_at(self, path: str) -> int:
        try:
            return (await obstore.head_async(self._store, path))["size"]
        except FAULTS as error:
            raise place_error(error, f"{self.where}/{path}") from error

    async def _digest(self, path: str, size: int) -> str:
        """SHA-256 of what is there."""
        digest = hashlib.sha256()
        async for piece in self._spans(path, 0, size):
            await asyncio.to_thread(digest.update, piece)
        return digest.hexdigest()

    async def _spans(self, path: str, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Bytes `start` to `stop`; by ranges, so that each request ends within its deadline."""
        for begin in range(start, stop, PART):
            end = min(begin + PART, stop)
            try:
                piece = memoryview(await obstore.get_range_async(self._store, path, start=begin, end=end))
            except FAULTS as error:
                raise place_error(error, f"{self.where}/{path}") from error
            if len(piece) != end - begin:
                raise TraceError("the file was cut while it was read", where=f"{self.where}/{path}")
            yield piece

    def _forgetful(self, path: str) -> PlaceError:
        message = f"what is read back is not what was sent, {ATTEMPTS} times"
        return PlaceError(message, where=f"{self.where}/{path}", remedy="have the object store checked")

    def _url(self, *parts: str) -> str:
        return "/".join((self.where, *parts))


def _seal_of(folder: Path) -> Seal:
    seal = read_seal(folder)
    if seal is None:
        raise TraceError("the trace is not sealed", where=str(folder))
    if checked_id(seal.trace_id) != folder.name:
        raise TraceError(f"the seal is that of {seal.trace_id!r}", where=str(folder / SEAL))
    return seal


def _is_seal(data: bytes) -> bool:
    try:
        return Seal.model_validate_json(data).encode() == data
    except ValueError:
        return False


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise TraceError(f"the file cannot be read: {error.strerror}", where=str(file)) from error


def _pieces(file: Path, expected: str) -> Iterator[bytes]:
    """A file in pieces; raises `TraceError` at its end, before anything is complete, if it is not what was sealed."""
    digest = hashlib.sha256()
    try:
        with file.open("rb", buffering=0) as stream:
            while piece := stream.read(PIECE):
                digest.update(piece)
                yield piece
    except OSError as error:
        raise TraceError(f"the file cannot be read: {error.strerror}", where=str(file)) from error
    if digest.hexdigest() != expected:
        raise TraceError("the file is not what was sealed", where=str(file))
