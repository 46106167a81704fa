"""What lies in a tree is found by its content; what cannot be read is named, and keeps nothing else from being read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from labd.benchmarks import Mode
from labd.trace.sessions.folders import DEPTH_MAX, find_sessions, survey
from labd.trace.sessions.published import SessionError
from tests.trace.sessions.published_folders import EnergyRunnerSession, MlcommonsSession, StreamingSession

BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("name", ["power", "Power", "Energy", "enegy", "energy_run", "messung"])
def test_energy_is_known_by_its_files_whatever_its_folder_is_called(tmp_path: Path, name: str) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    made.write_energy().rename(made.folder / name)
    made.write_performance([10_000_000])
    (session,) = find_sessions(tmp_path)
    assert set(session.sets) == {Mode.ENERGY, Mode.PERFORMANCE}
    assert len(session.sets[Mode.ENERGY].spans) == 3
    (alone,) = find_sessions(made.folder / name)
    assert list(alone.sets) == [Mode.ENERGY]


def test_a_second_set_of_a_mode_is_a_session_of_its_own(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    made.write_energy().rename(made.folder / "power")
    made.write_energy()
    assert [session.name for session in find_sessions(tmp_path)] == ["kws", "kws/power"]


def test_what_lies_beside_a_session_and_is_of_another_model_is_one_of_its_own(tmp_path: Path) -> None:
    EnergyRunnerSession(tmp_path / "kws").write_energy()
    made = EnergyRunnerSession(tmp_path / "kws", model="ic01")
    made.write_performance([10_000_000]).rename(tmp_path / "kws" / "other")
    assert [session.model for session in find_sessions(tmp_path)] == ["kws01", "ic01"]


@pytest.mark.parametrize("runner", ["energyrunner", "mlcommons"])
def test_every_text_of_a_session_may_begin_with_a_byte_order_mark(tmp_path: Path, runner: str) -> None:
    plain, marked = tmp_path / "plain" / "kws", tmp_path / "marked" / "kws"
    for folder in (plain, marked):
        if runner == "energyrunner":
            EnergyRunnerSession(folder).write_energy()
        else:
            MlcommonsSession(folder / "energy").write()
    for path in (marked / "energy").iterdir():
        if path.suffix != ".bin":
            path.write_bytes(BOM + path.read_bytes())
    (expected,), (read,) = find_sessions(plain), find_sessions(marked)
    first, second = expected.sets[Mode.ENERGY], read.sets[Mode.ENERGY]
    assert first.printed == second.printed
    assert first.inferences == second.inferences
    assert [span for _, span in first.spans] == [span for _, span in second.spans]
    assert (first.began, first.board) == (second.began, second.board)


def _without(*words: str) -> Callable[[str], str]:
    """The text less the first line that holds these words."""

    def drop(text: str) -> str:
        lines = text.split("\n")
        lines.remove(next(line for line in lines if all(word in line for word in words)))
        return "\n".join(lines)

    return drop


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_without("Energy data for window 2"), "prints 'Energy' before any window's heading"),
        (_without("Energy data for window 4"), "the energy of window 2 has 'Energy' twice"),
        (_without("Performance results for window 2"), "'# Inferences' stands below the energy of window 6"),
        (_without("Performance results for window 4"), "the performance of window 2 has '# Inferences' twice"),
        (_without("Median throughput"), "ends without the median throughput"),
        (_without("Median energy"), "ends without the median energy"),
        (lambda text: text[text.index("-----") :], "it prints no energy window, and a trace lies beside it"),
        (lambda text: text + "\n1.0 x: Median energy cost is 1.000 uJ/inf.", "two values of median uj per inference"),
    ],
)
def test_a_heading_or_a_median_that_is_lost_is_named(tmp_path: Path, damage: Callable[[str], str], words: str) -> None:
    results = EnergyRunnerSession(tmp_path / "kws").write_energy() / "results.txt"
    results.write_text(damage(results.read_text()))
    with pytest.raises(SessionError, match=words) as caught:
        find_sessions(tmp_path)
    assert caught.value.where == str(results)


def test_lines_that_are_written_several_times_over_are_read_once(tmp_path: Path) -> None:
    folder = EnergyRunnerSession(tmp_path / "kws").write_performance([10_000_000, 10_100_000])
    before = find_sessions(folder)[0].sets[Mode.PERFORMANCE].printed
    results = folder / "results.txt"
    results.write_text("".join(3 * f"{line}\n" for line in results.read_text().splitlines()))
    assert find_sessions(folder)[0].sets[Mode.PERFORMANCE].printed == before


def test_a_carriage_return_before_a_boards_line_ends_no_line_of_the_log(tmp_path: Path) -> None:
    folder = EnergyRunnerSession(tmp_path / "kws").write_performance([10_000_000])
    log = folder / "log.txt"
    log.write_bytes(log.read_bytes().replace(b"dut: m-", b"dut: \rm-"))
    (inference,) = find_sessions(folder)[0].sets[Mode.PERFORMANCE].inferences
    assert len(inference.laps_us) == 2
    assert inference.results == (0.1, 0.9)


def test_files_with_the_mode_before_their_names_are_read_and_hidden_ones_are_not(tmp_path: Path) -> None:
    folder = EnergyRunnerSession(tmp_path / "kws").write_performance([10_000_000])
    for name in ("log.txt", "results.txt"):
        (folder / name).rename(folder / f"performance_{name}")
        (folder / f"._{name}").write_bytes(b"\x00\x05\x16\x07")
    (session,) = find_sessions(tmp_path)
    assert len(session.sets[Mode.PERFORMANCE].printed.rates) == 1


@pytest.mark.parametrize("results_json", [True, False])
def test_a_board_that_also_heard_a_stream_is_read_with_all_its_benchmarks(tmp_path: Path, results_json: bool) -> None:
    MlcommonsSession(tmp_path / "board" / "kws" / "energy").write()
    StreamingSession(tmp_path / "board" / "sww" / "energy").write(results_json=results_json)
    StreamingSession(tmp_path / "board" / "sww" / "performance").write()
    found = survey(tmp_path)
    assert [session.name for session in found.sessions] == ["board/kws", "board/sww"]
    assert found.left_out == ()
    energy = found.sessions[1].sets[Mode.ENERGY]
    assert len(energy.spans) == (1 if results_json else 0)
    assert ["results.json is missing" in each for each in energy.lacks] == ([] if results_json else [True])


def test_a_missing_results_json_is_the_reason_and_spoils_nothing_else(tmp_path: Path) -> None:
    EnergyRunnerSession(tmp_path / "ad").write_energy()
    (MlcommonsSession(tmp_path / "kws" / "energy").write() / "results.json").unlink()
    found = survey(tmp_path)
    assert [session.name for session in found.sessions] == ["ad"]
    (left,) = found.left_out
    assert left.folder == tmp_path / "kws" / "energy"
    assert str(left.reason).endswith("results.json: results.json is missing")


def test_accuracy_without_its_json_is_read_as_far_as_it_is_printed(tmp_path: Path) -> None:
    folder = tmp_path / "vww" / "accuracy"
    folder.mkdir(parents=True)
    (folder / "results.txt").write_text("0726.023345 ulp-mlperf: Top 1% = 85.2\n0726.023345 ulp-mlperf: AUC = 0.936\n")
    results = find_sessions(tmp_path)[0].sets[Mode.ACCURACY]
    assert results.format == "mlcommons"
    assert (float(results.printed.top1_percent or 0), results.inferences) == (85.2, ())
    assert results.lacks


@pytest.mark.parametrize(
    "empty",
    [lambda folder: None, lambda folder: (folder / "energy.png").write_bytes(b"\x89PNG")],
    ids=["empty", "a picture"],
)
def test_a_folder_of_a_mode_that_lost_its_files_is_named(tmp_path: Path, empty: Callable[[Path], object]) -> None:
    EnergyRunnerSession(tmp_path / "kws").write_performance([10_000_000])
    (tmp_path / "kws" / "energy").mkdir()
    empty(tmp_path / "kws" / "energy")
    found = survey(tmp_path)
    assert [list(session.sets) for session in found.sessions] == [[Mode.PERFORMANCE]]
    assert ["results.txt is missing" in str(left.reason) for left in found.left_out] == [True]


def test_links_and_what_lies_too_deep_are_named(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "tree" / "kws")
    made.write_performance([10_000_000])
    EnergyRunnerSession(tmp_path / "elsewhere").write_energy()
    (made.folder / "energy").symlink_to(tmp_path / "elsewhere" / "energy")
    deep = tmp_path / "tree" / "/".join(["a"] * (DEPTH_MAX + 2))
    deep.mkdir(parents=True)
    reasons = [left.reason.message for left in survey(tmp_path / "tree").left_out]
    assert sorted(reasons) == [f"it lies more than {DEPTH_MAX} folders deep", "links to folders are not followed"]


def test_several_damaged_sets_are_all_named(tmp_path: Path) -> None:
    for name in ("ad", "kws"):
        (EnergyRunnerSession(tmp_path / name).write_energy() / "results.txt").unlink()
    found = survey(tmp_path)
    assert found.sessions == ()
    assert [left.folder.parent.name for left in found.left_out] == ["ad", "kws"]


def test_an_error_that_the_runner_met_is_told(tmp_path: Path) -> None:
    made = MlcommonsSession(tmp_path / "kws" / "energy")
    folder = made.write()
    made.entries[1]["error"] = "error 2"
    (folder / "results.json").write_text(json.dumps(made.entries))
    assert find_sessions(tmp_path)[0].sets[Mode.ENERGY].lacks == ("results.json[1] tells of an error: error 2",)
