"""A placement is proven: what each witness sees of a trace in order, and of one that is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.api import Block, Edge
from labd.trace.journal import Bracket, EdgeSeen, LoadPulse, Record, SyncPulse, TrialEnded, TrialStarted
from labd.trace.meta import SyncLoad
from labd.trace.reader import Trace
from labd.trace.timing.jumps import find_jump
from labd.trace.timing.proof import Proof, prove
from labd.trace.timing.timebase import Anchor, AnchorKind, Clocks
from labd.trace.timing.witness import Basis, Verdict, Witness
from labd.trace.writer import TraceWriter
from tests.trace.recording import WHEN, I, V, make_meta

PERIOD_S, TICK_HZ, SUPPLY_V = 204.8e-6, 25e6, 3.0
IDLE_A, TALK_A, BUSY_A = 1e-3, 9e-3, 14e-3
WINDOW_S, REST_S, TALK_S = 0.4, 0.25, 0.02
LOAD = SyncLoad(pin=14, ohm=330.0)
CLOCKS = Clocks(tick_rate_hz=TICK_HZ, period_s=PERIOD_S, u_stretch=4e-5)


@dataclass(frozen=True)
class Story:
    """Five trials of a board that idles, talks, computes and talks again, in s from the first sample."""

    windows: tuple[tuple[float, float], ...]
    pulses: tuple[tuple[float, float], ...]
    end_s: float

    def samples(self, *, loaded: bool, seed: int = 1) -> npt.NDArray[np.float32]:
        """Exact means of the current, with noise."""
        rows = int(self.end_s / PERIOD_S)
        bounds = PERIOD_S * np.arange(rows + 1)

        def covered(start: float, stop: float) -> npt.NDArray[np.float64]:
            return np.diff(np.clip(bounds, start, stop)) / PERIOD_S

        current = np.full(rows, IDLE_A)
        for start, stop in self.windows:
            current += (BUSY_A - IDLE_A) * covered(start, stop)
            for begin, end in ((start - TALK_S, start), (stop, stop + TALK_S)):
                current += (TALK_A - IDLE_A) * covered(begin, end)
        for on, off in self.pulses if loaded else ():
            current += SUPPLY_V / LOAD.ohm * covered(on, off)
        return (current + 4e-6 * np.random.default_rng(seed).standard_normal(rows)).astype(np.float32)


def story(lengths_s: Sequence[float] = (WINDOW_S,) * 5) -> Story:
    now, windows, pulses = 0.3, [], []
    for length_s in (*lengths_s, 0.0):
        at = now
        for k in range(4):
            pulses.append((at, at + 10e-3 * (1 + k / 4)))
            at += 10e-3 * (1 + k / 4) + 3e-3 * (1 + k / 4)
        now += REST_S
        if length_s:
            windows.append((now, now + length_s))
            now += length_s + REST_S
    return Story(tuple(windows), tuple(pulses), now + 0.1)


def ticks(at_s: float) -> int:
    return 10**9 + round(at_s * TICK_HZ)


def recorded(
    folder: Path,
    told: Story,
    samples: npt.NDArray[np.float32],
    *,
    pulse_s: float | None = None,
    loaded: bool = False,
    bracket_s: float = 0.0,
    laps_us: tuple[int, ...] = (),
) -> Proof:
    """Write the trace of a story and prove it.

    Args:
        pulse_s: When the trigger's pulse was, if there was one: 0 is right.
        loaded: Whether the load was pulsed.
        bracket_s: When the capture is said to have begun: 0 is right.
        laps_us: Lap times that the board printed.
    """
    meta = make_meta(tick_rate_hz=TICK_HZ, sample_clock_ppm=50.0, tick_clock_ppm=50.0, supply_voltage_v=SUPPLY_V)
    writer = TraceWriter.create(folder, meta.model_copy(update={"sync_load": LOAD if loaded else None}))
    records: list[Record] = [
        Bracket(sample=0, earliest_ticks=ticks(bracket_s - 1e-3), latest_ticks=ticks(bracket_s + 1e-3))
    ]
    if pulse_s is not None:
        records.append(SyncPulse(pin=15, ticks=ticks(pulse_s), sequence=0, u_latency_s=14e-6))
    if loaded:
        records += [LoadPulse(pin=14, on_ticks=ticks(on), off_ticks=ticks(off)) for on, off in told.pulses]
    sequence = 0
    for index, window in enumerate(told.windows):
        records.append(TrialStarted(index=index, input="0", inferences=400, warmups=1, at=WHEN))
        for at_s in window:
            for level in (0, 1):
                sequence += 1
                records.append(EdgeSeen.of(Edge(0, level, ticks(at_s + 10e-6 * level), sequence)))
        records.append(TrialEnded(index=index, laps_us=laps_us, at=WHEN))
    for record in records:
        writer.journal(record)
    writer.write(Block(0, {I: samples, V: np.full_like(samples, SUPPLY_V)}))
    return prove(Trace.open(writer.close().folder))


def verdicts(proof: Proof) -> dict[Witness, Verdict]:
    return {each.witness: each.verdict for each in proof.statements}


def worst_s(proof: Proof, told: Story) -> float:
    """Largest error of an edge's place, s."""
    places = [(proof.timebase.sample(ticks(at_s))[0] * PERIOD_S, at_s) for window in told.windows for at_s in window]
    return max(abs(place - at_s) for place, at_s in places)


