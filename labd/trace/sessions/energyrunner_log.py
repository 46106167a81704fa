"""EnergyRunner's `log.txt`: the host's commands, the board's answers, and who measured.

A line is `SSSSS.mmm source: text`. The board speaks as `dut: text`, or through an interface board as `io: [dut]: text`.
The board's words are those of the protocol that `labd.dut` speaks; here they are only read back.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath

from labd.trace.sessions.published import Inference, SessionError
from labd.trace.sessions.set_files import MARK

_LINE = re.compile(r"^\d+\.\d+ (\w+): (?:\[dut\]: )?(.*)$")
_COMMAND = re.compile(r'^Command "(.*)"$')
_LOAD = re.compile(r'^bloadp? (?:dut )?"([^"]*)"')
_INFER = re.compile(r"^(?:io )?dut infer (\d+)(?: (\d+))?$")
_RESULTS = re.compile(r"^m-results-\[([^\]]*)\]$")
_LAP = re.compile(r"^m-lap-us-(\d+)$")
_WARMUPS = 10
"""What a board takes for a W that was not sent."""
_KWS_INPUT = re.compile(r"^tst_\d+_[A-Za-z]+_(\d+)\.bin$")
_AD_INPUT = re.compile(r"^(normal|anomaly)_id_")
_DATASET = re.compile(r"^[a-z]{2,4}\d{2}$")
"""Folder of a benchmark's inputs, which is called as the benchmark: `ad01`."""
_FACTS = {
    "board": re.compile(r"^m-name-dut-\[(.*)\]$"),
    "profile": re.compile(r"^m-profile-\[(.*)\]$"),
    "model": re.compile(r"^m-model-\[(.*)\]$"),
    "benchmark": re.compile(r"^m-bm-cfg-name\[.*\]-key\[model\]-val\[(.*)\]$"),
    "run": re.compile(r"^m-bmark-run-name\[(.*?)\]"),
    "version": re.compile(r"^m-version\[(.*)\]$"),
    "voltage_mv": re.compile(r"^m-voltage-mv\[(\d+)\]$"),
    "monitor": re.compile(r"^m-regfile-fn\[.*\]-type\[emon\]-name\[(.*)\]$"),
    "began": re.compile(r"^m-session-start-id\[(\d{14})\]$"),
}


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What a log tells; empty, or None, for what it does not.

    Args:
        board, profile, model: Who the board says it is.
        runner: Name and version of the runner's test.
        monitor: Who measured, by the runner's name for it.
        voltage_v: What the monitor says it supplied, V.
        began: When the session began; the runner prints no zone, it is taken for UTC.
        dataset: The benchmark whose inputs were loaded, or which the runner was set to.
        inferences: Each `infer` command with its answer.
    """

    board: str = ""
    profile: str = ""
    model: str = ""
    runner: str = ""
    monitor: str = ""
    voltage_v: float | None = None
    began: datetime | None = None
    dataset: str = ""
    inferences: tuple[Inference, ...] = ()


@dataclass(slots=True)
class _Draft:
    """An `infer` that is being answered."""

    input: str
    inferences: int
    warmups: int
    results: tuple[float, ...] = ()
    laps_us: list[int] = field(default_factory=list)

    def done(self) -> Inference:
        return Inference(
            input=self.input,
            expected=expected_class(self.input),
            inferences=self.inferences,
            warmups=self.warmups,
            results=self.results,
            laps_us=tuple(self.laps_us),
        )


def expected_class(name: str) -> int | None:
    """Class of an input, where its name tells: keyword spotting's do, and anomaly detection's (1 is the anomaly)."""
    if match := _KWS_INPUT.match(name):
        return int(match[1])
    if match := _AD_INPUT.match(name):
        return int(match[1] == "anomaly")
    return None


def is_anomaly_input(name: str) -> bool:
    """Whether an input is one of anomaly detection's: a machine's sound, normal or not."""
    return _AD_INPUT.match(name) is not None


@dataclass(slots=True)
class _Reading:
    """A log as far as it has been read."""

    path: Path
    facts: dict[str, str] = field(default_factory=dict)
    done: list[Inference] = field(default_factory=list)
    draft: _Draft | None = None
    input: str = ""
    lines: int = 0

    def take(self, source: str, text: str) -> None:
        """One line of the log, without its time."""
        self.lines += 1
        if source == "parser" and (command := _COMMAND.match(text)):
            self._commanded(command[1])
        elif self.draft is not None and (lap := _LAP.match(text)):
            self.draft.laps_us.append(int(lap[1]))
        elif self.draft is not None and (results := _RESULTS.match(text)):
            self.draft.results = _numbers(results[1], self.path)
        else:
            self.facts |= {fact: found[1] for fact, pattern in _FACTS.items() if (found := pattern.match(text))}

    def _commanded(self, command: str) -> None:
        if load := _LOAD.match(command):
            loaded = PureWindowsPath(load[1])  # takes either slash
            self.input = loaded.name
            if _DATASET.match(loaded.parent.name):
                self.facts["dataset"] = loaded.parent.name
        elif infer := _INFER.match(command):
            self.finish()
            if int(infer[1]) < 1:
                raise SessionError(f"the board was asked for {infer[1]} inferences", where=str(self.path))
            self.draft = _Draft(self.input, int(infer[1]), int(infer[2] or _WARMUPS))

    def finish(self) -> None:
        """The inference under way has all that it will get."""
        if self.draft is not None:
            self.done.append(self.draft.done())
        self.draft = None


def read_dialogue(path: Path) -> Dialogue:
    """Read a log. Lines of no known form are passed over: the runner logs much, and undecodable bytes of a board.

    Raises:
        SessionError: it is missing, holds no line of a log, or an answer of the board is not numbers.
    """
    reading = _Reading(path)
    try:
        # A board may send CR before its line: in the log that CR ends no line.
        with path.open(encoding=MARK, errors="replace", newline="\n") as file:
            for row in file:
                if match := _LINE.match(row.rstrip("\r\n")):
                    reading.take(match[1], match[2].strip())
    except FileNotFoundError as error:
        raise SessionError(f"{path.name} is missing", where=str(path)) from error
    except OSError as error:
        raise SessionError(f"it cannot be read: {error.strerror}", where=str(path)) from error
    if reading.lines == 0:
        raise SessionError("it holds no line of an EnergyRunner log", where=str(path))
    reading.finish()
    facts = reading.facts
    return Dialogue(
        board=facts.get("board", ""),
        profile=facts.get("profile", ""),
        model=facts.get("model", ""),
        runner=" ".join(filter(None, ("EnergyRunner", facts.get("version"), facts.get("run")))),
        monitor=facts.get("monitor", ""),
        voltage_v=int(facts["voltage_mv"]) / 1000 if "voltage_mv" in facts else None,
        began=_moment(facts.get("began", "")),
        dataset=facts.get("dataset", facts.get("benchmark", "")),
        inferences=tuple(reading.done),
    )


def _numbers(text: str, path: Path) -> tuple[float, ...]:
    try:
        values = tuple(float(value) for value in text.split(",") if value.strip())
    except ValueError as error:
        raise SessionError(f"the results [{text}] are not numbers", where=str(path)) from error
    if not all(map(math.isfinite, values)):
        raise SessionError(f"the results [{text}] are not all finite", where=str(path))
    return values


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
