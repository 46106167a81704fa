"""Keysight N6705C DC power analyzer with N6781A modules: supply and analyzer of up to four boards.

Never tried on hardware: written from public pages and tried against the simulator of this project, which was written
from the same pages. Where the commands come from:

| command | source |
| --- | --- |
| `*IDN?`, `*OPT?`, `SYST:ERR?` | IEEE 488.2, SCPI-1999 |
| `SYST:CHAN:MOD?`, `SYST:CHAN:OPT?` | pyVirtualLab, KeysightN6705C driver |
| `OUTP`, `OUTP:PROT:CLE` | N6700C guide p. 158; pyVirtualLab |
| `OUTP:PROT:WDOG`, `OUTP:PROT:WDOG:DEL` | N6700C guide p. 158 (volatile; all outputs; 1 to 3600 s in steps of 1 s) |
| `VOLT`, `CURR:LIM`, `CURR:PROT:STAT`, `VOLT:PROT` | pyVirtualLab (N678xA, voltage priority), a public N67xx wrapper |
| `STAT:OPER:COND?`, `STAT:QUES:COND?` and their bits | N6705C guide p. 350 |
| `MEAS:VOLT?`, `MEAS:CURR?` | N6700 guide p. 58 |
| `FORM REAL`, `FORM:BORD SWAP` | N6705C guide p. 286: float32 blocks, least significant byte first |
| `SENS:SWE:TINT:RES` | N6700C guide p. 145 |
| `SENS:ELOG:FUNC:CURR`, `:VOLT`, `SENS:ELOG:PER` | N6700 guide p. 91, N6700C guide p. 145 |
| `SENS:ELOG:CURR:RANG`, `SENS:ELOG:VOLT:RANG` | Keysight's IVI driver for the N6700 (its attribute table) |
| `TRIG:ELOG:SOUR` | N6700C guide p. 146 (BUS, EXT, IMM, PIN) |
| `INIT:ELOG`, `FETC:ELOG?`, `ABOR:ELOG` | N6700C guide p. 146; a public N67xx wrapper |

The guide gives the shortest log period as 102.4 µs times the parameters logged "at each interval", up to 24: that is
all channels together. So `channels` in the options says which channels may record at once, and the shortest period
follows: 204.8 µs for voltage and current of one channel, 819.2 µs for four.

The guide says that records which are not read within about 20 s are overwritten, not how it tells. Two signs are
taken: a backlog of nearly the whole FIFO at one visit, and -230 "Data corrupt or stale" in the error queue. From there
on the sample index is no clock any more, and all that follows is marked.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from pydantic import BaseModel

from drivers.analyzers import n6781a
from drivers.analyzers.n6705c_analyzer import LogChannels
from drivers.analyzers.n6705c_mainframe import N6705COptions
from drivers.analyzers.n6705c_supply import WATCHDOG_S, SupplyChannels
from drivers.api import (
    AnalyzerCapability,
    Capability,
    Quantity,
    Role,
    SampleKind,
    SupplyCapability,
    TriggerSource,
)


class N6705C(LogChannels, SupplyChannels):
    """An open N6705C: `Instrument`, `PowerSupply` and `PowerAnalyzer` of drivers.api."""


class N6705CDriver:
    """`Driver` of drivers.api."""

    name = "keysight-n6705c"
    roles = frozenset({Role.SUPPLY, Role.ANALYZER})
    options: type[BaseModel] = N6705COptions

    def capability(self, options: N6705COptions) -> Capability:
        """Return what the used channels can do; the shortest period is that of all of them at once."""
        parameters = 2 * len(options.channels)
        period_min_s = n6781a.period_min_s(parameters)
        return Capability(
            supply=SupplyCapability(
                channels=options.channels,
                voltage_max_v=n6781a.VOLTAGE_MAX_V,
                current_max_a=n6781a.CURRENT_MAX_A,
                watchdog_s=WATCHDOG_S,
                source=n6781a.SOURCE,
            ),
            analyzer=AnalyzerCapability(
                ranges={
                    quantity: tuple(known.accuracy(period_min_s) for known in n6781a.RANGES[quantity])
                    for quantity in (Quantity.CURRENT, Quantity.VOLTAGE)
                },
                sample=SampleKind.MEAN,
                period_min_s=period_min_s,
                period_step_s=n6781a.period_step_s(parameters),
                depth_s=n6781a.FIFO_S,
                edge_methods=frozenset(),
                triggers=frozenset({TriggerSource.IMMEDIATE, TriggerSource.EXTERNAL}),
                clock_ppm=n6781a.CLOCK_PPM,
                channels=options.channels,
                source=n6781a.SOURCE,
            ),
        )

    @contextlib.asynccontextmanager
    async def open(self, options: N6705COptions) -> AsyncIterator[N6705C]:
        """Connect. See `Driver.open`."""
        instrument = N6705C(options)
        try:
            await instrument.connect()
            yield instrument
        finally:
            await instrument.close()


DRIVER = N6705CDriver()
