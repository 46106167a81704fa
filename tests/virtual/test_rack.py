"""A rack with the real firmware, seen through its ports alone, and what only the rack knows."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import serial

from drivers.analyzers.n6705c_mainframe import N6705COptions
from drivers.api import Block, CaptureRequest, Edge, Level, Quantity, SupplyLimits, TriggerSource, find_drivers
from drivers.timestamp.labd_timestamper import TimestamperOptions
from labd.config.models import Board as LabBoard
from labd.config.models import Instrument
from labd.errors import ConfigError, NotFoundError, UnreachableError
from labd.virtual.config import RackConfig, demo_rack, load_rack, parse_rack
from labd.virtual.control import AsyncRackControl
from labd.virtual.endpoints import lab_toml, read_endpoints
from labd.virtual.rack import VirtualRack
from tests.deadline import HUNG_S
from tests.virtual.conftest import Host, until

ONE_BOARD = """
[rack]
seed = {seed}
[[analyzer]]
id = "psu-1"
[[timestamper]]
id = "stamps-1"
triggers = ["psu-1"]
[[board]]
id = "board-1"
supply = {{ analyzer = "psu-1", channel = 1 }}
timing = {{ timestamper = "stamps-1", pin = 3 }}
"""
LIMITS = SupplyLimits(voltage_max_v=3.6, current_max_a=0.1)


def one_board(folder: Path, *, speed: float = 5.0, seed: int = 1) -> RackConfig:
    return parse_rack(ONE_BOARD.format(seed=seed)).in_folder(folder).at_speed(speed)


@asynccontextmanager
async def stamps(port: Path) -> AsyncIterator[serial.Serial]:
    line = serial.Serial(str(port), 115200, timeout=0)
    try:
        yield line
    finally:
        line.close()


async def lines_until(line: serial.Serial, count: int) -> list[str]:
    seen = b""

    def arrived() -> bool:
        nonlocal seen
        seen += line.read(4096)
        return seen.count(b"\n") >= count

    await until(arrived)
    return seen.decode().splitlines()


async def scpi(port: int, *commands: str) -> str:
    """Send commands; return the answer to the last if it is a query."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("".join(f"{command}\n" for command in commands).encode())
    answer = await reader.readline() if commands[-1].endswith("?") or "? " in commands[-1] else b""
    await asyncio.sleep(0)
    writer.close()
    await writer.wait_closed()
    return answer.decode().strip()


async def test_energy_measured_through_the_drivers_is_the_true_energy(tmp_path: Path, images: dict[str, bytes]) -> None:
    drivers = find_drivers()
    async with VirtualRack(one_board(tmp_path)) as rack:
        rack.seats["board-1"].board.load_image(images["energy"])
        ends = rack.endpoints
        blocks: list[Block] = []
        resource = f"TCPIP::127.0.0.1::{ends.analyzers['psu-1']}::SOCKET"
        analyzer_options = N6705COptions(resource=resource, channels=(1,))
        stamper_options = TimestamperOptions(port=str(ends.timestampers["stamps-1"]))
        async with (
            drivers["keysight-n6705c"].open(analyzer_options) as analyzer,
            drivers["labd-timestamper"].open(stamper_options) as stamper,
        ):
            host = Host(ends.boards["board-1"].serial, 9600)
            await analyzer.set_limits(1, LIMITS)
            await analyzer.set_voltage(1, 3.0)
            await analyzer.output_on(1)
            await host.read_until(b"m-ready\r\n")
            request = CaptureRequest(
                (Quantity.CURRENT, Quantity.VOLTAGE), None, 0.1, 3.6, trigger=TriggerSource.EXTERNAL
            )
            setup = await analyzer.configure(1, request)
            await stamper.idle(15, Level.HIGH)
            await analyzer.arm(1)
            async with stamper.watch(frozenset({3, 15})) as edges:
                streaming = asyncio.create_task(analyzer.stream(1, blocks.append))
                await stamper.pulse(15, 100e-6, Level.LOW)
                seen: list[Edge] = []
                await host.infer(500)
                async with asyncio.timeout(HUNG_S):
                    while sum(edge.pin == 3 and edge.level == 0 for edge in seen) < 2:
                        seen.append(await anext(edges))
                await analyzer.stop(1)
                await streaming
            await analyzer.output_off(1)
            host.line.close()
        truth = next(w for w in rack.seats["board-1"].truth.windows if w.opened_ticks is not None)
        start = next(edge.ticks for edge in seen if edge.pin == 15 and edge.level == 0)
        opened, closed = [edge.ticks for edge in seen if edge.pin == 3 and edge.level == 0]
        assert (truth.opened_ticks, truth.closed_ticks) == (opened, closed)
        amps = np.concatenate([block.columns[Quantity.CURRENT] for block in blocks]).astype(float)
        volts = np.concatenate([block.columns[Quantity.VOLTAGE] for block in blocks]).astype(float)
        total = np.concatenate(([0.0], np.cumsum(amps * volts * setup.period_s)))
        grid = np.arange(len(total)) * setup.period_s
        low, high = np.interp([(opened - start) / 25e6, (closed - start) / 25e6], grid, total)
        assert truth.duration_s == pytest.approx((closed - opened) / 25e6, rel=2e-4)
        assert high - low == pytest.approx(truth.energy_j, rel=5e-3)


