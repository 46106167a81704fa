"""The bench procedure: one run from a dark board to a score, and back to a dark board.

    discharge → limits, power, image in place → discharge → power on → handshake → measure → power off → score

Each step returns or raises. Whatever happens the output goes off; the caller ends the run and frees its lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drivers.api import PowerSupply
from labd.bench.conclude import conclude
from labd.bench.failure import RunFailedError, failure_of
from labd.bench.flashing import digest_of, ensure_image
from labd.bench.lines import open_line
from labd.bench.measure import measure
from labd.bench.plan import RunPlan
from labd.bench.power import discharge, powered
from labd.bench.run import Bench, Run
from labd.dut.session import DutSession
from labd.model import ledger
from labd.model.causes import Cause, Ending
from labd.model.states import RunStep


async def perform(plan: RunPlan, bench: Bench) -> Ending:
    """Do the whole run and return how it ended; only a cancel is raised, after clean-up."""
    run = Run(plan, bench)
    run.report(step=RunStep.LEASED)
    try:
        async with (
            bench.devices.in_use(plan.board.instruments, plan.lease_s),
            asyncio.timeout(plan.lease_s),
        ):
            supply = await bench.devices.supply(plan.board.supply.instrument)
            await _put_image(run, supply)
            async with _board_up(run, supply) as dut:
                await measure(run, dut)
            await run.enter(RunStep.SCORE)
            return await conclude(run)
    except Exception as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # what then failed in clean-up does not unmake the cancel
            run.log.warning("run_cancelled", step=run.step, error=str(error))
            raise asyncio.CancelledError from error
        failure = failure_of(error, step=run.step)
        if failure is None:
            run.log.exception("run_broke")
            return Ending(Cause.INTERNAL, f"at step {run.step}: {type(error).__name__}: {error}")
        run.log.warning("run_failed", cause=failure.cause, detail=failure.message)
        return Ending(failure.cause, failure.message)
    finally:
        bench.progress.end(plan.run_id)


async def _put_image(run: Run, supply: PowerSupply) -> None:
    """See that the board holds the plan's image, and leave it dark."""
    plan, database = run.plan, run.bench.database
    digest = await digest_of(plan.image)
    if plan.image_sha256 not in (None, digest):
        raise RunFailedError(
            Cause.FIRMWARE_MISSING, f"{plan.image.name} has digest {digest}, not {plan.image_sha256} as the job asks"
        )
    await run.enter(RunStep.DISCHARGE)
    await discharge(supply, plan.board)
    if plan.board.flash is None:
        return
    await run.enter(RunStep.FLASH)
    async with powered(run.bench.devices, supply, plan.board, plan.voltage_v):
        await ensure_image(plan.board.flash, plan.image, run.bench.drivers)
    run.firmware_sha256 = digest
    await database.write(lambda session: ledger.set_firmware(session, plan.run_id, digest))
    await discharge(supply, plan.board)


@asynccontextmanager
async def _board_up(run: Run, supply: PowerSupply) -> AsyncIterator[DutSession]:
    """Power the board and shake hands; the line is open before, so that not a byte of its banner is missed."""
    plan = run.plan
    wiring = plan.board.serial
    async with open_line(run.bench.drivers, wiring, wiring.baud_for(plan.mode)) as line:
        await run.enter(RunStep.POWER_ON)
        async with (
            powered(run.bench.devices, supply, plan.board, plan.voltage_v) as set_v,
            DutSession(line) as dut,
        ):
            run.supply_voltage_v = set_v
            await run.enter(RunStep.HANDSHAKE)
            await _handshake(run, dut)
            yield dut


async def _handshake(run: Run, dut: DutSession) -> None:
    """Check that the board runs the right model, built for the right mode."""
    plan = run.plan
    mode = await dut.boot()
    if mode is None or mode.value != plan.mode.image.value:
        if mode is None and dut.garbage_bytes:
            raise RunFailedError(Cause.BOARD_NONSENSE, f"{dut.garbage_bytes} bytes of noise hid the board's banner")
        said = "does not say its mode" if mode is None else f"is built for {mode.value}"
        raise RunFailedError(Cause.WRONG_MODE, f"the firmware {said}, the job needs {plan.mode.image.value}")
    identity = await dut.identify()
    if identity.model != plan.benchmark.model_id:
        raise RunFailedError(
            Cause.WRONG_MODEL,
            f"the board runs {identity.model!r}, {plan.benchmark.id} needs {plan.benchmark.model_id!r}",
        )
    await run.enter(RunStep.HANDSHAKE, vendor=identity.vendor, profile=identity.profile, model=identity.model)
