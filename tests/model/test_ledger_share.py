"""Accounts of requesters: what is charged, what fades, and what a pause does not earn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, SQLModel, create_engine

from labd.model.ledger_share import accounts, charge, raise_to

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY_S = 86_400.0


def test_an_account_is_charged_fades_and_is_raised_but_never_lowered() -> None:
    engine = create_engine("sqlite://")
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        charge(session, "ann", 100.0, NOW, DAY_S)
        raise_to(session, "ann", 40.0, NOW, DAY_S)
        raise_to(session, "bob", 70.0, NOW, DAY_S)
        assert {name: each.used_s for name, each in accounts(session).items()} == {"ann": 100.0, "bob": 70.0}
        later = NOW + timedelta(days=1)
        charge(session, "bob", 10.0, later, DAY_S)
        raise_to(session, "ann", 60.0, later, DAY_S)
        told = accounts(session)
        assert told["bob"].used_s == pytest.approx(45.0)
        assert (told["ann"].used_s, told["ann"].at) == (60.0, later)
    engine.dispose()
