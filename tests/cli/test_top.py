"""`labctl top`: what it counts, what it shows first, and that it fits the terminal it is given."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from labd.benchmarks import Mode
from labd.cli.top.scene import Scene
from labd.cli.top.view import view
from labd.model.states import BoardState, RunStep
from labd.service.messages import BoardDocument, EventDocument, Offline, ProgressDocument
from tests.cli.served import served_lab, started
from tests.deadline import HUNG_S

NOW = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
WIDTH = 110


def board(number: int, state: BoardState, run_id: int | None = None) -> BoardDocument:
    return BoardDocument(
        id=f"board-{number:03}",
        tags=("m4",),
        modes=(Mode.ENERGY,),
        state=state,
        reason=f"why {number}" if state is not BoardState.ONLINE else "",
        changed_at=NOW - timedelta(minutes=number),
        run_id=run_id,
        job_id=run_id,
    )


def event(number: int, kind: str, subject: str, state: str, run_id: int | None = None) -> EventDocument:
    return EventDocument(
        number=number,
        at=NOW,
        kind=kind,
        subject=subject,
        state=state,
        reason="",
        actor="labd",
        job_id=None,
        run_id=run_id,
        board_id=None,
    )


def progress(run_id: int) -> ProgressDocument:
    return ProgressDocument(
        job_id=run_id,
        run_id=run_id,
        board_id="board-001",
        step=RunStep.MEASURE,
        trial=2,
        trials=5,
        share=0.4,
        samples=10,
        rate_hz=1000.0,
    )


def drawn(scene: Scene, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=WIDTH, height=height)
    console.print(view(scene, NOW, lab="bench-1", height=height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


async def test_the_scene_of_a_served_lab_is_shown_with_what_needs_a_person_first(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as served:
        async with started(*served.options, "top", "--once") as shown:
            out, err = await shown.communicate()
        assert shown.returncode == 0, err.decode()
        lines = out.decode().splitlines()
        assert "bench-1" in lines[0]
        assert "online" in lines[0]
        assert [line.split()[0] for line in lines if line.startswith("b")][1:] == ["board", "b1", "b2"]
        async with started(*served.options, "top", "--json") as told:
            out, _ = await told.communicate()
        assert b'"boards": [{"id": "b1"' in out


async def test_a_lab_that_is_not_there_is_an_error_and_not_an_empty_picture(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as served:
        async with started(
            "--broker", str(served.broker.endpoint), "--lab", "no-lab", "--timeout", "0.3", "top"
        ) as one:
            async with asyncio.timeout(HUNG_S):
                _, err = await one.communicate()
        assert one.returncode == 4
        assert b"no-lab" in err


def test_ends_are_counted_once_and_over_the_time_that_was_watched() -> None:
    scene = Scene(NOW - timedelta(minutes=2))
    for number in range(1, 7):
        scene.note(
            event(number, "job", str(number), "completed" if number % 3 else "failed"), NOW - timedelta(seconds=30)
        )
    scene.note(event(6, "job", "6", "failed"), NOW)  # told again
    done = scene.throughput(NOW)
    assert (done.completed, done.others, done.span_s) == (4, 2, 120.0)
    assert done.per_hour == pytest.approx(120.0)
    assert scene.throughput(NOW + timedelta(minutes=11)).completed == 0


def test_the_progress_of_an_ended_run_is_gone() -> None:
    scene = Scene(NOW)
    scene.note(progress(7), NOW)
    scene.note(event(1, "run", "7", "completed", run_id=7), NOW)
    assert not scene.progress


@pytest.mark.parametrize("height", [24, 40])
def test_two_hundred_boards_fit_any_terminal_and_the_troubled_ones_are_listed(height: int) -> None:
    scene = Scene(NOW, status=Offline())
    for number in range(200):
        state = {5: BoardState.QUARANTINED, 9: BoardState.SUSPECT}.get(number, BoardState.ONLINE)
        scene.note(board(number, state), NOW)
    for number in range(1, 100):
        scene.note(event(number, "job", str(number), "queued"), NOW)
    lines = drawn(scene, height)
    assert len(lines) <= height
    assert all(len(line) <= WIDTH for line in lines)
    listed = [line for line in lines if line.startswith("board-")]
    assert [line.split()[0] for line in listed[:2]] == ["board-005", "board-009"]
    assert f"and {200 - len(listed)} more boards: {200 - len(listed)} online" in "\n".join(lines)
    assert "OFFLINE" in lines[0]


def test_a_board_at_work_shows_its_step() -> None:
    scene = Scene(NOW, status=Offline())
    scene.note(board(1, BoardState.BUSY, run_id=7), NOW)
    scene.note(progress(7), NOW)
    (line,) = (line for line in drawn(scene, 24) if line.startswith("board-001"))
    assert "measure 2/5" in line
    assert "1 min" in line


def test_a_board_that_left_is_forgotten() -> None:
    scene = Scene(NOW)
    scene.note(board(1, BoardState.ONLINE), NOW)
    scene.forget("board", "board-001")
    assert not scene.boards
