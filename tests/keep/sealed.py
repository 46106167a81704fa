"""Sealed traces for tests: one with samples, and one of arbitrary bytes where only bytes matter."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labd.trace.layout import PARQUET
from labd.trace.seal import SEALED_FILES, Seal, SealState


def arbitrary_trace(traces_dir: Path, trace_id: str = "t1", *, size: int = 100_000, seed: int = 1) -> Path:
    """Files with arbitrary contents, `size` bytes of samples, and a seal that fits them."""
    folder = traces_dir / trace_id
    folder.mkdir(parents=True)
    source = random.Random(seed)
    digests = {}
    for name in SEALED_FILES:
        data = source.randbytes(size if name == PARQUET else 1000)
        (folder / name).write_bytes(data)
        digests[name] = hashlib.sha256(data).hexdigest()
    seal = Seal.model_validate({"trace_id": trace_id, "state": SealState.SEALED, "rows": 1, "sha256": digests})
    (folder / "seal.json").write_bytes(seal.encode())
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@contextmanager
def damaged(file: Path) -> Iterator[None]:
    """A file with one bit wrong."""
    data = file.read_bytes()
    middle = len(data) // 2
    file.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    try:
        yield
    finally:
        file.write_bytes(data)
