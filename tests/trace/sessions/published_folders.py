"""Sessions as the two runners write them, made up here, with figures worked out in plain Python as the runners do.

The sums below are the runners' convention written down a second time, sample by sample and without numpy, so that labd
is not held against itself.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pytest

KWS_INPUTS = ("tst_000000_Stop_7.bin", "tst_000001_Left_2.bin", "tst_000002_Right_6.bin", "tst_000003_Up_8.bin")


def reference() -> Path:
    """The folder of real sessions; skips the test where it is absent."""
    root = Path(__file__).parents[3]
    path = Path(os.environ.get("LABD_REFERENCE", root / "../shared/reference")).resolve() / "sessions"
    if not path.is_dir():
        pytest.skip(f"no reference sessions under {path}: set LABD_REFERENCE")
    return path


@dataclass
class EnergyRunnerSession:
    """One benchmark as EnergyRunner leaves it.

    Args:
        folder: The benchmark's folder; `energy`, `performance` and `accuracy` go into it.
        rate_hz: Sample rate.
        samples_uj: Energies; a board that idles at 20 µJ a sample and computes at about 41.
        times_s: Edges: one of the boot, then two a trial.
        inferences: N of each trial.
        prefix: The runner's own name in `results.txt`.
        model: What the board says it runs.
        laps_us: What the board's own timer says of each energy window, where it prints that besides the edges.
    """

    folder: Path
    rate_hz: float = 1000.0
    trials: int = 3
    inferences: int = 100
    monitor: str = "lpm01a"
    prefix: str = "ulp-ml"
    model: str = "kws01"
    laps_us: Sequence[int] = ()
    seed: int = 1
    times_s: list[float] = field(default_factory=list)
    samples_uj: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = Random(self.seed)
        at_ms = 18
        times_ms = [at_ms]
        for _ in range(self.trials):
            at_ms += 900 + random.randrange(200)
            times_ms.append(at_ms)
            at_ms += 1500 + random.randrange(300)
            times_ms.append(at_ms)
        self.times_s = [ms / 1000 for ms in times_ms]
        rows = int((self.times_s[-1] + 0.2) * self.rate_hz)
        self.samples_uj = [
            _float32(round(20 + random.random() if not self._computes(k / self.rate_hz) else 41 + random.random(), 2))
            for k in range(rows)
        ]

    def _computes(self, at_s: float) -> bool:
        return any(a <= at_s < b for a, b in zip(self.times_s[1::2], self.times_s[2::2], strict=True))

    @property
    def energies_uj(self) -> list[float]:
        """Each window's energy by the runner's convention: times by adding up, sums by adding up."""
        windows = list(zip(self.times_s[1::2], self.times_s[2::2], strict=True))
        sums = [0.0] * len(windows)
        clock = 0.0
        for sample in self.samples_uj:
            for number, (opening, closing) in enumerate(windows):
                if opening <= clock < closing:
                    sums[number] += sample
            clock += 1.0 / self.rate_hz
        return sums

    @property
    def energy(self) -> Path:
        return self.folder / "energy"

    @property
    def performance(self) -> Path:
        return self.folder / "performance"

    @property
    def accuracy(self) -> Path:
        return self.folder / "accuracy"

    def write_energy(self) -> Path:
        """The folder of the energy results."""
        self.energy.mkdir(parents=True)
        write_trace(self.energy / "trace1-energy.bin", self.rate_hz, self.samples_uj)
        (self.energy / "trace1-timestamps.json").write_text(json.dumps(self.times_s, indent="\t"))
        (self.energy / "log.txt").write_text(self._log())
        self.write_results()
        return self.energy

    def write_results(self) -> None:
        lines = []
        each = [energy / self.inferences for energy in self.energies_uj]
        windows = list(zip(self.times_s[1::2], self.times_s[2::2], self.energies_uj, strict=True))
        for number, (opening, closing, energy) in enumerate(windows):
            lines += [
                f"Energy data for window {2 * number + 2} at time {opening:.2f} for {closing - opening:.2f} sec.:",
                f"  Energy       : {energy:12.3f} uJ",
                f"  Power        : {energy / (closing - opening):12.3f} uW",
                f"  Energy/Inf.  : {each[number]:12.3f} uJ/inf.",
            ]
        lines += ["-" * 57, f"Median energy cost is {median(each):.3f} uJ/inf.", "-" * 57]
        lines += rates([(self.inferences, closing - opening) for opening, closing, _ in windows])
        (self.energy / "results.txt").write_text(self._stamped(lines))

    def write_performance(self, windows_us: Sequence[int], *, start_us: int = 4_294_000_000) -> Path:
        """Performance results; the board's 32-bit counter wraps on the way."""
        self.performance.mkdir(parents=True)
        lines, at_us = _head(self.monitor, self.model), start_us
        for number, span_us in enumerate(windows_us):
            lines += _load("dut ", KWS_INPUTS[number % len(KWS_INPUTS)])
            lines += [f'parser: Command "dut infer {self.inferences} 1"', f"dut: m-infer-start-{self.inferences}"]
            lines += [f"dut: m-lap-us-{at_us % 2**32}", f"dut: m-lap-us-{(at_us + span_us) % 2**32}"]
            lines += ["dut: m-infer-done", "dut: m-results-[0.1,0.9]", "dut: m-ready"]
            at_us += span_us + 1_234_567
        (self.performance / "log.txt").write_text(stamped(lines))
        results = rates([(self.inferences, span_us / 1e6) for span_us in windows_us])
        (self.performance / "results.txt").write_text(self._stamped(results))
        return self.performance

    def write_accuracy(self, answers: Sequence[tuple[str, Sequence[float]]], printed: Sequence[str]) -> Path:
        """Accuracy results: input and the board's answer to it, and what `results.txt` says."""
        self.accuracy.mkdir(parents=True)
        lines = _head(self.monitor, self.model)
        for name, results in answers:
            lines += _load("dut ", name)
            lines += ['parser: Command "dut infer 1 0"', "dut: m-lap-us-1000", "dut: m-lap-us-44000"]
            lines += [f"dut: m-results-[{','.join(f'{value:.6f}' for value in results)}]", "dut: m-ready"]
        (self.accuracy / "log.txt").write_text(stamped(lines))
        (self.accuracy / "results.txt").write_text(self._stamped(list(printed)))
        return self.accuracy

    def _laps(self, trial: int) -> Sequence[int]:
        return (1_000_000, 1_000_000 + self.laps_us[trial]) if self.laps_us else ()

    def _stamped(self, lines: Sequence[str]) -> str:
        return stamped([f"{self.prefix}: {line}" for line in lines])

    def _log(self) -> str:
        lines = _head(self.monitor, self.model)
        for number in range(self.trials):
            lines += _load("", KWS_INPUTS[number % len(KWS_INPUTS)])
            lines += [
                f'parser: Command "io dut infer {self.inferences} 1"',
                f"io: m-dut-passthrough(infer {self.inferences} 1)",
                f"io: [dut]: m-infer-start-{self.inferences}",
                *(f"io: [dut]: m-lap-us-{at_us}" for at_us in self._laps(number)),
                "io: [dut]: m-infer-done",
                "io: [dut]: m-results-[0.000,0.996,0.004]",
                "io: [dut]: m-ready",
            ]
        lines += [
            f"emon: m-regfile-fn[trace1-energy.bin]-type[emon]-name[{self.monitor}]",
            f"emon: m-regfile-fn[trace1-timestamps.json]-type[etime]-name[{self.monitor}]",
            "emon: m-voltage-mv[3000]",
        ]
        return stamped(lines)


