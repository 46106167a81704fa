"""`labctl trace plot`: a picture of a trace, of one window, or of one inference."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivers.api import Quantity
from labd.cli.completion import complete_trace
from labd.cli.connection import run
from labd.cli.table import print_json, results
from labd.cli.trace.place import Url, find_trace
from labd.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from labd.cli.picture.scene import Scene, Sight
    from labd.trace.files import TraceFiles

SUFFIXES = (".png", ".svg")
SERVED_SCORED_MAX = 1_000_000
"""Samples that are fetched from a lab, if need be, to tell how uncertain the energies are."""


def plot(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID|FOLDER",
            help="A trace's folder here, or else its id in the lab.",
            show_default=False,
            autocompletion=complete_trace,
        ),
    ],
    *,
    out: Annotated[Path | None, typer.Option(help="The picture, .png or .svg.", show_default="<trace id>.png")] = None,
    trial: Annotated[int | None, typer.Option(min=0, help="Show the window of this trial, from 0.")] = None,
    inference: Annotated[
        int | None, typer.Option(min=0, help="Show this inference, from 0, of --trial or of the first window.")
    ] = None,
    window: Annotated[str | None, typer.Option(metavar="START:STOP", help="Show this stretch of the trace, s.")] = None,
    quantity: Annotated[
        Quantity | None, typer.Option(help="What to show.", show_default="the first that the trace has")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Logarithmic axis.")] = False,
    dark: Annotated[bool, typer.Option("--dark", help="Light on dark.")] = False,
    width: Annotated[int, typer.Option(min=400, max=8000, help="Pixels.")] = 1600,
    height: Annotated[int, typer.Option(min=250, max=8000, help="Pixels.")] = 600,
    url: Url = None,
    json: Annotated[bool, typer.Option("--json", help="Print what the picture shows as one JSON document.")] = False,
) -> None:
    """Draw a trace: the whole run, one window, one inference, or a stretch of it. No daemon is needed for a folder."""
    if window is not None and (trial is not None or inference is not None):
        raise typer.BadParameter("--window goes with neither --trial nor --inference")
    stretch = None if window is None else _seconds(window)

    async def work() -> None:
        if out is not None and out.suffix.lower() not in SUFFIXES:
            remedy = f"name it {' or '.join(SUFFIXES)}"
            raise ConfigError("a picture of this kind cannot be drawn", where=str(out), remedy=remedy)
        files = await find_trace(context.obj, name, url)
        await asyncio.to_thread(draw_files, files)

    def draw_files(files: TraceFiles) -> None:
        from labd.cli.picture import drawing, look, scene
        from labd.trace.export.landing import landing
        from labd.trace.files import LocalFiles
        from labd.trace.reader import Trace

        sight: Sight = scene.WholeRun()
        if stretch is not None:
            sight = scene.Stretch(*stretch)
        elif inference is not None:
            sight = scene.OneInference(inference, trial)
        elif trial is not None:
            sight = scene.OneWindow(trial)
        chosen = look.Look(
            width=width,
            height=height,
            scale=look.Scale.LOG if log else look.Scale.LINEAR,
            palette=look.DARK if dark else look.LIGHT,
        )
        scored_max = scene.SCORED_MAX if isinstance(files, LocalFiles) else SERVED_SCORED_MAX
        trace = Trace.open(files)
        drawn = scene.make_scene(trace, sight, quantity=quantity, pixels=chosen.pixels, scored_max=scored_max)
        path = Path(f"{trace.meta.trace_id}.png") if out is None else out
        data = drawing.encode(drawing.draw(drawn, chosen), path.suffix.lower().removeprefix("."), trace.meta.trace_id)
        with landing(path) as part:
            part.write_bytes(data)
        if json:
            print_json({"picture": str(path), **document(drawn)})
        else:
            results().print(str(path), markup=False)

    run(work)


def document(scene: Scene) -> dict[str, Any]:
    """What a picture shows, for programs; SI units, null for what is not known."""
    bins, part = scene.bins, scene.inference
    return {
        "trace_id": scene.meta.trace_id,
        "quantity": scene.quantity.value,
        "start_s": scene.start_s,
        "stop_s": scene.stop_s,
        "samples_per_bin": bins.samples,
        "bins": {
            "limits_s": bins.limits_s.tolist(),
            "min": _numbers(bins.low),
            "max": _numbers(bins.high),
            "mean": _numbers(bins.mean),
        },
        "windows": [
            {
                "trial": window.trial,
                "start_s": window.start_s,
                "stop_s": window.stop_s,
                "inferences": window.inferences,
                "energy_j_per_inference": window.energy_j,
                "standard_uncertainty_j_per_inference": window.uncertainty_j,
                "uncertainty_j_per_inference": window.uncertainty_j,  # the same
                "refused": window.refused or None,
            }
            for window in scene.windows
        ],
        "edges": [{"at_s": edge.at_s, "pin": edge.pin, "level": int(edge.rising)} for edge in scene.edges],
        "marked": [{"kind": mark.kind.value, "start_s": mark.start_s, "stop_s": mark.stop_s} for mark in scene.marks],
        "sync_s": list(scene.syncs_s),
        "inference": None
        if part is None
        else {
            "trial": part.trial,
            "number": part.number,
            "start_s": part.start_s,
            "stop_s": part.stop_s,
            "samples": part.samples,
            "energy_j": part.energy_j,
        },
        "energy_j_per_inference": scene.run.energy_j,
        "standard_uncertainty_j_per_inference": scene.run.uncertainty_j,
        "uncertainty_j_per_inference": scene.run.uncertainty_j,  # the same
        "placement": None if scene.run.proof is None else scene.run.proof.basis.value,
        "testimonies": [
            {"witness": each.witness.value, "verdict": each.verdict.value, "said": each.said}
            for each in (() if scene.run.proof is None else scene.run.proof.statements)
        ],
        "remarks": list(scene.run.remarks),
    }


def _seconds(text: str) -> tuple[float, float]:
    start, separator, stop = text.partition(":")
    try:
        limits = float(start), float(stop)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not START:STOP in seconds, such as 1.5:2") from error
    if not separator or not all(map(math.isfinite, limits)) or limits[0] >= limits[1]:
        raise typer.BadParameter(f"{text!r} is no stretch of time")
    return limits


def _numbers(values: npt.NDArray[Any]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
