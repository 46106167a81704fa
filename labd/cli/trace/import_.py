"""`labctl trace import`: published sessions become a lab's jobs and traces, or trace folders with no lab at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labd.cli.connection import Choice, connection_of, run, stop
from labd.cli.table import Exit, print_json, print_table, quantity, remarks, results
from labd.errors import ConfigError, LabError
from labd.service.traces.messages import SessionImported, SessionRef

if TYPE_CHECKING:
    from labd.trace.sessions.folders import LeftOut
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

    A session that was imported before gives the jobs that it has become then. Exit status: 0 all that lies there was
    imported and fits together; 1 something of it was left out, or its parts disagree, and is named; 2 wrong usage.
    """
    from labd.config.reading import load
    from labd.service.sessions.inbox import importable, put_into_inbox
    from labd.trace.sessions.folders import survey

    choice: Choice = context.obj
    try:
        found = [importable(survey(path)) for path in paths]
        sessions = [session for each in found for session in each.sessions]
        left_out = [left for each in found for left in each.left_out]
        if not sessions:
            _tell([], left_out[:-1])
            raise left_out[-1].reason
        if out is not None:
            _unpack(sessions, out, json=json)
            raise typer.Exit(_tell(sessions, left_out))
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
    raise typer.Exit(_tell(sessions, left_out))


def _tell(sessions: Sequence[Session], left_out: Sequence[LeftOut]) -> Exit:
    """Say what was left out and what disagrees; the exit status that this comes to."""
    from labd.service.sessions.agreement import disagreements

    doubts = [
        f"{session.name}: {results.mode.value}: {each}"
        for session in sessions
        for results in session.sets.values()
        for each in (*results.lacks, *disagreements(results, ()))
    ]
    doubts += [f"left out: {each.reason}" for each in left_out]
    for each in doubts:
        remarks().print(each, markup=False)
    return Exit.FAILED if doubts else Exit.DONE


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
