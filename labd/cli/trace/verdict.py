"""Holds sealed traces against their seals, wherever they lie, and says what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa

from labd.cli.bars import BytesDone
from labd.cli.connection import Choice
from labd.cli.trace.place import find_trace, is_folder
from labd.errors import NotFoundError, TraceError, UnreachableError
from labd.trace.files import LocalFiles, TraceFiles
from labd.trace.layout import SAMPLES, SEAL
from labd.trace.meta import META
from labd.trace.seal import SEALED_FILES, read_seal
from labd.trace.seal import verify as verify_files


class Verdict(StrEnum):
    """What became of a check."""

    OK = "ok"
    UNSEALED = "not sealed"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Checked:
    """One trace and what was found.

    Args:
        name: Name of the trace's folder, or its id.
        where: Folder or URL.
        verdict: Whether all its bytes are those that were sealed.
        rows: Samples that the seal speaks of; None if it does not hold.
        detail: What is wrong, and with which file.
    """

    name: str
    where: str
    verdict: Verdict
    rows: int | None = None
    detail: str = ""

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "trace": self.name,
            "where": self.where,
            "ok": self.verdict is Verdict.OK,
            "verdict": self.verdict.value,
            "rows": self.rows,
            "detail": self.detail or None,
        }


def check(name: str, files: TraceFiles, progressed: BytesDone) -> Checked:
    """Check one trace, telling its name, the bytes that were read and those there are.

    Raises:
        UnreachableError: the lab that has it does not answer, so nothing can be said of it.
    """
    try:
        if read_seal(files) is None:
            if not files.has(META):
                return Checked(name, files.where, Verdict.DAMAGED, detail=f"{META}: the file is missing")
            return Checked(name, files.where, Verdict.UNSEALED, detail="it has no seal")
        whole = sum(files.size(each) for each in SEALED_FILES)
        seal = verify_files(_Watched(files, lambda read: progressed(name, read, whole)))
    except UnreachableError:
        raise
    except TraceError as error:
        place = error.where.removeprefix(files.where).lstrip("/")
        detail = f"{place}: {error.message}" if place else error.message
        return Checked(name, files.where, Verdict.DAMAGED, detail=detail)
    return Checked(name, files.where, Verdict.OK, rows=seal.rows)


class _Watched:
    """The files of a trace, telling how many bytes were read of them; a `TraceFiles`."""

    def __init__(self, files: TraceFiles, read: Callable[[int], None]) -> None:
        self._files = files
        self._read = read
        self._bytes = 0

    @property
    def where(self) -> str:
        return self._files.where

    def has(self, name: str) -> bool:
        return self._files.has(name)

    def size(self, name: str) -> int:
        return self._files.size(name)

    def read(self, name: str) -> bytes:
        return self._files.read(name)

    def span(self, name: str, start: int, stop: int) -> memoryview:
        self._bytes += stop - start
        self._read(self._bytes)
        return self._files.span(name, start, stop)

    def source(self, name: str) -> pa.NativeFile:
        return self._files.source(name)


async def find_traces(choice: Choice, name: str, url: str | None) -> list[tuple[str, TraceFiles]]:
    """A trace by its folder or id, or all traces of a folder: each with its name."""
    if not is_folder(name):
        return [(name, await find_trace(choice, name, url))]
    return [
        (folder.resolve().name, LocalFiles(folder)) for folder in await asyncio.to_thread(trace_folders, Path(name))
    ]


def trace_folders(folder: Path) -> list[Path]:
    """The folder itself if it is a trace's, or else the traces in it. Raises `NotFoundError` if there are none."""
    if _holds_trace(folder):
        return [folder]
    found = sorted(each for each in folder.iterdir() if not each.name.startswith(".") and _holds_trace(each))
    if not found:
        raise NotFoundError("there is no trace in this folder", where=str(folder), remedy="give a trace's folder or id")
    return found


def _holds_trace(folder: Path) -> bool:
    """Whether anything of a trace is there: one that has lost its sidecar must not be passed over."""
    return any((folder / name).exists() for name in (META, SEAL, SAMPLES, *SEALED_FILES))
