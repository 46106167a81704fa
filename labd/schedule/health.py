"""When a board's health is looked at, and what follows from what was found: pure decisions on times in seconds.

The check is the judge of a board. A run that fails by a fault of the board's only makes it suspect; if its check then
passes, the failure counts against the job. Failed checks in a row, the strikes, put the board into quarantine, and a
passed one brings it back. What the check cannot see, the jobs tell: a board on which one job after the other fails goes
to quarantine too, unless those jobs fail elsewhere as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from labd.model.checks import Outcome
from labd.model.states import BoardState, CheckTrigger

RETRY_MAX_S = 86_400.0
"""Longest pause between two checks of a quarantined board, s."""
SUSPECT_PAUSE_S = 30.0
"""Longest pause between two checks of a suspect board, s."""
GOLDEN_MIN = 3
"""A golden result is judged from so many earlier ones on."""
GOLDEN_LAST = 20
"""And against so many of them at most, the newest."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What lab.toml says of health.

    Args:
        check_every_s: Longest time without a passed check or a completed run, s.
        quarantine_after: Failures in a row that put a board into quarantine.
        retry_s: Pause before the first check of a quarantined board, s; it doubles up to a day.
    """

    check_every_s: float
    quarantine_after: int
    retry_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """A board as the lab remembers it; all times on one clock, s.

    Args:
        state: How it is.
        strikes: Failed checks in a row.
        well_at_s: When it last passed a check or completed a run; None if it never did.
        due_at_s: When a check was asked for; None for as the state says.
        wanted: Why it was asked for; None for as the state says.
    """

    state: BoardState
    strikes: int = 0
    well_at_s: float | None = None
    due_at_s: float | None = None
    wanted: CheckTrigger | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a board.

    Args:
        state: How it is from now on.
        reason: Why, in words; empty for a board that is well.
        strikes: Failed checks in a row.
        due_at_s: When it is checked next; None for as the state says.
        well: Whether it was found well.
    """

    state: BoardState
    reason: str
    strikes: int
    due_at_s: float | None
    well: bool


def due_at_s(standing: Standing, rules: Rules) -> float | None:
    """When the board's next check is due, s; None for one that is not checked as it is.

    A board in a person's hands is only checked if that was asked for; a busy one shows by its run how it is.
    """
    match standing.state:
        case BoardState.OFFLINE | BoardState.BUSY:
            return None
        case BoardState.MAINTENANCE:
            return standing.due_at_s
        case BoardState.ONLINE:
            periodic_s = (standing.well_at_s or 0.0) + rules.check_every_s
            return periodic_s if standing.due_at_s is None else min(standing.due_at_s, periodic_s)
        case BoardState.SUSPECT | BoardState.QUARANTINED:
            return 0.0 if standing.due_at_s is None else standing.due_at_s


def trigger_of(standing: Standing) -> CheckTrigger:
    """Why the check that is due is due."""
    if standing.wanted is not None:
        return standing.wanted
    match standing.state:
        case BoardState.QUARANTINED:
            return CheckTrigger.RETURN
        case BoardState.SUSPECT:
            return CheckTrigger.FAILURE
        case _:
            return CheckTrigger.PERIODIC


