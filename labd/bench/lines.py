"""A board's serial line, opened for one run or check."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from drivers.api import Driver, DriverError, SerialLine
from labd.bench.failure import failing_as
from labd.config import Serial
from labd.model.causes import Cause


@asynccontextmanager
async def open_line(drivers: Mapping[str, Driver], wiring: Serial, baud: int) -> AsyncIterator[SerialLine]:
    """Open the line inside the block. Raises `RunFailedError` (`serial_lost`) if its port cannot be opened."""
    driver = drivers[wiring.driver]
    options = driver.options.model_validate({"port": wiring.port, "baud": baud})
    async with AsyncExitStack() as held:
        with failing_as(Cause.SERIAL_LOST, DriverError):
            line = await held.enter_async_context(driver.open(options))
        yield line
