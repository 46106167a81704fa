"""Reads a `results.txt`, of either runner: what it prints is the claim that a session is checked against.

EnergyRunner puts a time and its own name before each line, the MLCommons runner before some. What follows is one of a
few headings ("Energy data for window 2 ...") with `key : value` lines below it, or one sentence that stands alone. A
field without a heading, or twice below one, is one whose heading is lost: it is refused, since whose it is cannot be
known. Some submissions hold every line several times over; a line that is the same as the one before is that line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from labd.trace.sessions.published import (
    Printed,
    PrintedDetections,
    PrintedRate,
    PrintedWindow,
    SessionError,
    SessionFormat,
)
from labd.trace.sessions.set_files import MARK

_PREFIX = re.compile(r"^\d+\.\d+ [\w.-]+:\s*")
_ENERGY = re.compile(r"Energy data for (?:window|trial) (\d+)(?: at time (\S+) for (\S+) sec)?")
_RATE = re.compile(r"Performance results for window (\d+)")
_FIELD = re.compile(
    r"(# Inferences|Inferences|Elapsed time|Runtime|Throughput|(?:Total )?Energy|Energy/Inf\.?)\s*:\s*(\S+)"
)
_OF_ENERGY = ("Inferences", "Elapsed time", "Energy", "Total Energy", "Energy/Inf.", "Energy/Inf")
_OF_RATE = ("# Inferences", "Runtime", "Throughput")
_NUMBER = re.compile(r"^\d{1,15}(\.\d{0,20})?$")
"""As the runners print: no sign, no exponent."""
_SENTENCES = {
    "median_uj_per_inference": re.compile(r"Median energy cost is\s+(\S+) uJ/inf"),
    "median_inferences_per_s": re.compile(r"Median throughput is\s+(\S+) inf\./sec"),
    "top1_percent": re.compile(r"Top[- ]1%?\s?[:=]\s*([^\s%]+)"),
    "auc": re.compile(r"AUC\s?[:=]\s*(\S+)"),
    "duty_cycle": re.compile(r"Average duty cycle:\s*(\S+)"),
    "period_s": re.compile(r"Average period:\s*(\S+) s$"),
    "estimated_inferences_per_s": re.compile(r"Estimated throughput:\s*(\S+) inf\./sec"),
}
_DETECTIONS = re.compile(
    r"Accuracy: (\d{1,9}) True positives, (\d{1,9}) False negatives, (\d{1,9}) False positives"  # of a streaming run
)
_COMPLAINT = re.compile(r"e-\[(.*)\]$")
_MLCOMMONS = re.compile(r"Power Edition Output|Energy data for trial |(?:Top 1%|AUC) =|(?:Runtime|Throughput): ")
_ENERGYRUNNER = re.compile(r"Energy data for window |(?:Top-1|AUC): |(?:Runtime|Throughput)\s+: ")


@dataclass(slots=True)
class _Block:
    """A heading with the fields below it."""

    index: int
    energy: bool
    fields: dict[str, Decimal] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"the {'energy' if self.energy else 'performance'} of window {self.index}"


@dataclass(frozen=True, slots=True)
class _Reader:
    path: Path

    def number(self, text: str, what: str) -> Decimal:
        """A printed number. Raises `SessionError` for anything else, such as nan."""
        if not _NUMBER.match(text):
            raise SessionError(f"{what} is {text[:40]!r}, not a number", where=str(self.path))
        return Decimal(text)

    def put(self, blocks: list[_Block], key: str, text: str) -> None:
        """Enter a field below the last heading. Raises `SessionError` if that cannot be its own."""
        lost = "a heading is lost: bring the file again"
        if not blocks:
            raise SessionError(f"it prints {key!r} before any window's heading", where=str(self.path), remedy=lost)
        block = blocks[-1]
        if key not in (_OF_ENERGY if block.energy else _OF_RATE):
            raise SessionError(f"{key!r} stands below {block.name}", where=str(self.path), remedy=lost)
        if key in block.fields:
            raise SessionError(f"{block.name} has {key!r} twice", where=str(self.path), remedy=lost)
        block.fields[key] = self.number(text, f"{key!r} of window {block.index}")

    def need(self, block: _Block, *names: str) -> Decimal:
        """The field of a block that goes by one of these names."""
        for name in names:
            if name in block.fields:
                return block.fields[name]
        raise SessionError(
            f"{block.name} lacks {names[0]!r}",
            where=str(self.path),
            remedy="the file is cut off or was edited: bring it again",
        )


@dataclass(slots=True)
class _Heard:
    """What the lines so far have said."""

    blocks: list[_Block] = field(default_factory=list)
    sentences: dict[str, Decimal] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    detections: PrintedDetections | None = None
    format: SessionFormat | None = None

    def take(self, line: str, reader: _Reader) -> None:
        """One line, without what the runner puts before it."""
        if _MLCOMMONS.match(line):
            self.format = SessionFormat.MLCOMMONS
        elif _ENERGYRUNNER.match(line):
            self.format = SessionFormat.ENERGYRUNNER
        if match := _ENERGY.match(line):
            block = _Block(int(match[1]), energy=True)
            if match[2] is not None:
                block.fields["start"] = reader.number(match[2], f"the start of window {match[1]}")
                block.fields["Elapsed time"] = reader.number(match[3], f"the duration of window {match[1]}")
            self.blocks.append(block)
        elif match := _RATE.match(line):
            self.blocks.append(_Block(int(match[1]), energy=False))
        elif match := _FIELD.match(line):
            reader.put(self.blocks, match[1], match[2])
        elif match := _DETECTIONS.match(line):
            self.detections = PrintedDetections(*map(int, match.groups()))
            self.format = SessionFormat.MLCOMMONS  # EnergyRunner has no streaming benchmark
        elif match := _COMPLAINT.match(line):
            self.complaints.append(match[1])
        else:
            for name, pattern in _SENTENCES.items():
                if match := pattern.match(line):
                    self._say(reader, name, reader.number(match[1].rstrip("."), name.replace("_", " ")))

    def _say(self, reader: _Reader, name: str, value: Decimal) -> None:
        if self.sentences.setdefault(name, value) != value:
            both = f"{self.sentences[name]} and {value}"
            raise SessionError(f"it prints two values of {name.replace('_', ' ')}: {both}", where=str(reader.path))


def read_results_text(path: Path) -> Printed:
    """Read a `results.txt` (or a `postproc.txt`, in which some submissions print their accuracy).

    Raises:
        SessionError: it is missing, no text, holds nothing that a runner prints, is cut off, or lacks a heading.
    """
    reader = _Reader(path)
    heard = _Heard()
    for line in _lines(path):
        heard.take(line, reader)
    return _printed(reader, heard)


def _lines(path: Path) -> Iterator[str]:
    """The lines without what the runner puts before them; one that is the same as the one before is left out."""
    before = ""
    try:
        with path.open(encoding=MARK) as file:
            for line in file:
                if line.rstrip() != before:
                    yield _PREFIX.sub("", line.strip())
                before = line.rstrip()
    except FileNotFoundError as error:
        raise SessionError(f"{path.name} is missing", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise SessionError("this is no text", where=str(path), remedy="save it as UTF-8") from error
    except OSError as error:
        raise SessionError(f"it cannot be read: {error.strerror}", where=str(path)) from error


def _printed(reader: _Reader, heard: _Heard) -> Printed:
    where, blocks, sentences = str(reader.path), heard.blocks, heard.sentences
    if not blocks and not sentences and heard.detections is None:
        raise SessionError("it holds nothing that a runner prints as results", where=where)
    rates = tuple(
        PrintedRate(
            index=block.index,
            inferences=_count(reader, block),
            runtime_s=reader.need(block, "Runtime"),
            inferences_per_s=reader.need(block, "Throughput"),
        )
        for block in blocks
        if not block.energy
    )
    asked = {rate.index: rate.inferences for rate in rates}
    windows = tuple(
        PrintedWindow(
            index=block.index,
            energy_uj=reader.need(block, "Energy", "Total Energy"),
            per_inference_uj=block.fields.get("Energy/Inf.", block.fields.get("Energy/Inf")),
            start_s=block.fields.get("start"),
            duration_s=reader.need(block, "Elapsed time"),
            inferences=_count(reader, block) if "Inferences" in block.fields else asked.get(block.index),
        )
        for block in blocks
        if block.energy
    )
    for kind, indices in (("energy", [w.index for w in windows]), ("performance", [r.index for r in rates])):
        if len(set(indices)) != len(indices):
            raise SessionError(f"it prints the {kind} of a window twice: {indices}", where=where)
    # Of a single throughput EnergyRunner prints no median.
    medians = (("energy", "uj_per_inference", len(windows)), ("throughput", "inferences_per_s", len(rates) - 1))
    for what, name, count in medians:
        if count > 0 and f"median_{name}" not in sentences:
            raise SessionError(
                f"it ends without the median {what}",
                where=where,
                remedy="the file is cut off: bring it again",
            )
    return Printed(
        format=heard.format,
        windows=windows,
        rates=rates,
        detections=heard.detections,
        complaints=tuple(dict.fromkeys(heard.complaints)),
        **sentences,
    )


def _count(reader: _Reader, block: _Block) -> int:
    value = reader.need(block, "# Inferences", "Inferences")
    if value != value.to_integral_value() or value < 1:
        raise SessionError(f"window {block.index} has {value} inferences", where=str(reader.path))
    return int(value)