def test_a_right_pulse_is_confirmed_by_the_steps(tmp_path: Path) -> None:
    told = story()
    proof = recorded(tmp_path, told, told.samples(loaded=False), pulse_s=0.0)
    assert proof.basis is Basis.PULSE
    assert set(verdicts(proof).values()) == {Verdict.AGREES}
    assert worst_s(proof, told) < 20e-6


@pytest.mark.parametrize("shift_s", [-10e-3, 1e-3, 10e-3, 50e-3])
def test_a_pulse_that_lies_elsewhere_is_disputed(tmp_path: Path, shift_s: float) -> None:
    told = story()
    proof = recorded(tmp_path, told, told.samples(loaded=False), pulse_s=shift_s)
    assert proof.disputes
    assert verdicts(proof)[Witness.STEPS] is not Verdict.AGREES or verdicts(proof)[Witness.BRACKET] is Verdict.DISAGREES


def test_a_pulse_that_nothing_confirms_proves_nothing(tmp_path: Path) -> None:
    told = story()
    flat = np.full(len(told.samples(loaded=False)), BUSY_A, np.float32)
    assert [each.witness for each in recorded(tmp_path, told, flat, pulse_s=0.0).disputes] == [Witness.PULSE]


def test_the_load_places_a_trace_whose_edges_are_no_steps(tmp_path: Path) -> None:
    told = story()
    flat = replace(told, windows=()).samples(loaded=True)
    proof = recorded(tmp_path, told, flat, loaded=True)
    assert proof.basis is Basis.LOAD
    assert not proof.disputes
    assert worst_s(proof, told) < 5e-6


def test_the_load_tells_how_late_a_pulse_is(tmp_path: Path) -> None:
    told = story()
    proof = recorded(tmp_path, told, told.samples(loaded=True), loaded=True, pulse_s=2e-3)
    assert [each.witness for each in proof.disputes] == [Witness.PULSE]
    assert worst_s(proof, told) < 5e-6


@pytest.mark.parametrize("count", [1, 5, 50, -5])
@pytest.mark.parametrize("loaded", [True, False])
def test_samples_that_are_missing_or_doubled_are_found(tmp_path: Path, count: int, loaded: bool) -> None:
    told = story()
    samples = told.samples(loaded=loaded)
    at = round(0.5 * sum(told.windows[2]) / PERIOD_S)
    spoilt = (
        np.delete(samples, slice(at, at + count)) if count > 0 else np.insert(samples, at, samples[at : at - count])
    )
    proof = recorded(tmp_path, told, spoilt, loaded=loaded, pulse_s=None if loaded else 0.0)
    assert proof.disputes
    if loaded:
        words = f"{abs(count):.1f} ± "
        assert any(each.witness is Witness.LOAD and words in each.said for each in proof.disputes)


def test_a_burst_before_a_capture_that_began_late_is_passed_over(tmp_path: Path) -> None:
    told = story()
    late_s = told.pulses[1][0]
    late = replace(
        told,
        windows=tuple((start - late_s, stop - late_s) for start, stop in told.windows),
        pulses=tuple((on - late_s, off - late_s) for on, off in told.pulses),
        end_s=told.end_s - late_s,
    )
    proof = recorded(tmp_path, late, late.samples(loaded=True), loaded=True, pulse_s=-10e-3, bracket_s=0.0)
    assert proof.basis is Basis.LOAD
    assert Witness.LOAD not in [each.witness for each in proof.disputes]
    assert Witness.PULSE in [each.witness for each in proof.disputes]


