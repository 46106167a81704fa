"""How `labctl` finds its lab, and what its exit status says when something is in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer
from pydantic import ValidationError

from labd.cli.table import Exit, remarks
from labd.config import EMBEDDED, Lab, LabConfig, Mqtt
from labd.errors import ConfigError, LabError, RequestError, UnreachableError
from labd.mqtt.client import LabClient, NoAnswerError, connect
from labd.mqtt.endpoint import Endpoint, endpoint

Result = TypeVar("Result")


class OverdueError(LabError):
    """What was waited for has not come in the time that the operator gave."""

    kind = "overdue"


_EXITS: tuple[tuple[type[LabError], Exit], ...] = (
    (ConfigError, Exit.USAGE),
    (RequestError, Exit.REFUSED),
    (UnreachableError, Exit.UNREACHABLE),
    (NoAnswerError, Exit.TIMED_OUT),
    (OverdueError, Exit.TIMED_OUT),
)


@dataclass(frozen=True, slots=True)
class Connection:
    """Which lab is meant.

    Args:
        endpoint: Its broker.
        lab: Its name.
        timeout_s: Longest wait for an answer, s.
        user: Whom the broker knows us as by our certificate; None for the endpoint's user, if it has one.
    """

    endpoint: Endpoint
    lab: str
    timeout_s: float
    user: str | None = None

    def client(self) -> AbstractAsyncContextManager[LabClient]:
        """A client of the lab; entering it raises `UnreachableError` if its broker cannot be used."""
        return connect(self.endpoint, self.lab, timeout_s=self.timeout_s, user=self.user)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the options say; made into a connection by the commands that need one, so that help needs no lab."""

    config: Path | None
    broker: str | None
    access: Mapping[str, Any]
    """Those of `[mqtt]`'s other keys that were given: user, files."""
    lab: str | None
    timeout_s: float
    user: str | None = None
    """Whose topics to use, where no password's user says it."""

    def connection(self) -> Connection:
        """The lab that is meant: an option goes before what `lab.toml` says.

        Raises:
            ConfigError: no lab is named, or the broker's settings cannot be used.
        """
        described = _read(self.config) if self.config is not None else None
        name = self.lab or (described.lab.name if described is not None else None)
        if name is None:
            remedy = "give --lab NAME, set LABCTL_LAB, or give --config with its lab.toml"
            raise ConfigError("no lab is named", remedy=remedy)
        try:
            Lab(name=name)
        except ValidationError as error:
            remedy = "use lower-case letters, digits, dots, dashes and underscores, as its lab.toml does"
            raise ConfigError(f"{name!r} cannot be the name of a lab", remedy=remedy) from error
        return Connection(endpoint(self._mqtt(described)), name, self.timeout_s, self.user)

    def _mqtt(self, described: LabConfig | None) -> Mqtt:
        """The broker of the options; what `lab.toml` says of getting in is for its own broker only."""
        if self.broker is not None:
            return Mqtt(url=self.broker, **self.access)
        mqtt = described.mqtt if described is not None else Mqtt()
        if mqtt.url == EMBEDDED:
            remedy = "give --broker with the address that the daemon logs as broker_connected"
            raise ConfigError("the lab's broker is its daemon's own, on any free port", where="mqtt.url", remedy=remedy)
        return mqtt.model_copy(update=self.access)


def _read(path: Path) -> LabConfig:
    from labd.config.reading import load

    return load(path)


_ACCESS = ("user", "password_file", "ca", "cert", "key")


def chosen(options: Mapping[str, Any]) -> Choice:
    """What the options of `labctl` itself say, by the names of their parameters; None where one was not given."""
    return Choice(
        config=options.get("config"),
        broker=options.get("broker"),
        access={name: value for name in _ACCESS if (value := options.get(name)) is not None},
        lab=options.get("lab"),
        timeout_s=options["timeout_s"],
        user=options.get("as_user"),
    )


def connection_of(context: typer.Context) -> Connection:
    """The lab that this command line means; ends the command if it means none."""
    choice: Choice = context.obj
    try:
        return choice.connection()
    except ConfigError as error:
        raise stop(error) from error


def ask(context: typer.Context, work: Callable[[LabClient], Awaitable[Result]]) -> Result:
    """Do `work` with a client of the chosen lab; what is in the way becomes one line and an exit status."""
    connection = connection_of(context)

    async def connected() -> Result:
        async with connection.client() as client:
            return await work(client)

    return run(connected)


def run(work: Callable[[], Awaitable[Result]]) -> Result:
    """Do `work`; an error of the lab's becomes one line on standard error, and an exit status."""

    async def awaited() -> Result:
        return await work()

    try:
        return asyncio.run(awaited())
    except LabError as error:
        raise stop(error) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error


def stop(error: LabError) -> typer.Exit:
    """Say what went wrong and return the exit that says it to scripts."""
    remarks().print(f"labctl: {error}", style="red", markup=False)
    return typer.Exit(next((status for branch, status in _EXITS if isinstance(error, branch)), Exit.FAILED))
