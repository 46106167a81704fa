from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.virtual.scpi import Args, ScpiDevice, ScpiError, block, boolean, channels, keyword, number, one


@pytest.fixture
def device() -> ScpiDevice:
    return build()


def build() -> ScpiDevice:
    level = {"volt": 0.0}
    built = ScpiDevice("Maker,Model,1,2", reset=lambda: level.update(volt=0.0), trigger=lambda: None)

    def set_level(args: Args) -> None:
        level["volt"] = number(one(args), unit="V", low=0, high=20)

    built.add("[SOURce:]VOLTage[:LEVel][:IMMediate]", on_set=set_level, on_query=lambda args: f"{level['volt']:g}")
    built.add("SENSe:ELOG:PERiod", on_query=lambda args: "period")
    built.add("SENSe:ELOG:FUNCtion", on_query=lambda args: "function")
    built.add("DATA", on_query=lambda args: block(b"\n;\x00"))
    return built


@pytest.mark.parametrize(
    "command", ["VOLT 3.3", "volt 3.3V", ":VOLTage 3300 mV", "SOUR:VOLT:LEV:IMM 3.3", "source:voltage:level 33E-1"]
)
def test_a_level_can_be_set_in_every_form_of_the_standard(device: ScpiDevice, command: str) -> None:
    assert device.execute(command.encode()) == b""
    assert device.execute(b"VOLT?") == b"3.3\n"
    assert device.execute(b"SYST:ERR?") == b'+0,"No error"\n'


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"VOLTA 1", -113),
        (b"FOO?", -113),
        (b"SENS:ELOG:PER 1", -113),
        (b"VOLT", -109),
        (b"VOLT 1,2", -108),
        (b"VOLT 21", -222),
        (b"VOLT 1 A", -131),
        (b"VOLT abc", -121),
        (b"VOLT \xff", -101),
    ],
)
def test_a_fault_stands_in_the_error_queue_under_its_number(device: ScpiDevice, command: bytes, code: int) -> None:
    assert device.execute(command) == b""
    assert device.execute(b"SYST:ERR?").startswith(str(code).encode())
    assert device.execute(b"SYST:ERR?") == b'+0,"No error"\n'


def test_units_of_one_message_share_the_path_and_answer_together(device: ScpiDevice) -> None:
    assert device.execute(b"SENS:ELOG:PER?;FUNC?;*OPC?;PER?;:VOLT?") == b"period;function;1;period;0\n"


def test_a_command_error_drops_the_rest_of_the_message_and_an_execution_error_does_not(device: ScpiDevice) -> None:
    device.execute(b"NONE;:VOLT 5")
    assert device.execute(b"VOLT?") == b"0\n"
    device.execute(b"VOLT 99;:VOLT 5")
    assert device.execute(b"VOLT?") == b"5\n"


def test_the_error_queue_overflows_with_350(device: ScpiDevice) -> None:
    for _ in range(30):
        device.execute(b"FOO")
    codes = [device.execute(b"SYST:ERR?").split(b",")[0] for _ in range(20)]
    assert codes == [b"-113"] * 19 + [b"-350"]
    assert device.execute(b"SYST:ERR?").startswith(b"+0")


def test_status_registers_follow_the_errors(device: ScpiDevice) -> None:
    assert device.execute(b"*ESR?") == b"128\n"
    device.execute(b"*ESE 48;*SRE 32;FOO")
    assert device.execute(b"*STB?") == b"100\n"
    device.execute(b"VOLT 99")
    assert device.execute(b"*ESR?") == b"48\n"
    assert device.execute(b"*ESR?") == b"0\n"
    device.execute(b"*CLS")
    assert device.execute(b"*STB?") == b"0\n"
    device.execute(b"*OPC")
    assert device.execute(b"*ESR?") == b"1\n"


def test_reset_and_identity_and_blocks(device: ScpiDevice) -> None:
    device.execute(b"VOLT 5")
    device.execute(b"*RST")
    assert device.execute(b"*IDN?;*OPT?;VOLT?") == b"Maker,Model,1,2;0;0\n"
    assert device.execute(b"DATA?") == b"#13\n;\x00\n"


def test_parameters() -> None:
    assert channels("(@1,3:4)", range(1, 5)) == [1, 3, 4]
    assert channels("(@4:2)", range(1, 5)) == [4, 3, 2]
    assert keyword("imm", "IMMediate", "BUS") == "IMM"
    assert boolean("ON") is True
    assert number("MAX", unit="S", low=0, high=7) == 7
    assert number("204.8 US", unit="S", low=0, high=7) == pytest.approx(204.8e-6)
    for text, code in (("(@5)", -222), ("1", -170), ("(@1:2:3)", -170), ("(@)", -170)):
        with pytest.raises(ScpiError) as caught:
            channels(text, range(1, 5))
        assert caught.value.code == code


@given(st.binary(max_size=200))
def test_no_message_kills_the_device(message: bytes) -> None:
    fuzzed = build()
    fuzzed.execute(message)
    fuzzed.execute(b"*CLS")
    assert fuzzed.execute(b"*IDN?") == b"Maker,Model,1,2\n"


@given(st.lists(st.sampled_from(["VOLT", "SENS", ":", "?", ";", " ", "(@1", ")", ",", "1E9", "*RST", "'", "MAX", "V"])))
def test_no_heap_of_known_words_kills_the_device(words: list[str]) -> None:
    fuzzed = build()
    fuzzed.execute("".join(words).encode())
    fuzzed.execute(b"*CLS")
    assert fuzzed.execute(b"*IDN?") == b"Maker,Model,1,2\n"
