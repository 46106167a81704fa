"""Bursts of the sync load: what is journalled is what the edge source saw, and an edge that is wrong ends the run."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drivers.api import DeviceError, Edge, EdgesLostError, EdgeSource, Level
from labd.bench import sync_load as module
from labd.bench.failure import RunFailedError
from labd.bench.sync_load import sync_load
from labd.config import Load, Timing, burst
from labd.model.causes import Cause
from labd.trace.journal import LoadPulse, read_journal
from labd.trace.recorder import TraceRecorder
from tests.trace.recording import make_meta

PERIOD_S = 204.8e-6
WIRED = Timing(instrument="stamps", pin=0, load=Load(pin=14, ohm=330))


@dataclass
class Stamps:
    """An edge source whose 1 MHz clock goes on by `step` ticks each time that it is asked, and by each pulse's width.

    Args:
        step: Ticks between two questions; 0 makes a clock that stands.
        spoil: What becomes of the two edges of a pulse on their way, by its number.
    """

    step: int = 100
    spoil: Callable[[int, list[Edge]], list[Edge]] = lambda number, edges: edges
    tick_rate_hz: float = 1e6
    clock_ppm: float = 50.0
    ticks: int = 1000
    done: list[str] = field(default_factory=list)
    watched: set[int] = field(default_factory=set)
    pulses: int = 0
    lost: bool = False
    _queue: asyncio.Queue[Edge | None] = field(default_factory=asyncio.Queue)
    _sequence: itertools.count[int] = field(default_factory=itertools.count)

    @asynccontextmanager
    async def watch(self, pins: frozenset[int]) -> AsyncIterator[AsyncIterator[Edge]]:
        self.done.append(f"watch {sorted(pins)}")
        self.watched |= pins
        try:
            yield self._edges()
        finally:
            self.watched -= pins

    async def _edges(self) -> AsyncIterator[Edge]:
        while (edge := await self._queue.get()) is not None:
            yield edge

    async def settle(self) -> int:
        if self.lost:
            raise EdgesLostError("dropped 1 edges")
        self.ticks += self.step
        return self.ticks

    async def idle(self, pin: int, level: Level) -> None:
        self.done.append(f"idle {pin} {level.word}")

    async def pulse(self, pin: int, width_s: float, active: Level = Level.HIGH) -> None:
        if width_s > 1.0:
            raise DeviceError("too wide")
        on, self.ticks = self.ticks, self.ticks + round(width_s * self.tick_rate_hz)
        edges = [Edge(pin, level, at, next(self._sequence)) for level, at in ((1, on), (0, self.ticks))]
        for edge in self.spoil(self.pulses, edges):
            await self._queue.put(edge)
        self.pulses += 1

    def end(self) -> None:
        self._queue.put_nowait(None)


async def pulsed(folder: Path, source: Stamps, period_s: float = PERIOD_S, timing: Timing = WIRED) -> list[LoadPulse]:
    """One burst; what the journal then says."""
    assert isinstance(source, EdgeSource)
    recorder = await TraceRecorder.start(folder, make_meta())
    try:
        async with sync_load(source, timing, recorder, period_s) as load:
            if load is not None:
                await load.pulse()
    finally:
        await recorder.close()
    return [record for record in read_journal(recorder.folder) if isinstance(record, LoadPulse)]


async def test_a_burst_is_journalled_as_it_was_seen_with_room_around_each_pulse(tmp_path: Path) -> None:
    source = Stamps()
    begun = source.ticks
    pulses = await pulsed(tmp_path, source)
    shape = burst(PERIOD_S)
    assert [pulse.pin for pulse in pulses] == [14] * 4
    assert [pulse.off_ticks - pulse.on_ticks for pulse in pulses] == [5000, 6250, 7500, 8750]
    assert pulses[0].on_ticks - begun >= 1e6 * shape.before_s
    fences = [*(pulse.on_ticks for pulse in pulses[1:]), source.ticks]
    for pulse, pause_s, fence in zip(pulses, shape.pauses_s, fences, strict=True):
        assert fence - pulse.off_ticks >= 1e6 * pause_s
        assert fence - pulse.off_ticks <= 1e6 * pause_s + 2 * source.step
    assert source.done == ["idle 14 low", "watch [14]"]  # at rest before it is watched: on the way there it may fall
    assert not source.watched


async def test_without_a_load_nothing_is_asked_of_the_source(tmp_path: Path) -> None:
    source = Stamps()
    assert await pulsed(tmp_path, source, timing=Timing(instrument="stamps", pin=0)) == []
    assert source.done == []


def only_rise(number: int, edges: list[Edge]) -> list[Edge]:
    return edges[:1] if number == 2 else edges


def none_at_all(number: int, edges: list[Edge]) -> list[Edge]:
    return []


def fall_first(number: int, edges: list[Edge]) -> list[Edge]:
    return edges[::-1] if number == 1 else edges


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come is not waited for long; the clock's steps are so large that a pause is over at one look."""
    monkeypatch.setattr(module, "EDGE_S", 1.0)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("spoil", "cause", "says", "journalled"),
    [
        (only_rise, Cause.EDGES_MISSING, "the fall of the load's pin 14 was not reported within", 2),
        (none_at_all, Cause.EDGES_MISSING, "the rise of the load's pin 14 was not reported within", 0),
        (fall_first, Cause.EDGES_EXTRA, "the load's pin 14 went low where it had to go high", 1),
    ],
)
async def test_an_edge_that_is_missing_or_wrong_ends_the_run(
    spoil: Callable[[int, list[Edge]], list[Edge]],
    cause: Cause,
    says: str,
    journalled: int,
    tmp_path: Path,
) -> None:
    source = Stamps(step=10_000, spoil=spoil)
    recorder = await TraceRecorder.start(tmp_path, make_meta())
    async with sync_load(source, WIRED, recorder, PERIOD_S) as load:
        assert load is not None
        with pytest.raises(RunFailedError, match=says) as caught:
            await load.pulse()
    await recorder.close()
    assert caught.value.cause is cause
    assert sum(isinstance(record, LoadPulse) for record in read_journal(recorder.folder)) == journalled


@pytest.mark.usefixtures("hasty")
async def test_a_clock_that_stands_does_not_hold_the_run_for_ever(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="clock did not go on") as caught:
        await pulsed(tmp_path, Stamps(step=0))
    assert caught.value.cause is Cause.INSTRUMENT_NONSENSE


async def test_a_source_that_lost_edges_or_ended_its_watch_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(EdgesLostError):
        await pulsed(tmp_path / "lost", Stamps(lost=True))
    source = Stamps(spoil=none_at_all)
    source.end()
    with pytest.raises(RunFailedError, match="the watch of the load's pin 14 ended by itself"):
        await pulsed(tmp_path / "ended", source)


async def test_a_pulse_that_the_source_cannot_make_is_its_refusal(tmp_path: Path) -> None:
    source = Stamps(step=10_000)
    with pytest.raises(DeviceError, match="too wide"):
        await pulsed(tmp_path, source, period_s=0.06)
    assert source.pulses == 2  # 0.72 and 0.9 s