def write_trace(path: Path, rate_hz: float, samples_uj: Sequence[float]) -> None:
    path.write_bytes(b"\xf1" + struct.pack(f"<f{len(samples_uj)}f", rate_hz, *samples_uj))


def rates(windows: Sequence[tuple[int, float]]) -> list[str]:
    lines = []
    for number, (inferences, runtime_s) in enumerate(windows):
        lines += [
            f"Performance results for window {2 * number + 2}:",
            f"  # Inferences : {inferences:12d}",
            f"  Runtime      : {runtime_s:12.3f} sec.",
            f"  Throughput   : {inferences / runtime_s:12.3f} inf./sec.",
            "Runtime requirements have been met.",
        ]
    middle = median(inferences / runtime_s for inferences, runtime_s in windows)
    return [
        *lines,
        f"Median throughput is {middle:.3f} inf./sec.",
        "Cannot compute accuracy metrics in single-run mode.",
    ]


def stamped(lines: Sequence[str]) -> str:
    return "\r\n".join(f"{100 + number / 1000:09.3f} {line}" for number, line in enumerate(lines))


def _head(monitor: str, model: str) -> list[str]:
    return [
        "session: m-session-start-id[20240311152711]",
        "parser: m-bmark-run-name[ML Energy 1.0.1]-code[ulp-ml]",
        "parser: m-version[3.0.10]",
        f'parser: Command "{monitor} is not a command of the board"',
        "dut: m-name-dut-[Made Up]",
        "io: [dut]: m-profile-[Firmware V0]",
        f"io: [dut]: m-model-[{model}]",
    ]


def _load(to: str, name: str) -> list[str]:
    return [f'parser: Command "bload{"" if to else "p"} {to}"C:\\data\\kws01\\{name}""', "parser: m-bload-done"]


