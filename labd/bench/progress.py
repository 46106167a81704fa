"""How far the runs have come, for whoever wants to look: runs write, watchers wait for a change.

Progress is news, not record: nothing here is committed, and a watcher that is slow sees the latest state only.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from labd.model.states import RunStep


@dataclass(frozen=True, slots=True)
class Progress:
    """Where one run stands.

    Args:
        job_id, run_id, board_id: Which run.
        step: Step of the bench procedure.
        trial: Number of the trial under way, from 1; 0 before the first.
        trials: Trials (or inputs, in accuracy mode) of the run.
        share: Share of the run that is done, 0 to 1.
        samples: Samples recorded so far.
        rate_hz: Sample rate of the capture, Hz; 0 where nothing is captured.
    """

    job_id: int
    run_id: int
    board_id: str
    step: RunStep
    trial: int = 0
    trials: int = 0
    share: float = 0.0
    samples: int = 0
    rate_hz: float = 0.0


class ProgressFeed:
    """The latest progress of every run under way."""

    def __init__(self) -> None:
        self._latest: dict[int, Progress] = {}
        self._changed = asyncio.Event()

    def report(self, progress: Progress) -> None:
        """Replace what is known of a run."""
        self._latest[progress.run_id] = progress
        self._changed.set()

    def end(self, run_id: int) -> None:
        """Forget a run that has ended."""
        self._latest.pop(run_id, None)

    def snapshot(self) -> dict[int, Progress]:
        """Latest progress by run id."""
        return dict(self._latest)

    async def changed(self) -> None:
        """Wait until something was reported since the last call; one waiter at a time."""
        await self._changed.wait()
        self._changed.clear()
