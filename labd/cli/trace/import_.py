"""`labctl trace import`: published sessions become a lab's jobs and traces, or trace folders with no lab at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labd.cli.connection import Choice, connection_of, run, stop
from labd.cli.table import print_json, print_table, quantity, results
from labd.errors import ConfigError, LabError
from labd.service.traces.messages import SessionImported, SessionRef

if TYPE_CHECKING:
    from labd.trace.sessions.published import Session

LONGEST_S = 3600.0
"""Longest wait for the lab's answer: a session of 1 G samples takes some minutes."""


def import_(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Sessions: a results folder (kws/energy), a benchmark's (kws), or a whole submission.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Only make sealed trace folders here; no lab is asked.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Take published sessions into the lab: `labctl --config lab.toml trace import PATH`, on the lab's own host.

    A session that was imported before gives the jobs that it has become then.
    """
    from labd.config.reading import load
    from labd.service.sessions.inbox import put_into_inbox
    from labd.trace.sessions.folders import find_sessions

    choice: Choice = context.obj
    try:
        sessions = [session for path in paths for session in find_sessions(path)]
        if out is not None:
            _unpack(sessions, out, json=json)
            return
        if choice.config is None:
            raise ConfigError(
                "an import needs the lab's data directory",
                remedy="give --config with its lab.toml on the lab's host, or --out for trace folders without a lab",
            )
        data_dir = load(choice.config).lab.data_dir
        connection = connection_of(context)
        named = [(session.name, put_into_inbox(session, data_dir)) for session in sessions]
    except LabError as error:
        raise stop(error) from error

    async def ask_all() -> list[SessionImported]:
        patient = replace(connection, timeout_s=max(connection.timeout_s, LONGEST_S))
        async with patient.client() as lab:
            return [
                await lab.request("trace.import", SessionRef(session=digest), SessionImported) for _, digest in named
            ]

    imported = [(name, digest, each.jobs) for (name, digest), each in zip(named, run(ask_all), strict=True)]
    if json:
        sessions_json = [{"session": name, "sha256": digest, "jobs": list(jobs)} for name, digest, jobs in imported]
        print_json({"sessions": sessions_json})
    else:
        rows = [(name, ", ".join(map(str, jobs)), digest) for name, digest, jobs in imported]
        print_table("", ("session", "jobs", "sha256"), rows)


def _unpack(sessions: Sequence[Session], out: Path, *, json: bool) -> None:
    from labd.service.sessions.inbox import unpack

    made = [(session.name, each) for session in sessions for each in unpack(session, out)]
    if json:
        traces = [
            {"session": name, "id": each.meta.trace_id, "folder": str(each.folder), "rows": each.seal.rows}
            for name, each in made
        ]
        print_json({"traces": traces})
    elif made:
        rows = [
            (name, str(each.folder), f"{each.seal.rows:,}", quantity(1 / each.meta.period_s, "Hz", 9))
            for name, each in made
        ]
        print_table("", ("session", "trace", "samples", "rate"), rows)
    else:
        results().print("these sessions hold no energy trace")
