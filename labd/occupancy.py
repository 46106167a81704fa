"""One daemon to a data directory: a lock that the kernel gives back whenever its daemon ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labd.errors import OccupiedError, StoreError

LOCK = "labd.lock"


@contextmanager
def occupied(data_dir: Path) -> Iterator[None]:
    """Hold the data directory, which is made if it is not there, for as long as the context lasts.

    Raises:
        OccupiedError: another daemon holds it.
        StoreError: it cannot be made or written.
    """
    path = data_dir / LOCK
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(
            f"cannot be used: {error.strerror}", where=str(error.filename or path), remedy="check its folder's rights"
        ) from error
    try:
        _lock(fd, path)
        yield
    finally:
        os.close(fd)  # frees the lock; the file stays, or two daemons could each lock a file of their own


def _lock(fd: int, path: Path) -> None:
    """Take the lock and write into it whose it is."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(fd, 32).decode(errors="replace").strip()
        raise OccupiedError(
            f"another daemon{f', process {holder},' if holder else ''} runs on this data directory",
            where=str(path.parent),
            remedy="stop it, or give this lab a data_dir of its own",
        ) from error
    try:
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
    except OSError as error:
        raise StoreError(f"cannot be written: {error.strerror}", where=str(path), remedy="check the disk") from error
