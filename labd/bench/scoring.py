"""Scores a trace: reads what the scorer needs out of a trace folder, and nothing from anywhere else.

So a score can be made again from the folder alone, by this version of the scorer or by a later one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drivers.api import Edge, Interval, IntervalKind
from labd.bench.rest import trace_rests
from labd.bench.window import is_recorded, reach, read_window, source_of
from labd.model.causes import Cause
from labd.score.energy import RunScore, score_run
from labd.score.noise import Rest
from labd.score.product import Source
from labd.score.reading import Instrument, Placement, WindowReading
from labd.score.rules import Finding, Rule, Rules, Testimony, describe_marks
from labd.trace.journal import Trial
from labd.trace.layout import is_digital
from labd.trace.meta import PowerSource
from labd.trace.reader import Trace
from labd.trace.timing.proof import Proof, prove
from labd.trace.timing.timebase import TimebaseError
from labd.trace.timing.witness import Basis


def score_trace(trace: Trace) -> RunScore:
    """Score the energy of a run from its only trace; see `score_traces`."""
    return score_traces((trace,))


def score_traces(traces: Sequence[Trace]) -> RunScore:
    """Score the energy of a run from its traces, against the rules that they themselves name.

    Trials that the board or the edges spoilt are refused with a finding; the others are scored.

    Args:
        traces: At least one, all recorded alike; each has trials of its own.

    Raises:
        ScoreError: a trace has no timestamped edges, or its columns do not tell power.
        TraceError: a trace is damaged.
    """
    meta = traces[0].meta
    findings: list[Finding] = []
    readings: list[WindowReading] = []
    proofs: list[Proof] = []
    rests: list[Rest] = []
    sources: list[Source] = []
    for trace in traces:
        findings += _peaks(trace)
        pairs: list[tuple[Trial, Edge, Edge]] = []
        for trial in trace.trials():
            found = _pair(trace, trial)
            if isinstance(found, Finding):
                findings.append(found)
            else:
                pairs.append((trial, *found))
        read = list(_readings(trace, pairs, findings, proofs))
        readings += read
        rests += trace_rests(trace, [reading.placement for reading in read])
        if read and trace.meta.power_source is PowerSource.PRODUCT:
            peak_a = None if trace.meta.headroom is None else trace.meta.headroom.current_peak_a
            sources.append(source_of(trace, [reading.placement for reading in read], peak_a))
    return score_run(
        readings,
        Instrument(
            columns=meta.columns,
            period_s=meta.period_s,
            clock_ppm=meta.sample_clock_ppm,
            source=sources[0] if sources else None,
        ),
        Rules(trials=meta.trials, min_window_s=meta.min_window_s, min_inferences=meta.min_inferences),
        inputs=_inputs(traces),
        findings=findings,
        placement=max((proof.basis for proof in proofs), key=list(Basis).index, default=None),
        testimonies=[
            Testimony(witness=each.witness.value, verdict=each.verdict.value, said=each.said)
            for proof in proofs
            for each in proof.statements
        ],
        rests=rests,
    )


def _peaks(trace: Trace) -> Iterator[Finding]:
    """Peaks that reached the end of the range before the capture: in it they are cut off, and no sample shows it."""
    headroom = trace.meta.headroom
    if headroom is not None and headroom.current_peak_a >= headroom.current_range_a:
        yield Finding(
            rule=Rule.UNDAMAGED,
            cause=Cause.CAPTURE_DAMAGED,
            detail=f"before the capture the current reached {headroom.current_peak_a:.4g} A, the range ends at "
            f"{headroom.current_range_a:.4g} A",
        )


def _inputs(traces: Sequence[Trace]) -> dict[str, str]:
    if len(traces) == 1:
        return inputs_of(traces[0])
    return {f"{trace.meta.trace_id}/{name}": digest for trace in traces for name, digest in inputs_of(trace).items()}


def inputs_of(trace: Trace) -> dict[str, str]:
    """Names and SHA-256 digests of the files of a sealed trace; of one that is not sealed, its name alone."""
    if trace.seal is None:
        return {"trace": trace.meta.trace_id, "state": "not sealed"}
    return {"trace": trace.meta.trace_id, **{str(name): digest for name, digest in trace.seal.sha256.items()}}


def _pair(trace: Trace, trial: Trial) -> tuple[Edge, Edge] | Finding:
    """The two edges of a trial's window, or why there is none."""
    if trial.ended is None or trial.ended.failure:
        return Finding(
            rule=Rule.TRIALS,
            cause=Cause.TRIALS_MISSING,
            trial=trial.index,
            detail=f"the trial was given up: {trial.ended.failure if trial.ended else 'it never ended'}",
        )
    edges = trace.counted(trial.edges)
    if len(edges) != 2:
        return Finding(
            rule=Rule.TWO_EDGES,
            cause=Cause.EDGES_MISSING if len(edges) < 2 else Cause.EDGES_EXTRA,
            trial=trial.index,
            detail=f"{trace.meta.edge_polarity.value} edges that came for the window: {len(edges)}, not 2",
        )
    return edges[0], edges[1]


