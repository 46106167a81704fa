"""Finds published sessions in a folder, and tells by what lies there who wrote them.

Taken are: one results set (`kws/energy`), one benchmark (`kws`, with `energy`, `performance` and `accuracy` in it), or
any tree of benchmarks, such as a whole submission. Links to folders are not followed.
"""

from __future__ import annotations

from pathlib import Path

from labd.benchmarks import Mode
from labd.trace.sessions.energyrunner import ENERGY_FILES, LOG, POSTPROC, TIMES_FILES, read_energyrunner
from labd.trace.sessions.mlcommons import RESULTS, RESULTS_JSON, read_mlcommons
from labd.trace.sessions.published import ResultsSet, Session, SessionError

DEPTH_MAX = 6
"""Folders below the given one that are looked into: a submission has results/<system>/<benchmark>/<mode>."""


def find_sessions(path: Path) -> tuple[Session, ...]:
    """Read every session in `path`, in the order of their names.

    Raises:
        SessionError: there is none, or one cannot be read.
    """
    try:
        if not path.is_dir():
            raise SessionError("there is no such folder", where=str(path))
        sessions = tuple(_sessions(path, path, DEPTH_MAX))
    except OSError as error:
        raise SessionError(f"the folder cannot be read: {error.strerror}", where=str(path)) from error
    if not sessions:
        raise SessionError(
            "no published session lies here",
            where=str(path),
            remedy=f"a session is a folder with {RESULTS}, or with folders {', '.join(Mode)} that have one",
        )
    return sessions


def read_set(folder: Path) -> ResultsSet:
    """Read one results set, whoever wrote it. Raises `SessionError`."""
    if (folder / RESULTS_JSON).exists():
        return read_mlcommons(folder)
    read = read_energyrunner(folder) if not _of_mlcommons(folder) else read_mlcommons(folder)
    named = {mode.value: mode for mode in Mode}.get(folder.name)
    if named is not None and named is not read.mode:
        raise SessionError(f"the folder {folder.name!r} holds results of {read.mode.value}", where=str(folder))
    return read


def _of_mlcommons(folder: Path) -> bool:
    """Whether a set without its `results.json` is of the MLCommons runner all the same, by its first words."""
    try:
        with (folder / RESULTS).open(encoding="utf-8", errors="replace") as file:
            return file.readline(100).startswith("Power Edition Output")
    except OSError:
        return False


def _sessions(path: Path, root: Path, depth: int) -> list[Session]:
    if _is_set(path):
        read = read_set(path)
        folder = path.parent if path.name == read.mode.value else path
        return [_session(folder, root, {read.mode: read})]
    modes = [path / mode.value for mode in Mode if _has_part_of_a_set(path / mode.value)]
    if modes:
        sets = {read.mode: read for read in map(read_set, modes)}
        return [_session(path, root, sets)]
    if depth == 0:
        return []
    found: list[Session] = []
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and not folder.is_symlink() and not folder.name.startswith("."):
            found += _sessions(folder, root, depth - 1)
    return found


def _is_set(folder: Path) -> bool:
    names = (RESULTS, RESULTS_JSON, POSTPROC)
    return any((folder / name).is_file() for name in names) or any(folder.glob(ENERGY_FILES))


def _has_part_of_a_set(folder: Path) -> bool:
    """Whether somebody meant this to be a results set: one that lacks a file is to be refused, not passed over."""
    return folder.is_dir() and (_is_set(folder) or (folder / LOG).is_file() or any(folder.glob(TIMES_FILES)))


def _session(folder: Path, root: Path, sets: dict[Mode, ResultsSet]) -> Session:
    formats = {each.format for each in sets.values()}
    if len(formats) > 1:
        raise SessionError(f"its modes are of several runners: {', '.join(sorted(formats))}", where=str(folder))
    inside = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else "."
    name = folder.resolve().name if inside == "." else inside
    return Session(name=name, folder=folder, sets=sets)
