"""What can go wrong in the dialogue with a board; every error names the command it happened on."""

from __future__ import annotations

from labd.errors import DutError


class DutRefusedError(DutError):
    """The board answered `e-[...]`, or in plain text where the protocol has no error for it.

    Args:
        command: What was asked, without the closing `%`.
        text: The board's own words.
    """

    kind = "dut_refused"

    def __init__(self, command: str, text: str) -> None:
        super().__init__(f"the board refused {command!r}: {text}", remedy="check that its firmware fits the benchmark")
        self.command = command
        self.text = text


class DutSilentError(DutError):
    """The board did not finish a reply before its deadline."""

    kind = "dut_silent"


class DutRebootedError(DutError):
    """A boot banner came in the middle of the dialogue: the board has reset itself."""

    kind = "dut_rebooted"


class DutProtocolError(DutError):
    """The board spoke, but what it said is not a reply to the command."""

    kind = "dut_protocol"


class DutLineError(DutError):
    """The serial line to the board failed or went away."""

    kind = "dut_line"
