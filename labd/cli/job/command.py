"""`labctl job`: submit, list, show, watch, cancel, release, and why one waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from labd.benchmarks import Mode
from labd.cli.completion import (
    Item,
    complete_benchmark,
    complete_board,
    complete_job,
    complete_live_job,
    complete_parked_job,
    complete_sweep,
    complete_tag,
)
from labd.cli.connection import ask, connection_of, run
from labd.cli.span import LENGTH, LONGEST_WAIT, check_limit, limit_s, time_of
from labd.cli.table import Exit, print_json, remarks, results
from labd.model.states import JobState
from labd.service.messages import (
    NUMBER_MAX,
    BoardChoice,
    FirmwareChoice,
    JobAccepted,
    JobDocument,
    JobQuery,
    JobRef,
    JobSpec,
)

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def _number(complete: Callable[[typer.Context, str], list[Item]]) -> Any:
    return typer.Argument(
        metavar="ID", min=1, max=NUMBER_MAX, help="The job's number.", show_default=False, autocompletion=complete
    )


JobId = Annotated[int, _number(complete_job)]
LiveJobId = Annotated[int, _number(complete_live_job)]
ParkedJobId = Annotated[int, _number(complete_parked_job)]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the job's end and show it.")]
WaitLimit = Annotated[float | None, typer.Option("--for", parser=limit_s, metavar=LENGTH, help=LONGEST_WAIT)]


@app.command()
def submit(
    context: typer.Context,
    benchmark: Annotated[
        str,
        typer.Argument(help="What to run, such as digits01.", show_default=False, autocompletion=complete_benchmark),
    ],
    mode: Annotated[Mode, typer.Argument(help="What to measure.", show_default=False)],
    *,
    board: Annotated[str | None, typer.Option(help="This board and no other.", autocompletion=complete_board)] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A board with this tag; again for more tags.", autocompletion=complete_tag)
    ] = None,
    firmware: Annotated[str | None, typer.Option(help="Name of the build in lab.toml.")] = None,
    sha256: Annotated[str | None, typer.Option(help="Digest of the image that must run.")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials; as the benchmark asks if left out.")] = None,
    window_s: Annotated[float | None, typer.Option("--window", help="Shortest window, s.")] = None,
    inferences: Annotated[int | None, typer.Option(help="Inferences a window; found by labd if left out.")] = None,
    voltage_v: Annotated[float | None, typer.Option("--voltage", help="Supply voltage, V.")] = None,
    rate_hz: Annotated[float | None, typer.Option("--rate", help="Sample rate, Hz; the highest if left out.")] = None,
    require: Annotated[
        str | None, typer.Option(help="What the board has to be, such as 'memory_kb >= 256 and fpu'.")
    ] = None,
    priority: Annotated[int, typer.Option(min=-10, max=10, help="More goes first among your own.")] = 0,
    deadline: Annotated[
        str | None, typer.Option(help="It has to start by then: 2026-05-01T06:00:00Z, or 06:00 of your own day.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE kept with the job; again for more.")] = None,
    wait: Wait = False,
    within_s: WaitLimit = None,
    json: Json = False,
) -> None:
    """Queue a job.

    With --wait the exit status is 0 if the job completed, 1 if it ended otherwise, 5 if --for has passed.
    """
    check_limit(within_s, wait=wait)
    given = {
        "benchmark": benchmark,
        "mode": mode,
        "trials": trials,
        "min_window_s": window_s,
        "inferences": inferences,
        "voltage_v": voltage_v,
        "rate_hz": rate_hz,
        "require": require,
        "priority": priority,
        "deadline": None if deadline is None else time_of(deadline),
    }
    try:
        chosen = {
            "board": BoardChoice(id=board, tags=tuple(tag or ())) if board or tag else None,
            "firmware": FirmwareChoice(name=firmware, sha256=sha256) if firmware or sha256 else None,
            "labels": dict(_label(each) for each in label) if label else None,
        }
        spec = JobSpec.model_validate({key: value for key, value in (given | chosen).items() if value is not None})
    except ValidationError as error:
        raise typer.BadParameter(_first(error)) from error
    _tell_queued(context, ask(context, lambda lab: lab.submit(spec)), within_s, wait=wait, json=json)


@app.command("list")
def list_(
    context: typer.Context,
    *,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    requester: Annotated[str | None, typer.Option(help="Only jobs that this one asked for.")] = None,
    sweep: Annotated[
        str | None, typer.Option(help="Only jobs of the sweep of that name.", autocompletion=complete_sweep)
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE that a job has; again for more.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 20,
    before: Annotated[int | None, typer.Option(min=1, max=NUMBER_MAX, help="Only jobs older than this number.")] = None,
    json: Json = False,
) -> None:
    """List jobs, newest first."""
    try:
        query = JobQuery(
            state=state,
            requester=requester,
            sweep=sweep,
            label=dict(_label(each) for each in label or ()),
            limit=limit,
            before=before,
        )
    except ValidationError as error:
        raise typer.BadParameter(_first(error)) from error
    page = ask(context, lambda lab: lab.jobs(query))
    if json:
        print_json(page.model_dump(mode="json"))
        return
    from labd.cli.job.view import print_jobs

    print_jobs(page.jobs)
    if page.next_before is not None:
        remarks().print(f"older jobs: labctl jobs --before {page.next_before}", markup=False)


@app.command()
def show(context: typer.Context, job_id: JobId, *, json: Json = False) -> None:
    """Show a job: what was asked, how it went, what was measured."""
    job = ask(context, lambda lab: lab.job(job_id))
    if json:
        print_json(job.model_dump(mode="json"))
    else:
        from labd.cli.job.view import print_job

        print_job(job)


@app.command()
def watch(context: typer.Context, job_id: LiveJobId, *, within_s: WaitLimit = None, json: Json = False) -> None:
    """Follow a job until it ends, then show it; with --json every news is a line.

    Exit status: 0 the job completed, 1 it ended otherwise, 5 --for has passed.
    """
    ended = _watched(context, job_id, within_s, json=json)
    raise _status(ended) if json else _end(ended, json=False)


@app.command()
def cancel(
    context: typer.Context,
    job_id: LiveJobId,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until a running job has stopped, and show it.")] = False,
    within_s: WaitLimit = None,
    json: Json = False,
) -> None:
    """Cancel a queued, parked or running job.

    With --wait the exit status is 0 if it ended as cancelled, 1 if it ended otherwise before, 5 if --for has passed.
    """
    check_limit(within_s, wait=wait)
    accepted = ask(context, lambda lab: lab.cancel(job_id))
    if wait:
        job = _watched(context, job_id, within_s, json=False)
        _end(job, json=json)
        raise typer.Exit(Exit.DONE if job.state is JobState.CANCELLED else Exit.FAILED)
    if json:
        print_json(accepted.model_dump(mode="json"))
    else:
        stopping = accepted.state is JobState.RUNNING
        results().print(f"job {job_id} is {'stopping' if stopping else accepted.state}", markup=False)


@app.command()
def release(
    context: typer.Context,
    job_id: ParkedJobId,
    *,
    wait: Wait = False,
    within_s: WaitLimit = None,
    json: Json = False,
) -> None:
    """Queue a parked job again, as if it had never been tried.

    With --wait the exit status is 0 if the job completed, 1 if it ended otherwise, 5 if --for has passed.
    """
    check_limit(within_s, wait=wait)
    _tell_queued(context, ask(context, lambda lab: lab.release(job_id)), within_s, wait=wait, json=json)


@app.command()
def why(context: typer.Context, job_id: LiveJobId, *, json: Json = False) -> None:
    """Say why a job waits, what each board is to it, and when it may start."""
    from labd.cli.job.why import print_why
    from labd.service.queue.messages import WhyDocument

    told = ask(context, lambda lab: lab.request("job.why", JobRef(id=job_id), WhyDocument))
    if json:
        print_json(told.model_dump(mode="json"))
    else:
        print_why(told)


def _tell_queued(
    context: typer.Context, accepted: JobAccepted, within_s: float | None, *, wait: bool, json: bool
) -> None:
    """Tell of a job that is queued now, or wait for its end and tell of that."""
    if wait:
        remarks().print(f"job {accepted.job_id} is {accepted.state}", markup=False)
        raise _end(_watched(context, accepted.job_id, within_s, json=False), json=json)
    if json:
        print_json(accepted.model_dump(mode="json"))
    else:
        results().print(f"job {accepted.job_id} is {accepted.state}", markup=False)


def _watched(context: typer.Context, job_id: int, within_s: float | None, *, json: bool) -> JobDocument:
    connection = connection_of(context)
    from labd.cli.job.watch import watch_job

    return run(lambda: watch_job(connection, job_id, within_s, lines=json))


def _end(job: JobDocument, *, json: bool) -> typer.Exit:
    if json:
        print_json(job.model_dump(mode="json"))
    else:
        from labd.cli.job.view import print_job

        print_job(job)
    return _status(job)


def _status(job: JobDocument) -> typer.Exit:
    return typer.Exit(Exit.DONE if job.state is JobState.COMPLETED else Exit.FAILED)


def _first(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    place = ".".join(map(str, fault["loc"])) or "board or firmware"
    return f"{place}: {fault['msg']}"


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"label {text!r} is not KEY=VALUE")
    return key, value
