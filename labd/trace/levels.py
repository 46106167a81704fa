"""The files of the pyramid: four levels, written as samples come in, read by spans of rows.

In a sealed trace the files hold every row. Of one that is being recorded, or was cut off, the rows of whole blocks are
taken from the files: those that are durable as they are, those after them as far as they are the rows that belong
there. What is missing then, the last and partial blocks at the least, is made from samples and kept here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labd.errors import TraceError
from labd.trace.files import TraceFiles
from labd.trace.journal import write_all
from labd.trace.layout import BLOCK, BLOCKS, FANOUT, LEVELS, PYRAMID, pyramid_row
from labd.trace.meta import TraceMeta
from labd.trace.pyramid import Columns, Rows, Summariser, coarser, join_rows
from labd.trace.samples import Samples, read_column

PIECE = 64 * BLOCK
"""Samples summarised at once."""
TAKEN = 4096
"""Rows looked at together when single rows are asked for."""

Floats = npt.NDArray[np.float64]


class LevelsFile:
    """Writes the files of all levels, each row as soon as its block is whole."""

    def __init__(self, paths: tuple[Path, ...], meta: TraceMeta) -> None:
        self._meta = meta
        none = np.zeros(0, dtype=pyramid_row(meta))
        self._below = [none] * LEVELS
        """By level, its last rows, too few to make one of the next."""
        self._fds: list[int] = []
        self.bytes = 0
        try:
            for path in paths:
                self._fds.append(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        except OSError:
            self.close()
            raise

    def add(self, rows: Rows) -> None:
        """Take rows of whole blocks, in their order. Raises `OSError`."""
        for level in range(LEVELS):
            if not len(rows):
                return
            self._write(level, rows)
            waiting = join_rows(self._below[level], rows)
            whole = len(waiting) // FANOUT * FANOUT
            self._below[level] = waiting[whole:]
            rows = coarser(self._meta, waiting[:whole])

    def finish(self, rest: Rows) -> None:
        """Take the row of the last, partial block, if there is one; end every level with its own. Raises `OSError`."""
        for level in range(LEVELS):
            if len(rest):
                self._write(level, rest)
            rest = coarser(self._meta, join_rows(self._below[level], rest))

    def sync(self) -> None:
        """Make durable what was written. Raises `OSError`."""
        for fd in self._fds:
            os.fdatasync(fd)

    def close(self) -> None:
        """Let go of the files, finished or not."""
        while self._fds:
            os.close(self._fds.pop())

    def _write(self, level: int, rows: Rows) -> None:
        write_all(self._fds[level], rows.tobytes())
        self.bytes += rows.nbytes


@contextmanager
def making_levels(paths: tuple[Path, ...], meta: TraceMeta) -> Iterator[Callable[[int, Columns], None]]:
    """Make the whole pyramid from all samples, handed over in the block; it is durable at the block's end.

    Args:
        paths: The files to make.
        meta: The trace's sidecar.

    Yields:
        What takes the samples piece by piece, in their order: the index of a piece's first sample, and its columns.
        Every piece but the last is of whole blocks.

    Raises:
        OSError: the disk refuses it.
    """
    file, summarise = LevelsFile(paths, meta), Summariser(meta)
    rest = np.zeros(0, dtype=pyramid_row(meta))

    def take(first: int, columns: Columns) -> None:
        nonlocal rest
        size = len(next(iter(columns.values())))
        rows = summarise.rows(first, columns, 0, size)
        whole = size // BLOCK
        file.add(rows[:whole])
        rest = rows[whole:]

    try:
        yield take
        file.finish(rest)
        file.sync()
    finally:
        file.close()


def _summary(summarise: Summariser, samples: Samples, meta: TraceMeta, start: int, stop: int) -> Rows:
    columns = {q: read_column(samples, q, start, stop) for q in meta.quantities}
    return summarise.rows(start, columns, 0, stop - start)


@dataclass(frozen=True, slots=True)
class Level:
    """One level: rows of its file, and rows made here that follow them.

    Args:
        files: The trace's files.
        name: The level's file.
        block: Samples of a whole row.
        stored: Rows of the file that count.
        made: The rows after those.
    """

    files: TraceFiles
    name: str
    block: int
    stored: int
    made: Rows

    def __len__(self) -> int:
        return self.stored + len(self.made)

    def rows(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop`, a view of the file if they all lie in it."""
        end = min(stop, self.stored)
        if end <= start:
            return self.made[start - self.stored : stop - self.stored]
        size = self.made.itemsize
        found = np.frombuffer(self.files.span(self.name, start * size, end * size), dtype=self.made.dtype)
        return found if stop <= self.stored else join_rows(found, self.made[: stop - self.stored])

    def sums(self, name: str, places: npt.NDArray[np.int64]) -> Floats:
        """Sums of a summarised name over single rows; NaN for a block with a sample that is none."""
        sums = np.empty(len(places))
        cuts = np.flatnonzero(np.diff(places // TAKEN)) + 1
        for begin, end in pairwise([0, *cuts.tolist(), len(places)]):
            if end > begin:
                some = places[begin:end]
                first = int(some.min())
                rows, at = self.rows(first, int(some.max()) + 1), some - first
                whole = rows[f"{name}_finite"][at] == rows["count"][at]
                sums[begin:end] = np.where(whole, rows[f"{name}_sum"][at], np.nan)
        return sums


class Levels:
    """All levels of a trace; each is looked at when it is first asked for."""

    def __init__(self, files: TraceFiles, meta: TraceMeta, rows: int, hot: tuple[Samples, int] | None) -> None:
        """Of a sealed trace, or with `hot`: its samples, and how many of them are durable.

        Args:
            files: The trace's files.
            meta: Its sidecar.
            rows: Its samples.
            hot: None for a sealed trace.
        """
        self._files, self._meta, self._rows, self._hot = files, meta, rows, hot
        self._row = pyramid_row(meta)
        self._levels: dict[int, Level] = {}

    def __getitem__(self, number: int) -> Level:
        """One level, 0 is the finest. Raises `TraceError` if its file is missing or damaged."""
        if number not in self._levels:
            self._levels[number] = self._sealed(number) if self._hot is None else self._growing(number, *self._hot)
        return self._levels[number]

    def _sealed(self, number: int) -> Level:
        stored = -(-self._rows // BLOCKS[number])
        name = PYRAMID[number]
        if self._files.size(name) != stored * self._row.itemsize:
            message = f"the level has {self._files.size(name)} bytes, not {stored} rows of {self._row.itemsize}"
            raise TraceError(message, where=f"{self._files.where}/{name}")
        return Level(self._files, name, BLOCKS[number], stored, np.zeros(0, dtype=self._row))

    def _growing(self, number: int, samples: Samples, durable: int) -> Level:
        name, block = PYRAMID[number], BLOCKS[number]
        there = self._files.size(name) // self._row.itemsize if self._files.has(name) else 0
        whole = min(self._rows // block, there)
        sure = min(durable // block, whole)
        level = partial(Level, self._files, name, block)
        none = np.zeros(0, dtype=self._row)
        stored = sure + _right(level(whole, none).rows(sure, whole), sure, block)
        rest = self._rows - stored * block
        if there > stored and _is_last(level(stored + 1, none).rows(stored, stored + 1), stored * block, rest):
            return level(stored + 1, none)  # the recording was closed
        if number:
            below = self[number - 1]
            return level(stored, coarser(self._meta, below.rows(stored * FANOUT, len(below))))
        summarise = Summariser(self._meta)
        made = [
            _summary(summarise, samples, self._meta, start, min(start + PIECE, self._rows))
            for start in range(stored * BLOCK, self._rows, PIECE)
        ]
        return level(stored, join_rows(none, *made))


def _is_last(row: Rows, first: int, rest: int) -> bool:
    """Whether a row is that of the `rest` samples from `first` on, with which the trace ends."""
    return bool(row["first"][0] == first and row["count"][0] == rest)


def _right(rows: Rows, first: int, block: int) -> int:
    """How many of these rows, which should begin with number `first`, are what belongs there."""
    firsts = np.arange(first, first + len(rows), dtype=np.uint64) * np.uint64(block)
    wrong = np.flatnonzero((rows["first"] != firsts) | (rows["count"] != block))
    return int(wrong[0]) if len(wrong) else len(rows)
