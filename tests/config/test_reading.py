"""What an operator sees when lab.toml is right, wrong once, or wrong in many ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from labd.benchmarks import Mode
from labd.config import LabConfig
from labd.config.reading import inspect, load
from labd.errors import ConfigError, Fault
from tests.config.bench_drivers import DRIVERS

HERE = Path(__file__).parent
GOOD = (HERE / "good.toml").read_text()


def read(folder: Path, text: str) -> LabConfig:
    path = folder / "lab.toml"
    path.write_text(text)
    return load(path, DRIVERS)


def faults_of(folder: Path, text: str) -> tuple[Fault, ...]:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return caught.value.faults


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def test_a_right_file_becomes_models_with_absolute_paths(tmp_path: Path) -> None:
    lab = read(tmp_path, GOOD)
    assert [board.id for board in lab.board] == ["one", "two"]
    assert lab.lab.data_dir == tmp_path / "var"
    assert lab.store.database_url == f"sqlite:///{tmp_path}/var/labd.db"
    assert lab.firmware_for(lab.board[0], "digits01", Mode.ACCURACY) == tmp_path / "build/p.elf"


def test_a_byte_order_mark_is_no_fault_and_shifts_no_line(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + GOOD) == read(tmp_path, GOOD)
    broken = "\ufeff" + GOOD + "\n[nonsense]\n"
    assert faults_of(tmp_path, broken) == faults_of(tmp_path, broken.removeprefix("\ufeff"))


def test_a_baud_rate_that_is_not_given_is_the_one_of_eembc(tmp_path: Path) -> None:
    serial = read(tmp_path, GOOD).board[1].serial
    assert (serial.baud_for(Mode.ACCURACY), serial.baud_for(Mode.ENERGY)) == (230400, 9600)


def test_images_that_are_not_built_yet_are_only_warned_of() -> None:
    seen = inspect(HERE / "good.toml", DRIVERS)
    assert seen.config is not None
    assert {warning.key for warning in seen.warnings} == {
        "firmware[0].images.energy",
        "firmware[0].images.performance",
    }


def test_five_different_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(HERE / "five_faults.toml")
    assert [(fault.key, fault.line) for fault in caught.value.faults] == [
        ("board[0].tag", 17),
        ("board[0].supply.voltage_v", 19),
        ("board[0].timing.pulse_us", 21),
        ("board[1].limits.current_max_a", 26),
        ("board[2].serial.port", 34),
    ]
    assert all(fault.message and fault.remedy for fault in caught.value.faults)
    assert "did you mean 'tags'" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ('name = "paper"', 'name = "Paper Lab"', "lab.name", "lower-case"),
        ('name = "paper"', "", "lab.name", "add name"),
        ('data_dir = "var"', 'data_dir = "lab.toml"', "lab.data_dir", "is a file"),
        ("[mqtt]", "[mqqt]", "mqqt", "did you mean 'mqtt'"),
        ("mqtt://127", "http://127", "mqtt.url", "does not begin with mqtt://"),
        ("mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:99999", "mqtt.url", "has no port"),
        ("mqtt://127.0.0.1:1883", "mqtt://me:word@127.0.0.1", "mqtt.url", "password"),
        ("mqtt://127.0.0.1:1883", "mqtt://", "mqtt.url", "not a host and a port"),
        ("[store]", 'ca = "ca.pem"\n[store]', "mqtt.ca", "there is no file"),
        ("sqlite:///var/labd.db", "oracle://db", "store.database_url", "neither SQLite nor PostgreSQL"),
        ("[store]", '[http]\nlisten = "8080"\n[store]', "http.listen", "is not host:port"),
        ("[store]", '[http]\nlisten = "127.0.0.1:x"\n[store]', "http.listen", "has no port"),
        ("[store]", "[keep]\nlow_db = 1\n[store]", "keep.low_db", "did you mean 'low_gb'"),
        ("[store]", '[keep]\nmax_age_days = "30"\n[store]', "keep.max_age_days", "without quotes"),
        ("[store]", "[keep]\nmax_size_gb = 0\n[store]", "keep.max_size_gb", "larger"),
        ("[store]", "[keep]\nlow_gb = 1\n[store]", "keep.critical_gb", "2 GB is not below low_gb = 1"),
        ("[store]", "[keep]\nlow_gb = 3\ncritical_gb = 3\n[store]", "keep.critical_gb", "raise low_gb"),
        ("[store]", "[keep]\nreclaim = 1\n[store]", "keep.reclaim", "true or false"),
        ("[store]", '[[keep.rule]]\noutcome = ["failed"]\n[store]', "keep.rule[0]", "add max_age_days"),
        ("[store]", "[[keep.rule]]\nkeep = true\n[store]", "keep.rule[0]", "which traces"),
        ("[store]", "[[keep.rule]]\nlabel = { a = 'b' }\nkeep = true\nmax_age_days = 3\n[store]",
         "keep.rule[0].max_age_days", "no age limit"),
        ("[store]", "[[keep.rule]]\noutcome = ['failed']\nkeep = true\n[[keep.rule]]\noutcom = ['x']\n[store]",
         "keep.rule[1].outcom", "did you mean 'outcome'"),
        ("[store]", "[[keep.rule]]\noutcome = ['fail']\nkeep = true\n[store]", "keep.rule[0].outcome[0]", "'failed'"),
        ("[store]", "[[keep.rule]]\nlabel = { a = 1 }\nkeep = true\n[store]", "keep.rule[0].label.a", "quotes"),
        ("[store]", "[keep.rule]\nkeep = true\n[store]", "keep.rule", "write a list"),
        ('driver = "paper-psu"', 'driver = "paper-ps"', "instrument[0].driver", "did you mean 'paper-psu'"),
        ('driver = "paper-psu"', 'driver = "paper-broken"', "instrument[0].driver", "No module named 'libusb'"),
        ("resource = ", "resourse = ", "instrument[0].resourse", "did you mean 'resource'"),
        ('id = "stamps-1"', 'id = "psu-1"', "instrument[1].id", "used twice"),
        ('id = "two"', 'id = "one"', "board[1].id", "taken by board one"),
        ("[[firmware]]", "[[firmwares]]", "firmwares", "did you mean 'firmware'"),
        ('supply = { instrument = "psu', 'supply = { instrument = "pso', "board[0].supply.instrument", "'psu-1'?"),
        ('supply = { instrument = "psu', 'supply = { instrument = "stamps', "board[0].supply.instrument", "psu-1"),
        ('measure = { instrument = "psu', 'measure = { instrument = "stamps', "board[0].measure.instrument", "psu-1"),
        ('timing = { instrument = "stamps', 'timing = { instrument = "psu', "board[0].timing.instrument", "stamps-1"),
        ("channel = 1, voltage_v = 3.0", "channel = 9, voltage_v = 3.0", "board[0].supply.channel", "1, 2, 3, 4"),
        ("channel = 1, voltage_v", "channel = 2, voltage_v", "board[1].supply.channel", "taken by board one"),
        ("voltage_max_v = 3.6", "voltage_max_v = 2.9", "board[0].supply.voltage_v", "above the board's limit"),
        ("voltage_v = 3.0 }", "voltage_v = 3.0, off_below_v = 3.0 }", "board[0].supply.off_below_v", "count as off"),
        ('measure = { instrument = "psu-1", channel = 1 }', 'measure = { instrument = "psu-1", channel = 2 }',
         "board[1].measure.channel", "taken by board one"),
        ("channel = 1 }", "channel = 1, current_range_a = 5 }", "board[0].measure.current_range_a", "largest range"),
        ("pin = 0, sync_pin = 15", "pin = 1, sync_pin = 15", "board[1].timing.pin", "taken by board one"),
        ("pin = 0, sync_pin = 15", "pin = 99", "board[0].timing.pin", "no pin 99"),
        ("pin = 0, sync_pin = 15", "pin = 0, sync_pin = 3", "board[0].timing.sync_pin", "cannot put out a pulse"),
        ("pin = 0, sync_pin = 15", "pin = 15, sync_pin = 15", "board[0].timing.pin", "a sync pin too"),
        ("pin = 0, sync_pin = 15", "pin = 0, pulse_us = 0.5", "board[0].timing.pulse_us", "shorter than the 1 µs"),
        ("pin = 0, sync_pin = 15", 'pin = 0, method = "sampled"', "board[0].timing.method", "does not sample"),
        ("pin = 0, sync_pin = 15", 'pin = 0, method = "guessed"', "board[0].timing.method", "'timestamped'"),
        ("/dev/ttyPaper1", "/dev/ttyPaperStamps", "board[1].serial.port", "taken by instrument stamps-1"),
        ("performance = 230400", "energi = 230400", "board[1].serial.baud.energi", "'energy'"),
        ('ttyPaper0"', 'ttyPaper0", driver = "paper-psu"', "board[0].serial.driver", "not serve as serial"),
        ('benchmark = "digits01"', 'benchmark = "digit01"', "firmware[0].benchmark", "did you mean 'digits01'"),
        (', energy = "build/e.elf"', "", "firmware[0].images", "no image for mode energy, which one, two can run"),
        ('energy = "build/e.elf"', 'energy = "build/e.elf", accuracy = "a"', "firmware[0].images.accuracy", "remove"),
        ('tags = ["cortex-m4f"]', 'tags = "cortex-m4f"', "board[0].tags", "write a list"),
        ('tags = ["cortex-m4f"]', "tags = [4]", "board[0].tags[0]", "quotes"),
    ],
)  # fmt: skip
def test_a_fault_names_its_key_and_remedy(tmp_path: Path, old: str, new: str, key: str, words: str) -> None:
    faults = {fault.key: fault for fault in faults_of(tmp_path, changed(old, new))}
    assert key in faults
    assert words in f"{faults[key].message}; {faults[key].remedy}"
    assert faults[key].line is not None


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("pin = 0, sync_pin = 15", "pin = 0, sync_pin = 3", "board[0].timing.sync_pin"),
        ('resource = "', 'extra = 1\nresource = "', "instrument[0].extra"),
        ("channel = 1, voltage_v = 3.0", 'channel = 1, voltage_v = "3"', "board[0].supply.voltage_v"),
        ('name = "paper"', "", "lab.name"),
    ],
)
def test_one_fault_does_not_breed_others(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert {fault.key for fault in faults_of(tmp_path, changed(old, new))} == {key}


def test_two_boards_cannot_be_flashed_by_one_probe(tmp_path: Path) -> None:
    flash = 'flash = { driver = "paper-flash", port = "/dev/ttyProbe" }\n'
    (fault,) = faults_of(tmp_path, GOOD.replace("serial = ", f"{flash}serial = "))
    assert (fault.key, "taken by board one" in fault.message) == ("board[1].flash", True)


def test_the_example_is_accepted_with_the_drivers_that_are_installed() -> None:
    assert [board.id for board in load(HERE.parents[1] / "lab.toml").board] == ["l4r5zi-1", "l4r5zi-2"]


def test_nothing_is_removed_unless_the_file_says_so(tmp_path: Path) -> None:
    keep = read(tmp_path, GOOD).keep
    assert (keep.max_age_days, keep.max_size_gb, keep.reclaim, keep.rule) == (None, None, False, ())
    assert (keep.low_gb, keep.critical_gb) == (5, 2)
    off = read(tmp_path, changed("[store]", "[keep]\nlow_gb = 0\ncritical_gb = 0\n[store]")).keep
    assert (off.low_gb, off.critical_gb) == (0, 0)


def test_a_rule_that_no_trace_ever_meets_is_warned_of(tmp_path: Path) -> None:
    rules = """
        [[keep.rule]]
        outcome = ["failed", "invalid"]
        max_age_days = 30
        [[keep.rule]]
        outcome = ["failed"]
        label = { campaign = "paper" }
        keep = true
        [[keep.rule]]
        label = { campaign = "paper" }
        keep = true
        """
    path = tmp_path / "lab.toml"
    path.write_text(GOOD + rules)
    (warning,) = (each for each in inspect(path, DRIVERS).warnings if each.key.startswith("keep"))
    assert (warning.key, "keep.rule[0]" in warning.message) == ("keep.rule[1]", True)


SECOND_PSU = """
[[instrument]]
id = "psu-2"
driver = "{driver}"
resource = "TCPIP::192.0.2.11::5025::SOCKET"
"""


def second_psu(driver: str) -> str:
    """The good lab with its second board on a second supply of that driver."""
    text = changed('supply = { instrument = "psu-1", channel = 2', 'supply = { instrument = "psu-2", channel = 2')
    measured = 'measure = { instrument = "psu-1", channel = 2 }'
    assert measured in text
    return text.replace(measured, measured.replace("psu-1", "psu-2")) + SECOND_PSU.format(driver=driver)


def test_a_sync_pin_serves_several_inputs_of_one_level_and_not_of_two(tmp_path: Path) -> None:
    assert len(read(tmp_path, second_psu("paper-psu")).instrument) == 3
    (fault,) = faults_of(tmp_path, second_psu("paper-high-psu"))
    assert fault.key == "board[1].timing.sync_pin"
    assert "cannot rest low for psu-2 and high for psu-1" in fault.message


def test_a_trigger_input_of_unknown_level_is_not_pulsed(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, second_psu("paper-mute-psu"))
    assert (fault.key, "does not say which level" in fault.message) == ("board[1].timing.sync_pin", True)


def test_a_pulse_that_the_source_cannot_make_long_enough_is_refused(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, second_psu("paper-slow-psu"))
    assert (fault.key, "at least 2 s" in fault.message) == ("board[1].timing.sync_pin", True)


@pytest.mark.parametrize(("pulse_us", "seen"), [(1.9, False), (2, True)])
def test_a_sampled_pulse_must_last_two_samples(tmp_path: Path, pulse_us: float, seen: bool) -> None:
    scope = '[[instrument]]\nid = "scope-1"\ndriver = "paper-scope"\nresource = "x"\n'
    text = changed(
        'measure = { instrument = "psu-1", channel = 1 }', 'measure = { instrument = "scope-1", channel = 1 }'
    )
    timing = f'timing = {{ instrument = "scope-1", pin = 0, method = "sampled", pulse_us = {pulse_us} }}'
    text = scope + text.replace('timing = { instrument = "stamps-1", pin = 0, sync_pin = 15 }', timing)
    if seen:
        assert read(tmp_path, text).board[0].timing is not None
    else:
        (fault,) = faults_of(tmp_path, text)
        assert (fault.key, "2 µs or more" in fault.remedy) == ("board[0].timing.pulse_us", True)


@pytest.mark.parametrize(
    ("text", "line"),
    [("[lab]\nname = \n", 2), ("[lab\n", 1), ("[lab]\nname = 'x'\nname = 'y'\n", 3), ("[lab]\nx = [1,\n", 2)],
)
def test_a_syntax_error_names_its_line(tmp_path: Path, text: str, line: int) -> None:
    (fault,) = faults_of(tmp_path, text)
    assert fault.line == line


def test_a_driver_that_nobody_uses_may_be_broken(tmp_path: Path) -> None:
    assert "paper-broken" in DRIVERS
    assert read(tmp_path, GOOD).lab.name == "paper"


def test_a_board_table_with_single_brackets_is_explained(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, '[lab]\nname = "x"\n[board]\nid = "one"\n')
    assert (fault.line, fault.remedy) == (3, "write [[board]] with two brackets")


def test_listening_beyond_loopback_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(changed("[store]", '[http]\nlisten = "0.0.0.0:8080"\n[store]'))
    assert "http.listen" in {warning.key for warning in inspect(path, DRIVERS).warnings}


def test_a_file_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.toml", DRIVERS)


def test_a_file_that_is_not_text_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_bytes(b"\xff\xfe[lab]")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(path, DRIVERS)
