"""The external data logs of an N6705C: several channels at once over one session, each FIFO emptied in time.

The hot path is in the instrument's thread: receive a block in place, split it into columns, hand them to the sink.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from drivers.analyzers import n6781a
from drivers.analyzers.elog import RECORD_ORDER, ElogReader
from drivers.analyzers.elog_peaks import PeakReader
from drivers.analyzers.n6705c_mainframe import TRIGGER_INPUT, Mainframe, N6705COptions
from drivers.api import (
    BlockSink,
    CaptureRequest,
    CaptureSetup,
    Column,
    DeviceError,
    LimitError,
    Peaks,
    ProtocolError,
    Provenance,
    Quantity,
    SampleKind,
    TriggerSource,
)
from drivers.scpi.session import Dialogue

FETCH_MAX = 131_072
"""Most records asked for at once: 1 MB of voltage and current."""
PEAK_PERIOD_S = 10.24e-3
"""Period of a log of extremes: long, for they are tracked within it, and on both rasters."""
_VISIT_S = 1.0
_STREAM_DEADLINE_S = 15.0
_BACKLOG_S = 0.5
_PAUSE_S = (0.01, 0.5)
_FULL = 0.9
_STALE = -230
_NODES = {Quantity.CURRENT: "CURR", Quantity.VOLTAGE: "VOLT"}
_SOURCES = {TriggerSource.IMMEDIATE: "IMM", TriggerSource.EXTERNAL: "EXT"}


@dataclass(slots=True)
class _Log:
    """A capture of one channel, from configure to the end of its stream."""

    reader: ElogReader | PeakReader
    capacity: int
    """Records in a FIFO that is nearly full."""
    pause_records: float
    """Records that should wait at each visit."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    armed: bool = False
    streaming: bool = False


