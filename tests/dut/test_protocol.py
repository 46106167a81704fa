"""The parser gives the same events however the bytes arrive, survives anything, and knows what real boards say."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.dut.protocol import (
    COMMAND_LIMIT,
    LINE_LIMIT,
    BootMode,
    ErrorReply,
    Expecting,
    Garbage,
    Heard,
    InferStart,
    Model,
    Name,
    Other,
    Parser,
    Ready,
    Results,
    Timestamp,
    TimestampMode,
    classify,
    encode_command,
    lap_duration_us,
    lap_resolution_us,
    load_commands,
)
from tests.dut.reference_sessions import exchanges, session_logs


def events(data: bytes) -> list[object]:
    return [heard.event for heard in Parser().feed(data)]


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("m-ready", Ready()),
        ("[dut]: m-ready", Ready()),
        ("m-timestamp-mode-energy", BootMode(TimestampMode.ENERGY)),
        ("m-lap-us-4294967295", Timestamp(2**32 - 1)),
        ("m-lap-us-4294967296", Other("m-lap-us-4294967296")),
        ("m-lap-us-12x", Other("m-lap-us-12x")),
        ("m-name-dut-[a [nice] board]", Name("a [nice] board")),
        ("m-[Expecting 490 bytes]", Expecting(490)),
        ("m-infer-start-10", InferStart(10)),
        ("m-results-[0.5,-1e-3,]", Results((0.5, -0.001))),
        ("m-results-[106.280540]", Results((106.28054,))),
        ("m-results-[]", Other("m-results-[]")),
        ("m-results-[0.5,nan]", Other("m-results-[0.5,nan]")),
        ("m-results-[1,1e999]", Other("m-results-[1,1e999]")),
        ("e-[Unknown command: nmae]", ErrorReply("Unknown command: nmae")),
        ("Initialized", Other("Initialized")),
    ],
)
def test_each_line_of_the_protocol_is_known(line: str, event: object) -> None:
    assert classify(line) == event


def test_any_line_end_will_do() -> None:
    assert events(b"m-ready\rm-ready\nm-ready\r\n\r\n") == [Ready()] * 3


def test_noise_before_a_line_is_reported_and_the_line_kept() -> None:
    assert events(b"\x00\xff\xfem-ready\r\n") == [Garbage(b"\x00\xff\xfe"), Ready()]


def test_noise_inside_a_line_condemns_it_because_a_digit_may_be_gone() -> None:
    assert events(b"m-lap-us-12\xff34\r\nm-ready\r\n") == [Garbage(b"m-lap-us-12\xff34"), Ready()]


def test_a_line_without_end_takes_no_more_memory_than_the_limit() -> None:
    parser = Parser()
    pieces = [heard.event for _ in range(100) for heard in parser.feed(b"x" * 1000)]
    assert len(parser.pending) <= LINE_LIMIT
    assert set(pieces) == {Garbage(b"x" * LINE_LIMIT)}
    tail = [heard.event for heard in parser.feed(b"\r\nm-ready\r\n")]
    assert isinstance(tail[0], Garbage)
    assert tail[1:] == [Ready()]


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n", b"m-ready\r\n", b"m-lap-us-7\n"]))))
def test_no_bytes_make_the_parser_raise_and_none_is_lost(chunks: list[bytes]) -> None:
    parser = Parser()
    heard = [item for chunk in chunks for item in parser.feed(chunk)]
    taken = sum(len(item.event.data) if isinstance(item.event, Garbage) else len(item.line) for item in heard)
    sent = b"".join(chunks)
    blank = sum(sent.count(byte) for byte in (b"\r", b"\n", b" ", b"\t"))
    assert len(sent) - blank <= taken + len(parser.pending) <= len(sent)


@given(st.binary(max_size=3 * LINE_LIMIT), st.lists(st.integers(0, 3 * LINE_LIMIT)))
def test_chunks_do_not_matter(data: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parser = Parser()
    cut_up: list[Heard] = [item for start, stop in pairwise(bounds) for item in parser.feed(data[start:stop])]
    assert cut_up == Parser().feed(data)


@given(st.binary(min_size=1, max_size=600), st.integers(1, 31))
def test_what_is_loaded_arrives_whole_and_fits_the_buffer(data: bytes, chunk_bytes: int) -> None:
    start, *parts = load_commands(data, chunk_bytes)
    assert start == f"db load {len(data)}"
    assert b"".join(bytes.fromhex(part.removeprefix("db ")) for part in parts) == data
    assert all(len(encode_command(part)) <= COMMAND_LIMIT for part in parts)


@pytest.mark.parametrize("text", ["", "a%b", "naïve", "a\nb", "x" * COMMAND_LIMIT])
def test_what_a_board_cannot_take_is_not_sent(text: str) -> None:
    with pytest.raises(ValueError, match="board"):
        encode_command(text)


@pytest.mark.parametrize(("data", "chunk"), [(b"", 31), (b"x", 0), (b"x", 32)])
def test_a_load_that_cannot_be_is_refused(data: bytes, chunk: int) -> None:
    with pytest.raises(ValueError, match=r"board|byte"):
        list(load_commands(data, chunk))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_lap_survives_the_wrap_of_its_counter(first: int, duration: int) -> None:
    assert lap_duration_us(first, (first + duration) % 2**32) == duration


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 10**6), min_size=1, max_size=20))
def test_a_millisecond_counter_is_seen_as_one_across_its_wrap(start: int, steps_ms: list[int]) -> None:
    readings = [start]
    for step_ms in steps_ms:
        readings.append((readings[-1] + step_ms * 1000) % 2**32)
    assert lap_resolution_us(readings) % 1000 == 0


def test_readings_that_tell_nothing_give_the_finest_resolution() -> None:
    assert lap_resolution_us([5, 5]) == 1
    assert lap_resolution_us([]) == 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 10**9))
def test_a_single_window_is_not_taken_for_the_step_of_the_counter_that_timed_it(start: int, window_us: int) -> None:
    """Two readings have one difference, which divides itself: the protocol's 1 kHz is all that is known."""
    step_us = lap_resolution_us([start, (start + window_us) % 2**32])
    assert step_us == min(window_us, 1000)


def test_a_counter_slower_than_the_protocol_allows_is_seen_where_enough_readings_show_it() -> None:
    assert lap_resolution_us([0, 10_050_000, 12_100_000, 22_150_000]) == 50_000
    assert lap_resolution_us([0, 10_050_000, 12_100_000]) == 1000


def test_real_boards_are_understood_to_the_last_line() -> None:
    unknown: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    models: Counter[str] = Counter()
    for log in session_logs():
        data = "".join(f"{line}\r\n" for exchange in exchanges(log) for line in exchange.lines).encode()
        for event in events(data):
            kinds[type(event).__name__] += 1
            if isinstance(event, Other):
                unknown[event.line] += 1
            if isinstance(event, Model):
                models[event.model] += 1
    assert kinds["Garbage"] == 0
    assert set(unknown) == {
        "[dut]: Initialized",
        "[dut]: 4 bytes lost due to alignment. To avoid this loss, please make sure the tensor_arena is 16 bytes "
        "aligned.",
    }
    assert kinds["InferStart"] == kinds["InferDone"] == kinds["Results"] > 3000
    assert set(models) == {"ad01", "ic01", "kws01", "vww01"}
