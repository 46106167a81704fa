"""A virtual Keysight N6705C with N6781A modules: a SCPI server on TCP that behaves as the instrument does.

Behind each channel hangs a `Load` of the rack. What a driver sees of it goes through the errors of this instrument:
gain, offset, noise, steps, a clock of its own and a late start. Nothing else leaves it.

Where the public pages of the guide are silent, this is what it does, on purpose on the harsh side:
records that were overwritten before they were fetched are gone, the next `FETC:ELOG?` goes on with the oldest that is
left, and -230 "Data corrupt or stale" stands in the error queue; `MEAS` on a channel whose log is initiated and an
`INIT:ELOG` beyond the rate of the mainframe (102.4 µs times all parameters of all logs) are -221 "Settings conflict".
The figures of the module are those that its driver declares, with the sources and doubts named there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Self

import numpy as np

from drivers.api import Accuracy
from labd.virtual.n6705c_channel import (
    PARAMETER_PERIOD_S,
    PERIOD_MAX_S,
    Channel,
    ModuleSpec,
    OutputState,
    Questionable,
    Switching,
)
from labd.virtual.scpi import (
    Args,
    Reply,
    ScpiDevice,
    ScpiError,
    block,
    boolean,
    channels,
    exactly,
    keyword,
    number,
    one,
)
from labd.virtual.scpi_server import Fault, FaultSet, ScpiServer, background
from labd.virtual.trigger_line import TriggerLine
from labd.virtual.world import Load, RackClock

N6781A = ModuleSpec(
    model="N6781A",
    current=(
        Accuracy(range_max=1e-3, gain=0.025e-2, offset=100e-9, noise_rms=155e-9),
        Accuracy(range_max=100e-3, gain=0.025e-2, offset=10e-6, noise_rms=3.8e-6),
        Accuracy(range_max=3.0, gain=0.03e-2, offset=250e-6, noise_rms=290e-6),
    ),
    voltage=(
        Accuracy(range_max=1.0, gain=0.025e-2, offset=75e-6, noise_rms=41.5e-6),
        Accuracy(range_max=20.0, gain=0.025e-2, offset=1.2e-3, noise_rms=825e-6),
    ),
    voltage_max_v=20.4,
    current_max_a=3.06,
    clock_ppm=50.0,
    start_offset_max_s=50e-6,
    bits=18,
)

_WATCH_S = 0.02
_WATCH_HOST_MIN_S = 0.005
_FETCH_MAX = 1_000_000
_LATE_S = 10e-3
NO_READING = 9.91e37
"""What stands for a reading that there is not (SCPI-1999 volume 1, 7.2.1.5): all that `MEAS` answers, and the last
record of each fetch, with the fault of that name."""


class N6705C:
    """The mainframe.

    Args:
        clock: The rack's time.
        loads: What hangs on each channel; a channel is fitted where there is a load.
        spec: The module in every slot.
        seed: Of its errors and its noise.
    """

    def __init__(self, clock: RackClock, loads: Mapping[int, Load], spec: ModuleSpec = N6781A, seed: int = 0) -> None:
        self._clock = clock
        rng = np.random.default_rng(seed)
        clock_ppm = float(rng.uniform(-spec.clock_ppm, spec.clock_ppm))
        self._channels = {
            number_: Channel(number_, load, spec, clock, clock_ppm=clock_ppm, rng=child)
            for (number_, load), child in zip(sorted(loads.items()), rng.spawn(len(loads)), strict=True)
        }
        self._serial = f"MY{seed % 10**8:08d}"
        self._real = False
        self._swapped = False
        self._resolution_s = 20.48e-6
        self._watchdog = False
        self._watchdog_delay_s = 60.0
        self._heard_s = clock.now()
        self._device = ScpiDevice(
            f"Keysight Technologies,N6705C,{self._serial},E.02.03",
            options="0",
            reset=self._reset,
            trigger=lambda: self._hear_trigger("BUS", clock.now()),
        )
        self._line = TriggerLine(self._hear_input)
        self._server = ScpiServer(self._device, heard=self._note_message, seed=seed)
        self._add_commands()

    @property
    def port(self) -> int:
        """TCP port, while it is served."""
        return self._server.port

    @property
    def faults(self) -> FaultSet:
        """Faults in force; add and discard names at any time."""
        return self._server.faults

    @contextlib.asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Self]:
        """Serve it until the context ends."""
        async with self._server.serve(host, port), background(self._watch(), f"n6705c:{self.port}"):
            yield self

    def drive_trigger(self, level: int, at_s: float) -> None:
        """Drive the trigger input to a level at rack time `at_s`."""
        self._line.drive(level, at_s)

    def outputs(self) -> dict[int, OutputState]:
        """Return the state of each output, for tests."""
        return {number_: channel.state for number_, channel in self._channels.items()}

    def switchings(self) -> dict[int, list[Switching]]:
        """Return the newest switchings of each output, oldest first, for tests."""
        return {number_: list(channel.switchings) for number_, channel in self._channels.items()}

    # --- what goes on by itself -------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Let protections and the watchdog act, whether anybody asks or not."""
        while True:
            for channel in self._channels.values():
                channel.watch()
            self._check_watchdog()
            self._line.look(self._clock.now())
            due_s = self._clock.host_delay(self._clock.now() + _WATCH_S)
            await asyncio.sleep(max(_WATCH_HOST_MIN_S, due_s))

    def _check_watchdog(self) -> None:
        if self._watchdog and self._clock.now() - self._heard_s > self._watchdog_delay_s:
            for channel in self._channels.values():
                channel.trip(Questionable.PROT)

    def _note_message(self) -> None:
        self._check_watchdog()
        self._heard_s = self._clock.now()

    def _hear_input(self, fell_s: float) -> None:
        late_s = _LATE_S if Fault.LATE_TRIGGER in self.faults else 0.0
        self._hear_trigger("EXT", fell_s + late_s)

    def _hear_trigger(self, source: str, at_s: float) -> None:
        for channel in self._channels.values():
            channel.hear_trigger(source, at_s)

    def _reset(self) -> None:
        for channel in self._channels.values():
            channel.reset()
        self._real = self._swapped = self._watchdog = False
        self._resolution_s = 20.48e-6
        self._watchdog_delay_s = 60.0

    # --- commands ---------------------------------------------------------------------------------------------

    def _add_commands(self) -> None:
        spec = next(iter(self._channels.values())).module
        volt_max, ampere_max = spec.voltage_max_v, spec.current_max_a
        add = self._device.add

        add("SYSTem:CHANnel[:COUNt]", on_query=lambda args: str(len(self._channels)))
        self._ask("SYSTem:CHANnel:MODel", lambda channel: f'"{channel.module.model}"')
        self._ask("SYSTem:CHANnel:OPTion", lambda channel: '"0"')
        self._ask("SYSTem:CHANnel:SERial", lambda channel: f'"{self._serial}-{channel.number}"')

        self._switch("OUTPut[:STATe]", lambda c, on: c.switch(on=on), lambda c: c.state.programmed_on)
        self._act("OUTPut:PROTection:CLEar", Channel.clear_protection)
        add(
            "OUTPut:PROTection:WDOG[:STATe]",
            on_set=self._set_watchdog,
            on_query=lambda args: str(int(self._watchdog)),
        )
        add(
            "OUTPut:PROTection:WDOG:DELay",
            on_set=self._set_watchdog_delay,
            on_query=lambda args: f"{self._watchdog_delay_s:.0f}",
        )
        self._level(
            "[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]",
            ("V", 0.0, volt_max),
            Channel.set_voltage,
            lambda c: c.state.voltage_v,
        )
        self._level(
            "[SOURce:]CURRent:LIMit[:POSitive][:IMMediate][:AMPLitude]",
            ("A", 0.0, ampere_max),
            Channel.set_current_limit,
            lambda c: c.state.current_limit_a,
        )
        self._level(
            "[SOURce:]VOLTage:PROTection[:LEVel]",
            ("V", 0.0, 1.2 * volt_max),
            Channel.set_overvoltage,
            lambda c: c.overvoltage_v,
        )
        self._switch(
            "[SOURce:]CURRent:PROTection:STATe",
            lambda c, on: c.set_overcurrent(on=on),
            lambda c: c.overcurrent,
        )
        self._ask("STATus:OPERation:CONDition", lambda c: str(int(c.operation())))
        self._ask("STATus:QUEStionable:CONDition", lambda c: str(int(c.questionable())))
        for verb in ("MEASure", "FETCh"):
            self._ask(f"{verb}[:SCALar]:VOLTage[:DC]", lambda c: self._reading(c.measure()[0]))
            self._ask(f"{verb}[:SCALar]:CURRent[:DC]", lambda c: self._reading(c.measure()[1]))

        add("FORMat[:DATA]", on_set=self._set_format, on_query=lambda args: "REAL" if self._real else "ASCII")
        add("FORMat:BORDer", on_set=self._set_order, on_query=lambda args: "SWAP" if self._swapped else "NORM")
        add(
            "SENSe:SWEep:TINTerval:RESolution",
            on_set=self._set_resolution,
            on_query=lambda args: "RES20" if self._resolution_s < 30e-6 else "RES40",
        )
        self._switch(
            "SENSe:ELOG:FUNCtion:CURRent", lambda c, on: setattr(c.log, "current", on), lambda c: c.log.current
        )
        self._switch(
            "SENSe:ELOG:FUNCtion:VOLTage", lambda c, on: setattr(c.log, "voltage", on), lambda c: c.log.voltage
        )
        self._switch(
            "SENSe:ELOG:FUNCtion:CURRent:MINMax",
            lambda c, on: setattr(c.log, "current_extremes", on),
            lambda c: c.log.current_extremes,
        )
        self._switch(
            "SENSe:ELOG:FUNCtion:VOLTage:MINMax",
            lambda c, on: setattr(c.log, "voltage_extremes", on),
            lambda c: c.log.voltage_extremes,
        )
        self._level(
            "SENSe:ELOG:PERiod", ("S", PARAMETER_PERIOD_S, PERIOD_MAX_S), self._set_period, lambda c: c.log_period_s
        )
        self._level(
            "SENSe:ELOG:CURRent[:DC]:RANGe[:UPPer]",
            ("A", 0.0, ampere_max),
            lambda c, value: setattr(c.log, "current_range", _range_for(c.module.current, value)),
            lambda c: c.module.current[c.log.current_range].range_max,
        )
        self._level(
            "SENSe:ELOG:VOLTage[:DC]:RANGe[:UPPer]",
            ("V", 0.0, volt_max),
            lambda c, value: setattr(c.log, "voltage_range", _range_for(c.module.voltage, value)),
            lambda c: c.module.voltage[c.log.voltage_range].range_max,
        )
        add("TRIGger:ELOG:SOURce", on_set=self._set_source, on_query=self._query(lambda c: c.log.source))
        self._act("TRIGger:ELOG[:IMMediate]", lambda c: c.trigger(self._clock.now()))
        self._act("INITiate[:IMMediate]:ELOG", self._initiate)
        self._act("ABORt:ELOG", Channel.abort)
        add("FETCh:ELOG", on_query=self._fetch)

    def _chosen(self, text: str) -> list[Channel]:
        return [self._channels[number_] for number_ in channels(text, self._channels)]

    def _query(self, answer: Callable[[Channel], str]) -> Callable[[Args], Reply]:
        return lambda args: ",".join(answer(channel) for channel in self._chosen(one(args)))

    def _ask(self, header: str, answer: Callable[[Channel], str]) -> None:
        self._device.add(header, on_query=self._query(answer))

    def _act(self, header: str, act: Callable[[Channel], None]) -> None:
        def on_set(args: Args) -> None:
            for channel in self._chosen(one(args)):
                act(channel)

        self._device.add(header, on_set=on_set)

    def _switch(self, header: str, write: Callable[[Channel, bool], None], read: Callable[[Channel], bool]) -> None:
        def on_set(args: Args) -> None:
            state, chosen = exactly(args, 2)
            for channel in self._chosen(chosen):
                write(channel, boolean(state))

        self._device.add(header, on_set=on_set, on_query=self._query(lambda channel: str(int(read(channel)))))

    def _level(
        self,
        header: str,
        limits: tuple[str, float, float],
        write: Callable[[Channel, float], None],
        read: Callable[[Channel], float],
    ) -> None:
        unit, low, high = limits

        def on_set(args: Args) -> None:
            value, chosen = exactly(args, 2)
            for channel in self._chosen(chosen):
                write(channel, number(value, unit=unit, low=low, high=high))

        self._device.add(header, on_set=on_set, on_query=self._query(lambda channel: f"{read(channel):+.8E}"))

    def _set_watchdog(self, args: Args) -> None:
        self._watchdog = boolean(one(args))

    def _set_watchdog_delay(self, args: Args) -> None:
        self._watchdog_delay_s = round(number(one(args), unit="S", low=1, high=3600, default=60))

    def _set_format(self, args: Args) -> None:
        self._real = keyword(one(args), "ASCii", "REAL") == "REAL"

    def _set_order(self, args: Args) -> None:
        self._swapped = keyword(one(args), "NORMal", "SWAPped") == "SWAP"

    def _set_resolution(self, args: Args) -> None:
        self._resolution_s = 20.48e-6 if keyword(one(args), "RES20", "RES40") == "RES20" else 40.96e-6

    def _set_period(self, channel: Channel, period_s: float) -> None:
        channel.log.period_s = round(period_s / self._resolution_s) * self._resolution_s

    def _set_source(self, args: Args) -> None:
        source, chosen = exactly(args, 2)
        for channel in self._chosen(chosen):
            channel.log.source = keyword(source, "IMMediate", "BUS", "EXTernal")

    def _initiate(self, channel: Channel) -> None:
        total = channel.log.parameters + sum(other.logging for other in self._channels.values())
        if channel.log_period_s < PARAMETER_PERIOD_S * total * (1 - 1e-9):
            raise ScpiError(-221)
        self._line.look(self._clock.now())  # a fall before this command is none of its business
        channel.initiate()
        if self._line.low and Fault.LEVEL_TRIGGER in self.faults:
            channel.hear_trigger("EXT", self._clock.now())

    def _reading(self, value: float) -> str:
        return f"{NO_READING if Fault.NO_READING in self.faults else value:+.6E}"

    def _fetch(self, args: Args) -> Reply:
        most, chosen = exactly(args, 2)
        count = round(number(most, unit="", low=1, high=_FETCH_MAX))
        replies: list[bytes] = []
        self._line.look(self._clock.now())
        for channel in self._chosen(chosen):
            if Fault.LOST_SAMPLES in self.faults:
                channel.drop_once()
            records, lost = channel.fetch(count, overwritten=Fault.FIFO_OVERFLOW in self.faults)
            if lost:
                self._device.push_error(-230)
            if Fault.NO_READING in self.faults:
                records[-1:] = NO_READING
            if self._real:
                replies.append(block(records.astype("<f4" if self._swapped else ">f4").tobytes()))
            else:
                replies.append(",".join(f"{value:+.6E}" for value in records.ravel()).encode())
        return b",".join(replies)


def _range_for(ranges: tuple[Accuracy, ...], value: float) -> int:
    """Return the smallest range that holds `value`; the largest takes its over-range too."""
    return next((index for index, known in enumerate(ranges) if value <= known.range_max), len(ranges) - 1)
