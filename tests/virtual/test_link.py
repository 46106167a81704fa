"""Frames come out of the pipe whole, whatever the reads, and nonsense is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.virtual.link import FrameReader, Kind, LinkError, frame


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 255), st.integers(0, 65535))), st.data())
def test_frames_survive_any_cut_of_the_stream(fields: list[tuple[int, int, int]], data: st.DataObject) -> None:
    fields.sort()
    stream = b"".join(frame(Kind.TX, cycle, a, b, 7) for cycle, a, b in fields)
    cut = data.draw(st.integers(0, len(stream)))
    reader = FrameReader()
    seen = [*reader.feed(stream[:cut]), *reader.feed(stream[cut:])]
    assert [(int(each["cycle"]), int(each["a"]), int(each["b"])) for each in seen] == fields


@pytest.mark.parametrize(
    "stream",
    [
        frame(Kind.RX, 0),
        b"\x7fELF" * 4,
        frame(Kind.ACTIVITY, 0, 9),
        frame(Kind.ACTIVITY, 0, 0),
        frame(Kind.TX, 5) + frame(Kind.TX, 4),
    ],
)
def test_what_is_not_the_link_is_refused(stream: bytes) -> None:
    with pytest.raises(LinkError):
        FrameReader().feed(stream)
