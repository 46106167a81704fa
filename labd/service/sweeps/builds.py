"""Which firmware build a clock frequency asks for: a board runs at the clock that its image sets.

labd has no wire to a board's clock. What it can do is to take the build that lab.toml says of, by `clock_mhz` of its
`[[firmware]]`, that it sets this clock; where none does, the cell is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from labd.config import Board, Firmware, LabConfig
from labd.errors import RequestError
from labd.schedule.match import Requirement


class BuildError(RequestError):
    """No build is said to set the clock."""


def build_for(clock_mhz: float, requirement: Requirement, boards: Sequence[str], config: LabConfig) -> str:
    """Name of the build that sets the clock, for a job that any of these boards may get.

    Args:
        clock_mhz: The clock, MHz.
        requirement: What the job asks of a board; with a build's name, it is this build that must set the clock.
        boards: Ids of the boards that can serve it.
        config: The lab.

    Raises:
        BuildError: no board has such a build, two boards have it under different names, or its name does not say
            which it is.
    """
    builds = {board.id: _builds(clock_mhz, requirement, board, config) for board in config.board if board.id in boards}
    names = sorted({build.name for found in builds.values() for build in found})
    at = f"{requirement.benchmark} at {clock_mhz:g} MHz"
    if not names:
        raise BuildError(f"no build of {at} in lab.toml for {', '.join(boards) or 'any board'}")
    if len(names) > 1:
        raise BuildError(f"several builds of {at}: {', '.join(names)}; name one as firmware")
    for board_id, found in builds.items():
        board = config.board_by_id(board_id)
        assert board is not None, "these are boards of the lab"
        image = config.firmware_for(board, requirement.benchmark, requirement.mode, names[0])
        if image is not None and image not in [build.images.get(requirement.mode.image) for build in found]:
            raise BuildError(f"{names[0]} on {board_id} is a build of another clock too; give each a name of its own")
    return names[0]


def _builds(clock_mhz: float, requirement: Requirement, board: Board, config: LabConfig) -> list[Firmware]:
    return [
        build
        for build in config.firmware
        if build.clock_mhz == clock_mhz
        and build.benchmark == requirement.benchmark
        and build.target == board.target
        and requirement.mode.image in build.images
        and requirement.firmware in (None, build.name)
    ]
