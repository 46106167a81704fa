"""The memory of an upload does not grow with the trace."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from labd.trace.layout import PARQUET
from labd.trace.seal import SEALED_FILES, Seal, SealState
from tests.deadline import HUNG_S

MB = 1 << 20
PROGRAM = """
import asyncio, sys, threading
from pathlib import Path
from obstore.store import LocalStore
from labd.keep.archive import Archive

def anonymous_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024

store = LocalStore(sys.argv[2])
idle, most, done = anonymous_mb(), 0.0, threading.Event()

def watch():
    global most
    while not done.wait(0.005):
        most = max(most, anonymous_mb())

watching = threading.Thread(target=watch)
watching.start()
asyncio.run(Archive(store, "file:///archive").put(Path(sys.argv[1])))
done.set()
watching.join()
print(most - idle)
"""


def long_trace(folder: Path, size: int) -> Path:
    """A sealed trace whose samples are `size` zeros: they take no room here."""
    folder.mkdir(parents=True)
    digests = {}
    for name in SEALED_FILES:
        with (folder / name).open("w+b") as file:
            file.truncate(size if name == PARQUET else 1000)
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    seal = Seal.model_validate({"trace_id": folder.name, "state": SealState.SEALED, "rows": 1, "sha256": digests})
    (folder / "seal.json").write_bytes(seal.encode())
    return folder


def test_four_hundred_megabytes_take_no_more_than_a_few_parts(tmp_path: Path) -> None:
    folder, archive = long_trace(tmp_path / "t1", 400 * MB), tmp_path / "archive"
    archive.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(archive)],
        capture_output=True,
        check=True,
        text=True,
        timeout=HUNG_S,
    )
    assert float(ran.stdout) < 100
    assert (archive / "t1" / PARQUET).stat().st_size == 400 * MB