class LogChannels(Mainframe):
    """`PowerAnalyzer` of drivers.api."""

    def __init__(self, options: N6705COptions) -> None:
        super().__init__(options)
        self._logs: dict[int, _Log] = {}
        self._watched: dict[int, PeakReader] = {}

    async def configure(self, channel: int, request: CaptureRequest) -> CaptureSetup:
        """Prepare an external data log. See `PowerAnalyzer.configure`.

        Raises:
            LimitError: a quantity or a size that no range of the module can record.
            DeviceError: the instrument refuses, or reads back another range than asked.
        """
        ranges = self._ranges(channel, request)
        parameters = n6781a.parameters_at_once(len(self.options.channels), len(ranges))
        period_s = max(request.period_s or 0.0, n6781a.period_min_s(parameters))
        true_s = await self._set_up(
            channel, ranges, request.trigger, period_s=period_s, parameters=parameters, extremes=False
        )
        columns = tuple(
            Column(quantity, SampleKind.MEAN, Provenance.MEASURED, chosen.accuracy(true_s))
            for quantity, chosen in ranges.items()
        )
        reader = ElogReader({column.quantity: column.accuracy.range_max for column in columns})
        self._logs[channel] = _log(reader, true_s)
        return CaptureSetup(
            period_s=true_s,
            columns=columns,
            clock_ppm=n6781a.CLOCK_PPM,
            trigger_delay_max_s=n6781a.TRIGGER_DELAY_MAX_S,
            trigger_input=TRIGGER_INPUT if request.trigger is TriggerSource.EXTERNAL else None,
        )

    async def configure_peaks(self, channel: int, request: CaptureRequest) -> None:
        """Prepare a log of extremes, started at once. See `PeakMeter.configure_peaks`.

        Beside other channels it logs the current alone, so that their logs keep their rate.
        """
        ranges = self._ranges(channel, request)
        alone = len(self.options.channels) == 1
        if not alone and Quantity.CURRENT in ranges:
            ranges = {Quantity.CURRENT: ranges[Quantity.CURRENT]}
        own = n6781a.EXTREME_PARAMETERS * len(ranges)
        parameters = own if alone else n6781a.parameters_at_once(len(self.options.channels))
        true_s = await self._set_up(
            channel, ranges, TriggerSource.IMMEDIATE, period_s=PEAK_PERIOD_S, parameters=parameters, extremes=True
        )
        reader = PeakReader({quantity: chosen.range_max for quantity, chosen in ranges.items()}, true_s)
        self._logs[channel] = _log(reader, true_s)
        self._watched[channel] = reader

    def peaks(self, channel: int) -> Peaks:
        """What the newest watch has read at most. See `PeakMeter.peaks`."""
        if channel not in self._watched or channel in self._logs:
            raise DeviceError(f"{self.name(channel)}: no watch of peaks has ended")
        return self._watched[channel].peaks(self.name(channel))

    def _ranges(self, channel: int, request: CaptureRequest) -> dict[Quantity, n6781a.Range]:
        self.know(channel)
        sizes = {Quantity.CURRENT: request.current_max_a, Quantity.VOLTAGE: request.voltage_max_v}
        if not request.quantities or not sizes.keys() >= set(request.quantities):
            raise LimitError(f"{self.name(channel)}: records current and voltage, not {sorted(request.quantities)}")
        ranges: dict[Quantity, n6781a.Range] = {}
        for quantity in sorted(set(request.quantities), key=RECORD_ORDER.index):
            found = n6781a.range_for(quantity, sizes[quantity])
            if found is None:
                raise LimitError(f"{self.name(channel)}: no range for a {quantity} of {sizes[quantity]:g}")
            ranges[quantity] = found
        return ranges

    async def _set_up(
        self,
        channel: int,
        ranges: Mapping[Quantity, n6781a.Range],
        trigger: TriggerSource,
        *,
        period_s: float,
        parameters: int,
        extremes: bool,
    ) -> float:
        """Set a log up, and return the period that is read back, s."""
        resolution = "RES20" if n6781a.period_step_s(parameters) < 30e-6 else "RES40"

        def work(device: Dialogue) -> float:
            device.write(f"ABOR:ELOG (@{channel})")
            device.write(f"SENS:SWE:TINT:RES {resolution}")
            for quantity, node in _NODES.items():
                device.write(f"SENS:ELOG:FUNC:{node} {_switch(quantity in ranges)},(@{channel})")
                device.write(f"SENS:ELOG:FUNC:{node}:MINM {_switch(extremes and quantity in ranges)},(@{channel})")
            for quantity, chosen in ranges.items():
                device.write(f"SENS:ELOG:{_NODES[quantity]}:RANG {chosen.range_max:g},(@{channel})")
            device.write(f"SENS:ELOG:PER {period_s:.9g},(@{channel})")
            device.write(f"TRIG:ELOG:SOUR {_SOURCES[trigger]},(@{channel})")
            device.raise_errors(f"configure channel {channel}")
            for quantity, chosen in ranges.items():
                in_force = device.ask_number(f"SENS:ELOG:{_NODES[quantity]}:RANG? (@{channel})")
                if not chosen.range_max * 0.99 <= in_force <= chosen.range_max * 1.05:
                    raise DeviceError(f"{self.name(channel)}: {quantity} range {in_force:g}, not {chosen.range_max:g}")
            return device.ask_number(f"SENS:ELOG:PER? (@{channel})")

        self._logs.pop(channel, None)
        true_s = await self.session.run(work)
        if not true_s > 0:
            raise ProtocolError(f"{self.name(channel)}: a log period of {true_s:g} s")
        return true_s

    async def arm(self, channel: int) -> None:
        """Initiate the log. See `PowerAnalyzer.arm`; `DeviceError` if it was not configured."""
        log = self._log_of(channel)

        def work(device: Dialogue) -> None:
            device.command(f"INIT:ELOG (@{channel})")
            log.armed = True  # here, so that no status asked for meanwhile takes the converters for free

        await self.session.run(work)

    async def stream(self, channel: int, sink: BlockSink) -> int:
        """Empty the FIFO again and again until `stop`. See `PowerAnalyzer.stream`.

        It visits the instrument when about half a second of samples waits, far from the 20 s that the FIFO holds, and
        for a second at most at a time, so that other channels get their turn.
        """
        log = self._log_of(channel)
        if not log.armed:
            raise DeviceError(f"{self.name(channel)}: stream before arm")
        log.streaming = True
        pause_s = _PAUSE_S[0]
        try:
            while True:
                stopping = log.stop.is_set()
                count, drained = await self.session.run(
                    lambda device: self._visit(device, channel, log, sink), deadline_s=_STREAM_DEADLINE_S
                )
                if not drained:
                    continue
                if stopping:
                    break
                wished_s = pause_s * log.pause_records / max(count, 1)
                pause_s = min(max(wished_s, _PAUSE_S[0]), 2 * pause_s, _PAUSE_S[1])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await log.stop.wait()
        finally:
            log.streaming = False
        await self._abort(channel)
        return log.reader.count

    async def stop(self, channel: int) -> None:
        """End the capture. See `PowerAnalyzer.stop`."""
        self.know(channel)
        log = self._logs.get(channel)
        if log is None:
            return
        log.stop.set()
        if log.armed and not log.streaming:
            await self._abort(channel)

    async def _abort(self, channel: int) -> None:
        def work(device: Dialogue) -> None:
            device.command(f"ABOR:ELOG (@{channel})")
            self._logs.pop(channel, None)

        await self.session.run(work)

    def newest(self, channel: int) -> Mapping[Quantity, float] | None:
        """Return the newest sample of a log under way. See `Mainframe.newest`."""
        log = self._logs.get(channel)
        return log.reader.last if log is not None and log.armed else None

    def _log_of(self, channel: int) -> _Log:
        self.know(channel)
        if channel not in self._logs:
            raise DeviceError(f"{self.name(channel)}: no capture is configured")
        return self._logs[channel]

    def _visit(self, device: Dialogue, channel: int, log: _Log, sink: BlockSink) -> tuple[int, bool]:
        """Fetch what waits and hand it on; return how many records came and whether the FIFO is empty.

        The last block is held back until the error queue was read, so that the mark of a loss is never too late.
        """
        query = f"FETC:ELOG? {FETCH_MAX},(@{channel})"
        most = FETCH_MAX * log.reader.record_bytes
        first = log.reader.count
        until = time.monotonic() + _VISIT_S
        held = device.ask_block(query)
        while len(held) >= most and time.monotonic() < until:
            device.write(query)  # the instrument answers while the block before is handed on
            try:
                _hand_on(log, held, sink)
            except BaseException:
                device.close()
                raise
            held = device.take_block(query)
        errors = device.take_errors()
        others = [entry for entry in errors if entry[0] != _STALE]
        if others:
            raise DeviceError(f"{self.name(channel)}: while it logged: {others}")
        backlog = log.reader.count - first + len(held) // log.reader.record_bytes
        if errors or backlog >= log.capacity:
            log.reader.mark_overflow(first)
        _hand_on(log, held, sink)
        return log.reader.count - first, len(held) < most


def _log(reader: ElogReader | PeakReader, period_s: float) -> _Log:
    return _Log(reader, capacity=int(_FULL * n6781a.FIFO_S / period_s), pause_records=_BACKLOG_S / period_s)


def _switch(on: bool) -> str:
    return "ON" if on else "OFF"


def _hand_on(log: _Log, payload: npt.NDArray[np.uint8], sink: BlockSink) -> None:
    block = log.reader.read(payload)
    if block is not None:
        sink(block)
