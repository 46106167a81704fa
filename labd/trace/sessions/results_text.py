"""Reads a `results.txt`, of either runner: what it prints is the claim that a session is checked against.

EnergyRunner puts a time and its own name before each line, the MLCommons runner before some. What follows is one of a
few headings ("Energy data for window 2 ...") with `key : value` lines below it, or one sentence that stands alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from labd.trace.sessions.published import Printed, PrintedRate, PrintedWindow, SessionError

_PREFIX = re.compile(r"^\d+\.\d+ [\w.-]+:\s*")
_ENERGY = re.compile(r"Energy data for (?:window|trial) (\d+)(?: at time (\S+) for (\S+) sec)?")
_RATE = re.compile(r"Performance results for window (\d+)")
_FIELD = re.compile(
    r"(# Inferences|Inferences|Elapsed time|Runtime|Throughput|(?:Total )?Energy|Energy/Inf\.?)\s*:\s*(\S+)"
)
_NUMBER = re.compile(r"^\d{1,15}(\.\d{0,20})?$")
"""As the runners print: no sign, no exponent."""
_SENTENCES = {
    "median_uj_per_inference": re.compile(r"Median energy cost is\s+(\S+) uJ/inf"),
    "median_inferences_per_s": re.compile(r"Median throughput is\s+(\S+) inf\./sec"),
    "top1_percent": re.compile(r"Top[- ]1%?\s?[:=]\s*([^\s%]+)"),
    "auc": re.compile(r"AUC\s?[:=]\s*(\S+)"),
}


@dataclass(slots=True)
class _Block:
    """A heading with the fields below it."""

    index: int
    energy: bool
    fields: dict[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Reader:
    path: Path

    def number(self, text: str, what: str) -> Decimal:
        """A printed number. Raises `SessionError` for anything else, such as nan."""
        if not _NUMBER.match(text):
            raise SessionError(f"{what} is {text[:40]!r}, not a number", where=str(self.path))
        return Decimal(text)

    def need(self, block: _Block, *names: str) -> Decimal:
        """The field of a block that goes by one of these names."""
        for name in names:
            if name in block.fields:
                return block.fields[name]
        kind = "energy" if block.energy else "performance"
        raise SessionError(
            f"the {kind} of window {block.index} lacks {names[0]!r}",
            where=str(self.path),
            remedy="the file is cut off or was edited: bring it again",
        )


def read_results_text(path: Path) -> Printed:
    """Read a `results.txt` (or a `postproc.txt`, in which some submissions print their accuracy).

    Raises:
        SessionError: it is missing, no text, holds nothing that a runner prints, or is cut off.
    """
    reader = _Reader(path)
    blocks: list[_Block] = []
    sentences: dict[str, Decimal] = {}
    for line in _lines(path):
        if match := _ENERGY.match(line):
            block = _Block(int(match[1]), energy=True)
            if match[2] is not None:
                block.fields["start"] = reader.number(match[2], f"the start of window {match[1]}")
                block.fields["Elapsed time"] = reader.number(match[3], f"the duration of window {match[1]}")
            blocks.append(block)
        elif match := _RATE.match(line):
            blocks.append(_Block(int(match[1]), energy=False))
        elif blocks and (match := _FIELD.match(line)):
            what = f"{match[1]!r} of window {blocks[-1].index}"
            blocks[-1].fields[match[1]] = reader.number(match[2], what)
        else:
            for name, pattern in _SENTENCES.items():
                if match := pattern.match(line):
                    sentences[name] = reader.number(match[1].rstrip("."), name.replace("_", " "))
    return _printed(reader, blocks, sentences)


def _lines(path: Path) -> Iterator[str]:
    """The lines without what the runner puts before them."""
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield _PREFIX.sub("", line.strip())
    except FileNotFoundError as error:
        raise SessionError(f"{path.name} is missing", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise SessionError("this is no text", where=str(path)) from error
    except OSError as error:
        raise SessionError(f"it cannot be read: {error.strerror}", where=str(path)) from error


def _printed(reader: _Reader, blocks: list[_Block], sentences: dict[str, Decimal]) -> Printed:
    where = str(reader.path)
    if not blocks and not sentences:
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
    if windows and "median_uj_per_inference" not in sentences:
        raise SessionError(
            "it ends without the median energy",
            where=where,
            remedy="the file is cut off: bring it again",
        )
    return Printed(windows=windows, rates=rates, **sentences)


def _count(reader: _Reader, block: _Block) -> int:
    value = reader.need(block, "# Inferences", "Inferences")
    if value != value.to_integral_value() or value < 1:
        raise SessionError(f"window {block.index} has {value} inferences", where=str(reader.path))
    return int(value)
