"""The rack's instruments: opened when first needed, found dead by asking, and opened anew after a failure.

An instrument that is down costs the runs that need it and nothing else; the daemon goes on and tries it again.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from drivers.api import ConnectError, Driver, DriverError, EdgeSource, Instrument, PowerAnalyzer, PowerSupply
from labd import config
from labd.model import ledger
from labd.model.database import Database
from labd.model.states import InstrumentState

OPEN_S = 10.0
"""Longest wait for an instrument to be opened, s."""
CHECK_S = 5.0
"""Longest wait for an instrument to say that it is well, s."""

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


class Devices:
    """All instruments of the lab by id.

    Args:
        instruments: As configured.
        drivers: Installed drivers by name.
        database: Where changes of their states are noted.
    """

    def __init__(
        self, instruments: tuple[config.Instrument, ...], drivers: Mapping[str, Driver], database: Database
    ) -> None:
        self._slots = {settings.id: _Slot(settings) for settings in instruments}
        self._drivers = drivers
        self._database = database
        self._log = structlog.get_logger()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for slot in self._slots.values():
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

    async def instrument(self, instrument_id: str) -> Instrument:
        """The instrument of that id as such, for its identity and its health. Raises `ConnectError`."""
        return await self._get(instrument_id, Instrument)  # type: ignore[type-abstract]

    def trigger_lock(self, instrument_id: str) -> asyncio.Lock:
        """Held from arming a capture until its trigger pulse is out: the trigger line is shared by all channels."""
        return self._slots[instrument_id].trigger

    async def survey(self) -> None:
        """Ask every instrument once how it is, and note it."""
        for instrument_id in self._slots:
            try:
                await self.instrument(instrument_id)
            except ConnectError as error:
                self._log.warning("instrument_survey_failed", instrument=instrument_id, error=str(error))

    async def _get(self, instrument_id: str, role: type[Device]) -> Device:
        slot = self._slots[instrument_id]
        async with slot.lock:
            if slot.device is not None and not await self._is_well(slot):
                await self._close(slot)
            if slot.device is None:
                await self._open(slot)
        if not isinstance(slot.device, role):
            raise ConnectError(f"instrument {instrument_id} does not serve as {role.__name__}")
        return slot.device

    async def _is_well(self, slot: _Slot) -> bool:
        try:
            async with asyncio.timeout(CHECK_S):
                await slot.device.check()
        except (DriverError, TimeoutError) as error:
            self._log.warning("instrument_found_dead", instrument=slot.settings.id, error=str(error))
            return False
        return True

    async def _open(self, slot: _Slot) -> None:
        settings = slot.settings
        driver = self._drivers[settings.driver]
        stack = AsyncExitStack()
        try:
            async with asyncio.timeout(OPEN_S):
                options = driver.options.model_validate(settings.options)
                device = await stack.enter_async_context(driver.open(options))
        except (DriverError, OSError, TimeoutError) as error:
            await stack.aclose()
            reason = str(error) or f"did not open within {OPEN_S:g} s"
            await self._note(slot, InstrumentState.OFFLINE, reason=reason)
            raise ConnectError(f"instrument {settings.id} cannot be opened: {reason}") from error
        slot.device, slot.close = device, stack
        identity = dataclasses.asdict(device.identity) if isinstance(device, Instrument) else {}
        await self._note(slot, InstrumentState.ONLINE, identity=identity)

    async def _close(self, slot: _Slot) -> None:
        stack, slot.device, slot.close = slot.close, None, None
        if stack is None:
            return
        try:
            async with asyncio.timeout(CHECK_S):
                await stack.aclose()
        except (DriverError, OSError, TimeoutError) as error:
            self._log.warning("instrument_close_failed", instrument=slot.settings.id, error=str(error))

    async def _note(
        self, slot: _Slot, state: InstrumentState, *, reason: str = "", identity: dict[str, Any] | None = None
    ) -> None:
        if slot.state is state and state is InstrumentState.OFFLINE:
            return
        slot.state = state
        settings, now = slot.settings, datetime.now(UTC)
        await self._database.write(
            lambda session: ledger.set_instrument_state(
                session, settings.id, settings.driver, state, now, reason=reason, identity=identity
            )
        )
