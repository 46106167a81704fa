"""`labctl audit`: who asked for what and when, and every state change with its reason."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping
from contextlib import aclosing
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from labd.cli.completion import complete_verb
from labd.cli.connection import Connection, ask, connection_of, run
from labd.cli.span import past_time
from labd.cli.table import counted, local_time, print_json, print_table, remarks, results
from labd.service.audit_messages import AskedDocument, AuditPage, AuditQuery, ChangeDocument
from labd.service.messages import EventDocument

PARAMS_MAX = 80
"""Letters of a request's parameters that a table shows; `--json` shows them whole."""


def audit(
    context: typer.Context,
    *,
    requester: Annotated[
        str | None, typer.Option("--by", help="Only what this one asked for or caused; `labd` for the lab itself.")
    ] = None,
    verb: Annotated[
        str | None, typer.Option(help="Only requests of this verb, such as job.cancel.", autocompletion=complete_verb)
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only state changes of this kind of thing, such as board.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only state changes of this thing: its id or number.")] = None,
    since: Annotated[str | None, typer.Option(help="Only from then on: 2h (ago), 06:00, 2026-05-01T06:00.")] = None,
    until: Annotated[str | None, typer.Option(help="Only before that: as --since.")] = None,
    before: Annotated[int | None, typer.Option(min=1, help="Only state changes older than this number.")] = None,
    requests_before: Annotated[str | None, typer.Option(help="Only requests older than the one of this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many of each.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Tell every state change from now on.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show who asked for what, and every state change with its reason and who caused it; newest first.

    With --follow each further change is a line, with --json one of JSON, until Ctrl-C. Filters hold for them too.
    """
    if follow and (verb or since or until or before or requests_before):
        raise typer.BadParameter(
            "--follow tells state changes from now on: --verb, --since, --until and --before do not fit"
        )
    try:
        query = AuditQuery(
            requester=requester,
            verb=verb,
            kind=kind,
            subject=subject,
            since=None if since is None else past_time(since),
            until=None if until is None else past_time(until),
            before=before,
            requests_before=requests_before,
            limit=limit,
        )
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise typer.BadParameter(f"{fault['loc'][0]}: {fault['msg']}") from error
    if follow:
        connection = connection_of(context)
        run(lambda: _follow(connection, query, json=json))
        return
    page = ask(context, lambda lab: lab.request("audit.list", query, AuditPage))
    if json:
        print_json(page.model_dump(mode="json"))
    else:
        _print(page, query)


def _print(page: AuditPage, query: AuditQuery) -> None:
    if page.requests or (query.kind is None and query.subject is None and query.before is None):
        asked = ("at", "by", "request", "parameters")
        print_table(
            f"{counted(len(page.requests), 'request')} that changed something", asked, map(_asked, page.requests)
        )
    if page.changes or (query.verb is None and query.requests_before is None):
        changed = ("number", "at", "by", "what", "state", "reason")
        print_table(counted(len(page.changes), "state change"), changed, map(_change, page.changes))
    older = [
        f"{option} {last}"
        for option, last in (("--before", page.next_before), ("--requests-before", page.next_requests_before))
        if last is not None
    ]
    if older:
        remarks().print(f"there are older ones: add {' '.join(older)}", markup=False, soft_wrap=True)


def _asked(asked: AskedDocument) -> tuple[str, ...]:
    return local_time(asked.at), asked.requester, asked.verb, _short(asked.params)


def _change(change: ChangeDocument) -> tuple[str, ...]:
    what = f"{change.kind} {change.subject}"
    return str(change.number), local_time(change.at), change.actor or "-", what, change.state, change.reason or "-"


def _short(params: Mapping[str, Any]) -> str:
    text = ", ".join(f"{key} = {json_text.dumps(value, ensure_ascii=False)}" for key, value in params.items())
    return (text if len(text) <= PARAMS_MAX else f"{text[: PARAMS_MAX - 1]}…") or "-"


async def _follow(connection: Connection, query: AuditQuery, *, json: bool) -> None:
    """Tell events until Ctrl-C, or until the broker is lost."""
    async with connection.client() as lab:
        await lab.status()
        async with aclosing(lab.watch("event")) as messages:
            async for path, payload in messages:
                if path == "event":
                    _tell(EventDocument.model_validate_json(payload), query, json=json)


def _tell(event: EventDocument, query: AuditQuery, *, json: bool) -> None:
    wanted = ((query.requester, event.actor), (query.kind, event.kind), (query.subject, event.subject))
    if any(asked is not None and asked != told for asked, told in wanted):
        return
    if json:
        print_json(event.model_dump(mode="json"))
    else:
        reason = f": {event.reason}" if event.reason else ""
        line = (
            f"{local_time(event.at)}  {event.kind} {event.subject} is {event.state}{reason} (by {event.actor or '-'})"
        )
        results().print(line, markup=False)
