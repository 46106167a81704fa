"""`labd demo`: the main job, with no hardware: broker, rack of four boards, daemon, twelve jobs over MQTT, one table.

Only this command may know the truth: it asks the rack for the true energy of the windows that the daemon measured, and
sets it beside labd's figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from labd.benchmarks import Mode
from labd.cli.table import Exit, print_json, print_table, remarks, results
from labd.errors import ConfigError, LabError
from labd.logs import configure
from labd.model.states import JobState
from labd.mqtt.broker import embedded_broker
from labd.mqtt.client import LabClient, connect
from labd.plus_minus import PLUS_MINUS, plus_minus
from labd.score.accuracy import AccuracyScore
from labd.score.energy import RunScore
from labd.score.performance import PerformanceScore
from labd.score.uncertainty import Estimate
from labd.service.messages import BoardChoice, JobDocument, JobSpec, ProgressDocument, RunDocument
from labd.service.placement import STEPS_ALONE, STEPS_ALONE_MEANS, by_steps_alone, placed_by
from labd.virtual.config import demo_text
from labd.virtual.lab import LAB, VirtualLab, virtual_lab
from labd.virtual.truth import TrueWindow

ANSWER_S = 30.0
"""Longest wait for an answer of the daemon, s."""
DEADLINE_S = 600.0
"""Longest wait for all jobs, s."""

Folder = Annotated[Path, typer.Option("--dir", help="Where each demo makes a folder of its own.")]
Firmware = Annotated[Path, typer.Option(help="manifest.json of the firmware build (make firmware).")]
Speed = Annotated[float, typer.Option(min=0.1, max=20, help="Rack seconds per host second.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what one job measured, and the true energy of an inference where there is one, J."""

    board: str
    mode: Mode
    state: JobState
    cause: str
    traces: tuple[str, ...]
    energy: Estimate | None = None
    placement: str | None = None
    true_j: float | None = None
    rate: Estimate | None = None
    accuracy: AccuracyScore | None = None

    @property
    def error(self) -> float | None:
        """Measured less true energy, relative to the true one."""
        return None if self.energy is None or not self.true_j else self.energy.value / self.true_j - 1.0

    def cells(self) -> tuple[str, ...]:
        """The row for people; a dash for what the mode does not measure."""
        energy, rate, accuracy = self.energy, self.rate, self.accuracy
        return (
            self.board,
            self.mode,
            "-" if energy is None else plus_minus(1e6 * energy.value, 1e6 * energy.standard_uncertainty, "µJ"),
            placed_by(self.placement) or "-",
            "-" if self.true_j is None else f"{1e6 * self.true_j:.4f} µJ",
            "-" if self.error is None else f"{100 * self.error:+.3f} %",
            "-" if rate is None else plus_minus(rate.value, rate.standard_uncertainty, "/s"),
            "-" if accuracy is None else f"{100 * accuracy.top1:.2f} % of {accuracy.samples}",
            self.state,
        )

    def document(self) -> dict[str, Any]:
        """The row for programs; SI units."""
        energy, rate, accuracy = self.energy, self.rate, self.accuracy
        return {
            "board": self.board,
            "mode": self.mode,
            "state": self.state,
            "cause": self.cause,
            "energy_j_per_inference": None if energy is None else energy.value,
            "standard_uncertainty_j_per_inference": None if energy is None else energy.standard_uncertainty,
            "uncertainty_j_per_inference": None if energy is None else energy.standard_uncertainty,  # the same
            "placement": self.placement,
            "true_j_per_inference": self.true_j,
            "error": self.error,
            "inferences_per_s": None if rate is None else rate.value,
            "inferences_per_s_standard_uncertainty": None if rate is None else rate.standard_uncertainty,
            "inferences_per_s_uncertainty": None if rate is None else rate.standard_uncertainty,  # the same
            "top1": None if accuracy is None else accuracy.top1,
            "top1_samples": None if accuracy is None else accuracy.samples,
            "traces": self.traces,
        }


def demo(
    *,
    directory: Folder = Path("var/demo"),
    firmware: Firmware = Path("build/firmware/manifest.json"),
    speed: Speed = 4.0,
    json: AsJson = False,
) -> None:
    """Queue energy, performance and accuracy jobs on each of four virtual boards, and show what they measured.

    Exit status: 0 all jobs completed, 1 some did not, 2 the firmware is not built, 4 the lab could not be started.
    """
    configure("warning")
    if not firmware.exists():
        remarks().print(f"{firmware} is not there: run make firmware", markup=False)
        raise typer.Exit(Exit.USAGE)
    folder = (directory / f"{datetime.now().astimezone():%Y%m%dT%H%M%S}").resolve()
    try:
        rows = asyncio.run(_run(folder, firmware, speed))
    except ConfigError as error:
        remarks().print(str(error), markup=False)
        raise typer.Exit(Exit.USAGE) from error
    except LabError as error:
        remarks().print(str(error), markup=False)
        raise typer.Exit(Exit.UNREACHABLE) from error
    _show(rows, folder, as_json=json)
    raise typer.Exit(Exit.DONE if all(row.state is JobState.COMPLETED for row in rows) else Exit.FAILED)


