"""Carries published sessions: into the inbox of the lab on this host, or into trace folders with no lab at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from labd.errors import TraceError
from labd.trace.layout import sync_file, sync_folder
from labd.trace.sessions.convert import Converted, convert_session, session_digest, session_files
from labd.trace.sessions.folders import Found, LeftOut
from labd.trace.sessions.published import Session, SessionError

INBOX = "inbox"
"""Folder of a lab's data directory in which sessions wait, each named by its digest."""
STAGING = ".importing"
"""Folder in which traces are made before they are put in their place; no trace can be called so."""


def importable(found: Found) -> Found:
    """What of it can become jobs: streaming wakeword is scored as it lies, but labd has no rules to judge it by."""
    sessions, left_out = [], list(found.left_out)
    for session in found.sessions:
        kept = {mode: results for mode, results in session.sets.items() if not results.is_streaming}
        for results in session.sets.values():
            if results.is_streaming:
                words = "a streaming benchmark's results are scored, not imported"
                left_out.append(LeftOut(results.folder, SessionError(words, where=str(results.folder))))
        if kept:
            sessions.append(replace(session, sets=kept))
    return Found(tuple(sessions), tuple(left_out))


def put_into_inbox(session: Session, data_dir: Path) -> str:
    """Copy a session into a lab's inbox, whole or not at all; return the name it has there.

    Raises:
        SessionError: the session cannot be read, or the inbox not be written.
    """
    digest = session_digest(session)
    inbox = data_dir / INBOX
    part = inbox / f"{digest}.part"
    try:
        if (inbox / digest).is_dir():
            return digest
        with _claimed(part):
            # The name of its folder says what was measured where the board does not.
            inside = part / (session.folder.resolve().name.lstrip(".") or "session")
            inside.mkdir()
            for place, path in session_files(session):
                target = inside / place
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
                sync_file(target)
            for folder in (*(entry for entry in inside.iterdir() if entry.is_dir()), inside, part):
                sync_folder(folder)
            part.rename(inbox / digest)
            sync_folder(inbox)
    except OSError as error:
        remedy = "import on the lab's own host, as a user who may write its data directory"
        raise SessionError(f"the lab's inbox cannot be written: {error}", where=str(inbox), remedy=remedy) from error
    return digest


@contextmanager
def _claimed(part: Path) -> Iterator[None]:
    """Have this folder, empty, for this process alone; the kernel lets go of it on a kill.

    Raises:
        SessionError: another process has it.
    """
    part.mkdir(parents=True, exist_ok=True)
    fd = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(fd), part.stat())  # not what had this name before it was moved
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:
            raise SessionError(
                "another command brings this session", where=str(part), remedy="try again when it is done"
            )
        for left in part.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    finally:
        os.close(fd)


def unpack(session: Session, out: Path) -> tuple[Converted, ...]:
    """Make sealed traces of a session in a folder, with no lab.

    Raises:
        SessionError, TraceError: the session cannot be read, the folder not be written, or the traces are there.
    """
    digest = session_digest(session)
    staging = out / STAGING
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        try:
            made = convert_session(session, digest, staging, _going_on)
            return tuple(place(each, out) for each in made)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise TraceError(f"the traces cannot be written: {error}", where=str(out)) from error


def place(made: Converted, traces_dir: Path) -> Converted:
    """Move a sealed trace, at once and durably, to where it is looked for.

    Raises:
        TraceError: one of its name is there.
        OSError: the disk refuses.
    """
    folder = traces_dir / made.folder.name
    if folder.exists():
        raise TraceError("this session's trace is there already", where=str(folder), remedy="remove it to make it anew")
    made.folder.rename(folder)
    sync_folder(traces_dir)
    return replace(made, folder=folder)


def _going_on() -> None:
    """Nobody stops this work."""
