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
from labd.errors import StoreError
from labd.model.database import Database
from labd.model.ledger_events import note
from labd.model.states import NightState
from labd.model.tables import Night, Sweep
from labd.service.reports.messages import MorningReport, read_report
from labd.service.reports.morning import report_on
from labd.service.reports.night_record import read_night
from labd.service.reports.text import markdown

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
        try:
            for night_id in await self._unwritten():
                report = await self._database.read(partial(_committed, night_id=night_id))
                if report is not None:
                    await self._write(report)
        except StoreError as error:
            _log.error("reports_not_looked_for", error=str(error))
        while True:
            await self._write(await self._waiting.get())

    async def _unwritten(self) -> list[int]:
        """Nights with a report that has not all its files, oldest first."""
        ended = await self._database.read(_latest_reports)

        def missing() -> list[int]:
            return [
                night_id
                for night_id, sweep, due_at in ended
                if not all(path.exists() for path in paths_of(self._folder, sweep, night_id, due_at).values())
            ]

        return await asyncio.to_thread(missing)

    async def _write(self, report: MorningReport) -> None:
        log = _log.bind(sweep=report.sweep, night=report.night)
        try:
            await asyncio.to_thread(write_report, self._folder, report)
        except Exception as error:  # a picture that cannot be drawn must not stop those of other nights, nor the lab
            log.exception("report_not_written", error=repr(error))
            reason = f"night {report.night} of {report.sweep}: {error}"
            noting = partial(_note, lab=self._live.now.lab.name, reason=reason, now=self._clock.now())
            try:
                await self._database.write(noting)
            except StoreError as refused:  # a full disk is full for the record too
                log.error("report_trouble_not_noted", error=str(refused))
        else:
            log.info("report_written")


def paths_of(folder: Path, sweep: str, night_id: int, due_at: datetime) -> Mapping[str, Path]:
    """Where the files of a night's report are, by their suffix."""
    stem = folder / sweep / f"{due_at:%Y-%m-%d}-{night_id}"
    return {suffix: stem.with_name(f"{stem.name}.{suffix}") for suffix in ("json", "md", "html")}


def write_report(folder: Path, report: MorningReport) -> None:
    """Write all files of a report; each appears whole or not at all.

    Raises:
        OSError: one could not be written.
    """
    from labd.service.reports.page import page  # noqa: PLC0415 - loads matplotlib: only where a page is made

    paths = paths_of(folder, report.sweep, report.night, report.due_at)
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


def _latest_reports(session: Session) -> list[tuple[int, str, datetime]]:
    """Number, sweep and time of the latest nights with a committed report, oldest first."""
    ended = select(Night.id, Sweep.name, Night.due_at).join(Sweep).where(Night.state == NightState.ENDED)
    found = session.exec(ended.order_by(col(Night.id).desc()).limit(REMADE_MAX)).all()
    return [(night_id, sweep, due_at) for night_id, sweep, due_at in reversed(found) if night_id is not None]


def _committed(session: Session, night_id: int) -> MorningReport | None:
    """The report of a night; None if none was made, or one of another version, which is left alone."""
    document = session.get_one(Night, night_id).report
    if document is None or "error" in document:
        return None
    try:
        return read_report(document)
    except ValidationError:
        _log.warning("report_unreadable", night=night_id)
        return None


def _note(session: Session, lab: str, reason: str, now: datetime) -> None:
    note(session, now, kind="lab", subject=lab, state=NOT_WRITTEN, reason=reason)
