"""A program that imports a session as the daemon does, and is killed by the kernel at a chosen line of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from labd.service.answer import answer
from labd.service.sender import sender_of
from labd.service.sessions.importing import sweep_imports
from tests.service.labs import open_lab

WATCHED = (
    "labd/service/sessions/importing.py",
    "labd/service/sessions/inbox.py",
    "labd/service/sessions/job.py",
    "labd/model/ledger_imports.py",
    "labd/trace/sessions/convert.py",
    "labd/trace/seal.py",
)


class Fuse:
    """Counts the lines of the import that were reached; at the chosen one the process is gone."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.lines = 0

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith(WATCHED):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.trace


async def work(folder: Path, digest: str, fuse: Fuse) -> None:
    async with open_lab(folder) as (lab, _):
        await sweep_imports(lab.database, lab.config.lab.data_dir, lab.config.traces_dir)
        threading.settrace(fuse.trace)
        sys.settrace(fuse.trace)
        payload = json.dumps({"request_id": "r1", "client": "ada", "params": {"session": digest}}).encode()
        reply = await answer(lab, "trace.import", payload, sender_of(payload))
        sys.settrace(None)
        print(json.dumps({"ok": reply.ok, "result": reply.result, "lines": fuse.lines}))


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2], Fuse(int(sys.argv[3]))))
