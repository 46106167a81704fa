"""A switched resistor on a channel: the analyzer and the current limit see it, the board's true energy does not."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.analyzers.n6705c_mainframe import N6705COptions
from drivers.api import Block, CaptureRequest, Level, Quantity, SupplyLimits, TriggerSource, find_drivers
from drivers.timestamp.labd_timestamper import TimestamperOptions
from labd.errors import ConfigError
from labd.virtual.config import RackConfig, parse_rack
from labd.virtual.control import FaultRequest
from labd.virtual.rack import VirtualRack
from labd.virtual.sync_load import SyncLoad
from labd.virtual.world import Floats, RackClock
from tests.deadline import HUNG_S
from tests.virtual.loads import SquareLoad
from tests.virtual.test_rack import ONE_BOARD

LOADED = ONE_BOARD + 'load = {{ timestamper = "stamps-1", pin = 14, ohm = 330 }}\n'


def loaded(
    *, ohm: float = 100.0, supply_ohm: float = 0.0, known_s: float = math.inf, stuck: bool = False
) -> tuple[SyncLoad, SquareLoad]:
    """A square wave of 10 to 20 mA with the resistor across it, on 3 V from 0 s on."""
    board = SquareLoad(RackClock(), low_a=0.01, high_a=0.02)
    load = SyncLoad(board, ohm=ohm, supply_ohm=supply_ohm, switch_s=1e-6, known_s=lambda: known_s, stuck=lambda: stuck)
    load.supply(0.0, 3.0, 1.0)
    return load, board


def overlap_s(edges_s: Floats, on_s: float, off_s: float) -> Floats:
    return np.clip(np.minimum(edges_s[1:], off_s) - np.maximum(edges_s[:-1], on_s), 0.0, None)


@given(on_s=st.floats(1.0, 1.02), width_s=st.floats(1e-5, 0.02), period_s=st.sampled_from([5e-6, 204.8e-6, 0.01]))
def test_a_pulse_adds_voltage_over_resistance_for_its_share_of_each_interval(
    on_s: float, width_s: float, period_s: float
) -> None:
    load, board = loaded()
    load.drive(1, on_s)
    load.drive(0, on_s + width_s)
    edges_s = np.arange(0.99, 1.05, period_s)
    amps, volts = load.means(edges_s)
    alone_a, alone_v = board.means(edges_s)
    share = overlap_s(edges_s, on_s + 1e-6, on_s + width_s + 1e-6) / period_s
    np.testing.assert_allclose(amps - alone_a, share * 3.0 / 100.0, atol=1e-9)
    np.testing.assert_allclose(volts, alone_v, rtol=1e-9)
    top_a, _ = load.largest(edges_s)
    assert (top_a >= amps - 1e-9).all()


def test_the_supplys_own_resistance_lowers_the_terminals_as_kirchhoff_says() -> None:
    load, _ = loaded(ohm=100.0, supply_ohm=2.0)
    load.drive(1, 1.0)
    volts, amps, _ = load.terminal(1.5)
    drawn_a = amps - load._wired.terminal(1.5)[1]
    assert volts == pytest.approx(3.0 - 2.0 * drawn_a)
    assert drawn_a == pytest.approx(volts / 100.0)


def test_the_current_limit_holds_board_and_load_together() -> None:
    load, _ = loaded()
    load.supply(0.5, 3.0, 0.025)
    assert load.terminal(0.9) == (3.0, 0.01 + 0.01 * (0.9 % 0.01 < 0.005), False)
    load.drive(1, 1.0)
    volts, amps, limited = load.terminal(1.1)
    assert (amps, limited) == (0.025, True)
    assert volts < 3.0
    load.drive(0, 2.0)
    assert not load.terminal(2.1)[2]


def test_nothing_flows_while_the_output_is_off_or_the_switch_is_stuck() -> None:
    edges_s = np.linspace(1.0, 2.0, 50)
    off, board = loaded()
    off.supply(0.9, 0.0, 1.0)
    off.drive(1, 0.95)
    np.testing.assert_allclose(off.means(edges_s)[0], board.means(edges_s)[0])
    stuck, board = loaded(stuck=True)
    stuck.drive(1, 0.95)
    np.testing.assert_allclose(stuck.means(edges_s)[0], board.means(edges_s)[0])


def test_nothing_is_known_beyond_a_level_that_may_still_change() -> None:
    load, board = loaded(known_s=0.0)
    board.clock = RackClock(speed=1000.0)
    assert load.horizon() == 0.0


def one_board(folder: Path) -> RackConfig:
    return parse_rack(LOADED.format(seed=4)).in_folder(folder)


async def test_the_analyzer_sees_the_load_as_long_as_its_pin_was_high_and_the_truth_does_not(tmp_path: Path) -> None:
    drivers = find_drivers()
    async with VirtualRack(one_board(tmp_path)) as rack:
        load, seat = rack.loads["board-1"], rack.seats["board-1"]
        assert 0 < abs(load.ohm / 330 - 1) <= 0.05
        assert 0 <= load.switch_s <= 2e-6
        ends, blocks = rack.endpoints, list[Block]()
        resource = f"TCPIP::127.0.0.1::{ends.analyzers['psu-1']}::SOCKET"
        stamper_options = TimestamperOptions(port=str(ends.timestampers["stamps-1"]))
        async with (
            drivers["keysight-n6705c"].open(N6705COptions(resource=resource, channels=(1,))) as analyzer,
            drivers["labd-timestamper"].open(stamper_options) as stamper,
        ):
            await stamper.idle(14, Level.LOW)
            await analyzer.set_limits(1, SupplyLimits(voltage_max_v=3.6, current_max_a=0.1))
            await analyzer.set_voltage(1, 3.0)
            await analyzer.output_on(1)
            request = CaptureRequest((Quantity.CURRENT, Quantity.VOLTAGE), None, 0.1, 3.6, TriggerSource.IMMEDIATE)
            setup = await analyzer.configure(1, request)
            async with stamper.watch(frozenset({14})) as edges, asyncio.timeout(HUNG_S):
                await analyzer.arm(1)
                streaming = asyncio.create_task(analyzer.stream(1, blocks.append))
                begun_s = rack.clock.now()
                await stamper.pulse(14, 0.05)
                on, off = await anext(edges), await anext(edges)
                while await stamper.settle() < off.ticks + 25e6 * 0.02:
                    await asyncio.sleep(1e-3)
                ended_s = rack.clock.now()
                await analyzer.stop(1)
                await streaming
            await analyzer.output_off(1)
        amps = np.concatenate([block.columns[Quantity.CURRENT] for block in blocks]).astype(float)
        high = amps > amps.min() + 0.5 * 3.0 / 330
        assert np.count_nonzero(np.diff(high.astype(int))) == 2
        assert np.count_nonzero(high) * setup.period_s == pytest.approx((off.ticks - on.ticks) / 25e6, abs=5e-4)
        assert amps[high][1:-1].mean() - amps[~high][-5:].mean() == pytest.approx(3.0 / load.ohm, rel=2e-3)
        idle_w = 3.0 * amps[~high][-5:].mean()
        assert seat.board.energy(begun_s, ended_s) == pytest.approx(idle_w * (ended_s - begun_s), rel=0.05)


async def test_a_switch_that_is_stuck_is_a_fault_of_its_board(tmp_path: Path) -> None:
    async with VirtualRack(one_board(tmp_path)) as rack:
        load = rack.loads["board-1"]
        load.supply(rack.clock.now(), 3.0, 0.1)
        for on in (True, False):
            rack.answer(FaultRequest(op="fault", device="board-1", name="load_stuck", on=on))
            idle_a = load.terminal(at_s := rack.clock.now())[1]
            load.drive(1, at_s)
            assert (load.terminal(at_s + 1e-3)[1] > idle_a + 5e-3) is not on
            load.drive(0, at_s)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("pin = 14", "pin = 15", "pin 15 of stamps-1 is used 2 times"),
        ("pin = 14", "pin = 5", "pin 5 puts out no pulses"),
        ('load = { timestamper = "stamps-1"', 'load = { timestamper = "stamps-2"', "not on one timestamper"),
        ("ohm = 330", "ohm = 0", "greater than 0"),
    ],
)
def test_a_load_that_cannot_be_wired_is_refused(old: str, new: str, words: str) -> None:
    text = LOADED.format(seed=4)
    assert old in text
    with pytest.raises(ConfigError, match=words):
        parse_rack(text.replace(old, new))
