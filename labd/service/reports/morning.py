"""The morning report of a night: from the record of the database to what a person wants to know first.

Nothing is kept between reports. What a report says follows from the record alone, so that a report that is made again
after a restart is the same one.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime

from labd.config import LabConfig
from labd.model.causes import Blame, Cause
from labd.model.states import BoardState, InstrumentState, JobState, RunState
from labd.score.regression import Change, Direction, Drift, DriftPoint, Reading, Verdict, drift, judge, merged
from labd.score.rules import Rule
from labd.score.sequential import Watch
from labd.service.placement import STEPS_ALONE, STEPS_ALONE_MEANS, by_steps_alone
from labd.service.reports.messages import (
    JOBS_MAX,
    LISTED_MAX,
    BoardNight,
    BoardToSee,
    BrokenRule,
    ChangeFound,
    Counts,
    GoldenDrift,
    InstrumentToSee,
    Mood,
    MorningReport,
    Point,
    Reason,
    Remarked,
    UnsteadyCell,
    Watched,
    cut,
)
from labd.service.reports.night_record import GoldenRow, NightRecord, RunRow

POINTS_MAX = 60
"""Most points of a chart."""
BAD_SHARE = 0.1
"""With this share of the jobs not done a night is a bad one."""
_TROUBLED = (BoardState.SUSPECT, BoardState.QUARANTINED, BoardState.MAINTENANCE)


def report_on(record: NightRecord, config: LabConfig, now: datetime) -> MorningReport:
    """Judge what was read of a night; no I/O, and a good second for a thousand cells of ninety nights."""
    watch = Watch(min_effect=float(record.spec.get("min_effect_percent", 1.0)) / 100)
    verdict = judge(record.readings, record.baseline, watch)
    ended_at = max(record.ended_at or now, record.started_at)
    attempts = Counter(run.job_id for run in record.runs)
    counts = _counts(record)
    boards = _boards(record, (ended_at - record.started_at).total_seconds())
    golden = _golden(record, config, ended_at)
    found = _changes(record, verdict)
    standing = [change for change in found if change.ended_night is None]
    regressions = [change for change in standing if change.direction is Direction.WORSE]
    to_see = _boards_to_see(record, config, boards, golden)
    instruments = _instruments(record, config)
    mood = _mood(counts, bool(regressions), bool(to_see or instruments or verdict.unsteady))
    report = MorningReport(
        lab=config.lab.name,
        sweep=record.sweep,
        night=record.night,
        due_at=record.due_at,
        started_at=record.started_at,
        ended_at=ended_at,
        made_at=now,
        mood=mood,
        headline=_headline(counts, regressions, to_see),
        counts=counts,
        retried=sum(number > 1 for number in attempts.values()),
        attempts=attempts.total(),
        regressions=tuple(regressions),
        improvements=tuple(change for change in standing if change.direction is Direction.BETTER),
        recovered=tuple(
            change for change in found if change.direction is Direction.WORSE and change.ended_night is not None
        ),
        reasons=_reasons(record),
        broken_rules=_broken_rules(record),
        remarks=_remarks(record),
        boards_to_see=tuple(to_see),
        instruments_to_see=tuple(instruments),
        golden=tuple(golden),
        unsteady=tuple(
            UnsteadyCell(
                cell=one.key.cell,
                board=one.key.board,
                quantity=one.key.quantity,
                spread=one.spread,
                usual_spread=one.usual_spread,
            )
            for one in verdict.unsteady
        ),
        boards=tuple(boards),
        notices=record.notices,
        watched=Watched(
            baseline=record.baseline_text,
            nights=record.nights,
            cells=verdict.charts,
            waiting=verdict.waiting,
            unusable=record.unusable,
            nights_per_false_alarm=watch.nights_per_false_alarm,
            min_effect=watch.min_effect,
        ),
        note=record.note,
        omitted={},
    )
    return cut(report, LISTED_MAX, LISTED_MAX)


def _counts(record: NightRecord) -> Counts:
    states = Counter(job.state for job in record.jobs)
    expired = sum(job.cause is Cause.EXPIRED and job.state is JobState.FAILED for job in record.jobs)
    return Counts(
        total=len(record.jobs),
        done=states[JobState.COMPLETED],
        failed=states[JobState.FAILED] - expired,
        invalid=states[JobState.INVALID],
        expired=expired,
        cancelled=states[JobState.CANCELLED],
        left_over=states[JobState.QUEUED] + states[JobState.RUNNING] + states[JobState.PARKED],
    )


def _mood(counts: Counts, regressed: bool, to_see: bool) -> Mood:
    missing = counts.total - counts.done
    if regressed or missing > BAD_SHARE * counts.total:
        return Mood.BAD
    return Mood.LOOK if missing or to_see else Mood.WELL


def _headline(counts: Counts, regressions: Sequence[ChangeFound], to_see: Sequence[BoardToSee]) -> str:
    parts = [f"{counts.done} of {counts.total} jobs done"]
    for number, word in (
        (counts.failed, "failed"),
        (counts.invalid, "invalid"),
        (counts.expired, "expired"),
        (counts.cancelled, "cancelled"),
        (counts.left_over, "left over"),
    ):
        if number:
            parts.append(f"{number} {word}")
    new = sum(change.new for change in regressions)
    noun = "regression" if len(regressions) == 1 else "regressions"
    parts.append(f"{len(regressions) or 'no'} {noun}" + (f" ({new} new)" if new else ""))
    if to_see:
        parts.append(f"{len(to_see)} {'board' if len(to_see) == 1 else 'boards'} to look at")
    return ", ".join(parts)


def _reasons(record: NightRecord) -> tuple[Reason, ...]:
    """Why jobs are not done, the most frequent cause first."""
    boards: defaultdict[int, list[str]] = defaultdict(list)
    for run in record.runs:
        boards[run.job_id].append(run.board)
    groups: defaultdict[tuple[JobState, Cause | None], list[int]] = defaultdict(list)
    for job in record.jobs:
        if job.state is not JobState.COMPLETED:
            groups[job.state, job.cause].append(job.id)
    return tuple(
        Reason(
            state=state,
            cause=cause,
            sentence=cause.meaning.sentence if cause else "It has not ended yet.",
            remedy=cause.meaning.remedy if cause else "",
            count=len(jobs),
            jobs=tuple(jobs[:JOBS_MAX]),
            boards=tuple(
                board for board, _ in Counter(board for job in jobs for board in boards[job]).most_common(JOBS_MAX)
            ),
        )
        for (state, cause), jobs in sorted(groups.items(), key=lambda group: -len(group[1]))
    )


def _broken_rules(record: NightRecord) -> tuple[BrokenRule, ...]:
    invalid = {job.id for job in record.jobs if job.state is JobState.INVALID}
    groups: defaultdict[str, dict[int, tuple[str, RunRow]]] = defaultdict(dict)
    for run in record.runs:
        if run.job_id in invalid:
            for rule, detail in run.rules:
                groups[rule].setdefault(run.job_id, (detail, run))
    broken = []
    for rule, jobs in sorted(groups.items(), key=lambda group: -len(group[1])):
        detail, first = next(iter(jobs.values()))
        said = first.said if rule == Rule.WITNESSES_AGREE else ()
        broken.append(
            BrokenRule(rule=rule, detail=detail, count=len(jobs), jobs=tuple(list(jobs)[:JOBS_MAX]), said=said)
        )
    return tuple(broken)


def _remarks(record: NightRecord) -> tuple[Remarked, ...]:
    """What to know of completed jobs' figures: those that no wire has placed first, then by number."""
    completed = {job.id for job in record.jobs if job.state is JobState.COMPLETED}
    groups: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for run in record.runs:
        if run.job_id in completed and run.state is RunState.COMPLETED:
            if by_steps_alone(run.placement):
                groups[STEPS_ALONE][run.job_id] = STEPS_ALONE_MEANS
            for about, detail in run.remarks:
                groups[about][run.job_id] = detail
    return tuple(
        Remarked(about=about, detail=next(iter(jobs.values())), count=len(jobs), jobs=tuple(list(jobs)[:JOBS_MAX]))
        for about, jobs in sorted(groups.items(), key=lambda group: (group[0] != STEPS_ALONE, -len(group[1])))
    )


