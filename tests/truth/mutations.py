"""Mutations: errors planted in labd's scoring, or done to runs that are to be good, that must turn the verdict.

A truth test that passes with a term of the uncertainty ten times too large or too small sees nothing of that term. So
each term is scaled by 0.1 and by 10 where a run's windows come together; windows are moved and stretched after they
were placed; what the witnesses say is ignored; and faults befall runs of the clean cells, which are then not good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from unittest import mock

import labd.bench.scoring
import labd.score.energy
from labd.score.uncertainty import Estimate, TermName
from labd.trace.reader import Trace
from labd.trace.timing.proof import Proof
from tests.truth.faults import Fault, faults
from tests.truth.runs import Anchor

SCALED = (
    TermName.CURRENT_GAIN,
    TermName.CURRENT_OFFSET,
    TermName.VOLTAGE_GAIN,
    TermName.VOLTAGE_OFFSET,
    TermName.PRODUCT_OF_MEANS,
    TermName.NOISE,
    TermName.DRIFT,
    TermName.SAMPLING,
    TermName.EDGE_PLACEMENT,
    TermName.EDGE_SAMPLE,
    TermName.RESPONSE,
    TermName.CLOCK,
    TermName.SPREAD,
)
FACTORS = (0.1, 10.0)
GOOD = ("sync pulse, square, 4.9 kS/s", "sync load, phases, 4.9 kS/s", "pulse and load, phases, 4.9 kS/s")
"""Cells whose verdict must turn: without a mutation they pass."""
PULSED = ("sync pulse, square, 4.9 kS/s", "pulse and load, phases, 4.9 kS/s")
SPOILT = ("sync pulse, sync +10 ms", "sync load, 50 samples lost", "sync pulse, opening edge lost, one inside")
"""Cells of faults that only the witnesses see."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One planted error.

    Args:
        name: What it is.
        cells: The names of the cells of which it must turn the verdict of one at least.
        planted: Makes the context in which a score is made.
        fault: What befalls the run before that; None for nothing.
    """

    name: str
    cells: tuple[str, ...] = GOOD
    planted: Callable[[], AbstractContextManager[object]] = nullcontext
    fault: Fault | None = None


def _scaled(name: TermName, factor: float) -> Mutation:
    def scaled(each: Estimate) -> Estimate:
        terms = [term.scaled(factor) if term.name is name else term for term in each.terms]
        return Estimate.combine(each.value, terms)

    @contextmanager
    def planted() -> Iterator[None]:
        whole = labd.score.energy.run_estimates

        def mutant(estimates: Sequence[Estimate]) -> tuple[Estimate | None, Estimate | None]:
            if name is not TermName.SPREAD:
                return whole([scaled(each) for each in estimates])
            of_windows, of_board = whole(estimates)
            return of_windows, of_board and scaled(of_board)

        with mock.patch.object(labd.score.energy, "run_estimates", mutant):
            yield

    own = name.value.replace("_", " ")  # the cell that is made of this term
    return Mutation(f"{name.value} x{factor:g}", (own,), planted)


def _placed(name: str, *, shift: float = 0.0, stretch: float = 0.0) -> Mutation:
    """Windows are moved by so many samples, or stretched, once no witness is asked any more."""

    @contextmanager
    def planted() -> Iterator[None]:
        whole = labd.bench.scoring.prove

        def mutant(trace: Trace) -> Proof:
            proof = whole(trace)
            base = proof.timebase
            return replace(proof, timebase=replace(base, offset=base.offset + shift, stretch=base.stretch + stretch))

        with mock.patch.object(labd.bench.scoring, "prove", mutant):
            yield

    return Mutation(name, planted=planted)


def _deaf() -> AbstractContextManager[object]:
    return mock.patch.object(Proof, "disputes", property(lambda _: ()))


MUTATIONS = {
    mutation.name: mutation
    for mutation in (
        *(_scaled(name, factor) for name in SCALED for factor in FACTORS),
        _placed("windows 5 samples late", shift=5.0),
        _placed("windows 1 sample early", shift=-1.0),
        _placed("windows 0.1 % long", stretch=1e-3),
        Mutation("witnesses ignored", SPOILT, _deaf),
        *(
            Mutation(fault.name, PULSED, fault=fault)
            for fault in faults(Anchor.BOTH)
            if not fault.peaks and not fault.small
        ),
    )
}
