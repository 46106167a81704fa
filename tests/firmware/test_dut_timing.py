"""The modelled time: the window lies where it should, and the same work takes the same cycles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from labd.virtual.link import Activity, Kind

from .native_board import Frame, NativeBoard, falling_edges, lines_of, spent, text_of

Start = Callable[[str], NativeBoard]
HeldOut = tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]


def energy_run(board: NativeBoard, data: bytes, iterations: int, warmups: int = 1) -> list[Frame]:
    board.load(data)
    return board.send(f"infer {iterations} {warmups}%".encode())


def window_cycles(frames: list[Frame]) -> int:
    opened, closed = falling_edges(frames)
    return closed - opened


def test_the_window_opens_after_infer_start_and_closes_before_infer_done(start: Start, held_out: HeldOut) -> None:
    frames = energy_run(start("energy"), held_out[0][0].tobytes(), 5)
    opened, closed = falling_edges(frames)
    assert text_of([frame for frame in frames if frame.cycle < opened]).endswith("m-infer-start-5\r\n")
    assert text_of([frame for frame in frames if frame.cycle >= closed]).startswith("m-infer-done\r\n")
    assert not [frame for frame in frames if frame.kind is Kind.TX and opened <= frame.cycle <= closed]


def test_the_last_byte_is_out_before_the_window_opens(start: Start, held_out: HeldOut) -> None:
    board = start("energy")
    frames = energy_run(board, held_out[0][0].tobytes(), 5)
    opened, _ = falling_edges(frames)
    last_byte = max(frame.cycle for frame in frames if frame.kind is Kind.TX and frame.cycle < opened)
    assert opened - last_byte >= 80_000_000 * 10 / board.baud


def test_the_same_window_takes_the_same_cycles_in_two_boots(start: Start, held_out: HeldOut) -> None:
    data = held_out[0][3].tobytes()
    first, second = (energy_run(start("energy"), data, 20) for _ in range(2))
    assert window_cycles(first) == window_cycles(second)
    assert first == second


def test_n_inferences_cost_n_times_one_whatever_the_input(start: Start, held_out: HeldOut) -> None:
    board = start("energy")
    inputs = held_out[0]
    empty = 2 * window_cycles(energy_run(board, inputs[0].tobytes(), 1)) - window_cycles(
        energy_run(board, inputs[0].tobytes(), 2)
    )
    costs = {
        (window_cycles(energy_run(board, row.tobytes(), count)) - empty) / count
        for row, count in zip(inputs, (1, 2, 3, 10, 100, 1000), strict=False)
    }
    (cost,) = costs
    assert 80_000 < cost < 160_000


def test_both_modes_measure_the_same_window(start: Start, held_out: HeldOut) -> None:
    data = held_out[0][0].tobytes()
    frames = energy_run(start("energy"), data, 700)
    performance = start("performance")
    performance.load(data)
    first, second = (int(line.removeprefix("m-lap-us-")) for line in performance.ask("infer 700 1")[3:5])
    pulse_us = 10
    assert second - first == pytest.approx(window_cycles(frames) / 80 - pulse_us, abs=1.1)


def test_warmups_work_like_the_inferences_do(start: Start, held_out: HeldOut) -> None:
    frames = energy_run(start("energy"), held_out[0][0].tobytes(), 4, warmups=3)
    opened, closed = falling_edges(frames)
    convolutions = [frame.cycle for frame in frames if frame.kind is Kind.ACTIVITY and frame.a == Activity.CONV]
    assert sum(cycle < opened for cycle in convolutions) == 3 * 2
    assert sum(opened < cycle < closed for cycle in convolutions) == 4 * 2


def test_most_of_a_window_is_convolution(start: Start, held_out: HeldOut) -> None:
    frames = energy_run(start("energy"), held_out[0][0].tobytes(), 100)
    opened, closed = falling_edges(frames)
    inside = [frame for frame in frames if frame.kind is Kind.ACTIVITY and opened <= frame.cycle < closed]
    shares = spent(inside, closed)
    assert set(shares) == set(Activity) - {Activity.OFF, Activity.BOOT, Activity.IDLE}
    assert shares[Activity.CONV] > 0.7 * sum(shares.values())


def test_a_sleeping_board_is_idle(start: Start) -> None:
    board = start("performance")
    frames = board.send(b"name%", pause_s=2.0)
    assert lines_of(frames)[0] == "m-name-dut-[labd]"
    last_two = [frame.kind for frame in frames[-2:]]
    assert last_two == [Kind.ACTIVITY, Kind.WAIT]
    assert frames[-2].a == Activity.IDLE
    woken = next(frame for frame in frames if frame.kind is Kind.ACTIVITY)
    assert (woken.a, woken.cycle) == (Activity.CPU, board.boot[-1].cycle + 160_000_000)
