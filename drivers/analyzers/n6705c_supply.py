"""The outputs of an N6705C: limits below all callers, protections read back, the watchdog, the status of each."""

from __future__ import annotations

import asyncio
import contextlib
import math

from drivers.analyzers import n6781a
from drivers.analyzers.n6705c_mainframe import Mainframe, N6705COptions
from drivers.api import (
    DeviceError,
    DriverError,
    LimitError,
    NoReadingError,
    Quantity,
    SupplyLimits,
    SupplyMode,
    SupplyStatus,
)
from drivers.scpi.session import Dialogue

WATCHDOG_S = (1.0, 3600.0)
_KEEP_ALIVE_S = 0.5
_OPERATION_CC = 2
_OPERATION_OFF = 4
_READ_BACK_TOLERANCE = 1e-4
_PROTECTIONS = {
    0: "over_voltage",
    1: "over_current",
    2: "power_fail",
    3: "power_limit_positive",
    4: "over_temperature",
    5: "power_limit_negative",
    6: "over_voltage_negative",
    9: "inhibit",
    11: "coupled_protection",
    12: "oscillation",
}
"""Bits of the questionable register that switch an output off; the watchdog sets the coupled one."""


class SupplyChannels(Mainframe):
    """`PowerSupply` of drivers.api."""

    def __init__(self, options: N6705COptions) -> None:
        super().__init__(options)
        self._limits: dict[int, SupplyLimits] = {}
        self._keep_alive: asyncio.Task[None] | None = None

    async def set_limits(self, channel: int, limits: SupplyLimits) -> SupplyLimits:
        """Set current limit and both protections. See `PowerSupply.set_limits`; beyond the module: `LimitError`."""
        self.know(channel)
        if not (0 < limits.voltage_max_v <= n6781a.VOLTAGE_MAX_V and 0 < limits.current_max_a <= n6781a.CURRENT_MAX_A):
            raise LimitError(
                f"{self.name(channel)}: limits {limits.voltage_max_v:g} V, {limits.current_max_a:g} A are not within "
                f"{n6781a.VOLTAGE_MAX_V:g} V, {n6781a.CURRENT_MAX_A:g} A"
            )

        def work(device: Dialogue) -> SupplyLimits:
            device.command(
                f"VOLT:PROT {limits.voltage_max_v:.6g},(@{channel})",
                f"CURR:LIM {limits.current_max_a:.6g},(@{channel})",
                f"CURR:PROT:STAT ON,(@{channel})",
            )
            found = SupplyLimits(
                voltage_max_v=device.ask_number(f"VOLT:PROT? (@{channel})"),
                current_max_a=device.ask_number(f"CURR:LIM? (@{channel})"),
            )
            loosest = 1 + _READ_BACK_TOLERANCE
            if (
                not found.voltage_max_v <= limits.voltage_max_v * loosest
                or not found.current_max_a <= limits.current_max_a * loosest
            ):
                raise DeviceError(f"{self.name(channel)}: asked for {limits}, reads back the looser {found}")
            if device.ask_flags(f"CURR:PROT:STAT? (@{channel})") != 1:
                raise DeviceError(f"{self.name(channel)}: over-current protection does not switch on")
            return found

        self._limits.pop(channel, None)
        found = await self.session.run(work)
        self._limits[channel] = limits
        return found

    async def set_voltage(self, channel: int, voltage_v: float) -> float:
        """Set the output voltage, V. See `PowerSupply.set_voltage`."""
        limits = self._limits_of(channel)
        if not 0 <= voltage_v <= limits.voltage_max_v:
            raise LimitError(f"{self.name(channel)}: {voltage_v:g} V is beyond 0 to {limits.voltage_max_v:g} V")

        def work(device: Dialogue) -> float:
            device.command(f"VOLT {voltage_v:.6g},(@{channel})")
            return device.ask_number(f"VOLT? (@{channel})")

        return await self.session.run(work)

    async def output_on(self, channel: int) -> None:
        """Switch the output on. See `PowerSupply.output_on`."""
        self._limits_of(channel)

        def work(device: Dialogue) -> None:
            device.command(f"OUTP ON,(@{channel})")
            if device.ask_flags(f"OUTP? (@{channel})") != 1:
                raise DeviceError(f"{self.name(channel)}: output does not switch on")

        await self.session.run(work)

    async def output_off(self, channel: int) -> None:
        """Switch the output off. See `PowerSupply.output_off`."""
        self.know(channel)

        def work(device: Dialogue) -> None:
            # Off first: a cleared protection gives the output back the state it was programmed to.
            device.command(f"OUTP OFF,(@{channel})", f"OUTP:PROT:CLE (@{channel})")
            if device.ask_flags(f"OUTP? (@{channel})") != 0:
                raise DeviceError(f"{self.name(channel)}: output does not switch off")

        await self.session.run(work)

    async def arm_watchdog(self, delay_s: float) -> None:
        """Arm the output watchdog, 1 to 3600 s, rounded down to whole seconds.

        From then on this driver talks to the instrument by itself as long as the event loop runs, so that only a
        daemon that died or hangs lets it act. Raises `LimitError` for a delay outside its range.
        """
        shortest, longest = WATCHDOG_S
        if not shortest <= delay_s <= longest:
            raise LimitError(f"{self.options.resource}: watchdog delay {delay_s:g} s is not within 1 to 3600 s")
        whole_s = math.floor(delay_s)

        def work(device: Dialogue) -> None:
            device.command(f"OUTP:PROT:WDOG:DEL {whole_s}", "OUTP:PROT:WDOG ON")
            delay_found_s = device.ask_number("OUTP:PROT:WDOG:DEL?")
            if device.ask_flags("OUTP:PROT:WDOG?") != 1 or delay_found_s > whole_s:
                raise DeviceError(f"{device.resource}: watchdog asked for {whole_s} s, reads back {delay_found_s:g} s")

        await self.session.run(work)
        if self._keep_alive is None:
            self._keep_alive = asyncio.create_task(self._talk(), name=f"n6705c-keep-alive:{self.options.resource}")

    async def supply_status(self, channel: int) -> SupplyStatus:
        """Report one output.

        While its log runs the converters belong to the log: voltage and current are then those of the newest sample,
        NaN before the first one. See `PowerSupply.supply_status`. What the instrument has no reading of, asked twice,
        is NaN too, so that a tripped protection is still told.
        """
        self.know(channel)

        def work(device: Dialogue) -> SupplyStatus:
            logged = self.newest(channel)
            operation = device.ask_flags(f"STAT:OPER:COND? (@{channel})")
            questionable = device.ask_flags(f"STAT:QUES:COND? (@{channel})")
            if logged is not None:
                volt, ampere = (logged.get(q, math.nan) for q in (Quantity.VOLTAGE, Quantity.CURRENT))
            else:
                volt = _reading(device, f"MEAS:VOLT? (@{channel})")
                ampere = _reading(device, f"MEAS:CURR? (@{channel})")
            tripped = tuple(name for bit, name in _PROTECTIONS.items() if questionable >> bit & 1)
            if tripped:
                mode = SupplyMode.PROTECTED
            elif operation & _OPERATION_OFF:
                mode = SupplyMode.OFF
            else:
                mode = SupplyMode.CC if operation & _OPERATION_CC else SupplyMode.CV
            return SupplyStatus(mode, volt, ampere, tripped)

        return await self.session.run(work)

    async def close(self) -> None:
        """Leave the instrument; its watchdog stays armed while an output is on."""
        if self._keep_alive is not None:
            self._keep_alive.cancel()
            await asyncio.wait([self._keep_alive])
            with contextlib.suppress(DriverError):  # what cannot be disarmed goes on guarding
                await self.session.run(self._disarm, deadline_s=2.0)
        await super().close()

    def _disarm(self, device: Dialogue) -> None:
        if all(device.ask_flags(f"OUTP? (@{channel})") == 0 for channel in self.options.channels):
            device.command("OUTP:PROT:WDOG OFF")

    async def _talk(self) -> None:
        """Feed the watchdog; a failure is for whoever uses the instrument to meet, and the next try may succeed."""
        while True:
            with contextlib.suppress(DriverError):
                await self.session.run(lambda device: device.ask("*STB?"))
            await asyncio.sleep(_KEEP_ALIVE_S)

    def _limits_of(self, channel: int) -> SupplyLimits:
        self.know(channel)
        if channel not in self._limits:
            raise LimitError(f"{self.name(channel)}: no limits were set yet")
        return self._limits[channel]


def _reading(device: Dialogue, query: str) -> float:
    try:
        return device.ask_number(query)
    except NoReadingError:
        return math.nan
