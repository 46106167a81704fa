"""The health check of one board, from dark to dark, stopped by the first thing that is wrong:

    port → rail off → image in place → power within limits → handshake → idle current → timing pin → off

It uses what runs use, so what passes here works there. Where the board has a probe, the check compares the image that
it holds, and writes it if it is another one; so an erased board is made well, and a dead probe is found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from drivers.api import PowerSupply, Quantity
from labd.bench.edges import watching
from labd.bench.failure import RunFailedError, failure_of
from labd.bench.flashing import ensure_image
from labd.bench.idle import Band, learned_band
from labd.bench.lines import open_line
from labd.bench.power import OFF_S, SETTLE_S, discharge, powered
from labd.bench.readback import read_back, read_idle
from labd.bench.run import Bench
from labd.benchmarks import Mode
from labd.config import Board
from labd.dut.session import Deadlines, DutSession
from labd.errors import DutError
from labd.model.causes import Blame, Cause
from labd.model.checks import CheckStep, Examination, Finding, Outcome
from labd.plus_minus import with_k

FLASH_S = 300.0
"""Longest time to compare and write an image, s."""
TAKE_OVER_S = 10.0
"""Longest wait for an instrument that lab.toml says something else of by now, s."""
SPARE_S = 60.0
"""Added to a check's deadline for instruments that have to be opened anew, s."""

_DANGERS = frozenset({Cause.BOARD_NOT_OFF, Cause.BOARD_OVERLOAD})


@dataclass(frozen=True, slots=True)
class CheckImage:
    """The image that the board has to hold in its check, and the mode that it was built for."""

    path: Path
    mode: Mode


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """One check of one board, with everything looked up.

    Args:
        board: The board and its wiring.
        image: What it has to hold; None where labd cannot write one, so that it holds what it holds.
        earlier_idle_a: Idle currents of its earlier passed checks, oldest first, A.
    """

    board: Board
    image: CheckImage | None
    earlier_idle_a: tuple[float, ...] = ()

    @property
    def bauds(self) -> tuple[int, ...]:
        """The rates that the board may talk at, bit/s."""
        serial = self.board.serial
        modes = [Mode.ENERGY, Mode.PERFORMANCE] if self.image is None else [self.image.mode]
        return tuple(dict.fromkeys(serial.baud_for(mode) for mode in modes))

    @property
    def deadline_s(self) -> float:
        """How long the check may take, s; each of its waits is bounded closer."""
        supply_s = 3 * self.board.supply.discharge_s + 2 * (SETTLE_S + OFF_S)
        talk_s = len(self.bauds) * (Deadlines().boot_s + 5 * Deadlines().reply_s + SETTLE_S + OFF_S)
        return supply_s + talk_s + SPARE_S + (0.0 if self.image is None else FLASH_S)

    @property
    def band(self) -> Band | None:
        """What the idle board may draw; None while nobody knows."""
        if self.board.idle_current_a is not None:
            return Band(*self.board.idle_current_a, learned_from=0)
        return learned_band(self.earlier_idle_a)


@dataclass(slots=True)
class _Notes:
    """The findings so far, and the step that is on."""

    findings: list[Finding] = field(default_factory=list)
    step: CheckStep = CheckStep.PORT
    figures: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def on(self, step: CheckStep) -> Iterator[dict[str, Any]]:
        """Do one step; yields where its figures go. A step that raises leaves its finding to `fail`."""
        self.step, self.figures = step, {}
        yield self.figures
        self.findings.append(Finding(step, passed=True, figures=self.figures))

    def fail(self, message: str) -> None:
        """The step that is on was not in order."""
        self.findings = [each for each in self.findings if each.step is not self.step]
        self.findings.append(Finding(self.step, passed=False, message=message, figures=self.figures))


async def examine(plan: CheckPlan, bench: Bench) -> Examination:
    """Do the whole check, leave the board dark, and say what was found; only a cancel is raised, after clean-up."""
    notes = _Notes()
    log = structlog.get_logger().bind(board=plan.board.id)
    try:
        async with asyncio.timeout(plan.deadline_s), bench.devices.in_use(plan.board.instruments, TAKE_OVER_S):
            await _examine(plan, bench, notes)
    except Exception as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from error
        failure = failure_of(error, step=notes.step)
        if failure is None:
            log.exception("check_broke", step=notes.step)
            notes.fail(f"labd itself made a mistake: {type(error).__name__}: {error}")
            return Examination(Outcome.HINDERED, tuple(notes.findings))
        notes.fail(failure.message)
        return Examination(_outcome(failure.cause), tuple(notes.findings))
    return Examination(Outcome.PASSED, tuple(notes.findings))