async def test_edges_carry_the_timestampers_own_clock(tmp_path: Path, images: dict[str, bytes]) -> None:
    async with VirtualRack(one_board(tmp_path)) as rack:
        seat, stamper = rack.seats["board-1"], rack.timestampers["stamps-1"]
        seat.board.load_image(images["energy"])
        async with stamps(stamper.port.link) as line:
            line.write(b"start 0x8\n")
            assert (await lines_until(line, 1))[0].startswith("ok start 0x8 *")
            host = Host(seat.board.port, 9600)
            seat.board.supply(rack.clock.now(), 3.0, 0.1)
            await host.read_until(b"m-ready\r\n")
            await host.infer(20)
            seen = [line.split() for line in await lines_until(line, 7)]
            host.line.close()
        assert [int(words[1]) for words in seen] == list(range(7))
        falls = [int(words[4]) for words in seen if words[3] == "0"]
        windows = list(seat.truth.windows)
        assert [(window.opened_ticks, window.closed_ticks) for window in windows] == [
            (falls[0], falls[1]),
            (falls[1], falls[2]),
        ]
        for window in windows:
            assert window.closed_ticks is not None
            assert window.opened_ticks is not None
            span_s = (window.closed_ticks - window.opened_ticks) / (25e6 * (1 + 1e-6 * stamper.ppm))
            assert span_s == pytest.approx(window.duration_s, abs=2e-7)


async def test_faults_of_the_timestamper_show_in_its_lines(tmp_path: Path) -> None:
    async with VirtualRack(one_board(tmp_path)) as rack:
        stamper = rack.timestampers["stamps-1"]
        control = AsyncRackControl(rack.endpoints.control)
        async with stamps(stamper.port.link) as line:
            line.write(b"id\nstart 0x8000\nbogus\nstart zz\npulse 3 10\npulse 15 10\nidle 15 2\npulse 15 0\n")
            replies = await lines_until(line, 8)
            assert replies[0].startswith("id labd-timestamper 2 serial=stamps-1 firmware=virtual-1 rate_hz=25000000 ")
            assert replies[1].startswith("ok start 0x8000 *")
            assert all(reply.startswith("err ") for reply in replies[2:])
            line.write(b"idle 15 0\n")
            assert (await lines_until(line, 1))[0].startswith("ok idle 15 0 *")
            await control.set_fault("stamps-1", "lost_line")
            line.write(b"pulse 15 10\n" * 3)
            numbers = [int(text.split()[1]) for text in await lines_until(line, 8) if text.startswith("e ")]
            assert numbers == [0, 1, 2, 3, 5]
            await control.clear_fault("stamps-1", "lost_line")
            await control.set_fault("stamps-1", "off")
            line.write(b"id\n")
            await asyncio.sleep(0.1)
            assert line.read(100) == b""


async def test_one_seed_gives_one_rack(tmp_path: Path, images: dict[str, bytes]) -> None:
    async def measured(folder: str, seed: int) -> tuple[float, float, float]:
        async with VirtualRack(one_board(tmp_path / folder, seed=seed)) as rack:
            seat = rack.seats["board-1"]
            seat.board.load_image(images["energy"])
            host = Host(seat.board.port, 9600)
            seat.board.supply(rack.clock.now(), 3.0, 0.1)
            await host.read_until(b"m-ready\r\n")
            await host.infer(20)
            host.line.close()
            window = seat.truth.windows[-1]
            return window.duration_s, window.energy_j, rack.timestampers["stamps-1"].ppm

    first, again, other = await measured("a", 1), await measured("b", 1), await measured("c", 2)
    assert again == pytest.approx(first, rel=1e-9)
    assert all(abs(mine / theirs - 1) > 1e-8 for mine, theirs in zip(first, other, strict=True))


