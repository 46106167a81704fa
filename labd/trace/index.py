"""The index of the hot samples: 64 bytes for each batch, written before the batch itself.

An entry says which samples a batch holds, where in `samples.arrow` it lies and what its columns hash to. So a reader
finds a batch without reading those before it, and knows after a crash whether the batch is the one that was meant:
one that was never written, or only in part, does not have that digest. `journal` says how much of the journal had been
written by then: a mark that is lost is never missed silently. `durable` says how many samples a power cut could not
touch any more when the entry was written: up to there nothing has to be checked.

The last entry of a closed trace holds no samples; it points at the end of the stream, all samples are durable, and its
digest is that of the journal.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from labd.trace.files import TraceFiles
from labd.trace.layout import INDEX

_BODY = struct.Struct("<7Q")
_NAMES = ("first", "count", "offset", "length", "journal", "durable", "digest", "check")
ENTRY = np.dtype([(name, "<u8") for name in _NAMES])
"""An entry as it lies in the file; eight fit a sector of a disk, and none lies across two."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch.

    Args:
        first: Index of its first sample.
        count: Its samples; 0 in the entry that closes a trace.
        offset: Where its message begins in `samples.arrow`.
        length: Bytes of the message.
        journal: Bytes of whole lines that the journal held when the batch was written.
        durable: Samples of the trace that were durable then, with all that belongs to them.
        digest: `digest_of` its columns; in the entry that closes a trace, that of the journal.
    """

    first: int
    count: int
    offset: int
    length: int
    journal: int
    durable: int
    digest: int

    @property
    def stop(self) -> int:
        """Index of the sample after its last one."""
        return self.first + self.count

    @property
    def end(self) -> int:
        """Where its message ends."""
        return self.offset + self.length

    def encode(self) -> bytes:
        """The 64 bytes of the entry: its figures, and XXH3 of these."""
        body = _BODY.pack(self.first, self.count, self.offset, self.length, self.journal, self.durable, self.digest)
        return body + xxhash.xxh3_64_intdigest(body).to_bytes(8, "little")

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Entry | None:
        """The entry of 64 bytes; None if they are not as they were written."""
        if xxhash.xxh3_64_intdigest(data[: _BODY.size]) != int.from_bytes(data[_BODY.size :], "little"):
            return None
        return cls(*_BODY.unpack(data[: _BODY.size]))


def digest_of(columns: Iterable[npt.NDArray[Any]]) -> int:
    """XXH3 (64 bits) over the bytes of contiguous columns, in their order."""
    state = xxhash.xxh3_64()
    for values in columns:
        state.update(values.data)
    return state.intdigest()


class Index:
    """The entries of a hot trace as they were when it was opened."""

    def __init__(self, files: TraceFiles) -> None:
        """Raises `FileMissingError` if there is no index."""
        count = files.size(INDEX) // ENTRY.itemsize
        self._bytes = files.span(INDEX, 0, count * ENTRY.itemsize)
        self.entries: npt.NDArray[np.void] = np.frombuffer(self._bytes, dtype=ENTRY)
        """All whole entries, right or not, shape (n,), dtype `ENTRY`."""

    def __len__(self) -> int:
        return len(self.entries)

    def entry(self, number: int) -> Entry | None:
        """One entry; None if it is not as it was written."""
        return Entry.decode(self._bytes[number * ENTRY.itemsize : (number + 1) * ENTRY.itemsize])

    def last(self) -> tuple[int, Entry] | None:
        """The last entry that is as it was written, with its number."""
        for number in range(len(self) - 1, -1, -1):
            entry = self.entry(number)
            if entry is not None:
                return number, entry
        return None

    def durable(self) -> tuple[int, int]:
        """How many entries, and samples, need no check: what the last entry knows to be durable."""
        last = self.last()
        if last is None:
            return 0, 0
        for number in range(last[0], -1, -1):
            entry = self.entry(number)
            if entry is not None and entry.stop <= last[1].durable:
                return (number + 1, entry.stop) if entry.stop == last[1].durable else (0, 0)
        return 0, 0
