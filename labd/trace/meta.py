"""What a trace says of itself: `meta.json`, written before the first sample and never changed.

With the journal it holds all that a scorer needs, so that a score can be made again from the folder alone.
"""

from __future__ import annotations

import datetime as dt
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from drivers.api import Column, Identity, Quantity, TriggerSource
from labd.benchmarks import Mode
from labd.clock import HostClock as HostClock  # noqa: PLC0414 - as part of the format, it is found here too
from labd.errors import TraceError
from labd.trace.files import FileMissingError, TraceFiles, files_of
from labd.trace.names import TraceId
from labd.trace.timing.edges import Polarity

META = "meta.json"
FORMAT: Literal[3] = 3
"""Version of the folder's format."""
FORMATS = (2, FORMAT)
"""Versions that can be read; one of format 2 has neither a sync load nor brackets."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PowerSource(StrEnum):
    """How the power of a sample comes out of the columns."""

    PRODUCT = "product"  # current times voltage, sample by sample
    POWER = "power"  # a column of its own
    ENERGY = "energy"  # joules a sample over the period
    NONE = "none"  # the columns do not tell it


class Wiring(BaseModel):
    """What of the rack the trace was recorded through, by the names of `lab.toml`.

    Args:
        supply: Instrument that fed the board.
        supply_channel: Its channel.
        measure: Instrument that recorded the samples.
        timing: Instrument that saw the edges; None if they are in the digital column.
        serial_port: Port of the board's dialogue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    supply: str
    supply_channel: int
    measure: str
    timing: str | None
    serial_port: str


class SyncLoad(BaseModel):
    """A resistor that a pin of the edge source switches across the board's supply, seen as a step of the current.

    Args:
        pin: Pin that switches it, on while the pin is high.
        ohm: Its value with all that is in series with it, Ω.
        tolerance: Half width of the error of that value, relative.
        switch_s: Longest time from the pin's edge to the step of the current, s.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pin: int = Field(ge=0)
    ohm: Positive
    tolerance: NotNegative = 0.05
    switch_s: NotNegative = 2e-6


class Headroom(BaseModel):
    """How far the ranges reached beyond the largest readings of the probe window, between samples too.

    Args:
        current_peak_a: Largest current, without its sign, A.
        current_range_a: End of the range that it was read on, which the trace was recorded on, A.
        voltage_peak_v, voltage_range_v: Likewise the voltage, V; None if its peaks were not watched.
        records: How many records were looked at.
        record_s: How long one of them is, s.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    current_peak_a: NotNegative
    current_range_a: Positive
    voltage_peak_v: NotNegative | None = None
    voltage_range_v: Positive | None = None
    records: int = Field(ge=1)
    record_s: Positive


