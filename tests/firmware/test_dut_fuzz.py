"""Whatever comes down the line, the board lives on, answers each command once, and says what it refuses."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .native_board import NativeBoard, lines_of

PIECES = [b"name", b"profile", b"results", b"timestamp", b"help", b"infer", b"db", b"load", b"print", b"0", b"1", b"-"]
PIECES += [b"64", b"27648", b"4294967296", b"ff", b"a5" * 31, b"zz", b" ", b" ", b" ", b"%", b"%", b"\r\n", b"\x00"]

commands = st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join)
noise = st.binary(max_size=300)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.one_of(commands, noise), min_size=1, max_size=6))
def test_garbage_never_stops_the_board(checked_images: Path, pieces: list[bytes]) -> None:
    with NativeBoard(checked_images / "digits01-energy.elf") as board:
        sent = b"".join(pieces) + b"%"
        replies = lines_of(board.send(sent))
        assert replies.count("m-ready") == sent.count(b"%")
        assert board.ask("name") == ["m-name-dut-[labd]", "m-ready"]
        assert board.power_off() == (0, "")


def test_a_whole_session_touches_no_memory_that_is_not_its_own(checked_images: Path) -> None:
    for mode in ("energy", "performance"):
        with NativeBoard(checked_images / f"digits01-{mode}.elf") as board:
            board.load(bytes(range(64)))
            assert board.ask("infer 3 2")[-1] == "m-ready"
            assert board.ask("db load 27648")[0] == "m-[Expecting 27648 bytes]"
            for _ in range(27648 // 36):
                assert board.ask("db " + "5a" * 36)[-1] == "m-ready"
            assert board.ask("infer 1 0")[0].startswith("e-[The model takes 64 bytes")
            assert board.power_off() == (0, "")
