"""Which board can serve which job, what a board is known to say, and the one text of a requirement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.api import find_drivers
from labd.benchmarks import Mode
from labd.config.derived import capabilities_of, lab_facts
from labd.errors import RequestError
from labd.schedule.fleet import Fleet
from labd.schedule.match import Requirement, can_ever_match, candidates
from tests.schedule.rack import BOARDS, rack
from tests.schedule.simulation import fleet

requirements = st.builds(
    Requirement,
    benchmark=st.sampled_from(["digits01", "kws01"]),
    mode=st.sampled_from(Mode),
    board_id=st.none() | st.sampled_from([*BOARDS, "nowhere"]),
    tags=st.frozensets(st.sampled_from(["m4", "m7", "fpu"]), max_size=3),
    voltage_v=st.none() | st.floats(1.0, 6.0),
    firmware=st.none() | st.sampled_from(["labd-dut", "other"]),
    require=st.sampled_from(["", 'tag("m4")', "clock_ppm < 200", 'id == "b1"']),
)


@given(one=requirements, other=requirements)
def test_equal_requirements_have_one_text_and_others_another(one: Requirement, other: Requirement) -> None:
    assert Requirement.parse(one.canonical()) == one
    assert (one.canonical() == other.canonical()) is (one == other)
    assert None not in json.loads(one.canonical()).values()


@given(need=requirements)
def test_the_set_of_boards_is_that_of_the_candidates(need: Requirement) -> None:
    boards = Fleet(rack())
    fits = list(boards.ids(boards.fits(need)))
    assert fits == candidates(need, rack())
    for board_id in BOARDS:
        assert (boards.refusal(need, board_id) is None) is (board_id in fits)


def test_what_can_never_match_names_the_field_and_every_board() -> None:
    config = rack()
    assert can_ever_match(Requirement("digits01", Mode.ENERGY), config) is None
    mismatch = can_ever_match(Requirement("digits01", Mode.ENERGY, tags=frozenset({"m7"})), config)
    assert mismatch is not None
    assert mismatch.field == "mode", "the only board with the tag has no analyzer"
    assert set(mismatch.reasons) == set(BOARDS)
    nowhere = can_ever_match(Requirement("digits01", Mode.ACCURACY, board_id="nowhere"), config)
    assert nowhere is not None
    assert nowhere.field == "board.id"
    dear = can_ever_match(Requirement("digits01", Mode.ACCURACY, voltage_v=5.5), config)
    assert dear is not None
    assert dear.field == "voltage_v"
    unknown = can_ever_match(Requirement("digits01", Mode.ACCURACY, firmware="other"), config)
    assert unknown is not None
    assert unknown.field == "firmware.name"


def test_an_empty_lab_serves_nobody() -> None:
    empty = rack().model_copy(update={"board": ()})
    mismatch = can_ever_match(Requirement("digits01", Mode.ACCURACY, require="fpu"), empty)
    assert mismatch is not None
    assert "no boards" in mismatch.message


def test_a_contradiction_is_refused_with_what_each_board_says() -> None:
    boards = fleet(4)
    need = Requirement("alpha", Mode.ACCURACY, require="memory_kb >= 256 and fpu")
    mismatch = can_ever_match(need, boards.config, boards.facts)
    assert mismatch is not None
    assert mismatch.field == "require"
    assert mismatch.reasons["b1"] == "says memory_kb = 128, not >= 256 and says fpu = false"
    assert mismatch.reasons["b3"] == "says fpu = false"
    with pytest.raises(RequestError, match="no board says `fpux`"):
        can_ever_match(Requirement("alpha", Mode.ACCURACY, require="fpux"), boards.config, boards.facts)


def test_a_board_says_what_its_instruments_can() -> None:
    config = rack()
    options = {"psu": {"resource": "TCPIP::192.0.2.10::5025::SOCKET"}, "stamps": {"port": "/dev/null9"}}
    instruments = tuple(
        type(each).model_validate({"id": each.id, "driver": each.driver, **options[each.id]})
        for each in config.instrument
    )
    config = config.model_copy(update={"instrument": instruments})
    facts = lab_facts(config, capabilities_of(config, find_drivers()))
    assert facts["b1"]["tags"] == ("m4", "fpu")
    assert facts["b1"]["analyzer.id"] == "psu"
    rate_hz = facts["b1"]["analyzer.rate_hz"]
    assert isinstance(rate_hz, float)
    assert rate_hz > 1000
    resolution_s = facts["b1"]["timing.resolution_s"]
    assert isinstance(resolution_s, float)
    assert 0 < resolution_s < 1e-3
    assert not [name for name in facts["b3"] if name.startswith(("analyzer.", "timing."))], "b3 is not wired for energy"
    fast = Requirement("digits01", Mode.ACCURACY, require=f"analyzer.rate_hz >= {rate_hz / 2}")
    assert candidates(fast, config, facts) == ["b1", "b2"]
    assert "does not say analyzer.rate_hz" in str(Fleet(config, facts).refusal(fast, "b3"))


def test_boards_that_share_something_are_rivals() -> None:
    boards = fleet(4, mux=2)
    assert set(boards.ids(boards.rivals(boards.boards(["b0"])))) == {"b0", "b1"}
    assert set(boards.ids(boards.sharing(["mux-1"]))) == {"b2", "b3"}
    assert "channel psu/1" in boards.resources("b0")
    alone = Fleet(rack(Path("var")))
    assert set(alone.ids(alone.rivals(alone.boards(["b2"])))) == {"b2"}
