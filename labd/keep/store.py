"""Where traces lie: a folder here, an archive elsewhere, or both; who reads one need not know.

The local copy is preferred: it is memory-mapped, and costs no request.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from labd.errors import TraceError
from labd.keep.archive import Archive
from labd.keep.names import TraceIdError, checked_id
from labd.trace.files import LocalFiles, TraceFiles
from labd.trace.layout import locked, sync_folder
from labd.trace.meta import META

_GOING = ".going-"
"""What the name of a folder begins with that is being deleted; no trace can be called so."""


class TraceStore:
    """The traces of one lab.

    Args:
        local: Folder of this machine, a folder a trace.
        archive: Object store with sealed traces; None without one.
    """

    def __init__(self, local: Path, archive: Archive | None = None) -> None:
        self.local = local
        self.archive = archive

    def folder(self, trace_id: str) -> Path:
        """Where the local copy of a trace lies, or would. Raises `TraceIdError`."""
        return self.local / checked_id(trace_id)

    def is_local(self, trace_id: str) -> bool:
        """Whether a copy is in the local folder; one behind a link is none. Raises `TraceIdError`."""
        folder = self.folder(trace_id)
        return not folder.is_symlink() and is_own(folder / META)

    def files(self, trace_id: str) -> TraceFiles:
        """The files of a trace: the local copy if there is one, else the archive's; the archive is not asked yet.

        Raises:
            TraceIdError: no trace can have that id.
            TraceError: there is no local copy, and no archive.
        """
        if self.is_local(trace_id):
            return LocalFiles(self.folder(trace_id))
        if self.archive is None:
            raise TraceError("there is no such trace", where=str(self.folder(trace_id)))
        return self.archive.files(trace_id)

    def local_ids(self) -> list[str]:
        """Ids of all traces with a local copy, sorted. Raises `TraceError` if the folder cannot be listed."""
        try:
            return sorted(entry.name for entry in self.local.iterdir() if self._is_trace(entry.name))
        except OSError as error:
            message = f"the folder cannot be listed: {error.strerror}"
            raise TraceError(message, where=str(self.local)) from error

    async def ids(self) -> list[str]:
        """Ids of all traces here and in the archive, sorted.

        Raises:
            TraceError: the folder or the archive cannot be listed.
        """
        here = await asyncio.to_thread(self.local_ids)
        there = await self.archive.ids() if self.archive is not None else []
        return sorted({*here, *there})

    def drop_local(self, trace_id: str) -> None:
        """Delete the local copy of a trace; harmless if there is none.

        It leaves the place at once and whole, so a kill leaves either all of it or nothing that looks like a trace.

        Raises:
            TraceIdError: no trace can have that id.
            TraceError: it is being recorded or sealed, or the disk refuses.
        """
        folder = self.folder(trace_id)
        going = self.local / f"{_GOING}{trace_id}"
        if folder.is_dir() and not folder.is_symlink():
            with locked(folder):
                self._clear(going)
                try:
                    folder.rename(going)
                    sync_folder(self.local)
                except OSError as error:
                    message = f"the folder cannot be removed: {error.strerror}"
                    raise TraceError(message, where=str(folder)) from error
        self._clear(going)

    def clear_up(self) -> None:
        """Delete what a kill has left of deletions. Raises `TraceError` if the disk refuses."""
        for going in self.local.glob(f"{_GOING}*"):
            self._clear(going)

    def _clear(self, going: Path) -> None:
        try:
            shutil.rmtree(going)
        except FileNotFoundError:
            return
        except OSError as error:
            raise TraceError(f"the folder cannot be removed: {error.strerror}", where=str(going)) from error

    def _is_trace(self, name: str) -> bool:
        try:
            return self.is_local(name)
        except TraceIdError:
            return False


def is_own(file: Path) -> bool:
    """Whether this is a plain file in its own folder: a link could lead out of the store."""
    return file.is_file() and not file.is_symlink() and not file.parent.is_symlink()
