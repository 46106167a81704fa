"""A session with a board ends every wait, tells what went wrong by type, and rebuilds what real boards measured."""

from __future__ import annotations

import re

import pytest

from drivers.api import SerialLine
from labd.dut.errors import DutLineError, DutProtocolError, DutRebootedError, DutRefusedError, DutSilentError
from labd.dut.protocol import TimestampMode, lap_duration_us
from labd.dut.session import Deadlines, DutSession, Identity
from labd.errors import DutError
from tests.dut.boards import Board, MemoryLine, Replay
from tests.dut.reference_sessions import exchanges, session_logs

SHORT = Deadlines(boot_s=0.05, reply_s=0.05)


def test_the_board_in_memory_is_a_serial_line() -> None:
    assert isinstance(Board(), SerialLine)


@pytest.mark.parametrize("mode", list(TimestampMode))
async def test_a_board_that_boots_tells_its_mode(mode: TimestampMode) -> None:
    board = Board(mode=mode.value)
    board.power_on()
    async with DutSession(board) as session:
        assert await session.boot() is mode
    assert board.commands == []


async def test_noise_of_power_on_does_not_hide_the_banner() -> None:
    board = Board()
    board.send(b"\x00\xff")
    board.power_on()
    async with DutSession(board) as session:
        assert await session.boot() is TimestampMode.PERFORMANCE
        assert session.garbage_bytes == 2


async def test_a_board_that_was_up_already_is_asked_for_its_name() -> None:
    board = Board()
    async with DutSession(board, Deadlines(boot_s=0.01)) as session:
        assert await session.boot() is None
    assert board.commands == ["name"]


async def test_a_dead_board_is_silent() -> None:
    async with DutSession(Board(name="silent"), SHORT) as session:
        with pytest.raises(DutSilentError, match="'name'"):
            await session.boot()


async def test_a_board_that_hangs_while_it_boots_is_silent() -> None:
    board = Board()
    board.say(["m-timestamp-mode-energy"])
    async with DutSession(board, SHORT) as session:
        with pytest.raises(DutSilentError, match="boot"):
            await session.boot()


@pytest.mark.parametrize("chunk", [0, 1, 7])
async def test_a_whole_trial(chunk: int) -> None:
    board = Board()
    board.chunk = chunk
    async with DutSession(board) as session:
        assert await session.identify() == Identity(vendor="ACME", profile="Firmware 1", model="kws01")
        await session.load(bytes(range(64)))
        assert bytes(board.buffer) == bytes(range(64))
        result = await session.infer(10, 1, deadline_s=5)
        assert result.results == (0.25, 0.75)
        assert result.lap_us is not None
        assert lap_duration_us(*result.lap_us) == 1000
        assert result.lines[-1] == "m-ready"
        assert result.garbage_bytes == 0
        assert await session.results() == (0.25, 0.75)
        assert await session.timestamp() == board.lap_us


async def test_energy_firmware_prints_no_timestamps() -> None:
    async with DutSession(Board(mode="energy")) as session:
        assert (await session.infer(10, 0, deadline_s=5)).lap_us is None
        assert await session.timestamp() is None


async def test_a_refusal_carries_command_and_text_and_leaves_the_dialogue_in_step() -> None:
    async with DutSession(Board(infer="refuse")) as session:
        with pytest.raises(DutRefusedError) as caught:
            await session.infer(10, 1, deadline_s=5)
        assert (caught.value.command, caught.value.text) == ("infer 10 1", "cannot infer 10 1")
        assert (await session.identify()).model == "kws01"


async def test_an_input_that_is_too_large_is_refused_in_the_boards_words() -> None:
    async with DutSession(Board()) as session:
        with pytest.raises(DutRefusedError, match="exceeds maximum of 64"):
            await session.load(bytes(65))


@pytest.mark.parametrize("fault", ["noise", "torn"])
async def test_a_harmless_query_survives_noise(fault: str) -> None:
    board = Board(profile=fault)
    async with DutSession(board) as session:
        assert (await session.identify()).model == "kws01"
        assert session.garbage_bytes > 0
    assert board.commands.count("profile") == (2 if fault == "torn" else 1)


async def test_a_window_torn_by_noise_is_an_error_and_never_repeated() -> None:
    board = Board(infer="torn")
    async with DutSession(board, SHORT) as session:
        with pytest.raises(DutError):
            await session.infer(10, 1, deadline_s=0.1)
    assert [command for command in board.commands if command.startswith("infer")] == ["infer 10 1"]


async def test_results_that_noise_took_are_asked_for_again() -> None:
    board = Board(infer="lost_results")
    async with DutSession(board) as session:
        result = await session.infer(10, 1, deadline_s=5)
    assert result.results == (0.25, 0.75)
    assert result.garbage_bytes > 0
    assert board.commands == ["infer 10 1", "results"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("silent", DutSilentError),
        ("no_stop", DutSilentError),
        ("reboot", DutRebootedError),
        ("babble", DutProtocolError),
        ("lost_lap", DutProtocolError),
        ("unplug", DutLineError),
    ],
)
async def test_what_goes_wrong_in_a_window_is_told_apart(fault: str, error: type[DutError]) -> None:
    async with DutSession(Board(infer=fault), SHORT) as session:
        with pytest.raises(error):
            await session.infer(10, 1, deadline_s=0.1)


async def test_a_board_that_never_starts_is_noticed_long_before_its_window_is_over() -> None:
    async with DutSession(Board(infer="silent"), SHORT) as session:
        with pytest.raises(DutSilentError):
            await session.infer(10, 1, deadline_s=3600)


class Flood(MemoryLine):
    """A line that always has bytes at once and so never lets the event loop run."""

    async def read(self) -> bytes:
        return b"\xff" * 100

    def hear(self, command: str) -> None:
        return


async def test_a_flood_without_line_ends_does_not_hang() -> None:
    async with DutSession(Flood(), SHORT) as session:
        with pytest.raises(DutError):
            await session.identify()


def printed_throughputs(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"Throughput\s*:\s*([\d.]+) inf", text)]


async def test_the_throughputs_that_real_boards_published_are_rebuilt() -> None:
    for log in session_logs("eembc-*/*/performance/log.txt"):
        windows = [exchange for exchange in exchanges(log) if exchange.command.startswith("infer")]
        measured = []
        async with DutSession(Replay(windows)) as session:
            for window in windows:
                n, warmups = (int(part) for part in window.command.split()[1:])
                result = await session.infer(n, warmups, deadline_s=60)
                assert result.lap_us is not None
                assert result.garbage_bytes == 0
                measured.append(n / lap_duration_us(*result.lap_us) * 1e6)
        published = printed_throughputs((log.parent / "results.txt").read_text())
        assert len(measured) == 5
        assert measured == pytest.approx(published, abs=6e-4)


async def test_every_result_of_real_boards_is_had_through_the_session() -> None:
    for log in session_logs("eembc-*/*/*/log.txt"):
        windows = [exchange for exchange in exchanges(log) if exchange.command.startswith("infer")]
        energy = log.parent.name == "energy"
        async with DutSession(Replay(windows)) as session:
            for window in windows:
                n, warmups = (int(part) for part in window.command.split()[1:])
                result = await session.infer(n, warmups, deadline_s=60)
                assert (result.lap_us is None) is energy
                said = next(line for line in window.lines if "m-results-[" in line)
                assert list(result.results) == [float(part) for part in re.findall(r"[\d.]+", said.split("[")[-1])]
