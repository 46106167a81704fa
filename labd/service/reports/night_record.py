"""What the database knows of a night: read once, in one snapshot, and small whatever a score holds.

Of the nights before it only figures are read, out of the scores' JSON by the database itself, and of at most
`HISTORY_NIGHTS` nights and those of the baseline.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlmodel import Session, col, select

from labd.errors import NotFoundError, ScoreError
from labd.model.causes import Cause
from labd.model.states import BoardState, InstrumentState, JobState, NightState, RunState
from labd.model.tables import Board, Check, Event, Instrument, Job, Night, Run, Score, Sweep
from labd.score.regression import Baseline, CellKey, Quantity, Reading
from labd.score.sequential import BaselineKind
from labd.service.placement import by_steps_alone, testimonies

HISTORY_NIGHTS = 90
"""Most nights that are looked back on, beside those of the baseline."""
GOLDEN_DAYS = 56
"""How far back golden jobs are looked at."""
GOLDEN_MAX = 20_000
"""Most golden jobs that are read, of all boards."""
NOTICES_MAX = 50
LABEL_CELL, LABEL_PURPOSE, GOLDEN = "labd.cell", "labd.purpose", "golden"

_REPETITION = re.compile(r"/rep[0-9]+$")
_ESTIMATES = {
    Quantity.ENERGY: ("board_energy_j_per_inference", "energy_j_per_inference"),
    Quantity.THROUGHPUT: ("board_inferences_per_s", "inferences_per_s"),
}
"""Where scores have a figure, with the spread of its trials first."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job of the night."""

    id: int
    state: JobState
    cause: Cause | None
    detail: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run of a job of the night; `rules` are those that its scores broke, with what was found.

    `said` is what each witness of its windows' place said, of a run that broke a rule; `remarks` are those of its
    newest score, what they are about with the sentence; `placement` is what its windows were placed by.
    """

    job_id: int
    board: str
    state: RunState
    cause: Cause | None
    started_at: datetime
    ended_at: datetime | None
    rules: tuple[tuple[str, str], ...]
    said: tuple[str, ...] = ()
    remarks: tuple[tuple[str, str], ...] = ()
    placement: str | None = None


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """A result of a board's golden job."""

    board: str
    benchmark: str
    ended_at: datetime
    value: float
    standard_uncertainty: float
    placement: str | None = None


@dataclass(frozen=True, slots=True)
class NightRecord:
    """All that a report is made of; `steps_alone` are figures and their nights whose windows no wire has placed."""

    sweep: str
    night: int
    due_at: datetime
    started_at: datetime
    ended_at: datetime | None
    note: str
    spec: dict[str, Any]
    baseline: Baseline
    baseline_text: str
    nights: int
    jobs: tuple[JobRow, ...]
    runs: tuple[RunRow, ...]
    readings: tuple[Reading, ...]
    unusable: int
    golden: tuple[GoldenRow, ...]
    boards: dict[str, tuple[BoardState, str]]
    failed_checks: tuple[tuple[str, str], ...]
    """Boards and what the check found."""
    instruments: dict[str, tuple[InstrumentState, str]]
    lost: dict[str, int]
    """How often each instrument was lost during the night."""
    notices: tuple[str, ...]
    steps_alone: frozenset[tuple[CellKey, int]] = frozenset()


def read_night(session: Session, night_id: int, now: datetime) -> NightRecord:
    """Read what there is of a night.

    Raises:
        NotFoundError: there is no such night.
        ScoreError: its sweep names a baseline that is none.
    """
    night = session.get(Night, night_id)
    if night is None:
        raise NotFoundError(f"there is no night {night_id}", where="params.night", remedy="show the sweep's nights")
    sweep = session.get_one(Sweep, night.sweep_id)
    baseline_text = str(sweep.spec.get("baseline", "first:5"))
    baseline = Baseline.parse(baseline_text)
    history = _history(session, night, baseline)
    until = night.ended_at or now
    readings, steps_alone, unusable = _readings(session, history)
    return NightRecord(
        sweep=sweep.name,
        night=night_id,
        due_at=night.due_at,
        started_at=night.started_at,
        ended_at=night.ended_at,
        note=night.reason,
        spec=sweep.spec,
        baseline=baseline,
        baseline_text=baseline_text,
        nights=len(history),
        jobs=tuple(
            JobRow(job_id, JobState(state), None if cause is None else Cause(cause), detail)
            for job_id, state, cause, detail in session.exec(
                select(Job.id, Job.state, Job.cause, Job.detail).where(Job.night_id == night_id).order_by(col(Job.id))
            )
            if job_id is not None
        ),
        runs=_runs(session, night_id),
        readings=readings,
        unusable=unusable,
        golden=_golden(session, until),
        boards={board.id: (board.state, board.reason) for board in session.exec(select(Board))},
        failed_checks=_failed_checks(session, night.started_at, until),
        instruments={row.id: (row.state, row.reason) for row in session.exec(select(Instrument))},
        lost=_lost(session, night.started_at, until),
        notices=_notices(session, night.started_at, until),
        steps_alone=steps_alone,
    )


