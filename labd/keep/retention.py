"""Which traces go, in which order and why: pure decisions from what is known of each and what lab.toml says.

Two kinds of going. A trace is *removed* for good, or only its *local copy* goes and the archive keeps it. Age removes.
Want of room, whether by `max_size_gb` or on the disk, takes local copies of archived traces first; then, where there is
no archive, the oldest traces for good. With an archive, what has not reached it yet waits for it; and what lies in an
archive that the lab no longer has keeps its only copy within reach.

What never goes: a pinned trace, one whose run has not ended, and, for good, one that a rule with `keep = true` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from labd.config import Keep, KeepRule
from labd.keep.space import GB
from labd.model.kept import AgeLimit, Kept
from labd.model.states import RunState


class Way(StrEnum):
    """How a trace goes."""

    REMOVE = "remove"
    DROP_LOCAL = "drop_local"


@dataclass(frozen=True, slots=True)
class Going:
    """A trace that goes.

    Args:
        trace: Which.
        way: For good, or only here.
        reason: Why, one sentence.
    """

    trace: Kept
    way: Way
    reason: str

    @property
    def frees(self) -> int:
        """Bytes that the local folder has more of afterwards."""
        return self.trace.bytes if self.trace.local else 0


def due(traces: Iterable[Kept], keep: Keep, *, archive: bool, now: datetime) -> list[Going]:
    """What goes by age and by size, oldest first.

    Args:
        traces: All that is kept, in any order.
        keep: What lab.toml says.
        archive: Whether the lab has an archive.
        now: The present, aware.
    """
    oldest_first = _oldest_first(traces)
    going = [found for trace in oldest_first if (found := _too_old(trace, keep, now)) is not None]
    if keep.max_size_gb is not None:
        gone = {each.trace.id for each in going}
        left = [trace for trace in oldest_first if trace.id not in gone]
        excess = sum(trace.bytes for trace in left if trace.local) - int(keep.max_size_gb * GB)
        reason = f"the traces here take more than {keep.max_size_gb:g} GB"
        going += _making_room(left, keep, excess, reason, archive=archive, removable=not archive)
    return sorted(going, key=lambda each: _age(each.trace))


def reclaim(
    traces: Iterable[Kept], keep: Keep, short_bytes: int, *, archive: bool, gone: Iterable[Going] = ()
) -> list[Going]:
    """What goes because the disk is nearly full: at least `short_bytes` of it if there is so much to be had.

    Local copies of archived traces may always go; others only if lab.toml says `reclaim = true`.

    Args:
        traces: All that is kept, in any order.
        keep: What lab.toml says.
        short_bytes: How much room is missing.
        archive: Whether the lab has an archive.
        gone: What goes anyway.
    """
    already = list(gone)
    ids = {each.trace.id for each in already}
    left = [trace for trace in _oldest_first(traces) if trace.id not in ids]
    missing = short_bytes - sum(each.frees for each in already)
    reason = f"less than {keep.critical_gb:g} GB are free on the disk"
    return _making_room(left, keep, missing, reason, archive=archive, removable=keep.reclaim and not archive)


def age_limits(keep: Keep, now: datetime) -> list[AgeLimit]:
    """What a trace must at least have lived through to be too old: `due` lets no other go by age."""
    limits: list[tuple[float | None, tuple[str, ...]]] = [(keep.max_age_days, ())]
    limits += [(rule.max_age_days, rule.outcome) for rule in keep.rule]
    found = []
    for days, outcomes in limits:
        if days is None:
            continue
        try:
            # A second more: what is rounded here may let in too much, never too little.
            before = now - timedelta(days=days) + timedelta(seconds=1)
        except OverflowError:  # nothing is as old as that
            continue
        found.append(AgeLimit(before, frozenset(map(RunState, outcomes))))
    return found


def rule_of(trace: Kept, rules: Iterable[KeepRule]) -> KeepRule | None:
    """The first rule that the trace meets."""
    for rule in rules:
        if (not rule.outcome or trace.outcome.value in rule.outcome) and rule.label.items() <= trace.labels.items():
            return rule
    return None


def _making_room(
    oldest_first: Sequence[Kept], keep: Keep, missing: int, reason: str, *, archive: bool, removable: bool
) -> list[Going]:
    """The fewest of the oldest that free `missing` bytes, as far as they may go: copies first."""
    going: list[Going] = []
    for way in (Way.DROP_LOCAL, Way.REMOVE):
        for trace in oldest_first:
            if missing <= 0:
                return going
            if trace.local and _may_go(trace, keep, way, archive=archive, removable=removable):
                why = f"{reason}, and the archive has a copy" if way is Way.DROP_LOCAL else reason
                going.append(Going(trace, way, why))
                missing -= trace.bytes
    return going


def _may_go(trace: Kept, keep: Keep, way: Way, *, archive: bool, removable: bool) -> bool:
    if _held(trace):
        return False
    if way is Way.DROP_LOCAL:
        return archive and trace.archived
    rule = rule_of(trace, keep.rule)
    return removable and not trace.archived and not (rule is not None and rule.keep)


def _too_old(trace: Kept, keep: Keep, now: datetime) -> Going | None:
    if _held(trace):
        return None
    rule = rule_of(trace, keep.rule)
    limit_days = keep.max_age_days if rule is None else None if rule.keep else rule.max_age_days
    if limit_days is None:
        return None
    # In days: a limit of a thousand years is beyond what a timedelta can be added to.
    age_days = (now - trace.ended_at) / timedelta(days=1)
    if age_days <= limit_days:
        return None
    whose = "" if rule is None else f", the limit of {_named(rule)}"
    return Going(trace, Way.REMOVE, f"it ended {age_days:.4g} days ago, more than {limit_days:g}{whose}")


def _held(trace: Kept) -> bool:
    """Whether nothing at all may be done about the trace."""
    return trace.pinned or trace.outcome is RunState.RUNNING


def _named(rule: KeepRule) -> str:
    """Whom a rule is about, in words."""
    outcomes = f"{' or '.join(rule.outcome)} runs" if rule.outcome else "runs"
    labels = " and ".join(f"{key} = {value}" for key, value in rule.label.items())
    return f"{outcomes} with {labels}" if labels else outcomes


def _oldest_first(traces: Iterable[Kept]) -> list[Kept]:
    return sorted(traces, key=_age)


def _age(trace: Kept) -> tuple[datetime, str]:
    return trace.ended_at, trace.id
