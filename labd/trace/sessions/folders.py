"""Finds published sessions in a folder, and tells by what lies there who wrote them and what was measured.

Taken are: one results set (`kws/energy`), one benchmark (`kws`, with `energy`, `performance` and `accuracy` in it), or
any tree of benchmarks, such as a whole submission. What a set measured is seen in its files: its folder may be called
`power` or `Enegy`. Nothing is passed over in silence: what was meant to be a results set and cannot be read is left
out of its session, with the reason, and keeps nothing else from being read. Links to folders are not followed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from labd.benchmarks import Mode
from labd.trace.sessions.energyrunner import read_energyrunner
from labd.trace.sessions.mlcommons import read_mlcommons
from labd.trace.sessions.published import ResultsSet, Session, SessionError, SessionFormat
from labd.trace.sessions.results_text import read_results_text
from labd.trace.sessions.set_files import LOG, MARK, RESULTS, RESULTS_JSON, file_of, has_part, has_results

DEPTH_MAX = 32
"""Folders below the given one that are looked into."""
_MODES = {mode.value: mode for mode in Mode}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A folder that was meant to be a results set, and why it is none.

    Args:
        folder: Where it lies.
        reason: What its reader says, with the file and the remedy.
    """

    folder: Path
    reason: SessionError


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in a folder.

    Args:
        sessions: Those that were read, in the order of their names.
        left_out: What was not read, in the order of the folders.
    """

    sessions: tuple[Session, ...]
    left_out: tuple[LeftOut, ...]

    def whole(self) -> tuple[Session, ...]:
        """The sessions. Raises `SessionError`, with the first reason, if anything was left out."""
        if self.left_out:
            raise self.left_out[0].reason
        return self.sessions


@dataclass(slots=True)
class _Search:
    root: Path
    sessions: list[Session] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def find_sessions(path: Path) -> tuple[Session, ...]:
    """Read every session in `path`, in the order of their names.

    Raises:
        SessionError: there is none, or any of it cannot be read.
    """
    return survey(path).whole()


def survey(path: Path) -> Found:
    """Read what can be read of the sessions in `path`, and say what cannot.

    Raises:
        SessionError: nothing that was meant to be a session lies there, or the folder itself cannot be read.
    """
    if not path.is_dir():
        raise SessionError("there is no such folder", where=str(path))
    search = _Search(path)
    try:
        if has_results(path):
            _take(search, path.parent if path.name.lower() in _MODES else path, [path])
        _look(search, path, DEPTH_MAX)
    except OSError as error:
        raise SessionError(f"the folder cannot be read: {error.strerror}", where=str(path)) from error
    if not search.sessions and not search.left_out:
        raise SessionError(
            "no published session lies here",
            where=str(path),
            remedy=f"a session is a folder with {RESULTS}, or with folders {', '.join(Mode)} that have one",
        )
    return Found(tuple(search.sessions), tuple(search.left_out))


def read_set(folder: Path) -> ResultsSet:
    """Read one results set, whoever wrote it. Raises `SessionError`."""
    read = read_mlcommons(folder) if _is_of_mlcommons(folder) else read_energyrunner(folder)
    named = _MODES.get(folder.name.lower())
    if named is not None and named is not read.mode:
        raise SessionError(f"the folder {folder.name!r} holds results of {read.mode.value}", where=str(folder))
    return read


def _is_of_mlcommons(folder: Path) -> bool:
    """Whether the MLCommons runner wrote a set; without its `results.json`, the way it prints tells."""
    if file_of(folder, RESULTS_JSON).exists():
        return True
    try:
        return read_results_text(file_of(folder, RESULTS)).format is SessionFormat.MLCOMMONS
    except SessionError:
        return _log_begins(folder, "Logging initialized.")


def _log_begins(folder: Path, words: str) -> bool:
    try:
        with file_of(folder, LOG).open(encoding=MARK, errors="replace") as file:
            return file.readline(100).startswith(words)
    except OSError:
        return False


def _look(search: _Search, path: Path, depth: int) -> None:
    """Look for sets in a folder, and in those inside it."""
    try:
        inside = sorted(each for each in path.iterdir() if not each.name.startswith(".") and each.is_dir())
    except OSError as error:
        reason = SessionError(f"the folder cannot be read: {error.strerror}", where=str(path))
        search.left_out.append(LeftOut(path, reason))
        return
    for link in [each for each in inside if each.is_symlink() and has_part(each)]:
        search.left_out.append(LeftOut(link, SessionError("links to folders are not followed", where=str(link))))
    folders = [each for each in inside if not each.is_symlink()]
    modes = [each for each in folders if each.name.lower() in _MODES]
    if any(map(has_part, modes)):
        # What is called as a mode and is empty has lost its files; what lies beside is meant to be a mode as well.
        beside = [each for each in folders if each not in modes and has_part(each)]
        _take(search, path, [*modes, *beside])
    else:
        for each in folders:
            if has_results(each):
                _take(search, each, [each])
    for each in folders:
        if depth == 0:
            reason = SessionError(f"it lies more than {DEPTH_MAX} folders deep", where=str(each))
            search.left_out.append(LeftOut(each, reason))
        else:
            _look(search, each, depth - 1)


def _take(search: _Search, folder: Path, parts: list[Path]) -> None:
    """Read the sets of a session; one more of a mode that it has, or of another board's, is a session of its own."""
    sets: dict[Mode, ResultsSet] = {}
    apart: list[ResultsSet] = []
    for part in parts:
        try:
            read = read_set(part)
        except SessionError as error:
            search.left_out.append(LeftOut(part, error))
            continue
        if read.mode in sets or any(_differs(read, other) for other in sets.values()):
            apart.append(read)
        else:
            sets[read.mode] = read
    if sets:
        ordered = {mode: sets[mode] for mode in Mode if mode in sets}
        search.sessions.append(_session(folder, search.root, ordered))
    for read in apart:
        search.sessions.append(_session(read.folder, search.root, {read.mode: read}))


def _differs(read: ResultsSet, other: ResultsSet) -> bool:
    """Whether two sets cannot be of one session: other runners wrote them, or what lies beside is another model's."""
    if read.format is not other.format:
        return True
    beside = read.folder.name.lower() not in _MODES
    return beside and bool(read.model and other.model and read.model != other.model)


def _session(folder: Path, root: Path, sets: dict[Mode, ResultsSet]) -> Session:
    inside = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else "."
    name = folder.resolve().name if inside == "." else inside
    return Session(name=name, folder=folder, sets=sets)