def _history(session: Session, night: Night, baseline: Baseline) -> list[int]:
    """Numbers of the nights that count: the latest ones up to this, and those of the baseline."""
    earlier = select(Night.id).where(
        Night.sweep_id == night.sweep_id, col(Night.id) < night.id, Night.state == NightState.ENDED
    )
    latest = session.exec(earlier.order_by(col(Night.id).desc()).limit(HISTORY_NIGHTS - 1)).all()
    if baseline.chosen is not None:
        first = session.exec(earlier.where(Night.id == baseline.chosen)).all()
    elif baseline.kind is BaselineKind.FIRST:
        first = session.exec(earlier.order_by(col(Night.id)).limit(baseline.nights)).all()
    else:
        first = []
    return sorted({number for number in (*first, *latest, night.id) if number is not None})


def _readings(
    session: Session, nights: Sequence[int]
) -> tuple[tuple[Reading, ...], frozenset[tuple[CellKey, int]], int]:
    """The figures of these nights' completed runs, those placed by steps alone, and how many cannot be compared."""
    result: Any = col(Score.result)
    paths = [path for paths in _ESTIMATES.values() for path in paths]
    figures = [
        figure
        for path in paths
        for figure in (result[(path, "value")].as_float(), result[(path, "standard_uncertainty")].as_float())
    ]
    spec: Any = col(Job.spec)
    query = (
        select(  # type: ignore[call-overload]
            Job.night_id,
            Job.cell,
            Job.benchmark,
            Job.mode,
            spec[("labels", LABEL_CELL)].as_string(),
            Run.board_id,
            result["top1"].as_float(),
            result["placement"].as_string(),
            *figures,
        )
        .select_from(Job)
        .join(Run, col(Run.job_id) == col(Job.id))
        .join(Score, col(Score.run_id) == col(Run.id))
        .where(col(Job.night_id).in_(nights), Job.state == JobState.COMPLETED, Run.state == RunState.COMPLETED)
        .order_by(col(Job.id), col(Score.id))
    )
    found: dict[tuple[CellKey, int, int], Reading] = {}
    placed: dict[tuple[CellKey, int, int], str | None] = {}
    unusable = 0
    for night, cell, benchmark, mode, label, board, top1, placement, *estimates in session.exec(query):
        name = _REPETITION.sub("", label) if label else f"{benchmark}/{mode}/{cell}"
        by_path = dict(zip(paths, zip(estimates[::2], estimates[1::2], strict=True), strict=True))
        values = {
            quantity: next((by_path[path] for path in names if by_path[path][0] is not None), None)
            for quantity, names in _ESTIMATES.items()
        }
        values[Quantity.ACCURACY] = None if top1 is None else (top1, 0.0)  # the same inputs every night
        for quantity, figure in values.items():
            if figure is None:
                continue
            key = CellKey(name, board, quantity)
            try:  # a later score of the same job takes the place of an earlier one
                found[key, night, cell or 0] = Reading(key, night, float(figure[0]), float(figure[1] or 0.0))
            except ScoreError:
                unusable += 1
            else:
                placed[key, night, cell or 0] = placement
    alone = frozenset((key, night) for (key, night, _), placement in placed.items() if by_steps_alone(placement))
    return tuple(found.values()), alone, unusable