def _readings(
    trace: Trace, pairs: list[tuple[Trial, Edge, Edge]], findings: list[Finding], proofs: list[Proof]
) -> Iterator[WindowReading]:
    """Read the windows that can be placed on the trace; the others, and a disputed place, add to `findings`."""
    if not pairs:
        return
    try:
        proof = prove(trace)
    except TimebaseError as error:
        findings.extend(_unplaced(trace, trial, error.message) for trial, _, _ in pairs)
        return
    proofs.append(proof)
    timebase = proof.timebase
    for trial, opening, closing in pairs:
        placed = timebase.place(opening.ticks, closing.ticks)
        placement = Placement(
            start=placed.start,
            stop=placed.stop,
            u_start=placed.u_start,
            u_stop=placed.u_stop,
            correlation=placed.correlation,
            response=proof.response,
        )
        if not is_recorded(placement, trace.rows):
            first, end = reach(placement)
            findings.append(
                Finding(
                    rule=Rule.RECORDED,
                    cause=Cause.CAPTURE_DAMAGED,
                    trial=trial.index,
                    detail=f"the trace has {trace.rows} samples, the window needs {first} to {end}, and more than "
                    f"{placement.neighbours} of its own{_because(_overflow(trace))}",
                )
            )
            continue
        analog = [quantity for quantity in trace.meta.quantities if not is_digital(quantity)]
        yield read_window(trace, analog, placement, trial=trial.index, inferences=trial.started.inferences)
    findings.extend(_disputes(trace, proof))


def _disputes(trace: Trace, proof: Proof) -> Iterator[Finding]:
    """A place that a witness disputes; where samples were overwritten, that is why."""
    because = _because(_overflow(trace))
    for each in proof.disputes:
        yield Finding(
            rule=Rule.UNDAMAGED if because else Rule.WITNESSES_AGREE,
            cause=Cause.CAPTURE_DAMAGED if because else Cause.PLACEMENT_DISPUTED,
            detail=each.said + because,
        )


def _unplaced(trace: Trace, trial: Trial, detail: str) -> Finding:
    """An edge that has no place; where samples were overwritten, that is why: the index lost its count of time."""
    overflow = _overflow(trace)
    return Finding(
        rule=Rule.UNDAMAGED if overflow else Rule.EDGES_PLACED,
        cause=Cause.CAPTURE_DAMAGED if overflow else Cause.TIMEBASE_POOR,
        trial=trial.index,
        detail=detail + _because(overflow),
    )


def _overflow(trace: Trace) -> list[Interval]:
    """The stretches of a trace in which samples were overwritten before they were fetched."""
    return [interval for interval in trace.marked() if interval.kind is IntervalKind.OVERFLOW]


def _because(overflow: list[Interval]) -> str:
    return f"; {describe_marks(overflow)}: the analyzer was not read in time" if overflow else ""
