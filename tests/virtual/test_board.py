"""A virtual board behaves as one on a desk: power, flash, UART, pins and current."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import numpy as np
import psutil
import pytest

from labd.virtual.activity import PowerProfile
from labd.virtual.board import BoardFault
from labd.virtual.world import UnpoweredError
from tests.virtual.conftest import Bench, Host, until

OpenBench = Callable[..., AbstractAsyncContextManager[Bench]]
PERFORMANCE = "performance"
ENERGY = "energy"


async def window(bench: Bench, host: Host, inferences: int = 200) -> tuple[float, float]:
    """Infer, and return when the window opened and closed."""
    before = len(bench.falls())
    await host.infer(inferences)
    opened, closed = bench.falls()[before : before + 2]
    return opened, closed


async def test_no_power_no_answer_and_power_gives_the_banner(bench_of: OpenBench, images: dict[str, bytes]) -> None:
    async with bench_of() as bench:
        bench.board.load_image(images[PERFORMANCE])
        host = Host(bench.board.port, 115200)
        host.line.write(b"name%")
        assert await host.silence(0.2) == b""
        bench.power(3.0)
        assert (await host.read_until(b"m-ready\r\n")).startswith(b"m-timestamp-mode-performance\r\n")
        assert b"m-name-dut-[" in await host.ask(b"name")
        bench.power(0.0)
        assert bench.board.pid is None
        host.line.write(b"name%")
        assert await host.silence(0.2) == b""
        bench.power(3.0)
        await host.read_until(b"m-ready\r\n")
        host.line.close()


async def test_the_rail_takes_its_time_to_empty(bench_of: OpenBench) -> None:
    profile = PowerProfile(capacitance_f=20e-6, bleed_ohm=10e3)
    async with bench_of(profile=profile) as bench:
        bench.power(3.0)
        await bench.pass_time(0.5)
        assert bench.board.terminal(bench.clock.now())[0] == pytest.approx(3.0, abs=1e-3)
        off_s = bench.power(0.0)
        await bench.pass_time(3.0)
        edges = off_s + np.array([0.2, 0.2001, 0.4, 0.4001])
        _, volts = bench.board.means(edges)
        assert volts[0] == pytest.approx(3.0 * np.exp(-1), rel=0.05)
        assert volts[2] == pytest.approx(3.0 * np.exp(-2), rel=0.05)
        assert bench.board.terminal(bench.clock.now())[0] < 2e-3


async def test_switching_on_draws_the_charge_of_the_rail(bench_of: OpenBench) -> None:
    profile = PowerProfile(idle_a=1e-9, off_a=0.0)
    for limit_a in (10.0, 0.02):
        async with bench_of(profile=profile) as bench:
            on_s = bench.power(3.0, limit_a)
            await bench.pass_time(0.5)
            edges = np.linspace(on_s, on_s + 0.05, 5001)
            amps, volts = bench.board.means(edges)
            assert float(np.sum(amps * np.diff(edges))) == pytest.approx(3.0 * profile.capacitance_f, rel=1e-3)
            assert amps.max() <= limit_a * (1 + 1e-9)
            assert volts[-1] == pytest.approx(3.0)


async def test_brown_out_resets_and_the_board_comes_back(bench_of: OpenBench, images: dict[str, bytes]) -> None:
    async with bench_of() as bench:
        host = await bench.boot(images[PERFORMANCE], 115200)
        first = bench.board.pid
        bench.power(1.2)
        await until(lambda: bench.board.pid is None)
        bench.power(3.0)
        await host.read_until(b"m-ready\r\n")
        assert bench.board.pid != first
        bench.power(3.0, limit_a=2e-3)  # enough to sleep, not to work
        host.line.write(b"name%")
        await until(lambda: bench.board.pid is None)
        bench.power(3.0, limit_a=0.15)
        await host.read_until(b"m-ready\r\n")
        host.line.close()


async def test_a_wrong_rate_gives_garbage_and_never_an_answer(bench_of: OpenBench, images: dict[str, bytes]) -> None:
    async with bench_of() as bench:
        bench.board.load_image(images[PERFORMANCE])
        host = Host(bench.board.port, 9600)
        bench.power(3.0)
        await until(lambda: host.line.in_waiting > 20)
        seen = await host.silence(0.3)
        assert b"m-" not in seen
        host.line.write(b"name%")
        assert b"m-name" not in await host.silence(0.3)
        host.line.close()


async def test_current_follows_what_the_board_does(bench_of: OpenBench, images: dict[str, bytes]) -> None:
    profile = PowerProfile()
    async with bench_of(profile=profile) as bench:
        host = await bench.boot(images[ENERGY], 9600)
        opened, closed = await window(bench, host)
        await bench.pass_time(0.1)
        amps, volts = bench.board.means(np.array([opened, closed]))
        assert profile.pool_a < amps[0] < profile.conv_a
        asleep, _ = bench.board.means(bench.clock.now() - np.array([0.02, 0.01]))
        assert asleep[0] == pytest.approx(profile.idle_a)
        power_w = bench.board.energy(opened, closed) / (closed - opened)
        assert power_w == pytest.approx(float(amps[0] * volts[0]), rel=1e-3)
        host.line.close()


async def test_windows_last_the_same_cycles_whatever_the_speed(bench_of: OpenBench, images: dict[str, bytes]) -> None:
    lengths = []
    for speed, ppm in ((1.0, 0.0), (20.0, 0.0), (20.0, 40.0)):
        async with bench_of(speed=speed, crystal_ppm=ppm) as bench:
            host = await bench.boot(images[ENERGY], 9600)
            opened, closed = await window(bench, host, inferences=20)
            lengths.append(closed - opened)
            host.line.close()
    assert lengths[0] == pytest.approx(lengths[1], abs=1e-11)
    assert lengths[2] * (1 + 40e-6) == pytest.approx(lengths[0], rel=1e-9)


async def test_flashing_halts_and_reset_starts_the_new_image(bench_of: OpenBench, images: dict[str, bytes]) -> None:
    async with bench_of() as bench:
        with pytest.raises(UnpoweredError):
            bench.board.flash_read()
        host = Host(bench.board.port, 115200)
        bench.power(3.0)
        assert bench.board.flash_read() == b""
        image = images[PERFORMANCE]
        bench.board.flash_write(image)
        assert bench.board.flash_read() == image
        assert bench.board.pid is None
        bench.board.reset()
        await host.read_until(b"m-ready\r\n")
        bench.board.flash_write(images[ENERGY])
        assert bench.board.pid is None
        bench.board.reset()
        host.line.baudrate = 9600
        assert b"energy" in await host.read_until(b"m-ready\r\n")
        host.line.close()


@pytest.mark.parametrize("image", [b"no program at all", b"#!/bin/sh\nexit 0\n", b"#!/bin/sh\nyes\n"])
async def test_an_image_that_is_no_firmware_leaves_a_silent_board(bench_of: OpenBench, image: bytes) -> None:
    async with bench_of() as bench:
        bench.board.load_image(image)
        host = Host(bench.board.port, 115200)
        bench.power(3.0)
        await bench.pass_time(2.0)
        await until(lambda: bench.board.pid is None)
        assert host.line.read(100) == b""
        assert bench.clock.now() - bench.board.horizon() < 1.0
        assert bench.board.terminal(bench.clock.now())[1] == pytest.approx(PowerProfile().idle_a)
        host.line.close()


async def test_sleeping_is_not_busy_and_working_is(bench_of: OpenBench, images: dict[str, bytes]) -> None:
    async with bench_of() as bench:
        host = await bench.boot(images[ENERGY], 9600)
        await bench.pass_time(0.1)
        before = bench.board.busy_s()
        await bench.pass_time(2.0)
        assert bench.board.busy_s() == before
        start_s = bench.clock.now()
        opened, closed = await window(bench, host)
        spent = bench.board.busy_s() - before
        assert closed - opened < spent < bench.clock.now() - start_s
        host.line.close()


async def test_faults_of_the_window(bench_of: OpenBench, images: dict[str, bytes]) -> None:
    async with bench_of() as bench:
        host = await bench.boot(images[ENERGY], 9600)

        async def falls_seen(fault: BoardFault) -> int:
            bench.board.faults.add(fault)
            before = len(bench.edges)
            await window(bench, host)
            bench.board.faults.discard(fault)
            return sum(edge.level == 0 and edge.seen for edge in bench.edges[before:])

        assert await falls_seen(BoardFault.LOST_EDGE) == 1
        assert await falls_seen(BoardFault.EXTRA_EDGE) == 3
        assert await falls_seen(BoardFault.GARBAGE) == 2
        bench.board.faults.add(BoardFault.REBOOT_IN_WINDOW)
        host.line.write(b"infer 500 0%")
        seen = await host.read_until(b"m-init-done\r\n")
        assert b"m-infer-done" not in seen
        await host.read_until(b"m-ready\r\n")
        bench.board.faults.clear()
        bench.board.faults.add(BoardFault.SILENT)
        host.line.write(b"name%")
        assert await host.silence(0.2) == b""
        host.line.close()


async def test_noise_comes_between_lines_and_spares_them(bench_of: OpenBench, images: dict[str, bytes]) -> None:
    async with bench_of() as bench:
        host = await bench.boot(images[PERFORMANCE], 115200)
        bench.board.faults.add(BoardFault.GARBAGE)
        seen = b"".join([await host.ask(b"profile") for _ in range(20)])
        assert any(byte >= 0x80 for byte in seen)
        clean = bytes(byte for byte in seen if byte < 0x80)
        assert clean.count(b"m-model-[digits01]\r\n") == 20
        host.line.close()


async def test_a_board_that_is_taken_away_leaves_no_process(bench_of: OpenBench, images: dict[str, bytes]) -> None:
    async with bench_of() as bench:
        host = await bench.boot(images[PERFORMANCE], 115200)
        process = psutil.Process(bench.board.pid)
        host.line.close()
    assert not process.is_running()
    assert not bench.board.port.exists()
