"""Lengths of time as people write and read them: `90m`, `2h`, `1d12h`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta

import typer

LENGTH = "LENGTH"
"""What help calls a length of time."""
LONGEST_WAIT = "Longest wait: 90s, 10m, 2h; a number alone is seconds."
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


def limit_s(given: str | float) -> float:
    """Seconds of an option that bounds a wait: a length of time as `span_s` takes it, or the option's own default.

    Raises:
        BadParameter: it is no length of time.
    """
    return span_s(given) if isinstance(given, str) else given


def check_limit(within_s: float | None, *, wait: bool) -> None:
    """Refuse a bound on a wait that nobody asked for. Raises `BadParameter`."""
    if within_s is not None and not wait:
        raise typer.BadParameter("--for bounds the waiting: give --wait too")


def span_text(seconds: float) -> str:
    """The same for people, in its two largest units: `1 h 30 min`."""
    left, parts = round(max(0.0, seconds)), []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= length:
            parts.append(f"{left // length} {unit}")
            left %= length
    return " ".join(parts[:2]) or "0 s"


def past_time(text: str) -> datetime:
    """A time that has passed, as people write it: `2h` ago, RFC 3339, a local date and time, or a local time of day.

    Raises:
        BadParameter: it is none of these.
    """
    now = datetime.now(UTC)
    if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text):
        text = text.zfill(8 if text.count(":") == 2 else 5)
    try:
        if ":" in text and "-" not in text:
            at = datetime.combine(now.astimezone().date(), time.fromisoformat(text)).astimezone()
            return at if at <= now else (at.replace(tzinfo=None) - timedelta(days=1)).astimezone()
        if "-" in text:
            return datetime.fromisoformat(text).astimezone()
        return now - timedelta(seconds=span_s(text))
    except (ValueError, OverflowError, typer.BadParameter) as error:
        raise typer.BadParameter(f"{text!r} is no time: write 2h, 06:00 or 2026-05-01T06:00") from error


def time_of(text: str) -> datetime:
    """A deadline as people write it: RFC 3339, a local date and time, or a local time of day, the next one.

    Raises:
        typer.BadParameter: it is none of these.
    """
    try:
        if len(text) <= len("hh:mm:ss"):
            now = datetime.now().astimezone()
            at = datetime.combine(now.date(), time.fromisoformat(text.zfill(5))).astimezone()
            return at if at > now else (at.replace(tzinfo=None) + timedelta(days=1)).astimezone()
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise typer.BadParameter(f"deadline {text!r} is no time; write 2026-05-01T06:00:00Z or 06:00") from error
