"""What a power cut may leave of a folder, from the log of power_cut.c.

A write is durable once a sync of its file has returned that began after the write; a name, once a sync of its folder
has. Whatever is not durable at the moment of the cut may be there or not, sector by sector and name by name, in any
order: a sector of 512 bytes that was being changed holds the old bytes, or the new ones, and where the file had no
bytes yet also zeros, noise, or what lay elsewhere in the file. A file may be shorter than what was written to it.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from labd.trace.layout import PYRAMID

SECTOR = 512
ROOT = "."


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log; see power_cut.c for what `a` and `b` are."""

    number: int
    op: str
    at_s: float
    inode: int
    a: int
    b: int
    name: str
    saved: str
    """File in the graveyard that an `O` speaks of."""


@dataclass(frozen=True, slots=True)
class Change:
    """A write of `data` at `at`, or, without data, a truncation to `at` bytes."""

    line: Line
    at: int
    data: Any

    def apply(self, content: bytearray) -> None:
        """Make it."""
        if self.data is None:
            del content[self.at :]
            return
        content.extend(bytes(max(0, self.at - len(content))))
        content[self.at : self.at + len(self.data)] = self.data


class Mood(StrEnum):
    """What a cut does to what was not durable in a file."""

    KEPT = "kept"
    LOST = "lost"
    ZEROS = "zeros"
    SECTORS = "sectors"
    SPECK = "speck"
    """One sector, or few, among right ones: what is missed most easily."""


def read_log(path: Path) -> tuple[Line, ...]:
    """All whole lines of a log."""
    lines = []
    text = path.read_text()
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines()):
        op, time_ns, inode, a, b, name = line.split(" ", 5)
        lines.append(Line(number, op, int(time_ns) / 1e9, int(inode), int(a), int(b), name, f"over-{time_ns}"))
    return tuple(lines)


class Disk:
    """What was done to the files below a folder, and what of it was durable when.

    Args:
        root: The folder that was watched.
        log: The watcher's log.
        grave: Where it put what lost its name.
        deaf: Syncs of files with these names are held for not done; so a judge can be tried.
    """

    def __init__(self, root: Path, log: Path, grave: Path, deaf: Iterable[str] = ()) -> None:
        self.lines = read_log(log)
        self._grave = grave
        self._root_inode = root.stat().st_ino
        self._paths = {path.stat().st_ino: path for path in (*grave.iterdir(), *root.rglob("*")) if path.is_file()}
        self._names = [line for line in self.lines if line.op in "CRU"]
        self._syncs = self._returned(frozenset(deaf))
        self._changes: dict[int, list[Change]] = {}
        self._files = {line.inode for line in self.lines if line.op in "WTO"}
        for inode in self._files:
            self._changes[inode] = self._history(inode)

    def line_at(self, at_s: float) -> int:
        """How many lines had been written at a time."""
        return bisect_right([line.at_s for line in self.lines], at_s)

    def first_unsure_s(self, lines: int, folder: str, names: Sequence[str]) -> float:
        """When the first change was made, to files of these names in a folder, that is not durable after `lines` lines;
        infinite if all are.
        """
        paths = {f"{folder}/{name}" for name in names}
        inodes = {line.inode for line in self._names if line.op == "C" and line.name in paths}
        unsure = [
            change.line.at_s
            for inode in inodes
            for change in self._changes.get(inode, ())
            if self._durable_from(inode, lines) <= change.line.number < lines
        ]
        unsure += [
            line.at_s
            for line in self._names[: self._names_before(lines)]
            if line.op == "C"
            and line.name in (*paths, folder)
            and line.number >= self._durable_from(self._folder_of(line.name), lines)
        ]
        return min(unsure, default=float("inf"))

    def slowest_sync_s(self, lines: int, until_s: float, folder: str) -> float:
        """Sum over a folder's files of the longest sync of each that began before a cut, s."""
        longest: dict[int, float] = defaultdict(float)
        ends = {line.a: line.at_s for line in self.lines if line.op == "E"}
        for line in self.lines[:lines]:
            if line.op == "S" and line.name.startswith(folder):
                end_s = min(ends.get(line.number, until_s), until_s)
                longest[line.inode] = max(longest[line.inode], end_s - line.at_s)
        return sum(longest.values())

    def cut(self, lines: int, to: Path, random: Random) -> Mapping[str, Mood]:
        """Make in `to` what a cut after `lines` lines could have left; return what became of each file."""
        noisy = random.random() < 0.4
        moods = {}
        names = sorted(self._names_left(lines, random).items())
        alone = ""
        if random.random() < 0.5 and (open_ := self._open(names, lines)):
            alone = random.choices(open_, [1 if Path(name).name in PYRAMID else 5 for name in open_])[0]
        for name, inode in names:
            path = to / name
            if inode not in self._paths:
                path.mkdir(parents=True, exist_ok=True)
                continue
            if str(Path(name).parent) != ROOT and not path.parent.is_dir():
                continue  # the folder's own name was lost
            if alone:
                mood = Mood.SPECK if name == alone else Mood.KEPT
            else:
                mood = random.choices(list(Mood), (1, 2, 1, 4, 1))[0]
            data, moods[name] = self._content(inode, lines, random, mood, noisy=noisy)
            path.write_bytes(data)
        return moods

    def _open(self, names: Iterable[tuple[str, int]], lines: int) -> list[str]:
        """Those of the names whose files have changes that are not durable."""
        return [
            name
            for name, inode in names
            if any(
                self._durable_from(inode, lines) <= change.line.number < lines
                for change in self._changes.get(inode, ())
            )
        ]

    def _returned(self, deaf: frozenset[str]) -> dict[int, list[tuple[int, int]]]:
        """For each inode the syncs that returned: the line of the return, and that of the beginning."""
        syncs: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for line in self.lines:
            if line.op == "E" and Path(line.name).name not in deaf:
                syncs[line.inode].append((line.number, line.a))
        return syncs

    def _durable_from(self, inode: int, lines: int) -> int:
        """Changes of this inode before this line are durable after `lines` lines."""
        return max((began for ended, began in self._syncs.get(inode, ()) if ended < lines), default=0)

    def _folder_of(self, name: str) -> int:
        parent = str(Path(name).parent)
        if parent == ROOT:
            return self._root_inode
        return next(line.inode for line in self._names if line.op == "C" and line.name == parent)

    def _names_before(self, lines: int) -> int:
        return bisect_right([line.number for line in self._names], lines - 1)

    def _names_left(self, lines: int, random: Random) -> dict[str, int]:
        """Names and inodes: what is durable, and of the rest all, none, the first few, or some."""
        made = self._names[: self._names_before(lines)]
        sure: list[Line] = []
        open_: list[Line] = []
        for line in made:
            folder = self._folder_of(line.name.split("//")[0])
            (sure if line.number < self._durable_from(folder, lines) else open_).append(line)
        match random.randrange(4):
            case 0:
                kept = open_
            case 1:
                kept = []
            case 2:
                kept = open_[: random.randint(0, len(open_))]
            case _:
                kept = [line for line in open_ if random.random() < 0.5]
        names: dict[str, int] = {}
        for line in sorted((*sure, *kept), key=lambda line: line.number):
            if line.op == "C":
                names[line.name] = line.inode
            elif line.op == "U":
                names.pop(line.name, None)
            else:
                old, new = line.name.split("//")
                names.pop(old, None)
                names[new] = line.inode
        return names

    def _content(self, inode: int, lines: int, random: Random, mood: Mood, *, noisy: bool) -> tuple[bytes, Mood]:
        changes = [change for change in self._changes.get(inode, ()) if change.line.number < lines]
        sure_until = self._durable_from(inode, lines)
        content = bytearray()
        for change in changes:
            if change.line.number < sure_until:
                change.apply(content)
        open_ = [change for change in changes if change.line.number >= sure_until]
        old = bytes(content)
        for change in open_:
            change.apply(content)
        if mood is Mood.KEPT or not open_:
            return bytes(content), Mood.KEPT
        if mood is Mood.LOST:
            return old, mood
        from_byte = min((change.at for change in open_), default=0)
        return _torn(old, bytes(content), from_byte, random, mood, noisy=noisy), mood

    def _history(self, inode: int) -> list[Change]:
        """All changes of a file with their data, from its last content backwards."""
        own = [line for line in self.lines if line.inode == inode and line.op in "WTO"]
        sizes, size = [], 0
        for line in own:
            sizes.append(size)
            if line.op == "W":
                size = max(size, line.a + line.b)
            elif line.op == "T":
                size = line.a
        content = _read(self._paths.get(inode))
        del content[size:]  # a last write that was made but not noted
        content.extend(bytes(size - len(content)))
        changes: list[Change] = []
        for line, before in zip(reversed(own), reversed(sizes), strict=True):
            if line.op == "O":
                saved = (self._grave / line.saved).read_bytes()
                content.extend(bytes(max(0, line.a + line.b - len(content))))
                content[line.a : line.a + line.b] = saved
                continue
            if line.op == "W":
                changes.append(Change(line, line.a, bytes(content[line.a : line.a + line.b])))
            else:
                changes.append(Change(line, line.a, None))
            del content[before:]
            content.extend(bytes(before - len(content)))
        return changes[::-1]


