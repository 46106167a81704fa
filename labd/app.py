"""The composition root: a configuration in, one supervised lab out. The only place that knows everybody.

The order of a start is the order of harm: nothing is touched that a living daemon holds; outputs off; then the record
of what a dead daemon left is put right, its traces salvaged, its jobs queued again, and only then is anything new begun
or told.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from functools import partial

import structlog
from sqlmodel import Session

from drivers.api import Driver, driver_loaders
from labd.bench.devices import Devices
from labd.bench.emergency import EmergencyOff, darken
from labd.bench.keeping import salvage_left
from labd.bench.outputs import switch_outputs_off
from labd.bench.progress import ProgressFeed
from labd.bench.run import Bench
from labd.clock import WALL, Clock
from labd.config import EMBEDDED, LabConfig, LiveConfig
from labd.config.derived import BoardFacts, capabilities_of, lab_facts
from labd.errors import StoreError
from labd.heap import keep_heap_small
from labd.keep.archivist import Archivist
from labd.keep.collect import Collector
from labd.keep.housekeeper import Housekeeper
from labd.keep.reserve import Reserve
from labd.keep.s3 import open_archive
from labd.keep.space import SpaceWatch, free_bytes
from labd.keep.store import TraceStore
from labd.model import ledger, ledger_lab, ledger_leases
from labd.model.database import Database
from labd.model.integrity import find_damage, looked_through_at_start
from labd.model.migrations import upgrade
from labd.mqtt.broker import embedded_broker
from labd.mqtt.endpoint import Endpoint, endpoint
from labd.mqtt.session import MqttSession
from labd.notify import keep_alive, notify, on_terminal
from labd.occupancy import occupied
from labd.schedule.caretaker import Caretaker
from labd.schedule.dispatcher import Dispatcher, terms_of
from labd.schedule.reservations import Granting, Warden
from labd.schedule.snapshot import Holder
from labd.schedule.sweeper import Sweeper
from labd.service.health.care import LabCare
from labd.service.lab import Lab
from labd.service.queue.work import LabWork
from labd.service.reload import Reloader
from labd.service.reports.files import Morning
from labd.service.sessions.importing import sweep_imports
from labd.service.sweeps.work import LabSweeps
from labd.web.server import serve_traces

Reread = Callable[[], LabConfig]
"""Reads the file of a lab again, whole. Raises `ConfigError`."""

OUTPUTS_OFF_S = 20.0
"""Longest time a supply may take to switch off at a start, s."""
TOLD_S = 2.0
"""Longest wait at a stop until the ends of the runs are told, s."""


async def serve(config: LabConfig, clock: Clock = WALL, *, reread: Reread | None = None) -> None:
    """Run the lab until SIGTERM or SIGINT; then runs are interrupted, boards off, jobs queued again.

    SIGHUP makes a daemon without a terminal read its file again. On a terminal it means that the terminal goes: nobody
    is there to watch over boards under power any more, so it ends the daemon like SIGTERM.

    Args:
        config: The lab.
        clock: Dates its record and makes things due.
        reread: Reads the file again that `config` was made from; None if it was made from none.
    """
    keep_heap_small()
    log = structlog.get_logger()
    stop = asyncio.Event()
    early = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    reloads = reread is not None and not on_terminal()
    if reloads:  # a file that is changed while the daemon starts is read again once it has started
        loop.add_signal_handler(signal.SIGHUP, early.set)
    log.info("daemon_started", lab=config.lab.name)
    async with running(config, clock, reread=reread) as reloader:
        if reloads:
            loop.add_signal_handler(signal.SIGHUP, reloader.request)
        if early.is_set():
            reloader.request()
        notify("READY=1")
        log.info("lab_ready", boards=len(config.board), instruments=len(config.instrument))
        await stop.wait()
        notify("STOPPING=1")
        log.info("daemon_stopping")
    log.info("daemon_stopped")


@asynccontextmanager
async def running(config: LabConfig, clock: Clock = WALL, *, reread: Reread | None = None) -> AsyncIterator[Reloader]:
    """A lab at work inside the block; what it yields reads the lab's file again.

    Raises:
        LabError: the lab cannot start: another daemon runs it, or its data directory, its database, its broker's
            address or its port cannot be used.
    """
    loaders = driver_loaders()
    drivers = {name: loaders[name]() for name in config.driver_names}
    with ExitStack() as held:
        try:
            held.enter_context(occupied(config.lab.data_dir))
        except StoreError:
            await _all_off(config, drivers)  # a full disk is no reason to leave boards under power
            raise
        await _all_off(config, drivers)
        async with _working(LiveConfig(config), drivers, clock, reread) as reloader:
            yield reloader


@asynccontextmanager
async def _working(
    live: LiveConfig, drivers: dict[str, Driver], clock: Clock, reread: Reread | None
) -> AsyncIterator[Reloader]:
    config = live.now
    traces = TraceStore(config.traces_dir, open_archive(config.store))
    await asyncio.to_thread(_prepare, config, traces)
    reserve = Reserve(config.lab.data_dir)
    async with Database.open(config.database_url, make_room=reserve.give) as database, _broker(config) as broker:
        await _recover(config, database, clock.now())
        async with (
            serve_traces(traces, config.http.listen) as web,
            Devices(config.instrument, drivers, database, clock) as devices,
            _archiving(config, database, traces, clock) as archive_notice,
            _at_work(
                live,
                Bench(devices, drivers, database, ProgressFeed(), config.traces_dir, clock),
                broker,
                traces_url=web.url,
                traces=traces,
                reserve=reserve,
                archive_notice=archive_notice,
                reloading=partial(Reloader, drivers=drivers, reread=reread, loaders=driver_loaders),
            ) as reloader,
        ):
            yield reloader


async def _all_off(config: LabConfig, drivers: Mapping[str, Driver]) -> None:
    """Before anything else: whatever a dead daemon left on goes off."""
    log = structlog.get_logger()
    for output in await switch_outputs_off(config, drivers, OUTPUTS_OFF_S):
        bound = log.bind(instrument=output.instrument, channel=output.channel)
        if output.off:
            bound.info("output_switched_off")
        else:
            bound.error("output_off_failed", error=output.error)


def _prepare(config: LabConfig, traces: TraceStore) -> None:
    config.traces_dir.mkdir(exist_ok=True)
    traces.clear_up()
    upgrade(config.database_url)


@asynccontextmanager
async def _archiving(
    config: LabConfig, database: Database, traces: TraceStore, clock: Clock
) -> AsyncIterator[Callable[[], str]]:
    """Traces go to the archive inside the block, if the lab has one; an upload that is cut off begins anew.

    What it yields says why the archive cannot be used, if so.
    """
    if traces.archive is None:
        yield str
        return
    archivist = Archivist(
        config.lab.name, database, traces, traces.archive, keep_local=config.store.local_copies, now=clock.now
    )
    async with asyncio.TaskGroup() as group:
        working = group.create_task(archivist.run(), name="archivist")
        try:
            yield lambda: archivist.notice
        finally:
            working.cancel()


@asynccontextmanager
async def _broker(config: LabConfig) -> AsyncIterator[Endpoint]:
    if config.mqtt.url == EMBEDDED:
        async with embedded_broker() as here:
            yield here
    else:
        yield endpoint(config.mqtt)


async def _recover(config: LabConfig, database: Database, now: datetime) -> None:
    """Put right what a dead daemon left; its outputs are off already."""
    log = structlog.get_logger()
    terms = terms_of(config)
    for run in await database.write(lambda session: ledger.interrupt_runs(session, now, terms)):
        log.warning("run_interrupted", job=run.job_id, run=run.id, board=run.board_id, step=run.step)
    for lease in await database.write(lambda session: ledger_leases.reclaim_leases(session, now)):
        log.warning("lease_reclaimed", lease=lease.id, board=lease.board_id, purpose=lease.purpose)
    await salvage_left(database, config.traces_dir)
    await sweep_imports(database, config.lab.data_dir, config.traces_dir)

    def bring_up(session: Session) -> None:
        ledger_lab.retire_boards(session, [board.id for board in config.board], now)
        for board in config.board:
            ledger_lab.bring_up(session, board.id, now)

    await database.write(bring_up)


async def _look_through(config: LabConfig, database: Database, clock: Clock) -> None:
    """Look for damage in a database that is too large to be looked through before a start; tell what was found."""
    if looked_through_at_start(config.database_url):
        return
    log = structlog.get_logger()
    try:
        damage = await find_damage(config.database_url)
    except StoreError as error:
        damage = error.message
    if damage is None:
        log.info("database_found_whole")
    else:
        log.error("database_found_damaged", damage=damage)
    now = clock.now()
    await database.write(lambda session: ledger_lab.note_damage(session, config.lab.name, damage, now))


@asynccontextmanager
async def _at_work(
    live: LiveConfig,
    bench: Bench,
    broker: Endpoint,
    *,
    traces_url: str,
    traces: TraceStore,
    reserve: Reserve,
    archive_notice: Callable[[], str],
    reloading: Callable[..., Reloader],
) -> AsyncIterator[Reloader]:
    """Dispatcher and MQTT session; runs are stopped first, and their ends told, while the watchdog is still fed."""
    config, clock = live.now, bench.clock
    watch = SpaceWatch(config.keep, partial(free_bytes, config.traces_dir))

    async def captures_start() -> bool:  # each of the two knows the other
        return await housekeeper.captures_start()

    def wanted() -> Mapping[str, Holder]:  # as do these two
        return warden.wanted()

    dispatcher = Dispatcher(live, bench.database, LabWork(live, bench), captures_start, clock, wanted=wanted)
    housekeeper = Housekeeper(
        config.lab.name,
        bench.database,
        watch,
        Collector(bench.database, traces, config.keep),
        reserve,
        salvage=partial(salvage_left, bench.database, config.traces_dir),
        space_changed=dispatcher.wake,
        now=clock.now,
    )
    emergency = EmergencyOff(live, bench.devices)

    def halt() -> None:
        dispatcher.halt()
        caretaker.halt()
        emergency.pull()

    def facts(config: LabConfig) -> Mapping[str, BoardFacts]:
        return lab_facts(config, capabilities_of(config, bench.drivers))

    granting = Granting(facts)
    warden = Warden(
        live,
        bench.database,
        granting,
        darken=partial(darken, bench.devices),
        wake=dispatcher.wake,
        clock=clock,
    )

    def boards_changed() -> None:
        dispatcher.wake()
        warden.wake()

    def go_on() -> None:
        dispatcher.go_on()
        warden.wake()

    reloader = reloading(live, bench.devices, bench.database, wake=boards_changed, clock=clock)
    morning = Morning(bench.database, live, config.lab.data_dir, clock)
    sweeper = Sweeper(
        live, bench.database, LabSweeps(live), report=morning.report, jobs_added=dispatcher.wake, clock=clock
    )
    lab = Lab(
        live=live,
        database=bench.database,
        wake=dispatcher.wake,
        cancel_run=dispatcher.cancel,
        explain=dispatcher.explain,
        queue_length=lambda: dispatcher.queue_length,
        traces_url=traces_url,
        space=lambda: watch.seen,
        archive=archive_notice,
        collect=housekeeper.wake,
        sweeps_changed=sweeper.wake,
        halt=halt,
        go_on=go_on,
        reloader=reloader,
        granting=granting,
        reservations_changed=warden.wake,
        now=clock.now,
    )
    caretaker = Caretaker(live, bench.database, LabCare(live, bench, dispatcher.wake), dispatcher.wake, clock)
    await housekeeper.begin()
    await warden.begin()
    await dispatcher.begin()
    session = MqttSession(lab, broker, bench.progress)
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(session.run(), name="mqtt")
        watchdog = group.create_task(keep_alive(), name="watchdog")
        dispatching = group.create_task(dispatcher.run(), name="dispatcher")
        caring = group.create_task(caretaker.run(), name="caretaker")
        others = [
            group.create_task(warden.run(), name="warden"),
            group.create_task(sweeper.run(), name="sweeper"),
            group.create_task(morning.run(), name="reports"),
            group.create_task(housekeeper.run(), name="housekeeper"),
            group.create_task(emergency.run(), name="emergency-off"),
            group.create_task(_look_through(config, bench.database, clock), name="database-check"),
            group.create_task(reloader.run(), name="reloader"),
        ]
        try:
            yield reloader
        finally:
            for task in (*others, caring, dispatching):
                task.cancel()
            await asyncio.wait({dispatching, caring})
            if not telling.done():
                await session.told(TOLD_S)
            telling.cancel()
            watchdog.cancel()
