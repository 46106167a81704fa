"""Parameters of a typical request of each verb that has some; they are checked against the schemas."""

from __future__ import annotations

from typing import Any

PARAMS: dict[str, dict[str, Any]] = {
    "job.submit": {
        "benchmark": "digits01",
        "mode": "energy",
        "board": {"tags": ["cortex-m4f"]},
        "trials": 5,
        "labels": {"campaign": "paper"},
    },
    "job.cancel": {"id": 6},
    "job.get": {"id": 6},
    "job.list": {"state": "queued", "limit": 20},
    "board.list": {},
    "trace.list": {"board": "l4r5zi-1"},
    "trace.get": {"id": "20261123T154320-j6-r7"},
    "trace.pin": {"id": "20261123T154320-j6-r7", "reason": "odd spike"},
    "trace.unpin": {"id": "20261123T154320-j6-r7"},
    "trace.gc": {"dry_run": True},
    "audit.list": {"requester": "ada", "kind": "job", "subject": "6"},
}
