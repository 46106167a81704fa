"""The rack's instruments: opened when first needed, found dead by asking, and opened anew after a failure.

An instrument that is down costs the runs that need it and nothing else; the daemon goes on and tries it again.

What `lab.toml` says of an instrument may change while runs use it. They keep what they began with; whoever comes later
waits until they are done and the instrument has been taken over, so that a device is never opened twice.

An output that could not be switched off is a debt. It is paid before anybody gets the instrument again, and tried for
again and again meanwhile; until then the instrument stays closed, so that nothing feeds its own watchdog.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

import structlog

from drivers.api import (
    ConnectError,
    DeviceError,
    Driver,
    DriverError,
    EdgesLostError,
    EdgeSource,
    Instrument,
    PowerAnalyzer,
    PowerSupply,
)
from labd import config
from labd.bench.shield import shielded
from labd.clock import WALL, Clock
from labd.errors import StoreError
from labd.model import ledger_health
from labd.model.database import Database
from labd.model.ledger_lab import REMOVED
from labd.model.states import InstrumentState

OPEN_S = 10.0
"""Longest wait for an instrument to be opened, s."""
CHECK_S = 10.0
"""Longest wait for an instrument to say that it is well, s: the captures of other channels may stand before."""
CLOSE_S = 5.0
"""Longest wait for an instrument to be closed, s."""
DEBT_S = 1.0
"""Pause between two tries to switch off an output that would not go off, s."""
Device = TypeVar("Device")


@dataclass(slots=True)
class _Slot:
    """One instrument of the rack: its configuration, and the open device with what closes it."""

    settings: config.Instrument
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    trigger: asyncio.Lock = field(default_factory=asyncio.Lock)
    peaks: asyncio.Lock = field(default_factory=asyncio.Lock)
    device: Any = None
    close: AsyncExitStack | None = None
    state: InstrumentState | None = None
    debts: set[int] = field(default_factory=set)
    """Channels that have to be switched off and are not known to be."""
    doubtful: bool = False
    """Whether the device is in a state that only a new connection puts right."""
    users: int = 0
    """Runs and checks that have it in hand."""
    wanted: config.Instrument | None = None
    """What lab.toml says of it by now; None if it is not there any more."""
    outputs: frozenset[int] = frozenset()
    """Channels to switch off before it is let go of."""
    gone: bool = False
    """Whether it has been let go of for good."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless it waits to be taken over."""

    @property
    def stale(self) -> bool:
        """Whether lab.toml has said something else of it since."""
        return self.wanted != self.settings


def _slot_of(settings: config.Instrument) -> _Slot:
    slot = _Slot(settings, wanted=settings)
    slot.settled.set()
    return slot


