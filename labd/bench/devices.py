"""The rack's instruments: opened when first needed, found dead by asking, and opened anew after a failure.

An instrument that is down costs the runs that need it and nothing else; the daemon goes on and tries it again.

An output that could not be switched off is a debt. It is paid before anybody gets the instrument again, and tried for
again and again meanwhile; until then the instrument stays closed, so that nothing feeds its own watchdog.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
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
from labd.model import ledger
from labd.model.database import Database
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
    device: Any = None
    close: AsyncExitStack | None = None
    state: InstrumentState | None = None
    debts: set[int] = field(default_factory=set)
    """Channels that have to be switched off and are not known to be."""
    doubtful: bool = False
    """Whether the device is in a state that only a new connection puts right."""


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
        self._slots = {settings.id: _Slot(settings) for settings in instruments}
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
        return self._slots[instrument_id].settings

    async def instrument(self, instrument_id: str) -> Instrument:
        """The instrument of that id as such, for its identity and its health. Raises `ConnectError`."""
        return await self._get(instrument_id, Instrument)  # type: ignore[type-abstract]

    async def switch_off(self, instrument_id: str, channel: int) -> None:
        """Switch an output off, by a new connection if need be; one that stays on is tried for again by itself.

        Raises:
            ConnectError: the output is not known to be off yet.
        """
        self._slots[instrument_id].debts.add(channel)
        try:
            await self.supply(instrument_id)
        finally:
            if self._slots[instrument_id].debts and (self._collector is None or self._collector.done()):
                self._collector = asyncio.create_task(self._collect(), name="outputs-to-switch-off")

    @asynccontextmanager
    async def trigger(self, *instrument_ids: str) -> AsyncIterator[None]:
        """Own the trigger lines of these instruments, from arming a capture until its pulse is out.

        A trigger input is shared by all channels of an analyzer, a sync output by all analyzers that it is wired to.
        """
        async with AsyncExitStack() as held:
            for instrument_id in sorted(set(instrument_ids)):  # in one order, so that no two wait for each other
                await held.enter_async_context(self._slots[instrument_id].trigger)
            yield

    def doubt(self, instrument_id: str) -> None:
        """Have the instrument opened anew before its next use: it was left in a state that nobody knows."""
        self._slots[instrument_id].doubtful = True

    async def survey(self) -> None:
        """Ask every instrument once how it is, and note it."""
        for instrument_id in self._slots:
            try:
                await self.instrument(instrument_id)
            except ConnectError as error:
                self._log.warning("instrument_survey_failed", instrument=instrument_id, error=str(error))

    async def _collect(self) -> None:
        """Try to switch off what is owed until nothing is."""
        while owing := [name for name, slot in self._slots.items() if slot.debts]:
            await asyncio.sleep(DEBT_S)
            for instrument_id in owing:
                try:
                    await self.supply(instrument_id)
                except ConnectError as error:
                    self._log.warning("output_still_on", instrument=instrument_id, error=str(error))

    async def _get(self, instrument_id: str, role: type[Device]) -> Device:
        slot = self._slots[instrument_id]
        async with slot.lock:
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
        except (DriverError, TimeoutError) as error:
            self._log.warning("instrument_found_dead", instrument=slot.settings.id, error=str(error))
            return False
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
        if slot.state is state and state is InstrumentState.OFFLINE:
            return
        slot.state = state
        settings, now = slot.settings, self._clock.now()
        await self._database.write(
            lambda session: ledger.set_instrument_state(
                session, settings.id, settings.driver, state, now, reason=reason, identity=identity
            )
        )
