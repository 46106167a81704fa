"""The files of one trace, wherever they lie: in a folder here, in an object store, behind a lab's HTTP server.

Readers ask for spans of bytes and never for more than they need. What is found is the file as it was when it was first
asked for: a file that grows is seen at that length, so that all that one reader sees belongs together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pyarrow as pa

from labd.errors import TraceError


class FileMissingError(TraceError):
    """The trace has no such file."""

    kind = "trace_file_missing"


class TraceFiles(Protocol):
    """Read-only access to the files of one trace; for one thread at a time."""

    @property
    def where(self) -> str:
        """The place, for people: a folder or a URL."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a file. Raises `TraceError` if the place cannot be asked."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file. Raises `FileMissingError` if there is none, `TraceError` if it cannot be asked for."""
        ...

    def read(self, name: str) -> bytes:
        """A small file whole, as it is now. Raises as `size` does."""
        ...

    def span(self, name: str, start: int, stop: int) -> memoryview:
        """Bytes `start` to `stop` of a file, a view where that is possible. Raises as `size` does, and `TraceError`
        if the file is shorter.
        """
        ...

    def source(self, name: str) -> pa.NativeFile:
        """The file for Arrow's own readers, random access. Raises as `size` does."""
        ...


def files_of(where: Path | TraceFiles) -> TraceFiles:
    """The files of a trace folder here, or those that were given."""
    return LocalFiles(where) if isinstance(where, Path) else where


class LocalFiles:
    """The files of a trace in a folder of this machine, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[str, pa.Buffer] = {}

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.folder)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.folder / name).is_file()

    def size(self, name: str) -> int:
        """Bytes of a file when it was first asked for."""
        return int(self._map(name).size)

    def read(self, name: str) -> bytes:
        """A small file whole, as it is now."""
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise self._failed(name, error) from error

    def span(self, name: str, start: int, stop: int) -> memoryview:
        """A view of the mapped file."""
        mapped = self._map(name)
        if not 0 <= start <= stop <= mapped.size:
            raise TraceError(f"bytes {start} to {stop} of {mapped.size} were asked for", where=str(self.folder / name))
        return memoryview(mapped)[start:stop]

    def source(self, name: str) -> pa.NativeFile:
        """The mapped file."""
        return pa.BufferReader(self._map(name))

    def _map(self, name: str) -> pa.Buffer:
        if name not in self._maps:
            path = self.folder / name
            try:
                # an empty file cannot be mapped
                empty = path.stat().st_size == 0
                self._maps[name] = pa.py_buffer(b"") if empty else pa.memory_map(str(path)).read_buffer()
            except OSError as error:
                raise self._failed(name, error) from error
        return self._maps[name]

    def _failed(self, name: str, error: OSError) -> TraceError:
        path = str(self.folder / name)
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return FileMissingError("the file is missing", where=path)
        return TraceError(f"the file cannot be read: {error.strerror or error}", where=path)