async def test_the_back_door_tells_outputs_boards_and_refuses_nonsense(tmp_path: Path) -> None:
    async with VirtualRack(one_board(tmp_path)) as rack:
        control = AsyncRackControl(rack.endpoints.control)
        port = rack.endpoints.analyzers["psu-1"]
        (output,) = await control.outputs()
        assert not output.energized
        await scpi(port, "VOLT 3.0,(@1)", "OUTP ON,(@1)", "*OPC?")
        (output,) = await control.outputs()
        assert output.energized
        assert output.voltage_v == 3.0
        (board,) = await control.boards()
        assert (board.id, board.powered, board.image_sha256) == ("board-1", True, None)
        await scpi(port, "OUTP OFF,(@1)", "OUTP OFF,(@1)", "*OPC?")
        switchings = await control.switchings()
        assert [each.energized for each in switchings] == [True, False, False]
        assert switchings[0].at_s < board.now_s < switchings[1].at_s
        assert await control.truth("board-1") == []
        for device, fault in (("board-9", "silent"), ("board-1", "no_such_fault"), ("psu-1", "lost_edge")):
            with pytest.raises(NotFoundError):
                await control.set_fault(device, fault)
        await control.set_fault("board-1.probe", "off")
        reader, writer = await asyncio.open_unix_connection(rack.endpoints.control)
        writer.write(b'{"op": "explode"}\nnot json\n')
        for _ in range(2):
            assert json.loads(await reader.readline())["ok"] is False
        writer.close()
        await writer.wait_closed()
    with pytest.raises(UnreachableError):
        await control.boards()


async def test_two_racks_do_not_share_a_folder(tmp_path: Path) -> None:
    async with VirtualRack(one_board(tmp_path)):
        with pytest.raises(ConfigError, match="another rack"):
            async with VirtualRack(one_board(tmp_path)):
                pass


async def test_the_lab_toml_of_the_demo_rack_is_one(tmp_path: Path) -> None:
    config = demo_rack(tmp_path)
    async with VirtualRack(config) as rack:
        lab = tomllib.loads(lab_toml(config, rack.endpoints))
        drivers = find_drivers()
        for instrument in map(Instrument.model_validate, lab["instrument"]):
            drivers[instrument.driver].options.model_validate(instrument.options)
        boards = [LabBoard.model_validate(board) for board in lab["board"]]
        assert [board.id for board in boards] == ["board-1", "board-2", "board-3", "board-4"]
        assert {board.timing.sync_pin for board in boards if board.timing} == {15}
        loads = [board.timing.load for board in boards if board.timing]
        assert [load and (load.pin, load.tolerance_percent) for load in loads] == [None, None, (13, 5.0), (14, 1.0)]


def test_a_rack_that_cannot_be_wired_is_refused() -> None:
    good = ONE_BOARD.format(seed=1)
    for old, new, words in (
        ('analyzer = "psu-1", channel', 'analyzer = "psu-2", channel', "no analyzer 'psu-2'"),
        ("pin = 3", "pin = 15", "not an input"),
        ("[[board]]", '[[timestamper]]\nid = "psu-1"\n[[board]]', "psu-1 is used 2 times"),
        ("channel = 1", "channel = 7", "channel"),
        ("seed = 1", "sed = 1", "sed"),
        ("[rack]", "[rack", "TOML"),
    ):
        with pytest.raises(ConfigError, match=re.escape(words)):
            parse_rack(good.replace(old, new))
    twice = good + '[[board]]\nid = "board-2"\nsupply = { analyzer = "psu-1", channel = 1 }\n'
    with pytest.raises(ConfigError, match="used 2 times"):
        parse_rack(twice)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_rack_process_ends_with_all_its_boards(
    tmp_path: Path, images: dict[str, bytes], how: signal.Signals
) -> None:
    path = tmp_path / "rack.toml"
    image = tmp_path / "energy.elf"
    image.write_bytes(images["energy"])
    path.write_text(ONE_BOARD.format(seed=1) + f'image = "{image.name}"\n')
    program = "import asyncio, pathlib, sys; from labd.virtual.config import load_rack; "
    program += "from labd.virtual.rack import run_rack; "
    program += "asyncio.run(run_rack(load_rack(pathlib.Path(sys.argv[1]))))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(path), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        ready = load_rack(path).rack.dir / "rack.json"
        await until(ready.exists)
        ends = read_endpoints(ready)
        control = AsyncRackControl(ends.control)
        await scpi(ends.analyzers["psu-1"], "CURR:LIM 0.1,(@1)", "VOLT 3.0,(@1)", "OUTP ON,(@1)", "*OPC?")
        host = Host(ends.boards["board-1"].serial, 9600)
        await host.read_until(b"m-ready\r\n")
        host.line.close()
        (state,) = await control.boards()
        board = psutil.Process(state.pid)
    finally:
        process.send_signal(how)
        code = await process.wait()
    await until(lambda: not board.is_running() or board.status() == psutil.STATUS_ZOMBIE)
    assert code == (0 if how is signal.SIGTERM else -signal.SIGKILL)
    assert ready.exists() == (how is signal.SIGKILL)
