"""The end of a capture is bracketed where both clocks can be had; the samples are in whatever the edge source does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from drivers.api import DeviceError, DriverError, EdgesLostError, EdgeSource, PowerAnalyzer
from labd.bench.run import Run
from labd.bench.stopping import end_bracketed
from labd.errors import LabError
from labd.trace.journal import Bracket, read_journal
from labd.trace.recorder import TraceRecorder
from tests.trace.recording import make_meta

PERIOD_S = 1e-3
TICKS_HZ = 1e6


@dataclass
class Logger:
    """An analyzer that streams until it is stopped, and says how many samples came; `fails` is what breaks it off."""

    samples: int = 500
    fails: DriverError | None = None
    stops: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self) -> int:
        await self._stop.wait()
        if self.fails is not None:
            raise self.fails
        return self.samples

    async def stop(self, channel: int) -> None:
        self.stops += 1
        self._stop.set()

    def end(self) -> None:
        """End by itself."""
        self._stop.set()


@dataclass
class Ticks:
    """An edge source whose clock goes on by 1000 ticks a question, until it has answered `answers` of them."""

    answers: int = 100
    ticks: int = 600_000
    tick_rate_hz: float = TICKS_HZ
    slow: bool = False

    async def settle(self) -> int:
        for _ in range(10 * self.slow):  # others get their turn meanwhile
            await asyncio.sleep(0)
        if not self.answers:
            raise EdgesLostError("dropped 1 edges")
        self.answers -= 1
        self.ticks += 1000
        return self.ticks


async def ended(
    folder: Path, logger: Logger, ticks: Ticks, *, begun: bool = True
) -> tuple[LabError | DriverError | None, list[Bracket], list[str]]:
    """End a capture: what was returned, the brackets in its journal, and the instruments that are in doubt."""
    doubted: list[str] = []
    run = SimpleNamespace(
        plan=SimpleNamespace(board=SimpleNamespace(measure=SimpleNamespace(instrument="psu-1", channel=1))),
        bench=SimpleNamespace(devices=SimpleNamespace(doubt=doubted.append)),
    )
    recorder = await TraceRecorder.start(folder, make_meta())
    stream = asyncio.create_task(logger.stream()) if begun else None
    returned = await end_bracketed(
        cast(Run, run),
        cast(PowerAnalyzer, logger),
        stream,
        recorder,
        cast(EdgeSource, ticks),
        period_s=PERIOD_S,
    )
    assert stream is None or stream.done()
    await recorder.close()
    return returned, [each for each in read_journal(recorder.folder) if isinstance(each, Bracket)], doubted


async def test_the_last_sample_ended_at_most_a_period_before_the_stop_and_before_the_stream_returned(
    tmp_path: Path,
) -> None:
    logger = Logger()
    returned, brackets, doubted = await ended(tmp_path, logger, Ticks())
    assert returned is None
    assert brackets == [Bracket(sample=500, earliest_ticks=601_000 - 1000, latest_ticks=602_000)]
    assert (logger.stops, doubted) == (1, [])


@pytest.mark.parametrize("answers", [0, 1])
async def test_an_edge_source_that_fails_is_told_of_when_the_samples_are_in(answers: int, tmp_path: Path) -> None:
    logger = Logger()
    returned, brackets, doubted = await ended(tmp_path, logger, Ticks(answers))
    assert isinstance(returned, EdgesLostError)
    assert (brackets, logger.stops, doubted) == ([], 1, [])


async def test_a_stream_that_broke_off_has_no_bracket(tmp_path: Path) -> None:
    logger = Logger(fails=DeviceError("the log ended"))
    returned, brackets, _ = await ended(tmp_path, logger, Ticks())
    assert (returned, brackets) == (None, [])
    assert logger.stops == 2


async def test_a_stream_that_ends_by_itself_while_the_clock_is_asked_has_no_bracket(tmp_path: Path) -> None:
    logger = Logger()
    logger.end()
    returned, brackets, _ = await ended(tmp_path, logger, Ticks(slow=True))
    assert (returned, brackets) == (None, [])


async def test_a_capture_whose_stream_was_not_begun_is_stopped_all_the_same(tmp_path: Path) -> None:
    logger, ticks = Logger(), Ticks()
    returned, brackets, _ = await ended(tmp_path, logger, ticks, begun=False)
    assert (returned, brackets, logger.stops) == (None, [], 1)
