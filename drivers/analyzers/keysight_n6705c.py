"""Keysight N6705C DC power analyzer with N6781A modules: supply and analyzer of up to four boards.

Never tried on hardware: written from public pages and tried against the simulator of this project, which was written
from the same pages. Where the commands come from (guides: Keysight Operating and Service Guides, by printed page):

| command | source |
| --- | --- |
| `*IDN?`, `*OPT?`, `*STB?`, `SYST:ERR?` | IEEE 488.2, SCPI-1999 |
| `SYST:CHAN:MOD?`, `SYST:CHAN:OPT?` | pyVirtualLab, its KeysightN6705C driver |
| `OUTP ON`, `OUTP OFF`, `OUTP?` | a public N6705C script; pyVirtualLab |
| `OUTP:PROT:CLE`, `OUTP:PROT:WDOG`, `OUTP:PROT:WDOG:DEL` | N6700C guide p. 158: all outputs, 1 to 3600 s by 1 s |
| `VOLT`, `VOLT:PROT`, `CURR:LIM`, `CURR:PROT:STAT` | pyVirtualLab and a public N67xx wrapper, in their long forms |
| `STAT:OPER:COND?`, `STAT:QUES:COND?` | pyVirtualLab; their bits: N6705C guide p. 350 |
| `MEAS:VOLT?`, `MEAS:CURR?` | N6700 user's guide p. 58 |
| `FORM REAL`, `FORM:BORD SWAP` | N6705C guide p. 286: float32 blocks, least significant byte first |
| `SENS:SWE:TINT:RES` | N6700C guide p. 146 |
| `SENS:ELOG:FUNC:CURR`, `SENS:ELOG:FUNC:VOLT` | N6700 user's guide p. 91 |
| `SENS:ELOG:FUNC:CURR:MINM`, `SENS:ELOG:FUNC:VOLT:MINM` | N6700 user's guide p. 91; N6700C guide p. 145 |
| `SENS:ELOG:PER` and its query | two public N6705 scripts |
| `SENS:ELOG:CURR:RANG`, `SENS:ELOG:VOLT:RANG` | the attribute tables of two public IVI drivers of this family |
| `TRIG:ELOG:SOUR` | two public scripts (IMM); N6700C guide p. 145 (BUS, EXT) |
| the trigger input | low-true: N6705C guide p. 203; 2 µs at least: N6705A user's guide p. 66 |
| `INIT:ELOG`, `FETC:ELOG? n` | a public N6705C script; order of a record: N6900 guide p. 161 |
| `ABOR:ELOG` | N6900 guide p. 161; a public N67xx wrapper |

The guide gives the shortest log period as 102.4 µs times the parameters logged "at each interval", up to 24: that is
read as all channels together, since one channel has six at most. So `channels` in the options says which channels may
record at once, and the shortest period follows: 204.8 µs for voltage and current of one channel, 942.08 µs for four,
one of which may watch the peaks of its current meanwhile (nine parameters, on the raster of 40.96 µs).

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
from drivers.analyzers.n6705c_mainframe import TRIGGER_INPUT, N6705COptions
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
        parameters = n6781a.parameters_at_once(len(options.channels))
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
                trigger_input=TRIGGER_INPUT,
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
