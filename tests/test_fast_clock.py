"""The fast clock shows the same time to all who are given its anchor, and sleeps as fast as it runs."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from labd.clock import Clock
from tests.deadline import HUNG_S
from tests.fast_clock import Anchor, FastClock

START = datetime(2026, 3, 20, 12, tzinfo=UTC)


async def test_a_day_passes_in_a_moment() -> None:
    clock: Clock = FastClock(Anchor.here(START, 86_400 / 0.05))
    began = time.monotonic()
    await clock.sleep(86_400)
    assert clock.now() - START >= timedelta(days=1)
    assert time.monotonic() - began < HUNG_S


def test_one_that_is_made_later_from_the_same_anchor_shows_the_same_time() -> None:
    anchor = Anchor(START, 1_000.0, time.monotonic() - 3.6)
    early = FastClock(anchor).now()
    late = FastClock(anchor).now()
    assert timedelta(0) <= late - early < timedelta(minutes=5)
    assert early >= START + timedelta(hours=1)


def test_one_that_was_set_goes_on_from_there() -> None:
    clock = FastClock(Anchor.here(START, 1.0))
    passed_s = clock.passed_s()
    clock.set(START - timedelta(hours=1))
    assert clock.passed_s() - passed_s < 5
    assert timedelta(0) <= clock.now() - (START - timedelta(hours=1)) < timedelta(seconds=5)
