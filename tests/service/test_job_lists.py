"""A page of jobs costs what it shows, however many jobs of others are in the record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from labd.model.engine import Access, make_engine
from labd.model.migrations import upgrade
from labd.model.states import JobState
from labd.service.documents import job_summaries
from labd.service.messages import JobQuery

OTHERS = 20_000
STEPS = 100
"""Steps of the database between two counts."""
FEW = 50 * STEPS
"""A look at each job takes `OTHERS` steps and more."""

_INSERT = """INSERT INTO job (id, benchmark, mode, state, detail, client, requester, priority, spec, submitted_at)
             VALUES (?, 'digits01', 'energy', ?, '', 'labctl', ?, 0, ?, '2026-03-01 12:00:00.000000')"""


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Session]:
    """Three of Ada's jobs, one of which runs, are the oldest among very many of Bob's."""
    url = f"sqlite:///{tmp_path}/labd.db"
    upgrade(url)
    engine = make_engine(url, Access.WRITE)
    with engine.connect() as connection:
        rows = [(1, "completed", "ada", ""), (2, "running", "ada", ""), (3, "completed", "ada", "voltage")]
        rows += [(number, "completed", "bob", "") for number in range(4, OTHERS)]
        for number, state, requester, why in rows:
            connection.exec_driver_sql(_INSERT, (number, state, requester, json.dumps({"labels": {"why": why}})))
        connection.commit()
        with Session(connection) as session:
            yield session
    engine.dispose()


def steps_of(session: Session, **asked: Any) -> tuple[list[int], int]:
    """Numbers of the jobs that are found, and how many steps the database took."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += STEPS
        return 0

    driver: Any = session.connection().connection.driver_connection
    driver.set_progress_handler(count, STEPS)
    try:
        found = [job.id for job in job_summaries(session, JobQuery(**asked))]
    finally:
        driver.set_progress_handler(None, STEPS)
    return found, steps


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({"requester": "ada"}, [3, 2, 1]),
        ({"requester": "ada", "before": 3}, [2, 1]),
        ({"requester": "ada", "label": {"why": "voltage"}}, [3]),
        ({"requester": "nobody"}, []),
        ({"state": JobState.RUNNING}, [2]),
    ],
)
def test_few_jobs_among_many_are_found_without_a_look_at_each(
    record: Session, asked: dict[str, Any], numbers: list[int]
) -> None:
    found, steps = steps_of(record, **asked)
    assert found == numbers
    assert steps < FEW


def test_a_label_alone_is_sought_among_all_jobs(record: Session) -> None:
    found, steps = steps_of(record, label={"why": "voltage"})
    assert found == [3]
    assert steps > OTHERS, "if this has become cheap, docs/reference/mqtt.md should say so"
