"""When a cron line is due, in the time of its zone: pure functions over cronsim.

A line names times on a wall clock, and each of them is due once. A time that the zone skips in spring is due at the
first moment after the gap; one that the zone has twice in autumn is due the first time. So two times of a line may
fall together, and then are due once. It holds for every line alike, also for `*/15 * * * *`, which keeps silent while
an hour is repeated.

cronsim finds the times on a clock without a zone; what they are in the zone is decided here, since its own handling of
zones goes back in time when it is begun inside the repeated hour, and gives one moment twice for two skipped times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from labd.errors import RequestError

LINE_MAX = 128
"""Longest line, characters."""
_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_FORM = 'write five fields: minute, hour, day of the month, month, day of the week, as in "30 1 * * 1-5"'
_PROBE = datetime(2024, 1, 1)  # noqa: DTZ001 - a date on a clock without a zone
_SECOND = timedelta(seconds=1)


class CronError(RequestError):
    """A cron line or a zone that cannot be used; `where` is `cron` or `zone`."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron line in a zone; made by `schedule`, which checks both.

    Args:
        line: Five fields, as in Debian's cron.
        zone: Name of the zone in the IANA database.
    """

    line: str
    zone: str

    def next_after(self, moment: datetime) -> datetime:
        """The first time that is due after `moment`, in UTC.

        Args:
            moment: Aware, in any zone.
        """
        return next(self.after(moment))

    def after(self, moment: datetime) -> Iterator[datetime]:
        """All times that are due after `moment`, in UTC, strictly increasing; there is no end."""
        zone, last = _zone(self.zone), moment.astimezone(UTC)
        while True:
            # begun anew from time to time: cronsim gives up fifty years after its beginning
            for local in CronSim(self.line, last.astimezone(zone).replace(tzinfo=None)):
                due = _moment(local, zone)
                if due > last:
                    last = due
                    yield due

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The times that are due after `after` and not after `until`, in UTC."""
        for due in self.after(after):
            if due > until:
                return
            yield due

    def latest(self, after: datetime, until: datetime, count: int) -> list[datetime]:
        """The newest `count` times that are due after `after` and not after `until`, oldest first.

        It looks back from `until`, further each time, so that a year without power costs no year of minutes.
        """
        back = timedelta(hours=1)
        while True:
            begin = max(after, until - back)
            found = list(self.between(begin, until))
            if len(found) >= count or begin == after:
                return found[-count:]
            back *= 8


def schedule(line: str, zone: str) -> Schedule:
    """A line in its zone.

    Raises:
        CronError: the line has not five fields, cannot be read or never fires, or the zone does not exist.
    """
    known_zone(zone)
    fields = line.split()
    if len(line) > LINE_MAX:
        raise CronError(f"the line has {len(line)} characters, at most {LINE_MAX} are read", where="cron", remedy=_FORM)
    if len(fields) == 6:
        raise CronError("the line has 6 fields; seconds are not served", where="cron", remedy=_FORM)
    if len(fields) != 5:
        count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        raise CronError(f"the line has {count}, not 5", where="cron", remedy=_FORM)
    for place, field in enumerate(fields):
        alone = ["*"] * 5
        alone[place] = field
        try:
            CronSim(" ".join(alone), _PROBE)
        except (CronSimError, ValueError) as error:
            # a day that no month has reads well, and is told below with the months that it should be in
            if not (place == 2 and field.isdecimal() and int(field) <= 31):
                raise CronError(f"cannot read the {_FIELDS[place]}, {field!r}", where="cron", remedy=_FORM) from error
    try:
        next(CronSim(line, _PROBE))
    except (CronSimError, StopIteration) as error:
        remedy = "give a day that the months of the line have"
        raise CronError(f"the line {line!r} never fires", where="cron", remedy=remedy) from error
    return Schedule(" ".join(fields), zone)


def known_zone(name: str) -> str:
    """Return `name` if it is a zone's.

    Raises:
        CronError: there is no such zone; the remedy names the nearest.
    """
    zones = _zone_names()
    if name in zones:
        return name
    by_folded = {zone.casefold(): zone for zone in zones}
    cities = {zone.rsplit("/", 1)[-1].casefold(): zone for zone in sorted(zones)}
    folded = name[:64].casefold()
    near = [by_folded[each] for each in get_close_matches(folded, by_folded, n=3, cutoff=0.75)]
    near += [cities[each] for each in get_close_matches(folded.rsplit("/", 1)[-1], cities, n=2, cutoff=0.85)]
    listed = ", ".join(dict.fromkeys(near))
    remedy = f"did you mean {listed}?" if near else "use a name of the IANA database, such as Europe/Berlin, or UTC"
    raise CronError(f"there is no time zone {name[:64]!r}", where="zone", remedy=remedy)


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime", "posixrules", "Factory"})


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:  # the host's database has lost a zone that it had
        message = f"the host no longer knows the time zone {name!r}"
        raise CronError(message, where="zone", remedy="install the package tzdata") from error


def _moment(local: datetime, zone: ZoneInfo) -> datetime:
    """When it is `local` on the clocks of the zone: the first time, or the first moment after it was skipped."""
    first = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == local:
        return first
    # Inside a gap the two folds take the offsets before and after it, so they enclose the change.
    before, after = local.replace(tzinfo=zone, fold=1).astimezone(UTC), first
    old = before.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after
