"""`labd check`: what labd understands of a `lab.toml`, or all that is wrong with it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

from drivers.api import AnalyzerCapability, Capability, EdgeCapability, Quantity, SupplyCapability
from labd.benchmarks import Mode
from labd.cli.table import Exit, counted, print_json, print_table, quantity, remarks
from labd.config import Board, Inspection, Keep, LabConfig, Store, inspect
from labd.errors import ConfigError, Fault, LabError
from labd.keep.s3 import open_archive

_CAPABILITIES = TypeAdapter(dict[str, Capability])
_UNITS = {Quantity.CURRENT: "A", Quantity.VOLTAGE: "V", Quantity.POWER: "W", Quantity.ENERGY: "J", Quantity.DIGITAL: ""}


def check(
    path: Annotated[Path, typer.Argument(help="The lab.toml to check.", show_default=False)],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    archive: Annotated[bool, typer.Option("--archive", help="Also ask the archive whether it takes traces.")] = False,
) -> None:
    """Say what labd understands of a lab.toml, or every fault in it at once. Touches no device.

    Exit status: 0 the lab can be run, 1 it has faults, 2 the file cannot be read.
    """
    try:
        seen = inspect(path)
    except ConfigError as error:
        remarks().print(str(error), markup=False)
        raise typer.Exit(Exit.USAGE) from error
    if json:
        print_json(_document(path, seen))
    else:
        _print(path, seen)
    if seen.config is None:
        raise typer.Exit(Exit.FAILED)
    if archive:
        _probe(seen.config.store)


def _probe(store: Store) -> None:
    """Put a small object into the archive, read it back and remove it."""
    try:
        found = open_archive(store)
        if found is None:
            raise ConfigError("there is no archive to ask", where="store.archive_url", remedy="add archive_url")
        asyncio.run(found.probe())
    except LabError as error:
        remarks().print(str(error), markup=False, style="bold red")
        raise typer.Exit(Exit.FAILED) from error
    remarks().print(f"{found.where} takes traces, and gives them back", markup=False)


def _document(path: Path, seen: Inspection) -> dict[str, Any]:
    return {
        "path": str(path),
        "ok": seen.config is not None,
        "faults": [_fault(fault) for fault in seen.faults],
        "warnings": [_fault(warning) for warning in seen.warnings],
        "config": _config(seen.config) if seen.config is not None else None,
        "capabilities": _CAPABILITIES.dump_python(dict(seen.capabilities), mode="json"),
    }


def _config(config: LabConfig) -> dict[str, Any]:
    document = config.model_dump(mode="json")
    document["store"]["database_url"] = database_address(config)
    return document


def _fault(fault: Fault) -> dict[str, Any]:
    return {"key": fault.key, "line": fault.line, "message": fault.message, "remedy": fault.remedy}


def _print(path: Path, seen: Inspection) -> None:
    if seen.config is not None:
        _print_lab(seen.config)
        _print_boards(seen.config)
        _print_instruments(seen.config, seen)
    _print_faults(path, "fault", seen.faults)
    _print_faults(path, "warning", seen.warnings)


def _print_faults(path: Path, kind: str, faults: Sequence[Fault]) -> None:
    if not faults:
        return
    console = remarks()
    count = counted(len(faults), kind)
    console.print(f"{path}: {count}", style="bold red" if kind == "fault" else "bold yellow", markup=False)
    for fault in faults:
        place = f"{path}:{fault.line}" if fault.line is not None else str(path)
        console.print(f"{place}: {fault.key}" if fault.key else place, style="bold", markup=False)
        console.print(f"    {fault.message}", markup=False)
        console.print(f"    → {fault.remedy}", markup=False)


def _print_lab(config: LabConfig) -> None:
    rows = [("data", str(config.lab.data_dir)), ("database", database_address(config))]
    rows += [("broker", config.mqtt.url), ("traces", f"http://{config.http.listen}/v1/traces/")]
    rows += [("archive", line) for line in _archived(config.store)]
    rows += [("kept", line) for line in _kept(config.keep)]
    for build in config.firmware:
        images = ", ".join(sorted(build.images))
        rows.append(("firmware", f"{build.name}: {build.benchmark} for {build.target}, images: {images}"))
    print_table(f"lab {config.lab.name}", ("what", "where"), rows)


def _archived(store: Store) -> Iterator[str]:
    """Where sealed traces are brought, and what was not asked of it."""
    if store.archive_url is None:
        return
    at = f" at {store.endpoint}" if store.endpoint is not None else ""
    yield f"{store.archive_url}{at} (not asked: whether it is there and takes traces; --archive asks)"
    kept = store.local_copies
    if kept is not None:
        yield f"local copies of archived traces go after {kept.total_seconds() / 86_400:g} days"


def _kept(keep: Keep) -> Iterator[str]:
    """What becomes of traces, a line a rule."""
    for rule in keep.rule:
        whose = [" or ".join(rule.outcome)] if rule.outcome else []
        whose += [f"{key} = {value}" for key, value in rule.label.items()]
        yield f"{', '.join(whose)}: {'for ever' if rule.keep else f'{rule.max_age_days:g} days'}"
    rest = "all others" if keep.rule else "all"
    yield f"{rest}: {f'{keep.max_age_days:g} days' if keep.max_age_days is not None else 'for ever'}"
    if keep.max_size_gb is not None:
        yield f"at most {keep.max_size_gb:g} GB here, the oldest go first"
    yield f"no capture starts below {keep.low_gb:g} GB of free space"
    gone = "the oldest go" if keep.reclaim else "local copies of archived ones go"
    yield f"{gone} below {keep.critical_gb:g} GB"


def _print_boards(config: LabConfig) -> None:
    columns = ("board", "tags", "target", "limits", "supply", "measured by", "timing", "serial", "flash", "modes")
    print_table(counted(len(config.board), "board"), columns, map(_board_row, config.board))


def _board_row(board: Board) -> tuple[str, ...]:
    supply, measure, timing = board.supply, board.measure, board.timing
    timed = "-"
    if timing is not None:
        sync = f", sync pin {timing.sync_pin}" if timing.sync_pin is not None else ""
        timed = (
            f"{timing.instrument} pin {timing.pin}, {timing.edge}, {timing.method}, pulse {timing.pulse_us:g} µs{sync}"
        )
    return (
        board.id,
        " ".join(board.tags) or "-",
        board.target,
        f"{quantity(board.limits.voltage_max_v, 'V')}, {quantity(board.limits.current_max_a, 'A')}",
        f"{supply.instrument}:{supply.channel} at {quantity(supply.voltage_v, 'V')}",
        f"{measure.instrument}:{measure.channel}" if measure is not None else "-",
        timed,
        f"{board.serial.port}, {', '.join(f'{mode} {baud} Bd' for mode, baud in board.serial.baud.items())}",
        board.flash.driver if board.flash is not None else "-",
        " ".join(mode for mode in Mode if board.can(mode)),
    )


def _print_instruments(config: LabConfig, seen: Inspection) -> None:
    rows = []
    for instrument in config.instrument:
        address = ", ".join(f"{key} = {value}" for key, value in instrument.options.items())
        lines = [f"{role}: {words}" for role, words in _abilities(seen.capabilities[instrument.id])]
        rows.append((instrument.id, instrument.driver, address, "\n".join(lines) or "-"))
    print_table(counted(len(rows), "instrument"), ("instrument", "driver", "options", "can"), rows)


def _abilities(able: Capability) -> Iterator[tuple[str, str]]:
    if able.supply is not None:
        yield "supply", _supply_words(able.supply)
    if able.analyzer is not None:
        yield "analyzer", _analyzer_words(able.analyzer)
    if able.edges is not None:
        yield "edges", _edge_words(able.edges)


def _supply_words(able: SupplyCapability) -> str:
    watchdog = "no watchdog" if able.watchdog_s is None else "watchdog {:g} to {:g} s".format(*able.watchdog_s)
    most = f"up to {quantity(able.voltage_max_v, 'V')} and {quantity(able.current_max_a, 'A')}"
    return f"channels {_numbers(able.channels)}, {most}, {watchdog}"


def _analyzer_words(able: AnalyzerCapability) -> str:
    ranges = [
        f"{what} {' / '.join(quantity(each.range_max, _UNITS[what]) for each in accuracies)}"
        for what, accuracies in able.ranges.items()
    ]
    depth = "streams" if able.depth_s is None else f"holds {quantity(able.depth_s, 's')}"
    period = f"a {able.sample} every {quantity(able.period_min_s, 's')} or more"
    return ", ".join(
        (f"channels {_numbers(able.channels)}", period, *ranges, depth, f"clock within ±{able.clock_ppm:g} ppm")
    )


def _edge_words(able: EdgeCapability) -> str:
    pulse = f"pulses of {quantity(able.pulse_min_s, 's')} or more, puts out sync on {_numbers(able.pulse_pins)}"
    return f"pins {_numbers(able.pins)}, {pulse}, clock within ±{able.clock_ppm:g} ppm"


def _numbers(numbers: Sequence[int]) -> str:
    """`0-15` for a run of numbers, else each."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return " ".join(map(str, numbers)) or "none"


def database_address(config: LabConfig) -> str:
    """The database's address without its password."""
    scheme, _, rest = (config.store.database_url or f"sqlite:///{config.lab.data_dir}/labd.db").partition("://")
    credentials, at, host = rest.rpartition("@")
    return f"{scheme}://{credentials.partition(':')[0]}{at}{host}"