def after_check(
    standing: Standing,
    rules: Rules,
    outcome: Outcome,
    *,
    reason: str = "",
    failing_jobs: Sequence[int] = (),
    now_s: float,
) -> Verdict:
    """What a finished check makes of a board.

    Args:
        standing: The board before.
        rules: When it is quarantined.
        outcome: How the check ended.
        reason: What it found, in words; empty if it passed.
        failing_jobs: Jobs that count against the board although its checks pass: see `failing_jobs`.
        now_s: The time, s.
    """
    if standing.state is BoardState.MAINTENANCE:  # looked at, and left in the person's hands
        return Verdict(standing.state, reason, standing.strikes, None, outcome is Outcome.PASSED)
    match outcome:
        case Outcome.PASSED if failing_jobs and standing.state is not BoardState.QUARANTINED:
            named = ", ".join(map(str, failing_jobs))
            told = f"its checks pass, but jobs {named} failed on it one after the other"
            return Verdict(BoardState.QUARANTINED, told, 0, now_s + rules.retry_s, False)
        case Outcome.PASSED:
            told = "back from quarantine: it passed its check" if standing.state is BoardState.QUARANTINED else ""
            return Verdict(BoardState.ONLINE, told, 0, None, True)
        case Outcome.HINDERED:
            state = BoardState.SUSPECT if standing.state is BoardState.ONLINE else standing.state
            return Verdict(state, reason, standing.strikes, now_s + _pause_s(standing.strikes, rules, state), False)
        case Outcome.FAILED:
            strikes = standing.strikes + 1
        case Outcome.DANGEROUS:
            strikes = max(standing.strikes + 1, rules.quarantine_after)
    quarantined = strikes >= rules.quarantine_after or standing.state is BoardState.QUARANTINED
    state = BoardState.QUARANTINED if quarantined else BoardState.SUSPECT
    return Verdict(state, reason, strikes, now_s + _pause_s(strikes, rules, state), False)


def _pause_s(strikes: int, rules: Rules, state: BoardState) -> float:
    """Pause before the next check of a board with so many strikes, s."""
    if state is not BoardState.QUARANTINED:
        return min(SUSPECT_PAUSE_S, rules.retry_s)
    beyond = max(0, strikes - rules.quarantine_after)  # a person, or failing jobs, quarantine without strikes
    return min(rules.retry_s * 2.0 ** min(beyond, 32), max(RETRY_MAX_S, rules.retry_s))


# --- what the check does not see ------------------------------------------------------------------------------


class Elsewhere(StrEnum):
    """How a job that failed on a board fared on other boards."""

    UNTRIED = "untried"  # it has ended, and no other board had it
    PENDING = "pending"  # it may still be tried on another
    FAILED = "failed"  # it failed there too
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed on a board by a fault of the board's, and what other boards say of its job."""

    job_id: int
    elsewhere: Elsewhere


def failing_jobs(row: Sequence[Failure], rules: Rules) -> tuple[int, ...]:
    """The jobs that together speak against a board whose checks pass; none if they are too few.

    A job that failed on other boards too accuses itself, and one that may still be tried on another says nothing yet.

    Args:
        row: Failures on the board since its last completed run or return, in any order.
        rules: How many different jobs it takes.
    """
    telling = sorted({each.job_id for each in row if each.elsewhere in (Elsewhere.UNTRIED, Elsewhere.COMPLETED)})
    return tuple(telling) if len(telling) >= rules.quarantine_after else ()


# --- the golden job -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Golden:
    """A result of the golden job on one board: energy of an inference and its expanded uncertainty (k = 2), J."""

    energy_j: float
    expanded_j: float


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a golden result is from the board's own earlier ones.

    Args:
        percent: Deviation from the median of the earlier ones, %.
        expanded_percent: Expanded uncertainty of the result, %.
        earlier: How many earlier ones there were.
        beyond: Whether the deviation cannot be within the tolerance, given the uncertainty.
    """

    percent: float
    expanded_percent: float
    earlier: int
    beyond: bool


def golden_drift(latest: Golden, earlier: Sequence[Golden], tolerance_percent: float) -> Drift | None:
    """Hold a golden result against the board's earlier ones; None while those are too few.

    The uncertainty widens the tolerance: a lab that measures poorly accuses nobody.

    Args:
        latest: The result.
        earlier: Those before it, oldest first.
        tolerance_percent: How far it may be, %.
    """
    if len(earlier) < GOLDEN_MIN:
        return None
    usual_j = median(each.energy_j for each in earlier[-GOLDEN_LAST:])
    if usual_j <= 0:
        return None
    percent = 100.0 * (latest.energy_j / usual_j - 1.0)
    expanded_percent = 100.0 * latest.expanded_j / usual_j
    return Drift(percent, expanded_percent, len(earlier), abs(percent) > tolerance_percent + expanded_percent)
