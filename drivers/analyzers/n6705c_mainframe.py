"""The mainframe of an N6705C: who it is, that it is well, and the one session that all its channels share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from drivers.analyzers import n6781a
from drivers.api import ConnectError, DriverError, Identity, Level, LimitError, Quantity, TriggerInput
from drivers.scpi.session import Dialogue, ScpiSession

TRIGGER_INPUT = TriggerInput(
    active=Level.LOW,
    pulse_min_s=2e-6,
    source="N6705C Operating and Service Guide p. 203: EXT requires a low-true signal; "
    "N6705A User's Guide p. 66: low-true, 2 µs at least",
)
"""The BNC on the back, shared by all channels."""


class N6705COptions(BaseModel):
    """Keys of an instrument of this kind in `lab.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resource: Annotated[str, StringConstraints(pattern=r"(?i)^TCPIP\d*::[^:]+::\d+::SOCKET$")]
    """VISA resource name; the N6705C listens on port 5025."""
    channels: tuple[Annotated[int, Field(ge=1, le=4)], ...] = (1, 2, 3, 4)
    """Channels fitted with an N6781A that may be used at the same time; fewer allow shorter sample periods."""

    @field_validator("channels")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("must name at least one channel, and each only once")
        return value


class Mainframe:
    """What supply and analyzer have in common. `Instrument` of drivers.api.

    Args:
        options: Where it is and which channels are used.
    """

    def __init__(self, options: N6705COptions) -> None:
        self.identity = Identity("", "", "", "")
        self.options = options
        self.session = ScpiSession(options.resource, self._greet)

    async def connect(self) -> None:
        """Find out who answers and end what an earlier daemon left running. Raises `ConnectError`."""

        def work(device: Dialogue) -> Identity:
            maker, model, serial, firmware = self._identify(device)
            options = [device.ask("*OPT?")]
            for channel in self.options.channels:
                module = device.ask(f"SYST:CHAN:MOD? (@{channel})").strip('"')
                if module != n6781a.MODEL:
                    raise ConnectError(f"{device.resource}: channel {channel} holds {module!r}, not {n6781a.MODEL}")
                options.append(f"{channel}:{module}:" + device.ask(f"SYST:CHAN:OPT? (@{channel})").strip('"'))
                device.write(f"ABOR:ELOG (@{channel})")
            device.take_errors()  # whatever happened before is not ours
            return Identity(maker, model, serial, firmware, tuple(options))

        try:
            self.identity = await self.session.run(work)
        except ConnectError:
            raise
        except DriverError as error:
            raise ConnectError(f"{self.options.resource}: does not behave as an N6705C: {error}") from error

    async def check(self) -> None:
        """Ask for the identity and the error queue. Raises `DriverError`."""

        def work(device: Dialogue) -> None:
            self._identify(device)
            device.raise_errors("check")

        await self.session.run(work)

    async def close(self) -> None:
        """Leave the instrument as it is."""
        await self.session.close()

    def name(self, channel: int) -> str:
        """Name a channel in messages."""
        return f"{self.options.resource} channel {channel}"

    def know(self, channel: int) -> None:
        """Raise `LimitError` for a channel that is not in the options."""
        if channel not in self.options.channels:
            raise LimitError(f"{self.options.resource}: channel {channel} is not one of {self.options.channels}")

    def newest(self, channel: int) -> Mapping[Quantity, float] | None:
        """Return the newest readings of the channel's log, None if it has no log under way."""
        return None

    def _identify(self, device: Dialogue) -> tuple[str, str, str, str]:
        answer = device.ask("*IDN?")
        match [part.strip() for part in answer.split(",")]:
            case [maker, "N6705C" as model, serial, firmware]:
                return maker, model, serial, firmware
        raise ConnectError(f"{device.resource}: {answer!r} is not an N6705C")

    def _greet(self, device: Dialogue) -> None:
        serial = self._identify(device)[2]
        if self.identity.serial not in ("", serial):
            raise ConnectError(f"{device.resource}: instrument {serial} answers in place of {self.identity.serial}")
        device.write("FORM REAL")
        device.write("FORM:BORD SWAP")
