"""A lab of light boards in a folder: Mosquitto, the rack and the daemon, each a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from labd.virtual.lab import daemon_ready, end_process
from tests.deadline import HUNG_S
from tests.fast_clock import Anchor
from tests.light.broker import KeepingMosquitto, keeping_mosquitto
from tests.light.faults import Faults, Order, RackTold
from tests.light.rack import CHANNELS, CONTROL, board_name, line_path, supply_path
from tests.light.vitals import Vitals, read_vitals

ROOT = Path(__file__).parents[2]
PLUGIN = Path(__file__).parent / "plugin"
LAB = "light"
START_S = HUNG_S


class LightLab:
    """The folder and its processes; made by `light_lab`.

    Args:
        folder: Where all of it lies.
        broker: Where the daemon is asked.
        boards: Boards of the rack; `lab.toml` may name fewer.
        speed: Rack seconds in one of the host's.
    """

    def __init__(self, folder: Path, broker: KeepingMosquitto, boards: int, speed: float) -> None:
        self.folder = folder
        self.broker = broker
        self.boards = tuple(board_name(index) for index in range(boards))
        self.speed = speed
        self.lab_toml = folder / "lab.toml"
        self.database = folder / "var" / "labd.db"
        self.log = folder / "daemon.log"
        self.daemon: asyncio.subprocess.Process | None = None
        self._vitals = folder / "vitals.jsonl"

    def write_lab(self, boards: Sequence[str] | None = None, more: str = "", board_keys: str = "") -> None:
        """Write `lab.toml`.

        Args:
            boards: The rack's boards that it names; None for all.
            more: Further sections.
            board_keys: Further keys of every board.
        """
        named = self.boards if boards is None else boards
        (self.folder / "light.img").write_bytes(b"light firmware 1.0")
        sections = [
            f'[lab]\nname = "{LAB}"\ndata_dir = {json.dumps(str(self.folder / "var"))}\nlog_level = "warning"',
            f'[mqtt]\nurl = "{self.broker.endpoint}"',
            '[http]\nlisten = "127.0.0.1:0"',
            "[keep]\nlow_gb = 0.2\ncritical_gb = 0.1",
            more,
            *(self._supply(number) for number in range((len(self.boards) + CHANNELS - 1) // CHANNELS)),
            *(self._board(board, board_keys) for board in named),
            '[[firmware]]\nname = "light"\nbenchmark = "digits01"\ntarget = "light"\n'
            f"images = {{ performance = {json.dumps(str(self.folder / 'light.img'))} }}",
        ]
        self.lab_toml.write_text("\n\n".join(sections) + "\n")

    def _supply(self, number: int) -> str:
        socket_path = json.dumps(str(supply_path(self.folder, number)))
        return (
            f'[[instrument]]\nid = "psu-{number + 1:02d}"\ndriver = "light-supply"\nsocket = {socket_path}\n'
            f"channels = {CHANNELS}"
        )

    def _board(self, board: str, keys: str) -> str:
        number, channel = divmod(self.boards.index(board), CHANNELS)
        return (
            f'[[board]]\nid = "{board}"\ntags = ["light"]\ntarget = "light"\n'
            "limits = { voltage_max_v = 3.6, current_max_a = 0.15 }\n"
            f'supply = {{ instrument = "psu-{number + 1:02d}", channel = {channel + 1}, voltage_v = 3.0 }}\n'
            f'serial = {{ driver = "light-line", port = {json.dumps(str(line_path(self.folder, board)))} }}\n{keys}'
        )

    # --- the daemon -------------------------------------------------------------------------------------------

    async def start_daemon(self, anchor: Anchor | None = None, *, profile: Path | None = None) -> None:
        """Start the daemon and wait until it is ready: with the host's clock it is the unmodified `labd run`.

        Args:
            anchor: Of its fast clock; None for the host's own clock.
            profile: Where to write the profile of its event loop; only with a fast clock.
        """
        if anchor is None:
            command = ["labd", "run", str(self.lab_toml)]
        else:
            command = ["tests.light.daemon", str(self.lab_toml), "--start", anchor.start.isoformat()]
            command += ["--speed", str(anchor.speed), "--since", str(anchor.since_s), "--vitals", str(self._vitals)]
            command += ["--profile", str(profile)] if profile else []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices, self.log.open("ab") as out:
            address = f"labd-light-{os.getpid()}-{id(self)}"
            notices.bind(f"\0{address}")
            notices.setblocking(False)
            environment = {**os.environ, "NOTIFY_SOCKET": f"@{address}"}
            environment["PYTHONPATH"] = os.pathsep.join([str(PLUGIN), str(ROOT)])
            self.daemon = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *command),
                cwd=ROOT,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
            await daemon_ready(self.daemon, notices, self.log)

    async def kill_daemon(self) -> None:
        """End it as a power cut of the host would."""
        if self.daemon is not None and self.daemon.returncode is None:
            self.daemon.kill()
            await self.daemon.wait()

    async def stop_daemon(self) -> int | None:
        """Ask it to stop and return its status; None if there is none."""
        return None if self.daemon is None else await end_process(self.daemon)

    def reload(self) -> None:
        """Have it read `lab.toml` again."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGHUP)

    @property
    def vitals(self) -> list[Vitals]:
        """What daemons with a fast clock have held, second by second."""
        return read_vitals(self._vitals)

    # --- the rack ---------------------------------------------------------------------------------------------

    async def rack(self, board: str | None = None, faults: Faults | None = None) -> RackTold:
        """Give a board these faults, and no others, if one is named; return how all are."""
        reader, writer = await asyncio.open_unix_connection(str(self.folder / CONTROL), limit=1 << 22)
        try:
            writer.write(Order(board=board, faults=faults or Faults()).model_dump_json().encode() + b"\n")
            async with asyncio.timeout(HUNG_S):
                return RackTold.model_validate_json(await reader.readline())
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def light_lab(folder: Path, *, boards: int, speed: float) -> AsyncIterator[LightLab]:
    """A broker and a rack that run, and the `lab.toml` between them; the daemon is stopped at the end, if one runs.

    Args:
        folder: Its path has to be short: those of Unix sockets have 107 characters.
        boards: Boards of the rack.
        speed: Rack seconds in one of the host's.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with keeping_mosquitto(folder) as broker, _rack(folder, boards, speed):
        lab = LightLab(folder, broker, boards, speed)
        lab.write_lab()
        try:
            yield lab
        finally:
            await lab.stop_daemon()


@asynccontextmanager
async def _rack(folder: Path, boards: int, speed: float) -> AsyncIterator[None]:
    with (folder / "rack.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.light.rack", str(folder), "--boards", str(boards), "--speed", str(speed)),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_S):
            if await process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"the rack is not ready: {(folder / 'rack.log').read_text()}")
        yield
    finally:
        await end_process(process)