def _read(path: Path | None) -> bytearray:
    if path is None or path.stat().st_size == 0:
        return bytearray()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        return bytearray(mapped)


def _torn(old: bytes, new: bytes, from_byte: int, random: Random, mood: Mood, *, noisy: bool) -> bytes:
    """Sector by sector the old bytes, the new ones, or, where there were none, others; and perhaps not to the end."""
    if len(new) < len(old):
        return old if random.random() < 0.5 else new
    size = len(new)
    sectors = -(-size // SECTOR)
    was, now = (np.frombuffer(data.ljust(sectors * SECTOR, b"\0"), np.uint8) for data in (old, new))
    left = now.copy().reshape(sectors, SECTOR)
    former = was.reshape(sectors, SECTOR)
    begin = from_byte // SECTOR
    numpy_random = np.random.default_rng(random.getrandbits(64))
    shares = {Mood.ZEROS: (1.0,), Mood.SPECK: (0.0, 0.01)}.get(mood, (0.02, 0.2, 0.7, 1.0))
    share = random.choice(shares)
    bad = begin + np.flatnonzero(numpy_random.random(sectors - begin) < share)
    if len(bad) == 0 and sectors > begin:
        bad = numpy_random.integers(begin, sectors, 1)
    left[bad] = former[bad]
    fresh = bad[bad >= -(-len(old) // SECTOR)]  # no byte of these was the file's before
    if noisy and mood is not Mood.ZEROS and len(fresh):
        kinds = numpy_random.integers(0, 3, len(fresh))
        noise = fresh[kinds == 1]
        left[noise] = numpy_random.integers(0, 256, (len(noise), SECTOR), dtype=np.uint8)
        stale = fresh[kinds == 2]
        left[stale] = now.reshape(sectors, SECTOR)[numpy_random.integers(0, sectors, len(stale))]
    end = size if mood is Mood.SPECK or random.random() < 0.5 else random.randint(len(old), size)
    return left.tobytes()[:end]
