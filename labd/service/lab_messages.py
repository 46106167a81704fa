"""What clients send and get about the lab as a whole: another lab.toml, an emergency stop."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from labd.service.messages import Message, StopDocument


class LabReload(Message):
    """Asks for lab.toml to be read again, whole."""


class DifferenceDocument(Message):
    """What has become of the tables of one kind, by their names."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


class ReloadDocument(Message):
    """Reply to `lab.reload`: what was taken up. A removed board that runs finishes its run first."""

    boards: DifferenceDocument
    instruments: DifferenceDocument
    firmware: DifferenceDocument
    users: DifferenceDocument
    sections: tuple[str, ...]
    """Tables of which there is one, such as `queue`."""


class LabStop(Message):
    """Asks for everything to be stopped at once: an emergency."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=256)]


class LabResume(Message):
    """Asks for a stopped lab to go on."""


class StopReply(Message):
    """Reply to `lab.stop` and `lab.resume`: the stop that is in force; None if there is none."""

    stopped: StopDocument | None