def _outcome(cause: Cause) -> Outcome:
    if cause in _DANGERS:
        return Outcome.DANGEROUS
    return Outcome.FAILED if cause.meaning.blame is Blame.BOARD else Outcome.HINDERED


async def _examine(plan: CheckPlan, bench: Bench, notes: _Notes) -> None:
    board = plan.board
    with notes.on(CheckStep.PORT) as figures:
        figures["port"] = board.serial.port
        async with open_line(bench.drivers, board.serial, plan.bauds[0]):
            pass
    supply = await bench.devices.supply(board.supply.instrument)
    with notes.on(CheckStep.RAIL_OFF) as figures:
        await discharge(supply, board)
        figures["voltage_v"] = (await read_back(supply, board, Quantity.VOLTAGE)).voltage_v
    if plan.image is not None and board.flash is not None:
        with notes.on(CheckStep.IMAGE) as figures:
            figures["image"] = plan.image.path.name
            async with asyncio.timeout(FLASH_S), powered(bench.devices, supply, board, board.supply.voltage_v):
                await ensure_image(board.flash, plan.image.path, bench.drivers)
            await discharge(supply, board)  # a probe can leave a core's debug logic on: only a cold start ends that
    for number, baud in enumerate(plan.bauds, start=1):
        try:
            await _talk(plan, bench, supply, notes, baud)
            break
        except DutError:
            if number == len(plan.bauds):
                raise
    notes.step = CheckStep.RAIL_OFF
    await discharge(supply, board)


async def _talk(plan: CheckPlan, bench: Bench, supply: PowerSupply, notes: _Notes, baud: int) -> None:
    """Power the board, and see that it answers and what it draws."""
    board = plan.board
    notes.step, notes.figures = CheckStep.POWER_ON, {}
    async with (
        open_line(bench.drivers, board.serial, baud) as line,
        powered(bench.devices, supply, board, board.supply.voltage_v) as set_v,
        DutSession(line) as dut,
    ):
        with notes.on(CheckStep.POWER_ON) as figures:
            status = await read_back(supply, board, Quantity.VOLTAGE)
            figures |= {"set_voltage_v": set_v, "voltage_v": status.voltage_v, "regulates": status.mode.value}
        with notes.on(CheckStep.HANDSHAKE) as figures:
            figures["baud"] = baud
            mode = await dut.boot()
            identity = await dut.identify()
            figures |= {
                "mode": None if mode is None else mode.value,
                "model": identity.model,
                "vendor": identity.vendor,
                "garbage_bytes": dut.garbage_bytes,
            }
        with notes.on(CheckStep.IDLE) as figures:
            await _idle(plan, supply, figures)
        if mode is not None and mode.value == Mode.ENERGY.value:
            await _timing(board, bench, dut, notes)


async def _idle(plan: CheckPlan, supply: PowerSupply, figures: dict[str, Any]) -> None:
    """Measure what the waiting board draws, and hold it against its band."""
    idle, band = await read_idle(supply, plan.board), plan.band
    figures |= {"current_a": idle.current_a, "u_current_a": idle.u_a, "readings": idle.readings}
    if idle.left_out:
        figures["left_out"] = idle.left_out
    if band is None:
        return
    figures |= {"low_a": band.low_a, "high_a": band.high_a, "learned_from": band.learned_from}
    if not idle.within(band):
        raise RunFailedError(
            Cause.BOARD_NONSENSE,
            f"the idle board draws {with_k(1e3 * idle.current_a, 1e3 * idle.u_a, 'mA')}, "
            f"not {1e3 * band.low_a:.4g} to {1e3 * band.high_a:.4g} mA",
        )


async def _timing(board: Board, bench: Bench, dut: DutSession, notes: _Notes) -> None:
    """See that a pulse of the board's timing pin arrives where its edges are counted."""
    timing = board.timing
    if timing is None or timing.method != "timestamped":
        return
    with notes.on(CheckStep.TIMING) as figures:
        source = await bench.devices.edges(timing.instrument)
        async with watching(source, timing) as edges:
            mark = edges.mark()
            await dut.timestamp()
            figures["edges"] = len(await edges.since(mark))
        if not figures["edges"]:
            raise RunFailedError(
                Cause.EDGES_MISSING,
                f"the board marked a moment, and no {timing.edge} edge came on pin {timing.pin} of {timing.instrument}",
            )
