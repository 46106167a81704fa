"""Do the parts of a results set agree? What `results.txt` prints is held against the dialogue, the laps and the edges.

A window whose heading and lines are all lost leaves a file that reads well: only the others tell that one is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import pairwise
from statistics import median

from labd.benchmarks import Mode
from labd.dut.protocol import lap_duration_us
from labd.service.sessions.windows import WindowFigures
from labd.trace.sessions.published import Inference, Printed, PrintedRate, ResultsSet


def disagreements(results: ResultsSet, windows: Sequence[WindowFigures]) -> Iterator[str]:
    """What does not fit, a sentence each.

    Args:
        results: The set.
        windows: Its windows, of an energy set; without them what takes no reading of the samples is looked at.
    """
    printed = results.printed
    yield from _gaps("energy", [window.index for window in printed.windows])
    yield from _gaps("throughput", [rate.index for rate in printed.rates])
    if results.mode is Mode.ENERGY:
        yield from _of_energy(results, windows)
    elif results.mode is Mode.PERFORMANCE and results.inferences and printed.rates:
        yield from _of_performance(results)
    yield from _of_median(printed)


def lap_s(inference: Inference) -> float | None:
    """Time between the board's two timestamps, s; None if there are not two that differ."""
    if len(inference.laps_us) != 2 or inference.laps_us[0] == inference.laps_us[1]:
        return None
    return lap_duration_us(*inference.laps_us) * 1e-6


def _gaps(what: str, indices: Sequence[int]) -> Iterator[str]:
    """Windows are numbered in equal steps: a gap is one that is lost."""
    steps = {later - earlier for earlier, later in pairwise(indices)}
    if len(steps) > 1 or any(step < 1 for step in steps):
        yield f"it prints the {what} of windows {', '.join(map(str, indices))}: one is lost, or out of order"


def _of_energy(results: ResultsSet, windows: Sequence[WindowFigures]) -> Iterator[str]:
    printed = results.printed
    energies, rates = ([each.index for each in there] for there in (printed.windows, printed.rates))
    if rates and energies != rates:
        yield f"it prints energy of windows {_list(energies)}, and throughput of windows {_list(rates)}"
    if results.inferences and len(results.inferences) != len(energies):
        yield f"it prints {len(energies)} windows, the board was asked {len(results.inferences)} times"
    for window, energy in zip(windows, printed.windows if windows else (), strict=True):
        ours, published = window.per_inference, energy.per_inference_uj
        # Half a digit is what rounding takes; how a half itself is rounded differs.
        if ours is not None and published is not None and abs(ours - float(published)) > 0.51 * float(_step(published)):
            yield (
                f"window {window.index} is published as {published} µJ an inference, "
                f"its energy and N come to {ours:.10g} µJ"
            )
    timed = {window.index: window for window in windows}
    for rate in printed.rates:
        if rate.index in timed:
            window = timed[rate.index]
            yield from _of_rate(rate, window.inferences or rate.inferences, window.duration_s, "its edges")


def _of_performance(results: ResultsSet) -> Iterator[str]:
    rates, asked = results.printed.rates, results.inferences
    if len(rates) != len(asked):
        yield f"it prints {len(rates)} throughputs, the board was asked {len(asked)} times"
        return
    for rate, inference in zip(rates, asked, strict=True):
        lap = lap_s(inference)
        runtime_s = float(rate.runtime_s) if lap is None else lap
        yield from _of_rate(rate, inference.inferences, runtime_s, "its laps")


def _of_rate(rate: PrintedRate, inferences: int, runtime_s: float, by: str) -> Iterator[str]:
    if rate.inferences != inferences:
        yield f"window {rate.index} is published with {rate.inferences} inferences, {inferences} were asked for"
    # Rounded there, and the timestamps behind it too: the last digit may differ by one.
    if abs(float(rate.runtime_s) - runtime_s) > 1.01 * float(_step(rate.runtime_s)):
        yield f"window {rate.index} is published as {rate.runtime_s} s, by {by} it took {runtime_s:.6g} s"


def _of_median(printed: Printed) -> Iterator[str]:
    """The printed median is that of the printed throughputs, or one of them is not there."""
    if printed.rates and printed.median_inferences_per_s is not None:
        middle = median(rate.inferences_per_s for rate in printed.rates)
        step = _step(printed.median_inferences_per_s)
        if abs(middle - printed.median_inferences_per_s) > step:
            yield (
                f"the median throughput is published as {printed.median_inferences_per_s}/s, "
                f"that of its windows is {middle}/s"
            )


def _step(printed: Decimal) -> Decimal:
    """One of the last digit."""
    return Decimal(1).scaleb(int(printed.as_tuple().exponent))


def _list(indices: Sequence[int]) -> str:
    return ", ".join(map(str, indices)) or "none"
