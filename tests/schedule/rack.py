"""A lab on paper: three boards, of which the last is not wired for energy."""

from __future__ import annotations

from pathlib import Path

from labd.benchmarks import Mode
from labd.config import Board, Firmware, Instrument, Lab, LabConfig, Limits, Measure, Serial, Supply, Timing

BOARDS = ("b1", "b2", "b3")


def rack(data_dir: Path = Path("var")) -> LabConfig:
    """The lab; nothing of it is opened."""
    return LabConfig(
        lab=Lab(name="paper", data_dir=data_dir),
        instrument=(Instrument(id="psu", driver="keysight-n6705c"), Instrument(id="stamps", driver="labd-timestamper")),
        board=(_board(0, ("m4", "fpu"), wired=True), _board(1, ("m4",), wired=True), _board(2, ("m7",), wired=False)),
        firmware=(
            Firmware(
                name="labd-dut",
                benchmark="digits01",
                target="native",
                images={Mode.PERFORMANCE: Path("p.elf"), Mode.ENERGY: Path("e.elf")},
            ),
        ),
    )


def _board(index: int, tags: tuple[str, ...], *, wired: bool) -> Board:
    return Board(
        id=BOARDS[index],
        tags=tags,
        limits=Limits(voltage_max_v=3.6, current_max_a=0.1),
        supply=Supply(instrument="psu", channel=index + 1, voltage_v=3.0),
        measure=Measure(instrument="psu", channel=index + 1) if wired else None,
        timing=Timing(instrument="stamps", pin=index) if wired else None,
        serial=Serial(port=f"/dev/null{index}"),
    )
