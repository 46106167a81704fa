"""What the files of a results set are called, and what they have been called besides.

Submitters have put the mode before a name (`energy_results.txt`), or changed the case of letters. A hidden file, such
as the `._results.txt` that macOS leaves beside one, is none of them.
"""

from __future__ import annotations

import re
from pathlib import Path

RESULTS = "results.txt"
POSTPROC = "postproc.txt"
LOG = "log.txt"
RESULTS_JSON = "results.json"
ENERGY_FILES = "trace*-energy.bin"
TIMES_FILES = "trace*-timestamps.json"

MARK = "utf-8-sig"
"""Encoding of every text that is read: UTF-8, with or without the byte-order mark that Windows puts before it."""


def file_of(folder: Path, name: str) -> Path:
    """The file of a results set: the one of that name, else the one that is called so but for case or a prefix.

    Returns:
        Its path; the plain one, which is not there, if none is or several are called so.
    """
    plain = folder / name
    if plain.is_file() or not folder.is_dir():
        return plain
    spelling = re.compile(rf"((accuracy|energy|performance|power)_)?{re.escape(name)}", re.IGNORECASE)
    called = [path for path in sorted(folder.iterdir()) if spelling.fullmatch(path.name) and path.is_file()]
    return called[0] if len(called) == 1 else plain


def has_results(folder: Path) -> bool:
    """Whether results lie here, or what they are made of: samples."""
    names = (RESULTS, RESULTS_JSON, POSTPROC)
    return any(file_of(folder, name).is_file() for name in names) or any(folder.glob(ENERGY_FILES))


def has_part(folder: Path) -> bool:
    """Whether anything of a results set lies here."""
    return has_results(folder) or file_of(folder, LOG).is_file() or any(folder.glob(TIMES_FILES))
