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
from labd.config import Board, Health, Keep, LabConfig, Load, Queue, ReservationRules, Store, load_wires, trigger_wires
from labd.config.reading import Inspection, inspect
from labd.errors import ConfigError, Fault, LabError
from labd.keep.s3 import open_archive

_CAPABILITIES = TypeAdapter(dict[str, Capability])
_UNITS_OF_TIME = (("d", 86_400.0), ("h", 3600.0), ("min", 60.0))
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
        "trigger_wires": _triggers(seen),
        "load_wires": _loads(seen),
        "capabilities": _CAPABILITIES.dump_python(dict(seen.capabilities), mode="json"),
    }


def _triggers(seen: Inspection) -> list[dict[str, Any]]:
    wires = trigger_wires(seen.config.board, seen.capabilities) if seen.config is not None else ()
    return [
        {
            "source": wire.source,
            "pin": wire.pin,
            "analyzer": wire.analyzer,
            "active": wire.taken.active.word,
            "pulse_min_s": wire.taken.pulse_min_s,
            "words": wire.words,
        }
        for wire in wires
    ]


def _loads(seen: Inspection) -> list[dict[str, Any]]:
    wires = load_wires(seen.config.board) if seen.config is not None else ()
    return [
        {"source": wire.source, "pin": wire.pin, "board": wire.board, "ohm": wire.ohm, "words": wire.words}
        for wire in wires
    ]


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
        _print_triggers(seen.config, seen)
        _print_loads(seen.config)
        _print_facts(seen.config)
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
    rows += [("queue", line) for line in _queued(config.queue)]
    rows += [("health", line) for line in _watched(config.health)]
    rows += [("reservations", _reserved(config.reservation)), ("users", _users(config))]
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


def _queued(queue: Queue) -> Iterator[str]:
    """How jobs are served, a line a matter."""
    yield f"at most {queue.max_queued:,} jobs wait, at most {queue.max_sweep_jobs:,} of them of one night of a sweep"
    yield (
        f"a level of priority is worth {_span(queue.ageing_s)} of waiting among one's own, "
        f"{_span(queue.level_s)} of board time against others"
    )
    yield f"board time counts half after {_span(queue.half_life_s)}; {_span(queue.batch_s)} of it may save flashing"
    yield (
        f"tried again {_times(queue.flaky_retries)} after a failure that may be the board's, "
        f"parked after being interrupted {_times(queue.interruptions_max)}"
    )


def _watched(health: Health) -> Iterator[str]:
    """When boards are looked at, and when they are no longer trusted."""
    yield f"looked at every {_span(health.check_every_s)}, in quarantine after {health.quarantine_after} failures"
    yield f"looked at there every {_span(health.retry_s)}, then ever less, at least once a day"
    if health.golden is not None:
        every, within = _span(health.golden_every_s), health.golden_tolerance_percent
        yield f"golden job {health.golden} every {every}, within ±{within:g} %"


def _reserved(rules: ReservationRules) -> str:
    return f"{_span(rules.max_s)} at most, warned {_span(rules.warn_s)} before, {rules.max_per_owner} a person"


def _users(config: LabConfig) -> str:
    if not config.user:
        return "open: whoever reaches the broker may do all"
    return ", ".join(f"{user.name} ({user.role}, share {user.share:g})" for user in config.user)


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def _span(seconds: float) -> str:
    """A time in the largest unit that leaves no tiny fraction: `90 min`, `6 h`, `1 d`."""
    unit, length = next(((unit, length) for unit, length in _UNITS_OF_TIME if seconds >= length), ("s", 1.0))
    return f"{seconds / length:.4g} {unit}"


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
            f"{_load_words(timing.load)}"
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


def _load_words(load: Load | None) -> str:
    return "" if load is None else f", load of {load.ohm:g} Ω ±{load.tolerance_percent:g} % on pin {load.pin}"


def _print_triggers(config: LabConfig, seen: Inspection) -> None:
    """What to wire between timestampers and trigger inputs."""
    if wires := trigger_wires(config.board, seen.capabilities):
        print_table(counted(len(wires), "trigger wire"), ("what to wire",), [(wire.words,) for wire in wires])


def _print_loads(config: LabConfig) -> None:
    """What to wire between timestampers and the supplies of boards."""
    if wires := load_wires(config.board):
        print_table(counted(len(wires), "sync load"), ("what to wire",), [(wire.words,) for wire in wires])


def _print_facts(config: LabConfig) -> None:
    """What boards say of themselves beside their wiring, those that do."""
    rows = [
        (
            board.id,
            ", ".join(f"{name} = {_fact(value)}" for name, value in board.capabilities.items()) or "-",
            " ".join(board.resources) or "-",
            " to ".join(quantity(each, "A") for each in board.idle_current_a) if board.idle_current_a else "-",
        )
        for board in config.board
        if board.capabilities or board.resources or board.idle_current_a
    ]
    if rows:
        print_table("what they are", ("board", "capabilities", "shares", "idle current"), rows)


def _fact(value: bool | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
    taken = able.trigger_input
    trigger = "no trigger input"
    if taken is not None:
        trigger = f"starts on a {taken.active.word} pulse of {quantity(taken.pulse_min_s, 's')} or more"
    clock = f"clock within ±{able.clock_ppm:g} ppm"
    return ", ".join((f"channels {_numbers(able.channels)}", period, *ranges, depth, trigger, clock))


def _edge_words(able: EdgeCapability) -> str:
    shortest, longest = (quantity(each, "s") for each in able.width_s)
    pulse = f"sees pulses of {quantity(able.pulse_min_s, 's')} or more"
    if able.pulse_pins:
        pulse += f", puts out pulses of {shortest} to {longest} on {_numbers(able.pulse_pins)}"
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
