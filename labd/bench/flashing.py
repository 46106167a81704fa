"""Getting the right image into a board.

The board's memory is compared with the image before each run, so the digest that a run carries is that of the firmware
that really ran. An attached debug probe can leave a core's debug logic powered, so the caller cycles the power after
this and before anything is measured.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path

import structlog

from drivers.api import Driver, DriverError, Flasher
from labd.bench.failure import RunFailedError, failing_as
from labd.config import Flash
from labd.model.causes import Cause


async def digest_of(image: Path) -> str:
    """SHA-256 of an image, hex. Raises `RunFailedError` (`firmware_missing`) if it cannot be read."""
    try:
        data = await asyncio.to_thread(image.read_bytes)
    except OSError as error:
        raise RunFailedError(Cause.FIRMWARE_MISSING, f"{image}: {error.strerror}") from error
    return hashlib.sha256(data).hexdigest()


async def ensure_image(wiring: Flash, image: Path, drivers: Mapping[str, Driver]) -> None:
    """Flash `image` into a powered board unless it holds it already. Raises `RunFailedError` (`flash_failed`)."""
    driver = drivers[wiring.driver]
    with failing_as(Cause.FLASH_FAILED, DriverError):
        async with driver.open(driver.options.model_validate(wiring.options)) as flasher:
            assert isinstance(flasher, Flasher)
            if await flasher.matches(image):
                return
            await flasher.program(image)
            structlog.get_logger().info("board_flashed", image=image.name)