class TraceMeta(BaseModel):
    """What was recorded, with what, on what, and what is needed to score it.

    Args:
        format: Version of the folder's format.
        trace_id: Name of the trace and of its folder.
        job_id: The job that asked for it.
        run_id: The attempt that recorded it.
        board: Id of the board.
        benchmark: Id of the benchmark.
        mode: Mode of the job.
        min_window_s: Shortest window that the job's rules take, s.
        min_inferences: Fewest inferences in a window that they take.
        trials: Trials that the job asks for.
        instrument: Who recorded the samples.
        calibrated_on: When it was last calibrated; None if that is not known.
        wiring: What of the rack it was recorded through; None for a trace from elsewhere.
        edge_source: Who saw the timing edges; None if they are in the digital column.
        channel: Channel of the instrument.
        timing_pin: Pin of the edge source, or bit of the digital column.
        edge_polarity: Which edges mark a window.
        pulse_s: How long the board holds the timing pin at least, s.
        hold_off_s: Edges closer than this to the last kept one are not windows' edges, s.
        columns: Columns of the samples, in their order.
        period_s: Sample period as the instrument read it back, s.
        period_requested_s: Sample period asked for, s; None for the shortest.
        sample_clock_ppm: Half width of the sample clock's error, ppm.
        tick_rate_hz: Declared rate of the edge source's clock, Hz.
        tick_clock_ppm: Half width of the error of that rate, ppm.
        trigger: What started the capture.
        sync_pin: Pin whose pulse started the capture; None if none did.
        sync_load: The load whose pulses are steps of the current; None if none is wired.
        headroom: What is known of the peaks of the current; None if the analyzer does not see them, or was not asked.
        supply_voltage_v: Voltage that the board's supply was set to, as read back, V.
        firmware_sha256: Digest of the board's image; empty if it is not known.
        labd_version: Version of the recorder.
        started_at: When recording began, by the host's clock, for people.
        host_clock: Whether that clock was disciplined.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2, 3] = FORMAT
    trace_id: TraceId
    job_id: int
    run_id: int
    board: str
    benchmark: str
    mode: Mode
    min_window_s: NotNegative
    min_inferences: int = Field(default=1, ge=1)
    trials: int = Field(ge=1)
    instrument: Identity
    calibrated_on: dt.date | None = None
    wiring: Wiring | None = None
    edge_source: Identity | None
    channel: int
    timing_pin: int = Field(ge=0)
    edge_polarity: Polarity = Polarity.FALLING
    pulse_s: NotNegative
    hold_off_s: NotNegative = 50e-6
    columns: tuple[Column, ...] = Field(min_length=1)
    period_s: Positive
    period_requested_s: Positive | None
    sample_clock_ppm: NotNegative
    tick_rate_hz: Positive | None
    tick_clock_ppm: NotNegative | None
    trigger: TriggerSource
    sync_pin: int | None = None
    sync_load: SyncLoad | None = None
    headroom: Headroom | None = None
    supply_voltage_v: NotNegative
    firmware_sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]
    labd_version: str
    started_at: AwareDatetime
    host_clock: HostClock

    @model_validator(mode="after")
    def _columns_once_and_clock_whole(self) -> Self:
        if len({column.quantity for column in self.columns}) != len(self.columns):
            raise ValueError("a quantity is declared twice in columns")
        if (self.tick_rate_hz is None) != (self.tick_clock_ppm is None):
            raise ValueError("tick_rate_hz and tick_clock_ppm come together")
        return self

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Quantities of the columns, in their order."""
        return tuple(column.quantity for column in self.columns)

    @property
    def power_source(self) -> PowerSource:
        """How the power of a sample comes out of these columns."""
        here = set(self.quantities)
        if Quantity.POWER in here:
            return PowerSource.POWER
        if Quantity.ENERGY in here:
            return PowerSource.ENERGY
        return PowerSource.PRODUCT if {Quantity.CURRENT, Quantity.VOLTAGE} <= here else PowerSource.NONE

    def column(self, quantity: Quantity) -> Column:
        """Return the declaration of one column. Raises `TraceError` if the trace lacks it."""
        for column in self.columns:
            if column.quantity is quantity:
                return column
        raise TraceError(
            f"the trace has no column {quantity.value!r}",
            where=self.trace_id,
            remedy=f"it has {', '.join(self.quantities)}",
        )


def read_meta(where: Path | TraceFiles) -> TraceMeta:
    """Read `meta.json` of a trace. Raises `TraceError` if it is missing, torn, foreign or of another format."""
    files = files_of(where)
    path = f"{files.where}/{META}"
    try:
        data = files.read(META)
    except FileMissingError as error:
        raise TraceError("this folder is not a trace: its sidecar is missing", where=path) from error
    try:
        return TraceMeta.model_validate_json(data)
    except ValidationError as error:
        found = _format_of(data)
        if found is not None and found not in FORMATS:
            remedy = "read it with the version of labd that wrote it"
            raise TraceError(
                f"the trace is of format {found}, this labd knows {FORMATS[0]} to {FORMAT}", where=path, remedy=remedy
            ) from error
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TraceError(f"the sidecar is damaged or foreign: {place} {first['msg']}", where=path) from error


def _format_of(data: bytes) -> int | None:
    try:
        parsed = json.loads(data)
    except ValueError:
        return None
    found = parsed.get("format") if isinstance(parsed, dict) else None
    return found if isinstance(found, int) else None
