"""A file system that is really small, for tests of what happens when it is full: a tmpfs, mounted for the test."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_LIBC = ctypes.CDLL(None, use_errno=True)
_DETACH = 2


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Mount an empty file system of that size on `folder`; skips the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    options = f"size={size_bytes}".encode()
    if _LIBC.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options) != 0:
        pytest.skip(f"a file system cannot be mounted here: {os.strerror(ctypes.get_errno())}")
    try:
        yield folder
    finally:
        _LIBC.umount2(os.fsencode(folder), _DETACH)


def fill_up(folder: Path) -> Path:
    """Fill the file system of `folder` to its last byte; returns the file that does it."""
    hog = folder / "hog"
    with hog.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            piece = b"\0" * size
            try:
                while file.write(piece) == size:
                    pass
            except OSError:
                continue
    return hog
