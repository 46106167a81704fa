"""Room held back for the record: a file of nothing that gives way when the disk is full.

A capture can fill the disk on which the database lies too. Then not even the end of that run could be committed, and
the daemon would have to stop. So the database, when it finds the disk full, has this file cut to half: a commit needs a
few kilobytes, and whoever else fills the disk in that moment does not get all at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import structlog

from labd.errors import StoreError, is_disk_full

NAME: Final = "labd.reserve"
SIZE_BYTES: Final = 16 * 1024 * 1024
LEAST_BYTES: Final = 64 * 1024
"""Below this nothing is given any more: it would not help."""


class Reserve:
    """The file; its methods block, for a moment, and are for one thread at a time each.

    Args:
        data_dir: Where it lies, with the database.
        size_bytes: How large it is when there is room.
    """

    def __init__(self, data_dir: Path, size_bytes: int = SIZE_BYTES) -> None:
        self._path = data_dir / NAME
        self._size_bytes = size_bytes
        self._log = structlog.get_logger().bind(file=str(self._path))

    def fill(self) -> bool:
        """Make the file as large as it should be; False if there is no room for it now.

        Raises:
            StoreError: the folder cannot be written for another reason.
        """
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(fd).st_size < self._size_bytes:
                    os.posix_fallocate(fd, 0, self._size_bytes)
                return True
            finally:
                os.close(fd)
        except OSError as error:
            if is_disk_full(error):
                return False
            message = f"cannot be written: {error.strerror}"
            raise StoreError(message, where=str(self._path), remedy="check its folder's rights") from error

    def give(self) -> bool:
        """Cut the file to half; False if there is nothing left to give."""
        try:
            size = self._path.stat().st_size
            if size < LEAST_BYTES:
                return False
            os.truncate(self._path, size // 2)
        except OSError as error:
            self._log.error("reserve_not_given", error=str(error))
            return False
        self._log.warning("reserve_given", given_bytes=size - size // 2, left_bytes=size // 2)
        return True
