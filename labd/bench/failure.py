"""How a run ends: the one exception that carries a cause, and the table that turns others' errors into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from drivers.api import (
    ConnectError,
    DeviceError,
    DeviceTimeoutError,
    DriverError,
    EdgesLostError,
    LimitError,
    LineClosedError,
    ProtocolError,
)
from labd.dut.errors import DutLineError, DutProtocolError, DutRebootedError, DutRefusedError, DutSilentError
from labd.errors import DutError, LabError, StoreError, TraceError, is_disk_full
from labd.model.causes import Cause
from labd.model.checks import CheckStep
from labd.model.states import RunStep


class RunFailedError(LabError):
    """A run cannot go on; `cause` says which kind of end it is, the message says what was seen."""

    kind = "run_failed"

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message, remedy=cause.meaning.remedy)
        self.cause = cause


_CAUSES: tuple[tuple[type[Exception], Cause], ...] = (
    (DutSilentError, Cause.BOARD_SILENT),
    (DutRebootedError, Cause.BOARD_REBOOTED),
    (DutRefusedError, Cause.BOARD_REFUSED),
    (DutLineError, Cause.SERIAL_LOST),
    (DutProtocolError, Cause.BOARD_NONSENSE),
    (DutError, Cause.BOARD_NONSENSE),
    (EdgesLostError, Cause.EDGES_LOST),
    (ConnectError, Cause.INSTRUMENT_UNREACHABLE),
    (DeviceTimeoutError, Cause.INSTRUMENT_SILENT),
    (ProtocolError, Cause.INSTRUMENT_NONSENSE),
    (LineClosedError, Cause.INSTRUMENT_SILENT),
    (DeviceError, Cause.INSTRUMENT_ERROR),
    (LimitError, Cause.INSTRUMENT_ERROR),
    (DriverError, Cause.INSTRUMENT_ERROR),
    (StoreError, Cause.STORE_FAILED),
    (TraceError, Cause.TRACE_FAILED),
)
"""First match wins, so branches stand before their root."""


def failure_of(error: Exception, *, step: RunStep | CheckStep) -> RunFailedError | None:
    """The failure that `error` amounts to; None for one that nobody foresaw.

    Args:
        error: What was raised.
        step: Where in the run or check.
    """
    if isinstance(error, RunFailedError):
        return error
    if isinstance(error, TimeoutError):
        return RunFailedError(Cause.DEADLINE_MISSED, str(error) or f"step {step} took longer than its deadline")
    if is_disk_full(error):
        return RunFailedError(Cause.DISK_FULL, _said(error))
    for kind, cause in _CAUSES:
        if isinstance(error, kind):
            return RunFailedError(cause, _said(error))
    return None


def _said(error: Exception) -> str:
    """What failed and where; the remedy is the cause's."""
    if isinstance(error, LabError):
        return f"{error.where}: {error.message}" if error.where else error.message
    return str(error)


@contextmanager
def failing_as(cause: Cause, *kinds: type[Exception]) -> Iterator[None]:
    """Give errors of these kinds another cause than the table does, where the place tells more than the type."""
    try:
        yield
    except kinds as error:
        raise RunFailedError(cause, str(error)) from error


@asynccontextmanager
async def within(deadline_s: float, cause: Cause, awaited: str) -> AsyncIterator[None]:
    """Bound the block; `awaited` names, in the message, what then did not happen."""
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except TimeoutError as error:
        raise RunFailedError(cause, f"{awaited} within {deadline_s:g} s") from error
