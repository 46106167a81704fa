"""Makes the reports of nights, and keeps them as files for people: JSON, Markdown and a page with charts.

A report is made when its night ends and is committed with it. Its files follow in a thread, one night after another;
what could not be written is told, and made again at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError
from sqlmodel import Session, col, select

from labd.clock import Clock
from labd.config import LiveConfig
from labd.model.database import Database
from labd.model.ledger_events import note
from labd.model.states import NightState
from labd.model.tables import Night, Sweep
from labd.service.morning import report_on
from labd.service.night_record import read_night
from labd.service.report_messages import MorningReport, read_report
from labd.service.report_text import markdown

REMADE_MAX = 100
"""Most nights, latest first, whose files are looked for at a start."""
NOT_WRITTEN = "report_not_written"
"""State of the lab's event when the files of a report could not be written."""

_log = structlog.get_logger(__name__)


class Morning:
    """Reports on nights.

    Args:
        database: Where the nights are.
        live: The lab, as it is now.
        data_dir: The lab's data directory; files go to `reports` in it.
        clock: Dates the reports.
    """

    def __init__(self, database: Database, live: LiveConfig, data_dir: Path, clock: Clock) -> None:
        self._database = database
        self._live = live
        self._folder = data_dir / "reports"
        self._clock = clock
        self._waiting: asyncio.Queue[MorningReport] = asyncio.Queue()

    async def report(self, night_id: int) -> dict[str, Any]:
        """Make the report of a night; its files follow.

        Raises:
            NotFoundError: there is no such night.
            ScoreError: its sweep names a baseline that is none.
            StoreError: the database refused to be read.
        """
        now = self._clock.now()
        record = await self._database.read(partial(read_night, night_id=night_id, now=now))
        report = await asyncio.to_thread(report_on, record, self._live.now, now)
        self._waiting.put_nowait(report)
        return report.model_dump(mode="json")

    async def run(self) -> None:
        """Write the files of the reports, those first that a daemon before this one left out; never returns."""
        for report in await self._database.read(_latest_reports):
            if not await asyncio.to_thread(self._is_written, report):
                await self._write(report)
        while True:
            await self._write(await self._waiting.get())

    def _is_written(self, report: MorningReport) -> bool:
        return all(path.exists() for path in paths_of(self._folder, report).values())

    async def _write(self, report: MorningReport) -> None:
        log = _log.bind(sweep=report.sweep, night=report.night)
        try:
            await asyncio.to_thread(write_report, self._folder, report)
        except Exception as error:  # a picture that cannot be drawn must not stop those of other nights, nor the lab
            log.exception("report_not_written", error=repr(error))
            reason = f"night {report.night} of {report.sweep}: {error}"
            await self._database.write(
                partial(_note, lab=self._live.now.lab.name, reason=reason, now=self._clock.now())
            )
        else:
            log.info("report_written")


def paths_of(folder: Path, report: MorningReport) -> Mapping[str, Path]:
    """Where the files of a report are, by their suffix."""
    stem = folder / report.sweep / f"{report.due_at:%Y-%m-%d}-{report.night}"
    return {suffix: stem.with_name(f"{stem.name}.{suffix}") for suffix in ("json", "md", "html")}


def write_report(folder: Path, report: MorningReport) -> None:
    """Write all files of a report; each appears whole or not at all.

    Raises:
        OSError: one could not be written.
    """
    from labd.service.report_page import page  # noqa: PLC0415 - loads matplotlib: only where a page is made

    paths = paths_of(folder, report)
    paths["json"].parent.mkdir(parents=True, exist_ok=True)
    put(paths["json"], report.model_dump_json(indent=1) + "\n")
    put(paths["md"], markdown(report))
    put(paths["html"], page(report))


def put(path: Path, text: str) -> None:
    """Write a file so that it is there whole, also after a power cut, or the one before it still is.

    Raises:
        OSError: it could not be written.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _latest_reports(session: Session) -> list[MorningReport]:
    """The committed reports of the latest nights, oldest first; those of another version are left alone."""
    ended = select(Night).join(Sweep).where(Night.state == NightState.ENDED, col(Night.report).is_not(None))
    found = []
    for night in session.exec(ended.order_by(col(Night.id).desc()).limit(REMADE_MAX)):
        try:
            found.append(read_report(night.report or {}))
        except ValidationError:
            _log.warning("report_unreadable", night=night.id)
    return found[::-1]


def _note(session: Session, lab: str, reason: str, now: datetime) -> None:
    note(session, now, kind="lab", subject=lab, state=NOT_WRITTEN, reason=reason)
