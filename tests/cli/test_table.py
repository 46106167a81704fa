"""Tables on terminals of any width: nothing is cut off, and words stay whole as long as there is room."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from labd.cli.table import print_table, shared_width

HEADS = ("job", "what", "state", "cause")
ROWS = (("1", "digits01 energy", "completed", "-"), ("12", "digits01 energy", "failed", "board_refused"))
columns = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 50)).map(lambda drawn: (drawn[0], drawn[0] + drawn[1])),
    min_size=1,
    max_size=12,
)


def printed(width: int) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width)
    print_table("", HEADS, ROWS, console=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@given(columns=columns, width=st.integers(12, 300))
def test_columns_take_what_they_need_and_no_more_than_there_is(columns: list[tuple[int, int]], width: int) -> None:
    words, lines = zip(*columns, strict=True)
    widths = shared_width(words, lines, width)
    assert sum(widths) == min(width, sum(lines))
    assert all(1 <= given <= line for given, line in zip(widths, lines, strict=True))
    if sum(words) <= width:
        assert all(given >= word for given, word in zip(widths, words, strict=True))


def test_lines_are_broken_between_words() -> None:
    wide, narrow = printed(80), printed(44)
    assert any("digits01 energy" in line for line in wide)
    assert all(len(line) <= 44 for line in narrow)
    words = set(" ".join(narrow).split())
    assert {"digits01", "energy", "completed", "failed", "board_refused"} <= words


def test_nothing_is_cut_off_where_words_do_not_fit() -> None:
    narrow = printed(30)
    assert all(len(line) <= 30 for line in narrow)
    letters = sorted("".join(line for line in narrow if "─" not in line).replace(" ", ""))
    assert letters == sorted("".join((*HEADS, *(cell for row in ROWS for cell in row))).replace(" ", ""))
