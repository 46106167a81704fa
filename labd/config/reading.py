"""Reads `lab.toml`: everything that is wrong with it at once, each with its key, its line and a remedy."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from drivers.api import Capability, driver_loaders
from labd.config import endpoints
from labd.config.archiving import check_archive, warn_archive
from labd.config.devices import Drivers, check_board_drivers, known_instruments
from labd.config.facts import check_facts
from labd.config.findings import Finding
from labd.config.keeping import check_keep, warn_keep
from labd.config.models import Firmware, Instrument, Lab, LabConfig, Mqtt, Store
from labd.config.people import check_users, warn_users
from labd.config.places import Places, key_text, syntax_fault
from labd.config.serving import check_health, check_queue, check_reservations, warn_health
from labd.config.shape import Parts, shape
from labd.config.sharing import check_sharing, warn_sharing
from labd.config.sync_load import check_loads, warn_loads
from labd.config.triggers import check_trigger_levels
from labd.config.wiring import Rack, check_board
from labd.errors import ConfigError, Fault

_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was read.

    Args:
        config: The lab; None if there are faults.
        faults: What makes it unusable, in the order of lines.
        warnings: What will work, but perhaps not as its author thinks.
        capabilities: What each instrument can do, by id; those whose driver could say.
        instruments: The instruments that can be used in spite of faults elsewhere: enough to switch outputs off.
    """

    config: LabConfig | None
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    capabilities: Mapping[str, Capability]
    instruments: tuple[Instrument, ...]


def load(path: Path, drivers: Drivers | None = None) -> LabConfig:
    """The lab that `path` describes, with relative paths taken from the file's folder.

    Args:
        path: The `lab.toml`.
        drivers: What imports each driver; None for all that are installed.

    Raises:
        ConfigError: with all faults at once in `faults`.
    """
    seen = inspect(path, drivers)
    if seen.config is None:
        count = "1 fault" if len(seen.faults) == 1 else f"{len(seen.faults)} faults"
        raise ConfigError(f"cannot be used, {count}", where=str(path), faults=seen.faults)
    return seen.config


def inspect(path: Path, drivers: Drivers | None = None) -> Inspection:
    """All that can be said of the file at `path`, without touching a device; the arguments are those of `load`.

    Raises:
        ConfigError: the file cannot be read at all.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Windows puts a byte-order mark before its UTF-8
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot be read: {reason}", where=str(path), remedy="give the path of a lab.toml") from error
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", where=str(path), remedy="save it as UTF-8") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, message = syntax_fault(text, error)
        return Inspection(None, (Fault("", line, message, "see toml.io for the syntax"),), (), {}, ())
    parts, found = shape(document)
    parts = _resolved(parts, path.resolve().parent)
    drivers = driver_loaders() if drivers is None else drivers
    known = known_instruments(parts.instruments, drivers, found)
    rack = Rack({**dict.fromkeys(parts.instrument_ids), **known})
    _check(parts, rack, drivers, found)
    places = Places(text)
    capabilities = {name: each.capability for name, each in known.items() if each is not None}
    return Inspection(
        config=None if found else parts.config(),
        faults=_placed(found, places),
        warnings=_placed(_warn(parts, rack), places) if not found else (),
        capabilities=capabilities,
        instruments=tuple(each for each in parts.instruments.values() if each.id in capabilities),
    )


def _check(parts: Parts, rack: Rack, drivers: Drivers, found: list[Finding]) -> None:
    if parts.lab is not None:
        found += endpoints.check_lab(parts.lab)
    if parts.mqtt is not None:
        found += endpoints.check_mqtt(parts.mqtt)
    if parts.store is not None:
        found += endpoints.check_store(parts.store)
        found += check_archive(parts.store)
    if parts.http is not None:
        found += endpoints.check_http(parts.http)
    if parts.keep is not None:
        found += check_keep(parts.keep)
    if parts.queue is not None:
        found += check_queue(parts.queue)
    if parts.health is not None:
        found += check_health(parts.health)
    if parts.reservation is not None:
        found += check_reservations(parts.reservation)
    found += check_users(parts.users)
    for index, board in parts.boards.items():
        check_board_drivers(board, ("board", index), drivers, found)
        found += check_board(board, ("board", index), rack)
        found += check_facts(board, ("board", index))
    found += check_sharing(parts.boards, parts.instruments)
    found += check_trigger_levels(parts.boards, rack)
    found += check_loads(parts.boards, rack)
    found += endpoints.check_firmware(parts.firmware, parts.boards)


def _warn(parts: Parts, rack: Rack) -> list[Finding]:
    found: list[Finding] = []
    if parts.http is not None:
        found += endpoints.warn_http(parts.http)
    if parts.keep is not None:
        found += warn_keep(parts.keep)
    if parts.store is not None:
        found += warn_archive(parts.store)
    if parts.health is not None:
        found += warn_health(parts.health, parts.boards, parts.firmware)
    found += warn_users(parts.users)
    found += warn_sharing(parts.boards)
    found += warn_loads(parts.boards, rack)
    if not parts.boards:
        found.append(Finding(("board",), "the lab has no boards", "add a [[board]]"))
    return found + list(endpoints.warn_firmware(parts.firmware, parts.boards))


def _placed(found: list[Finding], places: Places) -> tuple[Fault, ...]:
    faults = [Fault(key_text(each.path), places.line(each.path), each.message, each.remedy) for each in found]
    return tuple(sorted(faults, key=lambda fault: (fault.line or 0, fault.key)))


def _resolved(parts: Parts, folder: Path) -> Parts:
    """The same parts with absolute paths."""

    def lab(lab: Lab) -> Lab:
        return lab.model_copy(update={"data_dir": folder / lab.data_dir})

    def mqtt(mqtt: Mqtt) -> Mqtt:
        files = {key: getattr(mqtt, key) for key in ("password_file", "ca", "cert", "key")}
        return mqtt.model_copy(update={key: folder / path for key, path in files.items() if path is not None})

    def store(store: Store) -> Store:
        url = store.database_url
        if url is None or not url.startswith(_SQLITE):
            return store
        return store.model_copy(update={"database_url": _SQLITE + str(folder / url.removeprefix(_SQLITE))})

    def firmware(build: Firmware) -> Firmware:
        return build.model_copy(update={"images": {mode: folder / image for mode, image in build.images.items()}})

    return replace(
        parts,
        lab=parts.lab and lab(parts.lab),
        mqtt=parts.mqtt and mqtt(parts.mqtt),
        store=parts.store and store(parts.store),
        firmware={index: firmware(build) for index, build in parts.firmware.items()},
    )
