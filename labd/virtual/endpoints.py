"""Where the devices of a running rack are found, and the `lab.toml` that fits them."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from labd.virtual.config import RackBoard, RackConfig


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BoardEndpoint(_Frozen):
    """A board's serial port and the OpenOCD Tcl port of its probe."""

    serial: Path
    probe_port: int


class Endpoints(_Frozen):
    """All that a host can connect to; `rack.json` holds it."""

    control: Path
    pid: int
    analyzers: dict[str, int]
    """TCP port of each analyzer's SCPI socket, on 127.0.0.1."""
    timestampers: dict[str, Path]
    boards: dict[str, BoardEndpoint]


def read_endpoints(path: Path) -> Endpoints:
    """Read a `rack.json`. Raises `OSError` or `ValueError` (pydantic) if there is none."""
    return Endpoints.model_validate_json(path.read_text())


CALIBRATED_ON = date(2026, 1, 12)
"""What the certificates of the virtual analyzers say."""


def lab_toml(config: RackConfig, endpoints: Endpoints) -> str:
    """Return the `[[instrument]]` and `[[board]]` sections of a `lab.toml` that describe this rack."""
    sections = [
        f'[[instrument]]\nid = {_text(name)}\ndriver = "keysight-n6705c"\n'
        f'resource = "TCPIP::127.0.0.1::{port}::SOCKET"\nchannels = {_channels(config, name)}\n'
        f"calibrated_on = {CALIBRATED_ON}\n"
        for name, port in endpoints.analyzers.items()
    ]
    sections += [
        f'[[instrument]]\nid = {_text(name)}\ndriver = "labd-timestamper"\nport = {_text(port)}\n'
        f"pulse_pins = {_pulse_pins(config, name)}\n"
        for name, port in endpoints.timestampers.items()
    ]
    sections += [_board(config, board, endpoints.boards[board.id]) for board in config.board]
    return "\n".join(sections)


def _board(config: RackConfig, board: RackBoard, endpoint: BoardEndpoint) -> str:
    wire, limits = board.supply, board.limits
    channel = f"instrument = {_text(wire.analyzer)}, channel = {wire.channel}"
    lines = [
        "[[board]]",
        f"id = {_text(board.id)}",
        f"tags = {json.dumps(list(board.tags))}",
        'target = "native"',
        f"limits = {{ voltage_max_v = {limits.voltage_max_v}, current_max_a = {limits.current_max_a} }}",
        f"supply = {{ {channel}, voltage_v = {board.voltage_v} }}",
        f"measure = {{ {channel} }}",
    ]
    if board.timing:
        stamper = next(each for each in config.timestamper if each.id == board.timing.timestamper)
        sync = f", sync_pin = {stamper.trigger_pin}" if wire.analyzer in stamper.triggers else ""
        lines.append(
            f'timing = {{ instrument = {_text(stamper.id)}, pin = {board.timing.pin}, edge = "falling", '
            f'hold_us = 50, pulse_us = 10, method = "timestamped"{sync}{_load(board)} }}'
        )
    lines += [
        f"serial = {{ port = {_text(endpoint.serial)}, baud = {{ performance = 115200, energy = 9600 }} }}",
        f'flash = {{ driver = "openocd", address = "127.0.0.1:{endpoint.probe_port}" }}',
    ]
    return "\n".join(lines) + "\n"


def _load(board: RackBoard) -> str:
    wire = board.load
    if wire is None:
        return ""
    return (
        f", load = {{ pin = {wire.pin}, ohm = {wire.ohm}, tolerance_percent = {wire.tolerance_percent}, "
        f"switch_us = {wire.switch_us} }}"
    )


def _pulse_pins(config: RackConfig, timestamper: str) -> list[int]:
    return next(list(stamper.pulse_pins) for stamper in config.timestamper if stamper.id == timestamper)


def _channels(config: RackConfig, analyzer: str) -> list[int]:
    return sorted(board.supply.channel for board in config.board if board.supply.analyzer == analyzer)


def _text(value: str | Path) -> str:
    """A TOML basic string: JSON's form is one."""
    return json.dumps(str(value), ensure_ascii=False)
