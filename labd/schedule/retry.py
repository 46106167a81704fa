"""Whether a job is tried again after a run, by whose fault the end was: a pure function of its attempts.

The lab's own interruptions cost a job nothing, unless they come every time it runs. What may be the board's or an
instrument's fault is tried again elsewhere. A job that fails wherever it goes is poison: it is parked for a person to
look at. What the job itself or the rules are to blame for is never tried again, nor is a failure of the lab that
another run would only meet again, such as a full disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from labd.model.attempts import Attempt, Sequel, Verdict
from labd.model.causes import Blame, Cause
from labd.model.states import RunState

_FLAKY = frozenset({Blame.BOARD, Blame.INSTRUMENT})


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a job is tried again.

    Args:
        flaky_retries: Further attempts after a failure that may be the board's or an instrument's.
        interruptions_max: Interruptions in a row, other than by a stop of the daemon, that park a job.
    """

    flaky_retries: int
    interruptions_max: int

    def judge(self, attempts: Sequence[Attempt]) -> Verdict:
        """What becomes of a job after the last of its attempts; those before a release do not count, and are left out.

        Args:
            attempts: At least one, oldest first.
        """
        cause = attempts[-1].cause
        if cause is None:
            return Verdict(Sequel.ENDED)
        if cause.meaning.state is RunState.INTERRUPTED:
            return self._after_interruption(attempts)
        if cause.meaning.blame in _FLAKY:
            return self._after_flaky_failure(attempts)
        return Verdict(Sequel.ENDED)

    def _after_interruption(self, attempts: Sequence[Attempt]) -> Verdict:
        row = sum(1 for _ in takewhile(_killed, reversed(attempts)))
        if row >= self.interruptions_max:
            return Verdict(Sequel.PARKED, f"its run was cut off {row} times in a row", _blamed(attempts))
        return Verdict(Sequel.QUEUED, avoid=_blamed(attempts))

    def _after_flaky_failure(self, attempts: Sequence[Attempt]) -> Verdict:
        failures = [attempt for attempt in attempts if _blames(attempt, _FLAKY)]
        avoid = _blamed(attempts)
        told = ", ".join(f"{attempt.board_id} ({attempt.cause})" for attempt in failures)
        if len({attempt.board_id for attempt in failures if _blames(attempt, {Blame.BOARD})}) > 1:
            return Verdict(Sequel.PARKED, f"it failed on several boards: {told}", avoid)
        if len(failures) <= self.flaky_retries:
            return Verdict(
                Sequel.QUEUED,
                f"attempt {len(failures) + 1} of {self.flaky_retries + 1}, on another board if one fits",
                avoid,
            )
        if any(attempt.recovered for attempt in failures):
            return Verdict(Sequel.PARKED, f"it failed where others did well: {told}", avoid)
        return Verdict(Sequel.ENDED, avoid=avoid)


def _killed(attempt: Attempt) -> bool:
    """Whether the attempt was cut off by something other than a stop that somebody asked for."""
    cause = attempt.cause
    return cause is not None and cause.meaning.state is RunState.INTERRUPTED and cause is not Cause.DAEMON_STOPPED


def _blames(attempt: Attempt, whom: frozenset[Blame] | set[Blame]) -> bool:
    return attempt.cause is not None and attempt.cause.meaning.blame in whom


def _blamed(attempts: Sequence[Attempt]) -> tuple[str, ...]:
    """Boards on which the job failed, each once, in the order in which it did."""
    return tuple(dict.fromkeys(attempt.board_id for attempt in attempts if _blames(attempt, _FLAKY)))