def _runs(session: Session, night_id: int) -> tuple[RunRow, ...]:
    result: Any = col(Score.result)
    broken: dict[int, tuple[tuple[str, str], ...]] = {}
    said: dict[int, tuple[str, ...]] = {}
    invalid = (
        select(Run.id, result["findings"].as_json(), result["testimonies"].as_json())
        .select_from(Run)
        .join(Job, col(Run.job_id) == col(Job.id))
        .join(Score, col(Score.run_id) == col(Run.id))
        .where(Job.night_id == night_id, Run.state == RunState.INVALID)
        .order_by(col(Score.id))
    )
    for run_id, findings, stated in session.exec(invalid):
        if run_id is not None:
            rules = [(str(one.get("rule", "")), str(one.get("detail", ""))) for one in findings or ()]
            broken[run_id] = tuple(dict(reversed(rules)).items())
            witnesses = testimonies({"testimonies": stated})
            said[run_id] = tuple(f"{witness} {verdict}: {words}" for witness, verdict, words in witnesses)
    remarked = (
        select(Run.id, result["remarks"].as_json(), result["placement"].as_string())
        .select_from(Run)
        .join(Job, col(Run.job_id) == col(Job.id))
        .join(Score, col(Score.run_id) == col(Run.id))
        .where(Job.night_id == night_id)
        .order_by(col(Score.id))
    )
    remarks: dict[int, tuple[tuple[str, str], ...]] = {}
    placements: dict[int, str | None] = {}
    for run_id, noted, placement in session.exec(remarked):
        if run_id is not None:
            remarks[run_id] = tuple((str(one.get("about", "")), str(one.get("detail", ""))) for one in noted or ())
            placements[run_id] = placement
    query = select(Run).join(Job, col(Run.job_id) == col(Job.id)).where(Job.night_id == night_id)
    return tuple(
        RunRow(
            run.job_id,
            run.board_id,
            run.state,
            run.cause,
            run.started_at,
            run.ended_at,
            rules=broken.get(run.id or 0, ()),
            said=said.get(run.id or 0, ()),
            remarks=remarks.get(run.id or 0, ()),
            placement=placements.get(run.id or 0),
        )
        for run in session.exec(query.order_by(col(Run.id)))
    )


def _golden(session: Session, until: datetime) -> tuple[GoldenRow, ...]:
    spec: Any = col(Job.spec)
    result: Any = col(Score.result)
    energy = result[("energy_j_per_inference", "value")].as_float()
    query = (
        select(  # type: ignore[call-overload]
            Run.board_id,
            Job.benchmark,
            Run.ended_at,
            energy,
            result[("energy_j_per_inference", "standard_uncertainty")].as_float(),
            result["placement"].as_string(),
        )
        .select_from(Job)
        .join(Run, col(Run.job_id) == col(Job.id))
        .join(Score, col(Score.run_id) == col(Run.id))
        .where(
            text("requester = 'labd'"),  # word for word the condition of the index `job_of_labd`
            spec[("labels", LABEL_PURPOSE)].as_string() == GOLDEN,
            Run.state == RunState.COMPLETED,
            col(Run.ended_at) > until - timedelta(days=GOLDEN_DAYS),
            col(Run.ended_at) <= until,
        )
        .order_by(col(Run.ended_at).desc(), col(Score.id).desc())
        .limit(GOLDEN_MAX)
    )
    rows = [
        GoldenRow(board, benchmark, ended_at, value, spread or 0.0, placement)
        for board, benchmark, ended_at, value, spread, placement in session.exec(query)
        if value is not None
    ]
    return tuple(reversed(rows))


def _failed_checks(session: Session, since: datetime, until: datetime) -> tuple[tuple[str, str], ...]:
    query = select(Check).where(
        col(Check.passed).is_(False), col(Check.started_at) >= since, col(Check.started_at) <= until
    )
    return tuple((check.board_id, f"failed its check ({check.trigger})") for check in session.exec(query))


def _lost(session: Session, since: datetime, until: datetime) -> dict[str, int]:
    lost: dict[str, int] = {}
    down = (InstrumentState.OFFLINE.value, InstrumentState.SUSPECT.value)
    query = select(Event.subject).where(
        Event.kind == "instrument", col(Event.state).in_(down), col(Event.at) >= since, col(Event.at) <= until
    )
    for subject in session.exec(query):
        lost[subject] = lost.get(subject, 0) + 1
    return lost


def _notices(session: Session, since: datetime, until: datetime) -> tuple[str, ...]:
    query = (
        select(Event.state, Event.reason)
        .where(Event.kind == "lab", col(Event.at) >= since, col(Event.at) <= until)
        .order_by(col(Event.id).desc())
        .limit(NOTICES_MAX)
    )
    noted = [f"{state}: {reason}" if reason else state for state, reason in session.exec(query)]
    return tuple(dict.fromkeys(reversed(noted)))
