"""What the windows of an energy score were placed by, and what the witnesses of their place said, in words.

A wire ties the board's edges to the analyzer's samples: a sync load or a trigger's pulse. Without one the steps of the
board's own current must do, which nothing independent confirms: a figure that rests on them says so wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labd.trace.timing.witness import Basis, Verdict

STEPS_ALONE = "steps alone"
"""The mark of a figure whose windows no wire has placed."""
STEPS_ALONE_MEANS = "only the board's own current says where the windows lie, and no wire confirms it"
_NAMES = {
    Basis.LOAD: "sync load",
    Basis.PULSE: "sync pulse",
    Basis.STEPS: STEPS_ALONE,
    Basis.ONE_CLOCK: "one clock",
}


def placed_by(placement: str | None) -> str:
    """What did it, for people: `sync load`; empty where a score does not say."""
    return _NAMES[Basis(placement)] if placement in set(Basis) else placement or ""


def by_steps_alone(placement: str | None) -> bool:
    """Whether no wire has placed the windows."""
    return placement == Basis.STEPS


def testimonies(result: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Witness, verdict and what it said, in the order asked; of a score of an earlier version none."""
    for each in result.get("testimonies") or ():
        yield str(each.get("witness", "-")), str(each.get("verdict", "-")), str(each.get("said", ""))


def disputed_by(verdicts: Iterable[tuple[str, str]]) -> str:
    """Which witnesses disagree, each once, for people: `, DISPUTED by steps`; empty where none of them does.

    Args:
        verdicts: Witness and verdict, in the order asked.
    """
    against = dict.fromkeys(witness for witness, verdict in verdicts if verdict == Verdict.DISAGREES)
    return f", DISPUTED by {', '.join(against)}" if against else ""
