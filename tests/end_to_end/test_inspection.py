"""The judge of a campaign is no rubber stamp: what it must see, it sees."""

from __future__ import annotations

import pytest

from labd.virtual.control import SwitchingReport
from tests.end_to_end.inspection import outputs_broken

WIRED = frozenset({("psu-1", 1), ("psu-1", 2)})


def switched(*steps: tuple[int, bool]) -> list[SwitchingReport]:
    """Channel and what came of it, a tenth of a second apart."""
    return [
        SwitchingReport(analyzer="psu-1", channel=channel, at_s=0.1 * number, energized=on)
        for number, (channel, on) in enumerate(steps)
    ]


def test_all_off_and_then_one_on_is_as_promised() -> None:
    seen = switched((1, False), (2, False), (2, True), (2, False), (1, True))
    assert list(outputs_broken({("psu-1", 1)}, WIRED, seen, ready=True)) == []


def test_a_daemon_that_was_killed_before_it_switched_anything_has_broken_nothing() -> None:
    assert list(outputs_broken({("psu-1", 1)}, WIRED, [], ready=False)) == []


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (switched((2, False), (2, True)), "while [('psu-1', 1)] was still on"),
        (switched((1, False), (1, True)), "before [('psu-1', 2)] was told to go off"),
        (switched((1, True)), "while [('psu-1', 1)] was still on"),
        (switched((1, False)), "[('psu-1', 2)] was not told to go off at a start"),
        ([], "[('psu-1', 1), ('psu-1', 2)] was not told to go off at a start"),
    ],
)
def test_an_output_that_is_not_switched_off_first_is_seen(seen: list[SwitchingReport], words: str) -> None:
    assert any(words in sentence for sentence in outputs_broken({("psu-1", 1)}, WIRED, seen, ready=True))
