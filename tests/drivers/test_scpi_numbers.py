"""What a device answers for a number: a reading, or nothing that may pass for one."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.api import DeviceError, NoReadingError, ProtocolError
from drivers.scpi.numbers import parse_number
from drivers.scpi.session import ScpiSession
from labd.virtual.scpi import ScpiDevice
from labd.virtual.scpi_server import ScpiServer

NONE = ["9.91E37", "+9.910000E+37", "-9.91E37", "9.9E37", "-9.9E37", "NAN", "nan", "INF", "-INF", "NINF", "Infinity"]
NONSENSE = ["", "1.0,2.0", '"no"', "0x1F"]


@asynccontextmanager
async def answering(answers: Iterable[str]) -> AsyncIterator[ScpiSession]:
    """A session with a device whose `MEAS:CURR?` gives these answers one after the other."""
    coming = iter(answers)
    device = ScpiDevice("labd,numbers,1,1", reset=lambda: None, trigger=lambda: None)
    device.add("MEASure:CURRent", on_query=lambda args: next(coming))
    server = ScpiServer(device, heard=lambda: None, seed=1)
    async with server.serve():
        session = ScpiSession(f"TCPIP::127.0.0.1::{server.port}::SOCKET", lambda dialogue: None)
        try:
            yield session
        finally:
            await session.close()


async def ask(session: ScpiSession) -> float:
    return await session.run(lambda dialogue: dialogue.ask_number("MEAS:CURR?"))


@pytest.mark.parametrize("answer", [*NONE, *NONSENSE[1:]])
async def test_an_answer_that_is_no_reading_is_asked_for_once_more(answer: str) -> None:
    async with answering([answer, "1.5E-3", answer, answer, "2.5E-3"]) as session:
        assert await ask(session) == 1.5e-3
        with pytest.raises((NoReadingError, ProtocolError), match=r"MEAS:CURR\?"):
            await ask(session)
        assert await ask(session) == 2.5e-3


@pytest.mark.parametrize("answer", NONE)
async def test_a_reading_that_is_twice_missing_is_the_instruments_own_word_and_its_dialogue_goes_on(
    answer: str,
) -> None:
    async with answering([answer, answer]) as session:
        with pytest.raises(NoReadingError, match="has no reading") as caught:
            await ask(session)
        assert isinstance(caught.value, DeviceError)


@given(st.floats(-1e30, 1e30))
def test_every_number_is_itself(value: float) -> None:
    assert parse_number(f"{value:+.16E}") == value


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_number_that_stands_for_none_comes_out(value: float) -> None:
    parsed = parse_number(repr(value))
    assert parsed is None or (math.isfinite(parsed) and abs(parsed) < 9.9e37)


@pytest.mark.parametrize("answer", NONSENSE)
def test_what_is_no_number_at_all_is_an_error(answer: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        parse_number(answer)
