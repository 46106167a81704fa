"""Lengths of time as people write and read them: `90m`, `2h`, `1d12h`."""

from __future__ import annotations

import re

import typer

_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_SPAN = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?"
)


def span_s(text: str) -> float:
    """Seconds of a length of time; a number alone is in seconds.

    Raises:
        BadParameter: it is no length of time.
    """
    told = text.strip().lower().replace("min", "m")
    found = _SPAN.fullmatch(told + "s" if told.replace(".", "", 1).isdigit() else told)
    seconds = sum(float(found[unit]) * _UNITS[unit] for unit in _UNITS if found[unit]) if found else 0.0
    if seconds <= 0:
        raise typer.BadParameter(f"{text!r} is no length of time: write 90m, 2h or 1d12h")
    return seconds


def span_text(seconds: float) -> str:
    """The same for people, in its two largest units: `1 h 30 min`."""
    left, parts = round(max(0.0, seconds)), []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= length:
            parts.append(f"{left // length} {unit}")
            left %= length
    return " ".join(parts[:2]) or "0 s"