def test_a_load_that_does_not_switch_is_named(tmp_path: Path) -> None:
    told = story()
    proof = recorded(tmp_path, told, told.samples(loaded=False), loaded=True, pulse_s=0.0)
    assert verdicts(proof)[Witness.LOAD] is Verdict.DISAGREES


def test_a_load_of_another_size_is_named(tmp_path: Path) -> None:
    told = story()
    idle = told.samples(loaded=False)
    wrong = idle + 1.3 * (told.samples(loaded=True) - idle)
    assert verdicts(recorded(tmp_path, told, wrong, loaded=True))[Witness.LOAD] is Verdict.DISAGREES


def test_steps_alone_place_to_half_a_millisecond_and_say_so(tmp_path: Path) -> None:
    told = story()
    proof = recorded(tmp_path, told, told.samples(loaded=False))
    assert proof.basis is Basis.STEPS
    assert not proof.disputes
    assert worst_s(proof, told) < 50e-6
    assert 100e-6 < proof.timebase.sample(ticks(told.windows[0][0]))[1] * PERIOD_S < 500e-6


def test_a_window_of_as_many_inferences_that_is_shorter_is_named(tmp_path: Path) -> None:
    told = story()
    start, stop = told.windows[1]
    spoilt = replace(told, windows=(told.windows[0], (start + 0.05 * WINDOW_S, stop), *told.windows[2:]))
    proof = recorded(tmp_path, spoilt, told.samples(loaded=True), loaded=True)
    assert [(each.witness, "trial 1" in each.said) for each in proof.disputes] == [(Witness.LENGTHS, True)]


def test_windows_that_all_scatter_are_alike(tmp_path: Path) -> None:
    told = story([WINDOW_S * (1 + 0.004 * k) for k in range(5)])
    assert not recorded(tmp_path, told, told.samples(loaded=True), loaded=True).disputes


def test_a_capture_that_began_at_another_time_than_it_was_asked_to_is_named(tmp_path: Path) -> None:
    told = story()
    proof = recorded(tmp_path, told, told.samples(loaded=False), pulse_s=0.0, bracket_s=0.06)
    assert Witness.BRACKET in [each.witness for each in proof.disputes]


def test_laps_that_tell_of_another_length_are_named(tmp_path: Path) -> None:
    told = story()
    right = recorded(tmp_path / "right", told, told.samples(loaded=True), loaded=True, laps_us=(0, 401_000))
    wrong = recorded(tmp_path / "wrong", told, told.samples(loaded=True), loaded=True, laps_us=(0, 380_000))
    assert not right.disputes
    assert {each.witness for each in wrong.disputes} == {Witness.LAPS}


@given(
    jump=st.floats(1.0, 60.0) | st.floats(-60.0, -1.0),
    at=st.integers(1, 9),
    stretch=st.floats(-4e-5, 4e-5),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_jump_is_found_where_it_is_and_as_large_as_it_is(jump: float, at: int, stretch: float, seed: int) -> None:
    noise = 0.02 * np.random.default_rng(seed).standard_normal(10)
    anchors = [
        Anchor(
            ticks=k * 10**7,
            sample=k * 10**7 / CLOCKS.ticks_per_sample * (1 + stretch) + jump * (k >= at) + float(noise[k]),
            u_sample=0.02,
            kind=AnchorKind.LOAD,
        )
        for k in range(10)
    ]
    found = find_jump(anchors, CLOCKS)
    assert found is not None
    assert (found.after_ticks, found.before_ticks) == ((at - 1) * 10**7, at * 10**7)
    assert abs(found.samples - jump) < 6 * found.u_samples


def test_clocks_that_differ_are_no_jump() -> None:
    random = np.random.default_rng(3)
    for _ in range(200):
        stretch, noise = float(random.uniform(-8e-5, 8e-5)), 0.02 * random.standard_normal(10)
        anchors = [
            Anchor(k * 10**7, k * 10**7 / CLOCKS.ticks_per_sample * (1 + stretch) + float(noise[k]), 0.02)
            for k in range(10)
        ]
        assert find_jump(anchors, CLOCKS) is None
