"""A published session's figures come out of its samples again, to the digit; what was changed comes out otherwise."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labd.errors import LabError
from labd.score.uncertainty import TermName
from labd.service.sessions.scoring import score_sessions
from labd.trace.sessions.published import SessionError
from tests.trace.sessions.published_folders import (
    EnergyRunnerSession,
    MlcommonsSession,
    StreamingSession,
    reference,
    write_trace,
)


def test_every_window_of_the_reference_sessions_comes_out_at_the_printed_digits() -> None:
    scores = score_sessions(reference())
    windows = [window for score in scores for window in score.windows]
    assert len(windows) >= 30
    assert [window.index for score in scores for window in score.missed] == []
    for score in scores:
        assert score.uj_per_inference.ours == score.uj_per_inference.published is not None
        assert score.inferences_per_s.ours == score.inferences_per_s.published is not None
        assert score.accuracy.agrees
    counted = {score.name: score.accuracy.ours for score in scores if score.accuracy.ours is not None}
    assert sorted(counted.values()) == [0.901, 0.902, 0.902]


def test_our_own_figures_of_the_reference_sessions_lie_by_the_published_ones_within_the_edges() -> None:
    for score in score_sessions(reference()):
        for window in score.windows:
            assert window.own is not None
            timing = window.own.part(TermName.EDGE_PLACEMENT, TermName.EDGE_SAMPLE)
            # The runner counts whole samples: up to one too many or too few at the edges.
            one_sample = float(window.printed) / (window.duration_s / 1e-3)
            assert abs(window.own.value - float(window.printed)) <= 1.1 * one_sample
            assert 0.2 * one_sample < timing < 0.5 * one_sample
            assert window.own.part(TermName.ENERGY_GAIN) == pytest.approx(0.02 * window.own.value / 3**0.5)


def test_a_made_up_energyrunner_session_comes_out_at_the_digits_and_shows_a_changed_sample(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    folder = made.write_energy()
    (score,) = score_sessions(tmp_path / "kws")
    assert [window.is_reproduced for window in score.windows] == [True, True, True]
    assert score.inferences_per_window == 100
    assert score.uj_per_inference.ours == score.uj_per_inference.published is not None
    assert score.inferences_per_s.agrees

    within = int((made.times_s[3] + 0.2) * 1000)  # of the second window
    data = bytearray((folder / "trace1-energy.bin").read_bytes())
    struct.pack_into("<f", data, 5 + 4 * within, made.samples_uj[within] + 0.01)
    (folder / "trace1-energy.bin").write_bytes(data)
    (score,) = score_sessions(tmp_path / "kws")
    assert [window.index for window in score.missed] == [4]
    assert float(score.missed[0].energy - score.missed[0].printed) == pytest.approx(0.01)


def test_a_made_up_mlcommons_session_comes_out_at_the_digits(tmp_path: Path) -> None:
    MlcommonsSession(tmp_path / "kws" / "energy").write()
    (score,) = score_sessions(tmp_path)
    assert [window.index for window in score.windows] == [0, 1, 2]
    assert score.missed == ()
    assert score.inferences_per_window == 250
    assert score.uj_per_inference.agrees


def test_the_monitors_error_is_left_out_where_nobody_states_it_and_the_score_says_so(tmp_path: Path) -> None:
    known = EnergyRunnerSession(tmp_path / "a")
    known.write_energy()
    unknown = EnergyRunnerSession(tmp_path / "b", monitor="js110")
    unknown.write_energy()
    scores = {score.name: score for score in score_sessions(tmp_path)}
    names = {
        name: {term.name for term in score.windows[0].own.terms}
        for name, score in scores.items()
        if score.windows[0].own
    }
    assert names["a"] - names["b"] == {TermName.ENERGY_GAIN, TermName.NOISE}
    assert TermName.CLOCK not in names["a"] | names["b"]
    assert "sample clock" in scores["a"].remarks[0]
    assert "not known here" in scores["b"].remarks[0]


def test_throughput_is_the_performance_results_own_and_survives_a_wrap_of_the_boards_counter(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    made.write_energy()
    made.write_performance([10_000_000, 10_300_000, 10_100_000])
    (score,) = score_sessions(tmp_path / "kws")
    assert score.inferences_per_s.ours == score.inferences_per_s.published == 9.901
    (alone,) = score_sessions(tmp_path / "kws" / "performance")
    assert alone.windows == ()
    assert alone.uj_per_inference.ours is None
    assert (alone.inferences_per_window, alone.inferences_per_s.ours) == (100, 9.901)


def test_accuracy_is_counted_from_each_answer_where_the_inputs_tell_their_class(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    answers = [
        ("tst_000000_Down_0.bin", (0.9, 0.1)),
        ("tst_000001_Go_1.bin", (0.8, 0.2)),
        ("tst_000002_Go_1.bin", (0, 1)),
    ]
    made.write_accuracy(answers, ["Top-1: 66.7%", "AUC: 0.75"])
    (score,) = score_sessions(tmp_path / "kws")
    assert (score.accuracy.ours, score.accuracy.published) == (0.667, 0.667)
    (made.accuracy / "results.txt").write_text("00001.000 ulp-mlperf: Top-1: 99.9%\n")
    (score,) = score_sessions(tmp_path / "kws" / "accuracy")
    assert any("top-1 comes to 0.667, published is 0.999" in remark for remark in score.remarks)


def test_accuracy_of_unlabelled_inputs_is_the_published_one(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "vww")
    made.write_accuracy([("000000343218.bin", (0.1, 0.9))], ["Top-1: 85.4%"])
    (score,) = score_sessions(tmp_path / "vww")
    assert (score.accuracy.ours, score.document()["accuracy"]) == (None, 0.854)
    assert "as published" in score.remarks[0]


def test_anomaly_detection_is_judged_by_the_area_under_its_roc_curve_of_the_files_means(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "ad01")
    answers = [
        ("normal_id_01_1.bin", (10.0,)),
        ("normal_id_01_1.bin", (30.0,)),
        ("normal_id_01_2.bin", (12.0,)),
        ("anomaly_id_01_1.bin", (21.0,)),
        ("anomaly_id_01_2.bin", (15.0,)),
    ]
    made.write_accuracy(answers, ["Top-1: 50.0%", "AUC: 0.75"])
    log = made.accuracy / "log.txt"
    log.write_text(log.read_text().replace("m-model-[kws01]", "m-model-[ad01]"))
    (score,) = score_sessions(tmp_path / "ad01")
    assert (score.accuracy_metric, score.accuracy.ours, score.accuracy.published) == ("AUC", 0.75, 0.75)


SOUNDS = [
    ("normal_id_01_1.bin", (10.0,)),
    ("normal_id_01_2.bin", (12.0,)),
    ("anomaly_id_01_1.bin", (21.0,)),
    ("anomaly_id_01_2.bin", (11.0,)),
]


@pytest.mark.parametrize("model", ["ad01", "dae_v2", "kws01", ""])
def test_the_inputs_tell_the_metric_whatever_the_model_is_called(tmp_path: Path, model: str) -> None:
    EnergyRunnerSession(tmp_path / "x", model=model).write_accuracy(SOUNDS, ["Top-1: 50.0%", "AUC: 0.75"])
    (score,) = score_sessions(tmp_path / "x")
    assert (score.accuracy_metric, score.accuracy.ours, score.findings) == ("AUC", 0.75, ())


def test_a_model_that_is_called_as_anomaly_detections_is_no_evidence_against_its_inputs(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "x", model="adaptive-kws")
    made.write_accuracy([("tst_000001_Go_1.bin", (0.2, 0.8))], ["Top-1: 100.0%", "AUC: 0.5"])
    (score,) = score_sessions(tmp_path / "x")
    assert (score.accuracy_metric, score.accuracy.ours) == ("top-1", 1.0)


def test_one_number_for_an_answer_is_a_score_even_of_inputs_that_tell_nothing(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "x", model="mine")
    made.write_accuracy([("a.bin", (3.5,)), ("b.bin", (4.5,))], ["Top-1: 50.0%", "AUC: 0.81"])
    (score,) = score_sessions(tmp_path / "x")
    assert (score.accuracy_metric, score.accuracy.as_published, score.accuracy.value) == ("AUC", True, 0.81)


@pytest.mark.parametrize(("line", "metric", "value"), [("AUC: 0.81", "AUC", 0.81), ("Top-1: 81%", "top-1", 0.81)])
def test_without_answers_the_only_metric_that_is_printed_is_the_sessions_own_word(
    tmp_path: Path, line: str, metric: str, value: float
) -> None:
    folder = tmp_path / "mine" / "accuracy"
    folder.mkdir(parents=True)
    (folder / "results.txt").write_text(f"1.0 ulp-mlperf: {line}\n")
    (score,) = score_sessions(tmp_path)
    assert (score.accuracy_metric, score.accuracy.value, score.findings) == (metric, value, ())


def test_a_metric_that_nothing_tells_is_no_figure_but_a_finding(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "accuracy"
    folder.mkdir(parents=True)
    (folder / "results.txt").write_text("1.0 ulp-mlperf: Top-1: 81.0%\n1.0 ulp-mlperf: AUC: 0.9\n")
    (score,) = score_sessions(tmp_path)
    assert score.document()["accuracy"] is None
    assert any("top-1 or AUC" in finding for finding in score.findings)
    folder.parent.rename(tmp_path / "ad01")
    (score,) = score_sessions(tmp_path)
    assert (score.accuracy_metric, score.accuracy.value, score.findings) == ("AUC", 0.9, ())
    assert "from the name 'ad01' alone" in score.remarks[0]


def test_answers_and_classes_that_are_missing_here_and_there_are_findings(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    answers = [("tst_1_Go_1.bin", (0.2, 0.8)), ("tst_2_Go_1.bin", (0.2, 0.8)), ("other.bin", (0.2, 0.8))]
    made.write_accuracy(answers, ["Top-1: 100.0%", "AUC: 1.0"])
    log = made.accuracy / "log.txt"
    log.write_text(log.read_text().replace("m-results-[", "m-resu-[", 1))
    (score,) = score_sessions(tmp_path / "kws")
    assert score.findings == ("1 of 3 inputs have no answer in the log", "1 of 3 inputs do not tell their class")
    assert score.accuracy.as_published


def test_edges_win_over_laps_that_an_energy_log_holds_besides(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    made.laps_us = [round(1.003e6 * (b - a)) for a, b in zip(made.times_s[1::2], made.times_s[2::2], strict=True)]
    made.write_energy()
    (score,) = score_sessions(tmp_path / "kws")
    assert score.inferences_per_s.ours == score.inferences_per_s.published is not None
    assert score.findings == ()


def test_a_throughput_of_a_log_without_laps_is_as_published(tmp_path: Path) -> None:
    folder = EnergyRunnerSession(tmp_path / "kws").write_performance([10_000_000])
    log = folder / "log.txt"
    log.write_text(log.read_text().replace("m-lap-us", "m-no-lap"))
    (score,) = score_sessions(folder)
    assert score.document()["figures"]["inferences_per_s"] == {"value": 10.0, "published": 10.0, "as_published": True}
    assert score.document()["as_published"] is True
    assert score.document()["throughput"] == 10.0


def test_a_figure_that_was_made_again_is_not_marked_as_published(tmp_path: Path) -> None:
    EnergyRunnerSession(tmp_path / "kws").write_energy()
    document = score_sessions(tmp_path / "kws")[0].document()
    assert document["as_published"] is False
    assert [each["as_published"] for each in document["figures"].values()] == [False, False]


def test_a_stream_is_counted_again(tmp_path: Path) -> None:
    StreamingSession(tmp_path / "sww" / "performance").write()
    StreamingSession(tmp_path / "sww" / "energy").write()
    (score,) = score_sessions(tmp_path)
    assert score.findings == ()
    assert score.stream is not None
    counts = {name: (figure.ours, figure.published) for name, figure in score.stream.counts()}
    assert counts == {"true_positives": (2, 2), "false_negatives": (1, 1), "false_positives": (2, 2)}
    assert (score.stream.duty_cycle.ours, score.inferences_per_s.ours) == (0.25, 125.0)
    assert [window.is_reproduced for window in score.windows] == [True]
    assert score.uj_per_inference.agrees


def test_a_stream_that_is_printed_otherwise_is_a_finding(tmp_path: Path) -> None:
    made = StreamingSession(tmp_path / "sww" / "performance")
    made.printed = "3 True positives, 0 False negatives, 2 False positives"
    made.write()
    (score,) = score_sessions(tmp_path)
    assert "true positives comes to 2, published is 3" in score.findings


def test_a_stream_without_its_json_is_all_as_published_and_says_so(tmp_path: Path) -> None:
    StreamingSession(tmp_path / "sww" / "energy").write(results_json=False)
    (score,) = score_sessions(tmp_path)
    assert all(each["as_published"] for each in score.document()["figures"].values())
    assert (score.windows, score.uj_per_inference.ours) == ((), None)
    assert ["results.json is missing" in finding for finding in score.findings] == [True]


def test_a_window_at_the_end_of_its_capture_has_no_figure_of_our_own(tmp_path: Path) -> None:
    made = EnergyRunnerSession(tmp_path / "kws")
    folder = made.write_energy()
    end = round(made.times_s[-1] * 1000) + 2
    write_trace(folder / "trace1-energy.bin", 1000.0, made.samples_uj[:end])
    (score,) = score_sessions(folder)
    assert [window.is_reproduced for window in score.windows] == [True, True, True]
    assert [window.own is None for window in score.windows] == [False, False, True]
    assert score.own_uj_per_inference is None
    assert any("window 6 lies too close" in remark for remark in score.remarks)


def test_a_log_that_asked_for_other_inferences_than_results_print_is_refused(tmp_path: Path) -> None:
    folder = EnergyRunnerSession(tmp_path / "kws").write_energy()
    log = folder / "log.txt"
    log.write_text(log.read_text().replace("dut infer 100 1", "dut infer 90 1"))
    with pytest.raises(SessionError, match="window 2 has 100 inferences, the board was asked for 90"):
        score_sessions(folder)


@pytest.mark.parametrize("bit", [0, 12, 23, 29, 30, 31])
def test_no_flipped_bit_of_a_sample_in_a_window_goes_unseen(tmp_path: Path, bit: int) -> None:
    made = EnergyRunnerSession(tmp_path / "kws", trials=1)
    path = made.write_energy() / "trace1-energy.bin"
    data = bytearray(path.read_bytes())
    place = 5 + 4 * round((made.times_s[1] + 0.3) * 1000)
    (word,) = struct.unpack_from("<I", data, place)
    struct.pack_into("<I", data, place, word ^ (1 << bit))
    path.write_bytes(data)
    (score,) = score_sessions(tmp_path / "kws")
    # the last bits of a float32 lie below the printed digits
    assert bool(score.missed) == (bit > 8)
    json.dumps(score.document(), allow_nan=False)


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_session_with_any_byte_changed_is_scored_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("changed") / "kws"
    if data.draw(st.booleans(), "mlcommons"):
        MlcommonsSession(folder / "energy", trials=1).write()
    else:
        EnergyRunnerSession(folder, trials=1).write_energy()
    path = data.draw(st.sampled_from(sorted((folder / "energy").iterdir())), "file")
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, min(len(content), 2000) - 1), "place")
    content[place] = data.draw(st.integers(0, 255), "byte")
    path.write_bytes(content)
    named = ""
    try:
        json.dumps(score_sessions(folder)[0].document(), allow_nan=False)
    except LabError as error:
        named = error.where
    else:
        named = "scored"
    assert named
