"""The dialogue of MLPerf Tiny, as a host sees it on the line."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from labd.virtual.link import Activity, Kind
from labd.virtual.link import frame as link_frame

from .native_board import CLOCK_HZ, NativeBoard, falling_edges, lines_of, spent

Start = Callable[[str], NativeBoard]
MODES = ("performance", "energy")


def test_boot_tells_the_mode_and_takes_tens_of_milliseconds(start: Start) -> None:
    performance, energy = start("performance").boot, start("energy").boot

    mode, lap, *rest = lines_of(performance)
    assert mode == "m-timestamp-mode-performance"
    assert lap.startswith("m-lap-us-")
    assert rest == ["m-init-done", "m-ready"]
    assert lines_of(energy) == ["m-timestamp-mode-energy", "m-init-done", "m-ready"]
    for frames in (performance, energy):
        hello = frames[0]
        assert (hello.kind, hello.cycle, hello.a, hello.c) == (Kind.HELLO, 0, 1, CLOCK_HZ)
        first_byte = next(frame for frame in frames if frame.kind is Kind.TX)
        assert 0.02 < first_byte.cycle / CLOCK_HZ < 0.1
        assert spent(frames, frames[-1].cycle)[Activity.BOOT] == 3_200_000


def test_each_mode_has_its_own_line_rate(start: Start) -> None:
    assert (start("performance").baud, start("energy").baud) == (115200, 9600)


def test_the_timing_pin_idles_high_and_gives_one_edge_at_boot_in_energy_mode_alone(start: Start) -> None:
    pins = [(frame.a, frame.b) for frame in start("energy").boot if frame.kind is Kind.PIN]
    assert pins == [(0, 1), (0, 0), (0, 1)]
    assert not [frame for frame in start("performance").boot if frame.kind is Kind.PIN]


@pytest.mark.parametrize("mode", MODES)
def test_name_profile_and_help(start: Start, mode: str) -> None:
    board = start(mode)
    assert board.ask("name") == ["m-name-dut-[labd]", "m-ready"]
    assert board.ask("profile") == ["m-profile-[labd DUT firmware 0.1.0]", "m-model-[digits01]", "m-ready"]
    shown = "\n".join(board.ask("help"))
    assert all(word in shown for word in ("name", "timestamp", "profile", "db load", "db print", "infer", "results"))


def test_timestamp_is_a_counter_or_an_edge(start: Start) -> None:
    performance, energy = start("performance"), start("energy")
    first = int(performance.ask("timestamp")[0].removeprefix("m-lap-us-"))
    frames = performance.send(b"timestamp%", pause_s=0.5)
    second = int(lines_of(frames)[0].removeprefix("m-lap-us-"))
    assert 500_000 < second - first < 510_000

    frames = energy.send(b"timestamp%")
    assert lines_of(frames) == ["m-ready"]
    low, high = [frame for frame in frames if frame.kind is Kind.PIN]
    assert (low.b, high.b) == (0, 1)
    assert (high.cycle - low.cycle) / CLOCK_HZ == pytest.approx(10e-6, rel=0.01)


def test_a_download_is_shown_again_byte_by_byte(start: Start) -> None:
    board = start("performance")
    board.load(bytes(range(13)))
    assert board.ask("db print") == ["m-buffer-00-01-02-03-04-05-06-07", "m-buffer-08-09-0a-0b-0c", "m-ready"]


def test_hex_digits_come_in_either_case_and_in_pieces_of_any_size(start: Start) -> None:
    board = start("performance")
    board.ask("db load 3")
    assert board.ask("db aB") == ["m-ready"]
    assert board.ask("db CdeF") == ["m-load-done", "m-ready"]
    assert board.ask("db print")[0] == "m-buffer-ab-cd-ef"


def test_infer_in_performance_mode(start: Start, held_out: tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]) -> None:
    inputs, labels = held_out
    board = start("performance")
    board.load(inputs[0].tobytes())
    replies = board.ask("infer 10 1")
    assert replies[:3] == ["m-warmup-start-1", "m-warmup-done", "m-infer-start-10"]
    laps = [int(line.removeprefix("m-lap-us-")) for line in replies[3:5]]
    assert laps[1] > laps[0]
    assert replies[5] == "m-infer-done"
    shares = [float(share) for share in replies[6].removeprefix("m-results-[").removesuffix("]").split(",")]
    assert len(shares) == 10
    assert int(np.argmax(shares)) == labels[0]
    assert sum(shares) == pytest.approx(1.0, abs=0.02)
    assert replies[7:] == ["m-ready"]
    assert board.ask("results") == [replies[6], "m-ready"]


def test_infer_in_energy_mode(start: Start, held_out: tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]) -> None:
    board = start("energy")
    board.load(held_out[0][0].tobytes())
    frames = board.send(b"infer 10 1%")
    words = [line.partition("[")[0] for line in lines_of(frames)]
    assert words == [
        "m-warmup-start-1",
        "m-warmup-done",
        "m-infer-start-10",
        "m-infer-done",
        "m-results-",
        "m-ready",
    ]


def test_infer_counts_default_to_one_after_ten_warmups(
    start: Start, held_out: tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]
) -> None:
    board = start("performance")
    board.load(held_out[0][0].tobytes())
    assert board.ask("infer")[:3] == ["m-warmup-start-10", "m-warmup-done", "m-infer-start-1"]
    assert board.ask("infer 2")[:3] == ["m-warmup-start-10", "m-warmup-done", "m-infer-start-2"]
    assert board.ask("infer 2 0")[:3] == ["m-warmup-start-0", "m-warmup-done", "m-infer-start-2"]


def test_an_oversize_download_is_refused_without_the_mark_of_an_error(start: Start) -> None:
    board = start("performance")
    assert board.ask("db load 27649") == ["Supplied buffer size 27649 exceeds maximum of 27648", "m-ready"]
    assert board.ask("db load 27648") == ["m-[Expecting 27648 bytes]", "m-ready"]


def test_a_refused_download_leaves_the_one_before_it(start: Start) -> None:
    board = start("performance")
    board.load(b"\x12\x34")
    board.ask("db load 27649")
    assert board.ask("db print")[0] == "m-buffer-12-34"


ERRORS = {
    "unknown command": (["fly"], "e-[Unknown command: fly]"),
    "empty command": ([""], "e-[Empty command]"),
    "blank command": (["   "], "e-[Empty command]"),
    "line end in a command": (["\r\nname"], "e-[Command with byte 0x0d, not printable]"),
    "byte beyond ascii": (["na\xffme"], "e-[Command with byte 0xff, not printable]"),
    "overlong command": (["name " + "x" * 76], "e-[Command longer than 80 bytes]"),
    "too many arguments": (["name please"], "e-[Too many arguments for 'name']"),
    "too many arguments for infer": (["infer 1 2 3"], "e-[Too many arguments for 'infer']"),
    "too many arguments for db": (["db load 3 4 5"], "e-[Too many arguments for 'db']"),
    "db alone": (["db"], "e-['db' takes 'load N', 'print' or hex digits]"),
    "db with two pieces": (["db load 4", "db 00 11"], "e-['db' takes one argument but for 'db load N']"),
    "db load alone": (["db load"], "e-['db load' takes one argument, the number of bytes]"),
    "db load of nothing": (["db load 0"], "e-['db load' takes a number of bytes from 1 up]"),
    "db load of a word": (["db load many"], "e-['db load' takes a number of bytes from 1 up]"),
    "db load below zero": (["db load -3"], "e-['db load' takes a number of bytes from 1 up]"),
    "db load beyond 32 bit": (["db load 4294967297"], "e-['db load' takes a number of bytes from 1 up]"),
    "db print of nothing": (["db print"], "e-[The buffer is empty]"),
    "bytes before db load": (["db 00"], "e-['db load' must come before the bytes]"),
    "odd digits": (["db load 4", "db 000"], "e-[Odd number of hex digits]"),
    "no hex digit": (["db load 4", "db 0g"], "e-[Not a hex digit: g]"),
    "too many bytes": (["db load 2", "db 00", "db 0000"], "e-[More bytes than announced, still expecting 1]"),
    "bytes after the last": (["db load 1", "db 00", "db 00"], "e-[More bytes than announced, still expecting 0]"),
    "infer before load": (["infer 1 0"], "e-[No whole input is loaded]"),
    "infer in mid load": (["db load 64", "db 00", "infer 1 0"], "e-[No whole input is loaded]"),
    "infer on a wrong size": (["db load 1", "db 00", "infer 1 0"], "e-[The model takes 64 bytes, loaded are 1]"),
    "infer zero times": (["infer 0 1"], "e-[Inference iterations must be a number from 1 to 1000000]"),
    "infer a word": (["infer x 1"], "e-[Inference iterations must be a number from 1 to 1000000]"),
    "infer too often": (["infer 1000001 1"], "e-[Inference iterations must be a number from 1 to 1000000]"),
    "infer with a sign": (["infer +1 1"], "e-[Inference iterations must be a number from 1 to 1000000]"),
    "warm up a fraction": (["infer 1 0.5"], "e-[Inference warmups must be a number from 0 to 1000000]"),
    "warm up below zero": (["infer 1 -1"], "e-[Inference warmups must be a number from 0 to 1000000]"),
    "results before infer": (["results"], "e-[No results yet]"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("commands", "error"), ERRORS.values(), ids=ERRORS.keys())
def test_what_is_refused_is_said_and_the_board_stays_ready(
    start: Start, mode: str, commands: list[str], error: str
) -> None:
    board = start(mode)
    *_, reply = [board.ask(command) for command in commands]
    assert reply == [error, "m-ready"]
    assert board.ask("name") == ["m-name-dut-[labd]", "m-ready"]


def test_a_command_of_exactly_80_bytes_is_read(start: Start) -> None:
    board = start("performance")
    assert board.ask("name" + " " * 76) == ["m-name-dut-[labd]", "m-ready"]
    assert board.ask("name" + " " * 77) == ["e-[Command longer than 80 bytes]", "m-ready"]


def test_bytes_with_a_fault_are_not_stored_in_part(start: Start) -> None:
    board = start("performance")
    board.ask("db load 3")
    board.ask("db 11")
    board.ask("db 22zz")
    assert board.ask("db 2233") == ["m-load-done", "m-ready"]
    assert board.ask("db print")[0] == "m-buffer-11-22-33"


@pytest.mark.parametrize("mode", MODES)
def test_power_off_ends_the_board_cleanly(start: Start, mode: str) -> None:
    assert start(mode).power_off() == (0, "")


def test_a_torn_or_foreign_frame_ends_the_board_with_a_message(images: Path) -> None:
    with NativeBoard(images / "digits01-energy.elf") as torn:
        torn.write(b"\0" * 5)
        code, message = torn.power_off()
        assert code == 3
        assert "after 5 bytes" in message
    with NativeBoard(images / "digits01-energy.elf") as foreign:
        foreign.write(link_frame(Kind.HELLO, 0))
        code, message = foreign.power_off()
        assert code == 3
        assert "kind 0x01" in message


@pytest.mark.parametrize("mode", MODES)
def test_frames_are_ordered_and_bytes_do_not_overlap_on_the_line(
    start: Start, mode: str, held_out: tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]
) -> None:
    board = start(mode)
    board.load(held_out[0][0].tobytes())
    frames = board.send(b"infer 3 2%")
    cycles = [frame.cycle for frame in frames]
    assert cycles == sorted(cycles)
    sent = np.array([frame.cycle for frame in frames if frame.kind is Kind.TX])
    assert np.diff(sent).min() >= 10 * CLOCK_HZ / board.baud
    activities = [frame.a for frame in frames if frame.kind is Kind.ACTIVITY]
    assert all(before != after for before, after in pairwise(activities))
    assert len(falling_edges(frames)) == (2 if mode == "energy" else 0)
