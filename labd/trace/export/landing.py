"""How an exported file takes its name: it grows as `<name>.part`, is made durable, and only then is called by it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labd.errors import TraceError
from labd.trace.layout import sync_file, sync_folder

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

REMEDY = "free some space, or name another place with --out"
"""What to do about a full disk."""


class ExportError(TraceError):
    """A trace, or this part of it, cannot be put into a file of the format asked for."""

    kind = "export"


@contextmanager
def landing(path: Path) -> Iterator[Path]:
    """Where to write a file that shall be `path` once it is whole; what was there before stays until then.

    Raises:
        ExportError: the disk refuses it. Nothing is left behind.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.touch()  # with the rights of any new file: a library may choose others
        yield part
        sync_file(part)
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise refused(path, error) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def refused(path: Path, error: OSError) -> ExportError:
    """What it means that the disk does not take a file."""
    return ExportError(
        f"the file cannot be written: {error.strerror or error}",
        where=str(path),
        remedy=REMEDY if error.errno in FULL else "",
    )