def _float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@dataclass
class MlcommonsSession:
    """One results set of the MLCommons runner, in energy mode."""

    folder: Path
    trials: int = 3
    inferences: int = 250
    baud: int = 3_686_400
    seed: int = 2
    entries: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = Random(self.seed)
        for number in range(self.trials):
            opening, length = 1700 + random.randrange(200), 10_300 + random.randrange(100)
            rows = opening + length + 110
            events = [[f"{number:02d}", opening], [f"{number + 1:02d}", opening + length]]
            self.entries.append(
                {
                    "file": KWS_INPUTS[number % len(KWS_INPUTS)],
                    "classes": "12",
                    "class": str((7, 2, 6, 8)[number % 4]),
                    "infer": {"results": [0.0, 1.0], "iterations": self.inferences, "warmups": 1},
                    "power": {
                        "samples": [
                            round((3.3e-5 if opening <= k < opening + length else 1.7e-5) + 1e-6 * random.random(), 8)
                            for k in range(rows)
                        ],
                        "timestamps": events if number else [["99", 400], *events],
                        "extracted_power": None,
                        "voltage": 3,
                    },
                    "mode": "e",
                }
            )

    def write(self) -> Path:
        self.folder.mkdir(parents=True)
        (self.folder / "results.json").write_text(json.dumps(self.entries))
        lines, each = ["Power Edition Output"], []
        for number, entry in enumerate(self.entries):
            (_, opening), (_, closing) = entry["power"]["timestamps"][-2:]
            energy = sum(entry["power"]["samples"][opening:closing]) * 1e6
            each.append(energy / self.inferences)
            lines += [
                f"Energy data for trial {number}",
                f"  Elapsed time  : {(closing - opening) * 0.001}",
                f"  Inferences    : {self.inferences}",
                f"  Power         : {energy / (closing - opening):.4f} mW.",
                f"  Total Energy  : {energy:.3f} uJ",
                f"  Energy/Inf    : {each[-1]:.3f} uJ/inf",
            ]
        lines += ["-" * 57, f"Median energy cost is {median(each):.4f} uJ/inf.", "-" * 57]
        (self.folder / "results.txt").write_text("\n".join(lines) + "\n")
        (self.folder / "log.txt").write_text(
            "Logging initialized. Writing output to sessions\\20250726_102344\\log.txt\n"
            f"Initializing SerialDevice on port: COM23 at {self.baud} baud\n"
            "Device name retrieved: Made Up\nDevice profile retrieved: Firmware V0\nDevice model retrieved: kws01\n"
        )
        return self.folder


@dataclass
class StreamingSession:
    """Streaming wakeword results of the MLCommons runner: a recording with three words, played to a board.

    The board hears the first word at once and again, misses the second, hears the third late; twice it hears a word
    where there is none, the second time with an echo.
    """

    folder: Path
    heard_ms: Sequence[int] = (500, 10_100, 10_132, 32_500, 50_500, 70_500, 71_400)
    words_s: Sequence[tuple[float, float]] = ((9.5, 10.1), (20.0, 20.6), (30.0, 30.5))
    printed: str = "2 True positives, 1 False negatives, 2 False positives"

    def write(self, *, results_json: bool = True) -> Path:
        """The folder: of energy if it is called so, else of performance."""
        self.folder.mkdir(parents=True)
        energy = self.folder.name == "energy"
        entry: dict[str, Any] = {
            "infer": {
                "wav_file": "long_wav.wav",
                "detection_windows": self.words_s,
                "length_sec": 80.0,
                "detections": self.heard_ms,
                "iterations": 1,
                "warmups": 0,
            },
            "dutycycle": {
                "start_times_s": [0.1 + 0.032 * k for k in range(100)],
                "stop_times_s": [0.108 + 0.032 * k for k in range(100)],
            },
            "activations": [],
            "mode": "e" if energy else "p",
        }
        lines = []
        if energy:
            samples = [1e-6 * (5 + k % 3) for k in range(12_000)]
            entry["power"] = {"samples": samples, "timestamps": [["00", 100], ["01", 11_100]], "voltage": 3}
            total = sum(samples[100:11_100]) * 1e6
            lines = [
                "Power Edition Output",
                "Energy data for trial 0",
                "  Elapsed time  : 11.0",
                "  Inferences    : 1",
                f"  Total Energy  : {total:.3f} uJ",
                f"  Energy/Inf    : {total:.3f} uJ/inf",
                f"Median energy cost is {total:.4f} uJ/inf.",
            ]
        lines += [f"Accuracy: {self.printed}", "Average duty cycle: 0.25", "Average period: 0.032 s"]
        lines += ["Estimated throughput: 125.0 inf./sec."]
        if results_json:
            (self.folder / "results.json").write_text(json.dumps([entry]))
        (self.folder / "results.txt").write_text("\n".join(lines) + "\n")
        (self.folder / "log.txt").write_text("Logging initialized. Writing output\nDevice model retrieved: sww01\n")
        return self.folder