async def _run(folder: Path, firmware: Path, speed: float) -> list[Row]:
    remarks().print(f"the demo's folder is {folder}", markup=False)
    async with (
        embedded_broker() as broker,
        virtual_lab(folder, rack_toml=demo_text(), speed=speed) as lab,
    ):
        lab.write_lab(str(broker), firmware)
        await lab.start_daemon()
        remarks().print(f"broker {broker}, rack of {len(lab.config.board)} boards and daemon are up", markup=False)
        async with connect(broker, LAB, timeout_s=ANSWER_S) as client:
            jobs = [
                (await client.submit(JobSpec(benchmark="digits01", mode=mode, board=BoardChoice(id=board.id)))).job_id
                for mode in (Mode.ENERGY, Mode.PERFORMANCE, Mode.ACCURACY)
                for board in lab.config.board
            ]
            async with asyncio.timeout(DEADLINE_S):
                documents = await _follow(client, jobs)
        rows = [await _row(lab, documents[job_id]) for job_id in jobs]
    return sorted(rows, key=lambda row: (row.board, list(Mode).index(row.mode)))


async def _follow(client: LabClient, jobs: Sequence[int]) -> dict[int, JobDocument]:
    """Show how far the jobs are until all have ended."""
    ended: dict[int, JobDocument] = {}
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=remarks()) as bar:
        total = bar.add_task("jobs ended", total=len(jobs), detail="")
        boards: dict[str, TaskID] = {}
        async with aclosing(client.follow(*jobs)) as updates:
            async for update in updates:
                if isinstance(update, ProgressDocument):
                    if update.board_id not in boards:
                        boards[update.board_id] = bar.add_task(update.board_id, detail="")
                    bar.update(
                        boards[update.board_id],
                        total=update.trials,
                        completed=update.trial,
                        detail=f"job {update.job_id}: {update.step}",
                    )
                elif isinstance(update, JobDocument) and update.state.ended:
                    ended[update.id] = update
                    bar.update(total, completed=len(ended))
                    if len(ended) == len(jobs):
                        break
    return ended


async def _row(lab: VirtualLab, job: JobDocument) -> Row:
    run = job.runs[-1]
    row = Row(
        board=run.board_id,
        mode=job.mode,
        state=job.state,
        cause="" if job.cause is None else f"{job.cause.kind}: {job.cause.detail or job.cause.sentence}",
        traces=tuple(str(lab.traces_dir / trace.id) for trace in run.traces),
    )
    if not run.scores:
        return row
    result = run.scores[-1].result
    match job.mode:
        case Mode.ENERGY:
            score = RunScore.model_validate(result)
            true_j = _true_j_per_inference(run, await lab.control.truth(run.board_id))
            if (energy := score.energy_j_per_inference) is None:
                return row
            return replace(row, energy=energy, placement=score.placement, true_j=true_j)
        case Mode.PERFORMANCE:
            return replace(row, rate=PerformanceScore.model_validate(result).inferences_per_s)
        case Mode.ACCURACY:
            return replace(row, accuracy=AccuracyScore.model_validate(result))


def _true_j_per_inference(run: RunDocument, truth: Sequence[TrueWindow]) -> float | None:
    """The median over the windows that labd measured, found by the ticks of their edges."""
    true = {(window.opened_ticks, window.closed_ticks): window.energy_j for window in truth}
    each = [
        true[trial.window.start_ticks, trial.window.stop_ticks] / trial.inferences
        for trial in run.trials
        if trial.window is not None and (trial.window.start_ticks, trial.window.stop_ticks) in true
    ]
    return median(each) if each else None


def _show(rows: Sequence[Row], folder: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(folder), "jobs": [row.document() for row in rows]})
        return
    columns = (
        "board",
        "mode",
        "energy an inference",
        "placed by",
        "true value",
        "error",
        "inferences/s",
        "top-1",
        "state",
    )
    print_table(f"what labd measured: {PLUS_MINUS}", columns, (row.cells() for row in rows))
    if any(by_steps_alone(row.placement) for row in rows):
        results().print(f"{STEPS_ALONE}: {STEPS_ALONE_MEANS}", markup=False)
    for row in rows:
        if row.cause:
            remarks().print(f"{row.board}, {row.mode}: {row.cause}", markup=False)
    results().print("traces:")
    for trace in (trace for row in rows for trace in row.traces):
        results().print(f"  {trace}", markup=False)
