"""Another `lab.toml` for a lab at work: read whole, refused whole, taken up without touching what runs.

A run keeps the board that it began with, and its instruments stay open as they are until it has ended. What is decided
after the reload is decided by the new file. The file is the truth: if the daemon dies meanwhile, the next one reads it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import structlog
from sqlmodel import Session

from drivers.api import ConnectError, Driver, DriverLoader
from labd.bench.devices import Devices
from labd.bench.emergency import darken
from labd.bench.outputs import wired_outputs
from labd.clock import Clock
from labd.config import Board, LabConfig, LiveConfig, resources_of
from labd.config.changes import Changes, changes, fixed_changes
from labd.errors import ConfigError, ConflictError, RequestError
from labd.model import ledger_lab
from labd.model.database import Database
from labd.model.ledger_leases import held_resources, leases_in_force


class ConfigRefusedError(RequestError):
    """The lab's file cannot be used as it is now; the configuration before it stays in use."""

    kind = "bad_configuration"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A file that can be used, and what is different in it."""

    config: LabConfig
    changes: Changes


class Reloader:
    """Takes up another `lab.toml`.

    Args:
        live: The configuration in use.
        devices: The lab's instruments.
        database: Where boards come and go.
        drivers: The drivers in use by name; those of new instruments are added to it.
        reread: Reads the file again, whole. Raises `ConfigError`. None for a lab that was not made from a file.
        loaders: What imports each installed driver.
        wake: Tells who gives boards away that there is another file, or that boards came.
        clock: Dates what happens.
    """

    def __init__(
        self,
        live: LiveConfig,
        devices: Devices,
        database: Database,
        *,
        drivers: dict[str, Driver],
        reread: Callable[[], LabConfig] | None,
        loaders: Callable[[], Mapping[str, DriverLoader]],
        wake: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._live = live
        self._devices = devices
        self._drivers = drivers
        self._database = database
        self._reread = reread
        self._loaders = loaders
        self._wake = wake
        self._clock = clock
        self._asked = asyncio.Event()
        self._adopted = asyncio.Event()
        self._adopted.set()  # the first file, too: what it leaves out may be held over the restart, and goes later
        self._log = structlog.get_logger()
        self.turn = asyncio.Lock()
        """Held from the reading of a file until it is taken up: one at a time."""

    def request(self) -> None:
        """Have the file read again, as a signal asks for it: what comes of it is in the log and in the record."""
        self._asked.set()

    async def propose(self) -> Proposal:
        """Read the file again, and compare it with what is in use.

        Raises:
            ConflictError: the lab was not made from a file.
            ConfigRefusedError: the file has faults, or something else in it that only a restart can take up.
        """
        if self._reread is None:
            raise ConflictError("this lab was not made from a file", remedy="start it with `labd run lab.toml`")
        try:
            config = await asyncio.to_thread(self._reread)
            drivers = await asyncio.to_thread(self._load, config.driver_names - self._drivers.keys())
        except (ConfigError, ConnectError) as error:
            message = f"lab.toml cannot be used, the lab goes on with the one before: {error}"
            raise ConfigRefusedError(message, remedy="labd check shows each fault with its line") from error
        self._drivers |= drivers
        if fixed := fixed_changes(self._live.now, config):
            message = f"only a restart can change {', '.join(fixed)}; nothing was taken up"
            raise ConfigRefusedError(message, remedy="change it back, or restart the daemon")
        return Proposal(config, changes(self._live.now, config))

    def commit(self, session: Session, proposal: Proposal) -> None:
        """Write the reload down. In the writer's thread; `adopt` follows once it is committed."""
        now = self._clock.now()
        told = str(proposal.changes) or "nothing is different"
        ledger_lab.note_reload(session, proposal.config.lab.name, told, now)
        ledger_lab.retire_boards(session, [board.id for board in proposal.config.board], now)

    def adopt(self, proposal: Proposal) -> None:
        """Decide by the new file from now on; nothing is awaited, so that nobody sees half of it."""
        outputs: defaultdict[str, frozenset[int]] = defaultdict(frozenset)
        for wired in (*wired_outputs(self._live.now), *wired_outputs(proposal.config)):
            outputs[wired.instrument.id] |= frozenset(wired.channels)
        self._live.replace(proposal.config)
        self._devices.reconfigure(proposal.config.instrument, outputs)
        self._adopted.set()
        self._wake()
        self._log.info("configuration_reloaded", changes=str(proposal.changes))

    async def run(self) -> None:
        """Do what signals ask for, and what reloads leave to do; never returns."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._devices.take_over(), name="instruments-to-take-over")
            group.create_task(self._settle_boards(), name="boards-to-settle")
            group.create_task(self._heed_signals(), name="reload-signals")

    def _load(self, names: frozenset[str]) -> dict[str, Driver]:
        loaders = self._loaders()
        return {name: loaders[name]() for name in names}

    async def _heed_signals(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            async with self.turn:
                try:
                    proposal = await self.propose()
                except RequestError as error:
                    self._log.error("reload_refused", error=str(error))
                    lab, why, now = self._live.now.lab.name, str(error), self._clock.now()
                    await self._database.write(
                        lambda session: ledger_lab.note_refused_reload(session, lab, why, now)  # noqa: B023
                    )
                    continue
                await self._database.write(lambda session: self.commit(session, proposal))  # noqa: B023
                self.adopt(proposal)

    # --- boards -----------------------------------------------------------------------------------------------

    async def _settle_boards(self) -> None:
        while True:
            await self._adopted.wait()
            self._adopted.clear()
            while (commits := await self._settle_once()) is not None:
                await self._database.committed_since(commits)

    async def _settle_once(self) -> int | None:
        """Take boards off that are free to go, bring new ones up.

        Returns:
            After how many commits some still had to wait for what holds them; None if all is done.
        """
        config, now = self._live.now, self._clock.now()
        known = [board.id for board in config.board]
        leaving = await self._database.write(lambda session: ledger_lab.retire_boards(session, known, now))
        commits = self._database.commits  # its own commit is none that frees a board
        offline, held, leases = await self._database.read(
            lambda session: (
                ledger_lab.offline_boards(session, known),
                held_resources(session),
                leases_in_force(session),
            )
        )
        if not {lease.board_id for lease in leases}.issuperset(leaving):
            return commits - 1  # freed meanwhile: no commit has to come first
        waiting = bool(leaving)
        by_supply: defaultdict[str, list[Board]] = defaultdict(list)
        for board_id in offline:
            board = config.board_by_id(board_id)
            assert board is not None, "its id is from this configuration"
            if held & resources_of(board):  # a board that is leaving still has something of it
                waiting = True
            else:
                by_supply[board.supply.instrument].append(board)
        async with asyncio.TaskGroup() as group:  # a dead supply holds up its own boards only
            for instrument_id, boards in by_supply.items():
                group.create_task(self._bring_up(boards), name=f"boards-of-{instrument_id}")
        return commits if waiting else None

    async def _bring_up(self, boards: Iterable[Board]) -> None:
        """Put boards of one supply to work. What fed them before is unknown, so their outputs go off first."""
        for board in boards:
            await darken(self._devices, board)
            now = self._clock.now()
            await self._database.write(partial(ledger_lab.bring_up, board_id=board.id, now=now))
            self._wake()