class Devices:
    """All instruments of the lab by id.

    Args:
        instruments: As configured.
        drivers: Installed drivers by name.
        database: Where changes of their states are noted.
        clock: Dates them.
    """

    def __init__(
        self,
        instruments: tuple[config.Instrument, ...],
        drivers: Mapping[str, Driver],
        database: Database,
        clock: Clock = WALL,
    ) -> None:
        self._slots = {settings.id: _slot_of(settings) for settings in instruments}
        self._to_take_over = asyncio.Event()
        self._drivers = drivers
        self._database = database
        self._clock = clock
        self._log = structlog.get_logger()
        self._collector: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._collector is not None:
            self._collector.cancel()
            await asyncio.wait({self._collector})
        for slot in self._slots.values():
            if slot.debts:
                self._log.error("outputs_left_on", instrument=slot.settings.id, channels=sorted(slot.debts))
            await self._close(slot)

    async def supply(self, instrument_id: str) -> PowerSupply:
        """The power supply of that id, alive. Raises `ConnectError`."""
        return await self._get(instrument_id, PowerSupply)  # type: ignore[type-abstract]

    async def analyzer(self, instrument_id: str) -> PowerAnalyzer:
        """The power analyzer of that id, alive. Raises `ConnectError`."""
        return await self._get(instrument_id, PowerAnalyzer)  # type: ignore[type-abstract]

    async def edges(self, instrument_id: str) -> EdgeSource:
        """The edge source of that id, alive. Raises `ConnectError`."""
        return await self._get(instrument_id, EdgeSource)  # type: ignore[type-abstract]

    def settings(self, instrument_id: str) -> config.Instrument:
        """What lab.toml says of an instrument."""
        return self._slot(instrument_id).settings

    async def instrument(self, instrument_id: str) -> Instrument:
        """The instrument of that id as such, for its identity and its health. Raises `ConnectError`."""
        return await self._get(instrument_id, Instrument)  # type: ignore[type-abstract]

    async def switch_off(self, instrument_id: str, channel: int) -> None:
        """Switch an output off, by a new connection if need be; one that stays on is tried for again by itself.

        Raises:
            ConnectError: the output is not known to be off yet.
            StoreError: nor is it, and the database does not note how the instrument was found.
        """
        slot = self._slot(instrument_id)
        slot.debts.add(channel)
        try:
            await self.supply(instrument_id)
        finally:
            if slot.debts and (self._collector is None or self._collector.done()):
                self._collector = asyncio.create_task(self._collect(), name="outputs-to-switch-off")

    @asynccontextmanager
    async def trigger(self, *instrument_ids: str) -> AsyncIterator[None]:
        """Own the trigger lines of these instruments, from arming a capture until its pulse is out.

        A trigger input is shared by all channels of an analyzer, a sync output by all analyzers that it is wired to.
        """
        async with AsyncExitStack() as held:
            for instrument_id in sorted(set(instrument_ids)):  # in one order, so that no two wait for each other
                await held.enter_async_context(self._slot(instrument_id).trigger)
            yield

    @asynccontextmanager
    async def watching_peaks(self, instrument_id: str) -> AsyncIterator[None]:
        """Be the one who watches peaks with this instrument: a watch takes more of it than a capture."""
        async with self._slot(instrument_id).peaks:
            yield

    def doubt(self, instrument_id: str) -> None:
        """Have the instrument opened anew before its next use: it was left in a state that nobody knows."""
        self._slot(instrument_id).doubtful = True

    @asynccontextmanager
    async def in_use(self, instrument_ids: Iterable[str], within_s: float) -> AsyncIterator[None]:
        """Have these instruments as they are configured now until the end of the block.

        Args:
            instrument_ids: The instruments.
            within_s: Longest wait for one that is to be taken over, s: others may still use it as it was.

        Raises:
            ConnectError: one of them is not there any more, or was not taken over in time.
        """
        ids = sorted(instrument_ids)
        try:
            async with asyncio.timeout(within_s):
                while stale := [slot for slot in map(self._slot, ids) if slot.stale]:
                    await stale[0].settled.wait()
        except TimeoutError as error:
            message = f"instrument {stale[0].settings.id} is still in use as it was before lab.toml was changed"
            raise ConnectError(message) from error
        used = [self._slot(each) for each in ids]
        for slot in used:
            slot.users += 1
        try:
            yield
        finally:
            for slot in used:
                slot.users -= 1
            self._to_take_over.set()

    def reconfigure(
        self, instruments: Iterable[config.Instrument], outputs: Mapping[str, frozenset[int]] = MappingProxyType({})
    ) -> None:
        """Go by another `lab.toml` from now on; `take_over` does what that asks for.

        Args:
            instruments: All that there are now. Their drivers are installed.
            outputs: Channels that have fed boards so far, by instrument: they go off before one is let go of.
        """
        wanted = {settings.id: settings for settings in instruments}
        for instrument_id, slot in self._slots.items():
            slot.wanted = wanted.pop(instrument_id, None)
            slot.outputs = outputs.get(instrument_id, frozenset())
            if slot.stale:
                slot.settled.clear()
            else:
                slot.settled.set()
        self._slots |= {settings.id: _slot_of(settings) for settings in wanted.values()}
        self._to_take_over.set()

    async def take_over(self) -> None:
        """Reopen instruments that were changed, and let go of removed ones, when nobody uses them; never returns."""
        while True:
            await self._to_take_over.wait()
            self._to_take_over.clear()
            for slot in [slot for slot in self._slots.values() if slot.stale and not slot.users]:
                await self._take_over(slot)

    async def _take_over(self, slot: _Slot) -> None:
        instrument_id = slot.settings.id
        async with slot.lock:
            if slot.device is not None or slot.debts:
                await self._leave_dark(slot)
            await self._close(slot)
            if slot.wanted is not None:
                slot.settings, slot.state = slot.wanted, None
                slot.settled.set()
            else:
                del self._slots[instrument_id]
                slot.gone = True
                slot.settled.set()
                await self._note(slot, InstrumentState.OFFLINE, reason=REMOVED)
        self._log.info("instrument_taken_over", instrument=instrument_id, removed=slot.gone)
        if not slot.gone:
            try:
                await self.instrument(instrument_id)
            except ConnectError as error:
                self._log.warning("instrument_not_reopened", instrument=instrument_id, error=str(error))

    async def _leave_dark(self, slot: _Slot) -> None:
        """Switch off what an instrument feeds before it is let go of; if it does not obey, its own watchdog will do."""
        slot.debts |= slot.outputs
        try:
            if slot.device is None:
                await self._open(slot)
            await self._pay(slot)
        except ConnectError as error:
            channels = sorted(slot.debts)
            self._log.error("outputs_left_on", instrument=slot.settings.id, channels=channels, error=str(error))
            slot.debts.clear()

    async def survey(self, left_alone: Collection[str] = ()) -> None:
        """Ask every instrument once how it is, and note it; those in a person's hands are let go of and not asked."""
        recorded = await self._database.read(ledger_health.instrument_states)
        for instrument_id, slot in list(self._slots.items()):
            if instrument_id in left_alone:
                await self._let_go(slot)
                continue
            try:
                await self.instrument(instrument_id)
            except ConnectError as error:
                self._log.warning("instrument_survey_failed", instrument=instrument_id, error=str(error))
                continue
            # one that was given back before it was let go of is open still: nothing else would tell that it is there
            if slot.state is InstrumentState.ONLINE and recorded.get(instrument_id) is InstrumentState.OFFLINE:
                await self._note(slot, InstrumentState.ONLINE)

    async def _let_go(self, slot: _Slot) -> None:
        """Close an instrument that no run has in hand, so that a person can talk to it."""
        async with slot.lock:
            if not slot.users and not slot.debts:
                slot.state = None
                await self._close(slot)

    async def _collect(self) -> None:
        """Try to switch off what is owed until nothing is, also while the database refuses to note what is found."""
        while owing := [name for name, slot in self._slots.items() if slot.debts]:
            await asyncio.sleep(DEBT_S)
            for instrument_id in owing:
                try:
                    await self.supply(instrument_id)
                except (ConnectError, StoreError) as error:
                    self._log.warning("output_still_on", instrument=instrument_id, error=str(error))

    def _slot(self, instrument_id: str) -> _Slot:
        if slot := self._slots.get(instrument_id):
            return slot
        raise ConnectError(f"there is no instrument {instrument_id} in lab.toml any more")

    async def _get(self, instrument_id: str, role: type[Device]) -> Device:
        slot = self._slot(instrument_id)
        async with slot.lock:
            if slot.gone:
                raise ConnectError(f"instrument {instrument_id} has been taken out of lab.toml")
            if slot.device is not None and (slot.doubtful or not await self._is_well(slot)):
                await self._close(slot)
            if slot.device is None:
                await self._open(slot)
            device = slot.device
            if slot.debts:
                await self._pay(slot)
        if not isinstance(device, role):
            raise ConnectError(f"instrument {instrument_id} does not serve as {role.__name__}")
        return device

    async def _pay(self, slot: _Slot) -> None:
        """Switch off what has to be. A failure closes the instrument: its own watchdog must not be fed any more."""
        try:
            async with asyncio.timeout(CHECK_S):
                for channel in sorted(slot.debts):
                    await slot.device.output_off(channel)
                    slot.debts.discard(channel)
        except (DriverError, TimeoutError) as error:
            await self._close(slot)
            reason = str(error) or f"no answer within {CHECK_S:g} s"
            raise ConnectError(f"instrument {slot.settings.id} does not switch its output off: {reason}") from error

    async def _is_well(self, slot: _Slot) -> bool:
        """Whether the device talks. What it then reports concerns whoever uses it: it is no reason to cut them off."""
        try:
            async with asyncio.timeout(CHECK_S):
                await slot.device.check()
        except (DeviceError, EdgesLostError) as error:
            self._log.warning("instrument_reported_errors", instrument=slot.settings.id, error=str(error))
            await self._note(slot, InstrumentState.SUSPECT, reason=str(error))
        except (DriverError, TimeoutError) as error:
            self._log.warning("instrument_found_dead", instrument=slot.settings.id, error=str(error))
            return False
        else:
            if slot.state is InstrumentState.SUSPECT:
                await self._note(slot, InstrumentState.ONLINE)
        return True

    async def _open(self, slot: _Slot) -> None:
        settings = slot.settings
        driver = self._drivers[settings.driver]
        try:
            async with AsyncExitStack() as opening, asyncio.timeout(OPEN_S):
                options = driver.options.model_validate(settings.options)
                device = await opening.enter_async_context(driver.open(options))
                stack = opening.pop_all()
        except (DriverError, OSError, TimeoutError) as error:
            reason = str(error) or f"did not open within {OPEN_S:g} s"
            await self._note(slot, InstrumentState.OFFLINE, reason=reason)
            raise ConnectError(f"instrument {settings.id} cannot be opened: {reason}") from error
        slot.device, slot.close, slot.doubtful = device, stack, False
        identity = dataclasses.asdict(device.identity) if isinstance(device, Instrument) else {}
        await self._note(slot, InstrumentState.ONLINE, identity=identity)

    async def _close(self, slot: _Slot) -> None:
        stack, slot.device, slot.close = slot.close, None, None
        if stack is not None:
            await shielded(self._leave(slot.settings.id, stack), f"close-{slot.settings.id}")

    async def _leave(self, instrument_id: str, stack: AsyncExitStack) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await stack.aclose()
        except (DriverError, OSError, TimeoutError) as error:
            self._log.warning("instrument_close_failed", instrument=instrument_id, error=str(error))

    async def _note(
        self, slot: _Slot, state: InstrumentState, *, reason: str = "", identity: dict[str, Any] | None = None
    ) -> None:
        if slot.state is state and state is not InstrumentState.ONLINE:
            return
        slot.state = state
        settings, now = slot.settings, self._clock.now()
        await self._database.write(
            lambda session: ledger_health.note_instrument(
                session, settings.id, settings.driver, state, now, reason=reason, identity=identity
            )
        )