def _is_own(run: RunRow) -> bool:
    return run.cause is not None and run.cause.meaning.blame is Blame.BOARD


def _boards(record: NightRecord, duration_s: float) -> list[BoardNight]:
    by_board: defaultdict[str, list[RunRow]] = defaultdict(list)
    for run in record.runs:
        by_board[run.board].append(run)
    boards = []
    for board, runs in sorted(by_board.items()):
        states = Counter(run.state for run in runs)
        busy_s = sum((run.ended_at - run.started_at).total_seconds() for run in runs if run.ended_at is not None)
        boards.append(
            BoardNight(
                id=board,
                state=record.boards[board][0] if board in record.boards else BoardState.OFFLINE,
                runs=len(runs),
                done=states[RunState.COMPLETED],
                failed=states[RunState.FAILED],
                invalid=states[RunState.INVALID],
                interrupted=states[RunState.INTERRUPTED],
                own_failures=sum(map(_is_own, runs)),
                busy_s=max(busy_s, 0.0),
                utilisation=min(1.0, max(busy_s, 0.0) / duration_s) if duration_s > 0 else 0.0,
            )
        )
    return boards


def _boards_to_see(
    record: NightRecord, config: LabConfig, boards: Sequence[BoardNight], golden: Sequence[GoldenDrift]
) -> list[BoardToSee]:
    """Boards with a reason to be looked at, those with the most reasons first."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for board in config.board:
        state, reason = record.boards.get(board.id, (BoardState.OFFLINE, "not seen yet"))
        if state in _TROUBLED or state is BoardState.OFFLINE:
            reasons[board.id].append(f"{state}: {reason}" if reason else state.value)
    for night in boards:
        if night.own_failures:
            reasons[night.id].append(f"{night.own_failures} of {night.runs} runs failed by its own fault")
    for check, count in Counter(record.failed_checks).items():
        reasons[check[0]].append(check[1] + (f" {count} times" if count > 1 else ""))
    for one in golden:
        if one.outside:
            reasons[one.board].append(f"golden job {one.deviation:+.2%} off, its band is ±{one.band:.1%}")
        elif one.drifting:
            reasons[one.board].append(f"golden job drifts by {one.slope_per_week or 0.0:+.2%} a week")
    return [
        BoardToSee(
            id=board,
            state=record.boards[board][0] if board in record.boards else BoardState.OFFLINE,
            reasons=tuple(why),
        )
        for board, why in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _instruments(record: NightRecord, config: LabConfig) -> list[InstrumentToSee]:
    return [
        InstrumentToSee(id=known.id, state=state, times_lost=record.lost.get(known.id, 0), reason=reason)
        for known in config.instrument
        for state, reason in [record.instruments.get(known.id, (InstrumentState.OFFLINE, "not seen yet"))]
        if state is not InstrumentState.ONLINE or record.lost.get(known.id, 0)
    ]


def _changes(record: NightRecord, verdict: Verdict) -> list[ChangeFound]:
    """All changes with their charts: new ones first, then the largest."""
    charts: defaultdict[object, list[Reading]] = defaultdict(list)
    changed = {change.key for change in verdict.changes}
    for reading in merged(reading for reading in record.readings if reading.key in changed):
        charts[reading.key].append(reading)
    found = [_change(change, charts[change.key], record) for change in verdict.changes]
    return sorted(found, key=lambda change: (not change.new, -abs(change.change)))


def _change(change: Change, chart: Sequence[Reading], record: NightRecord) -> ChangeFound:
    shown = [one for one in chart if one.night in change.baseline_nights or one in chart[-POINTS_MAX:]]
    return ChangeFound(
        cell=change.key.cell,
        board=change.key.board,
        quantity=change.key.quantity,
        direction=change.direction,
        change=change.change,
        interval=change.interval,
        since_night=change.since,
        alarm_night=change.alarmed,
        new=change.alarmed == record.night,
        ended_night=change.ended,
        evidence=change.evidence,
        threshold=change.threshold,
        baseline_value=change.baseline_value,
        baseline_nights=change.baseline_nights,
        value=chart[-1].value,
        points=tuple(Point(float(one.night), one.value, one.standard_uncertainty) for one in shown),
        steps_alone=tuple(one.night for one in shown if (change.key, one.night) in record.steps_alone),
    )


def _golden(record: NightRecord, config: LabConfig, until: datetime) -> list[GoldenDrift]:
    """The drift of each board's golden job, the worst first."""
    band = config.health.golden_tolerance_percent / 100
    by_board: defaultdict[str, list[GoldenRow]] = defaultdict(list)
    for row in record.golden:
        if row.benchmark == config.health.golden:
            by_board[row.board].append(row)
    found = []
    for board, rows in by_board.items():
        days = [(row.ended_at - until).total_seconds() / 86_400 for row in rows]
        points = [
            DriftPoint(day, row.value, row.standard_uncertainty)
            for day, row in zip(days, rows, strict=True)
            if math.isfinite(row.value) and row.value > 0
        ]
        drifted = drift(points, band)
        if drifted is not None:
            alone = {day for day, row in zip(days, rows, strict=True) if by_steps_alone(row.placement)}
            found.append(_golden_drift(board, drifted, points[-POINTS_MAX:], alone))
    return sorted(found, key=lambda one: (-(one.outside + one.drifting), -abs(one.deviation), one.board))


def _golden_drift(board: str, drifted: Drift, points: Sequence[DriftPoint], alone: Collection[float]) -> GoldenDrift:
    return GoldenDrift(
        board=board,
        runs=drifted.points,
        deviation=drifted.deviation,
        slope_per_week=drifted.slope_per_week,
        interval=drifted.interval,
        band=drifted.band,
        outside=drifted.outside,
        drifting=drifted.drifting,
        points=tuple(Point(round(one.day, 4), one.value, one.standard_uncertainty) for one in points),
        steps_alone=tuple(round(one.day, 4) for one in points if one.day in alone),
    )
