"""Which windows and runs stand: the benchmark's rules as data, and every breach named.

A window with damaged samples or unplaceable edges is refused: no energy is made of it. A window that is sound but
too short keeps its figures, and makes its run invalid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from drivers.api import Interval, IntervalKind
from labd.benchmarks import Benchmark
from labd.model.causes import Cause
from labd.score.correlation import are_alike, von_neumann_ratio
from labd.score.uncertainty import Frozen


class Rule(StrEnum):
    """The closed set of rules."""

    MIN_WINDOW = "min_window"
    MIN_INFERENCES = "min_inferences"
    TRIALS = "trials"
    TWO_EDGES = "two_edges"
    RECORDED = "recorded"
    UNDAMAGED = "undamaged"
    EDGES_PLACED = "edges_placed"
    WITNESSES_AGREE = "witnesses_agree"
    SAMPLED = "sampled"
    TOP1_TARGET = "top1_target"


class Finding(Frozen):
    """One breach of one rule.

    Args:
        rule: Which rule.
        cause: What the run ends with because of it.
        trial: Number of the trial; None if the whole run is meant.
        detail: What was found and what is asked, one sentence without a final stop.
    """

    rule: Rule
    cause: Cause
    trial: int | None = None
    detail: str


class Testimony(Frozen):
    """What one witness said of where the windows lie.

    Args:
        witness: Who: pulse, load, steps, bracket, lengths or laps.
        verdict: agrees, silent or disagrees.
        said: In one sentence without a final stop.
    """

    witness: str
    verdict: str
    said: str


class Doubt(StrEnum):
    """The closed set of what a remark is about."""

    NOISE = "noise"
    TRIALS = "trials"


class Remark(Frozen):
    """What a reader should know of a score although no rule is broken: it is in the uncertainty already.

    Args:
        about: What it is about.
        detail: What was found and what to do, one sentence without a final stop.
    """

    about: Doubt
    detail: str


class Judged(Frozen):
    """A score with what it was made from and what was found against it.

    Args:
        scorer: Name and version of what made it.
        inputs: Names and digests of what it was made from.
        findings: Every rule that was broken.
        remarks: What makes it less certain than it should be, without breaking a rule.
    """

    scorer: str
    inputs: Mapping[str, str]
    findings: tuple[Finding, ...]
    remarks: tuple[Remark, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether no rule was broken."""
        return not self.findings


class Rules(Frozen):
    """What a performance or energy run must fulfil.

    Args:
        trials: Windows that a run must have.
        min_window_s: Shortest window, s.
        min_inferences: Fewest inferences in a window.
        max_length_share: Largest standard uncertainty of a window's length on the trace, as a share of it.
        max_shift_share: The same of the place of its edges: what shifts both alike trades power inside for power
            outside, so more of it can be borne.
    """

    trials: int
    min_window_s: float
    min_inferences: int
    max_length_share: float = 1e-3
    max_shift_share: float = 5e-3

    @classmethod
    def of(cls, benchmark: Benchmark) -> Rules:
        """The rules of a benchmark."""
        return cls(
            trials=benchmark.trials,
            min_window_s=benchmark.min_window_s,
            min_inferences=benchmark.min_inferences,
        )

    def length_findings(self, trial: int, *, duration_s: float, inferences: int) -> tuple[Finding, ...]:
        """Breaches of a window's length, in seconds and in inferences."""
        findings = []
        if duration_s < self.min_window_s:
            findings.append(
                Finding(
                    rule=Rule.MIN_WINDOW,
                    cause=Cause.WINDOW_SHORT,
                    trial=trial,
                    detail=f"the window lasted {duration_s:.6g} s, the rule asks for {self.min_window_s:g} s",
                )
            )
        if inferences < self.min_inferences:
            findings.append(
                Finding(
                    rule=Rule.MIN_INFERENCES,
                    cause=Cause.WINDOW_SHORT,
                    trial=trial,
                    detail=f"the window held {inferences} inferences, the rule asks for {self.min_inferences}",
                )
            )
        return tuple(findings)

    def trial_findings(self, windows: int) -> tuple[Finding, ...]:
        """Breach of the number of windows that could be scored."""
        if windows >= self.trials:
            return ()
        return (
            Finding(
                rule=Rule.TRIALS,
                cause=Cause.TRIALS_MISSING,
                detail=f"{windows} trials could be scored, the rule asks for {self.trials}",
            ),
        )

    def placement_findings(
        self, trial: int, *, length_s: float, worst_s: float, duration_s: float
    ) -> tuple[Finding, ...]:
        """Breaches of the limits on a window's place.

        Args:
            trial: Number of the trial.
            length_s: Standard uncertainty of the window's length, s.
            worst_s: The same of the worse of its edges' places, s.
            duration_s: Its length, s.
        """
        found = []
        for what, known_s, share in (
            ("the window's length is", length_s, self.max_length_share),
            ("an edge is", worst_s, self.max_shift_share),
        ):
            if known_s > share * duration_s:
                detail = f"{what} known to {known_s:.3g} s only, the rule asks for {share * duration_s:.3g} s"
                found.append(Finding(rule=Rule.EDGES_PLACED, cause=Cause.TIMEBASE_POOR, trial=trial, detail=detail))
        return tuple(found)


def alike_remark(values: Sequence[float]) -> Remark | None:
    """Say so where trials, one value each in the order measured, are correlated beyond chance."""
    if not are_alike(values):
        return None
    ratio = von_neumann_ratio(values)
    detail = (
        f"the trials follow each other: von Neumann's ratio is {ratio:.2g}, about 2 if they are independent; "
        "ask for more trials, or let the board warm up"
    )
    return Remark(about=Doubt.TRIALS, detail=detail)


def phases_findings(trial: int, phases: float, least: int) -> tuple[Finding, ...]:
    """Breach of the number of phases at which instants met an inference."""
    if phases >= least:
        return ()
    return (
        Finding(
            rule=Rule.SAMPLED,
            cause=Cause.SAMPLES_SPARSE,
            trial=trial,
            detail=f"instants met an inference at {phases:.0f} phases only, the rule asks for {least}: it repeats in "
            "step with the samples",
        ),
    )


def damage_findings(trial: int, marked: Iterable[Interval]) -> tuple[Finding, ...]:
    """One breach for each kind of mark that touches a window: thousands of clipped peaks are one thing to tell."""
    kinds: dict[IntervalKind, list[Interval]] = {}
    for interval in marked:
        kinds.setdefault(interval.kind, []).append(interval)
    return tuple(
        Finding(rule=Rule.UNDAMAGED, cause=Cause.CAPTURE_DAMAGED, trial=trial, detail=describe_marks(intervals))
        for intervals in kinds.values()
    )


def describe_marks(intervals: Sequence[Interval]) -> str:
    """Where marks of one kind lie, in words: "samples 700 to 720 are marked gap"; at least one interval."""
    start, stop = min(each.start for each in intervals), max(each.stop for each in intervals)
    stretches = "" if len(intervals) == 1 else f", in {len(intervals)} stretches"
    return f"samples {start} to {stop} are marked {intervals[0].kind.value}{stretches}"
