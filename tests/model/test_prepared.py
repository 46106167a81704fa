"""Rows that are inserted without objects come back as objects, in the model's own types."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlmodel import Session, SQLModel, create_engine

from labd.benchmarks import Mode
from labd.model.causes import Cause
from labd.model.prepared import Insertion, Presence
from labd.model.states import JobState
from labd.model.tables import Job, Request

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
JOB = Insertion(
    "job", detail="", requester="", priority=0, estimate_s=0.0, avoid=[], forgiven=0, night_id=None, cell=None
)
ROW = {
    "benchmark": "digits01",
    "mode": Mode.ENERGY,
    "state": JobState.FAILED,
    "cause": Cause.EXPIRED,
    "client": "ada",
    "deadline": NOW,
    "requirement": None,
    "spec": {"labels": {"a": "é"}, "trials": 5},
    "submitted_at": NOW,
    "cancel_requested_at": None,
    "ended_at": None,
}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    engine = create_engine(f"sqlite:///{tmp_path}/x.db")
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


def test_a_row_comes_back_in_the_types_of_its_model(session: Session) -> None:
    number = JOB.number(session.connection(), ROW)
    job = session.get_one(Job, number)
    assert {name: getattr(job, name) for name in ROW} == ROW
    assert (job.avoid, job.detail, job.cell) == ([], "", None)


def test_numbers_are_counted_and_what_is_usual_can_be_said_otherwise(session: Session) -> None:
    first, second = (JOB.number(session.connection(), {**ROW, "avoid": avoid}) for avoid in ([], ["b1"]))
    assert second == first + 1
    assert session.get_one(Job, second).avoid == ["b1"]


def test_a_row_that_leaves_a_column_out_is_a_mistake(session: Session) -> None:
    with pytest.raises(KeyError, match="client"):
        JOB.number(session.connection(), {name: value for name, value in ROW.items() if name != "client"})


def test_a_row_with_a_key_of_its_own_comes_back_and_is_known_by_it(session: Session) -> None:
    row = {"request_id": "r1", "verb": "job.submit", "client": "ada", "requester": "ada", "digest": "0"}
    documents = {"params": {"a": [1]}, "reply": {"job_id": 1}, "answered_at": NOW}
    Insertion("request").add(session.connection(), {**row, **documents})
    request = session.get_one(Request, "r1")
    assert (request.params, request.reply, request.answered_at) == ({"a": [1]}, {"job_id": 1}, NOW)
    known = Presence("request", "request_id")
    assert known.holds(session.connection(), "r1")
    assert not known.holds(session.connection(), "r2")
