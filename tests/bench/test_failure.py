"""What others raise ends a run with the cause that fits, and only labd's own mistakes are called so."""

from __future__ import annotations

import pytest

from drivers.api import ConnectError, DeviceError, DeviceTimeoutError, EdgesLostError, ProtocolError
from labd.bench.failure import failure_of
from labd.dut.errors import DutRebootedError, DutSilentError
from labd.errors import StoreError, TraceError
from labd.model.causes import Cause
from labd.model.states import RunState, RunStep


@pytest.mark.parametrize(
    ("error", "cause", "state"),
    [
        (DutSilentError("x"), Cause.BOARD_SILENT, RunState.FAILED),
        (DutRebootedError("x"), Cause.BOARD_REBOOTED, RunState.FAILED),
        (ConnectError("x"), Cause.INSTRUMENT_UNREACHABLE, RunState.FAILED),
        (DeviceTimeoutError("x"), Cause.INSTRUMENT_SILENT, RunState.FAILED),
        (ProtocolError("x"), Cause.INSTRUMENT_NONSENSE, RunState.FAILED),
        (DeviceError("x"), Cause.INSTRUMENT_ERROR, RunState.FAILED),
        (EdgesLostError("x"), Cause.EDGES_LOST, RunState.FAILED),
        (TraceError("x"), Cause.TRACE_FAILED, RunState.FAILED),
        (StoreError("x"), Cause.STORE_FAILED, RunState.INTERRUPTED),
        (TimeoutError("x"), Cause.DEADLINE_MISSED, RunState.FAILED),
    ],
)
def test_an_error_ends_a_run_with_its_cause(error: Exception, cause: Cause, state: RunState) -> None:
    failure = failure_of(error, step=RunStep.MEASURE)
    assert failure is not None
    assert (failure.cause, failure.cause.meaning.state) == (cause, state)


def test_a_full_disk_is_told_from_other_failures_of_a_trace_however_deep_it_lies() -> None:
    def sample() -> None:
        try:
            try:
                with open("/dev/full", "wb", buffering=0) as device:  # a device that is always full
                    device.write(b"1")
            except OSError as error:
                raise TraceError("the samples cannot be written", where="t1") from error
        except TraceError as error:
            raise TraceError("the stream ended") from error

    with pytest.raises(TraceError) as caught:
        sample()
    failure = failure_of(caught.value, step=RunStep.MEASURE)
    assert failure is not None
    assert (failure.cause, failure.cause.meaning.state) == (Cause.DISK_FULL, RunState.FAILED)


def test_what_nobody_foresaw_has_no_cause_of_its_own() -> None:
    assert failure_of(ZeroDivisionError("x"), step=RunStep.MEASURE) is None


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_says_what_happened_and_how_the_run_ends(cause: Cause) -> None:
    meaning = cause.meaning
    assert meaning.sentence.endswith(".")
    assert meaning.state is not RunState.RUNNING
    assert meaning.remedy.endswith(".") or cause is Cause.CANCELLED
