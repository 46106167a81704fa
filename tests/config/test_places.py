"""Lines of keys, however the author has arranged the file."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.config.findings import KeyPath
from labd.config.places import Places, key_text

TEXT = """\
# a comment
[lab]
name = "x"

[[instrument]]
id = "a"
[[board]]
id = "b1"
supply = { instrument = "a", voltage_v = 3 }
[board.serial]
baud.energy = 5

modes = [
  { z = 1 },
  3,
]
[[instrument]]
id = "c"   # the second one, after a board
[lab.sub]
text = '''
[[board]]
id = 1
'''
after = 1
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("lab",), 2),
        (("lab", "name"), 3),
        (("instrument", 0, "id"), 6),
        (("board", 0), 7),
        (("board", 0, "supply", "voltage_v"), 9),
        (("board", 0, "serial", "baud", "energy"), 11),
        (("board", 0, "serial", "modes", 0, "z"), 13),
        (("instrument", 1), 17),
        (("instrument", 1, "id"), 18),
        (("lab", "sub", "text"), 20),
        (("lab", "sub", "after"), 24),
        (("board", 0, "serial", "absent"), 10),
        (("absent", "key"), None),
    ],
)
def test_a_key_or_what_is_nearest_above_it_has_a_line(path: KeyPath, line: int | None) -> None:
    assert Places(TEXT).line(path) == line


def test_a_path_reads_as_people_write_it() -> None:
    assert key_text(("board", 0, "supply", "voltage_v")) == "board[0].supply.voltage_v"


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=12), st.data())
def test_every_element_of_interleaved_arrays_is_found_at_its_header(order: list[str], data: st.DataObject) -> None:
    lines, expected, seen = [], {}, dict.fromkeys("abc", 0)
    for name in order:
        lines += [""] * data.draw(st.integers(0, 2))
        lines.append(f"[[{name}]]")
        expected[(name, seen[name])] = len(lines)
        lines.append("k = [\n]")
        lines = "\n".join(lines).split("\n")
        seen[name] += 1
    text = "\n".join(lines)
    document: dict[str, Any] = tomllib.loads(text)
    places = Places(text)
    assert sum(map(len, document.values())) == len(order)
    assert {path: places.line(path) for path in expected} == expected
