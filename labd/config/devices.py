"""What the drivers say about the instruments of a lab, before any hardware is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from drivers.api import Capability, Driver, DriverError, DriverLoader, Role
from labd.config.findings import Finding, KeyPath, one_of
from labd.config.models import Board, Instrument
from labd.config.shape import shape_findings

Drivers = Mapping[str, DriverLoader]
"""What imports each driver, by its name in `lab.toml`."""


@dataclass(frozen=True, slots=True)
class Known:
    """An instrument whose driver has spoken: its place in the file, what it serves as, what it can do."""

    path: KeyPath
    roles: frozenset[Role]
    capability: Capability


def known_instruments(
    instruments: Mapping[int, Instrument], drivers: Drivers, found: list[Finding]
) -> dict[str, Known | None]:
    """Every instrument by its id; None where its driver or options are wrong, so that nothing is known of it."""
    known: dict[str, Known | None] = {}
    for index, instrument in instruments.items():
        path: KeyPath = ("instrument", index)
        if instrument.id in known:
            found.append(Finding((*path, "id"), f"{instrument.id!r} is used twice", "give each instrument its own id"))
            continue
        known[instrument.id] = _ask(instrument, path, drivers, found)
    return known


def check_board_drivers(board: Board, path: KeyPath, drivers: Drivers, found: list[Finding]) -> None:
    """Look at the drivers of a board's serial line and of its flasher, and at what they are given."""
    at: KeyPath = (*path, "serial")
    line = _driver(board.serial.driver, Role.SERIAL, (*at, "driver"), drivers, found)
    if line is not None:
        for mode, baud in board.serial.baud.items():
            _options(line, {"port": board.serial.port, "baud": baud}, at, found, instead={"baud": ("baud", mode.value)})
    if board.flash is not None:
        at = (*path, "flash")
        flasher = _driver(board.flash.driver, Role.FLASH, (*at, "driver"), drivers, found)
        if flasher is not None:
            _options(flasher, board.flash.options, at, found)


def _ask(instrument: Instrument, path: KeyPath, drivers: Drivers, found: list[Finding]) -> Known | None:
    driver = _load(instrument.driver, (*path, "driver"), drivers, found)
    if driver is None:
        return None
    options = _options(driver, instrument.options, path, found)
    if options is None:
        return None
    try:
        return Known(path, driver.roles, driver.capability(options))
    except DriverError as error:
        found.append(Finding(path, f"its driver refuses these options: {error}", "change them as the driver says"))
        return None


def _options(
    driver: Driver,
    given: Mapping[str, Any],
    path: KeyPath,
    found: list[Finding],
    instead: Mapping[str, KeyPath] = MappingProxyType({}),
) -> object | None:
    """The driver's own model of its keys; `instead` says where a key really stands if not right in the table."""
    try:
        return driver.options.model_validate(given)
    except ValidationError as error:
        for finding in shape_findings(driver.options, error, ()):
            below = instead.get(str(finding.path[0]), finding.path) if finding.path else ()
            found.append(Finding(path + below, finding.message, finding.remedy))
        return None


def _driver(name: str, role: Role, path: KeyPath, drivers: Drivers, found: list[Finding]) -> Driver | None:
    driver = _load(name, path, drivers, found)
    if driver is not None and role not in driver.roles:
        remedy = f"use a driver for it; this one is for: {', '.join(sorted(driver.roles))}"
        found.append(Finding(path, f"{name!r} does not serve as {role}", remedy))
        return None
    return driver


def _load(name: str, path: KeyPath, drivers: Drivers, found: list[Finding]) -> Driver | None:
    if name not in drivers:
        remedy = one_of(name, drivers, none="install the package that has it")
        found.append(Finding(path, f"there is no driver {name!r}", remedy))
        return None
    try:
        return drivers[name]()
    except DriverError as error:
        found.append(Finding(path, str(error), "install the driver again, with what it needs"))
        return None
