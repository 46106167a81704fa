"""A whole lab with no hardware, in a folder: a rack process, a daemon process, and the `lab.toml` between them.

The two processes share nothing but ports, as a daemon and a rack of real devices do. The demo runs one, and so do the
tests, which also kill and restart the daemon.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from labd.errors import UnreachableError
from labd.virtual.config import RackConfig, load_rack
from labd.virtual.control import AsyncRackControl
from labd.virtual.endpoints import Endpoints, lab_toml, read_endpoints

START_S = 60.0
"""Longest wait for a rack or a daemon to be ready, s."""
STOP_S = 60.0
"""Longest wait for one to end after SIGTERM, s."""
LAB = "demo"


class VirtualLab:
    """The folder and its two processes; made by `virtual_lab`.

    Args:
        folder: Where all of it lies: `rack.toml`, `lab.toml`, logs, `var/` with database and traces.
        config: The rack.
        endpoints: Where its devices are.
    """

    def __init__(self, folder: Path, config: RackConfig, endpoints: Endpoints) -> None:
        self.folder = folder
        self.config = config
        self.control = AsyncRackControl(endpoints.control)
        self.endpoints = endpoints
        self.lab_toml = folder / "lab.toml"
        self.data_dir = folder / "var"
        self._daemon: asyncio.subprocess.Process | None = None
        self._notices: socket.socket | None = None
        """Where the daemon finds its service manager: here."""

    @property
    def traces_dir(self) -> Path:
        """Where the daemon keeps its traces."""
        return self.data_dir / "traces"

    @property
    def daemon_pid(self) -> int | None:
        """Process id of the daemon; None if none runs."""
        return self._daemon.pid if self._daemon is not None and self._daemon.returncode is None else None

    def write_lab(self, broker_url: str, firmware: Path) -> None:
        """Write the `lab.toml` of this rack.

        Args:
            broker_url: The broker.
            firmware: `manifest.json` of the firmware build.
        """
        head = (
            f'[lab]\nname = "{LAB}"\ndata_dir = {json.dumps(str(self.data_dir))}\n\n'
            f'[mqtt]\nurl = "{broker_url}"\n\n[http]\nlisten = "127.0.0.1:0"\n\n'
            # a virtual trace is small, and so may be the disk of who tries it
            "[keep]\nlow_gb = 0.2\ncritical_gb = 0.1\n"
        )
        sections = [head, lab_toml(self.config, self.endpoints), firmware_toml(firmware)]
        self.lab_toml.write_text("\n".join(sections))

    async def start_daemon(self) -> None:
        """Start the daemon and wait until it says that it is ready.

        Raises:
            UnreachableError: it ended, or was not ready in time; its log says why.
        """
        log = self.folder / "daemon.log"
        address = f"\0labd-demo-{os.getpid()}-{id(self)}"
        self._close_notices()
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(address)
        self._notices.setblocking(False)
        with log.open("ab") as out:
            self._daemon = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "labd",
                "run",
                str(self.lab_toml),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "NOTIFY_SOCKET": "@" + address[1:]},
            )
        await daemon_ready(self._daemon, self._notices, log)

    async def kill_daemon(self) -> None:
        """End the daemon as a power cut of the host would."""
        if self._daemon is not None and self._daemon.returncode is None:
            self._daemon.kill()
            await self._daemon.wait()
        self._close_notices()

    async def stop_daemon(self) -> int | None:
        """Ask the daemon to stop, and return its exit status; None if there is none."""
        try:
            return None if self._daemon is None else await end_process(self._daemon)
        finally:
            self._close_notices()

    def _close_notices(self) -> None:
        if self._notices is not None:
            self._notices.close()
            self._notices = None


@asynccontextmanager
async def virtual_lab(folder: Path, *, rack_toml: str, speed: float) -> AsyncIterator[VirtualLab]:
    """Start a rack in `folder`; stop it, and the daemon if one was started, at the end of the block.

    Args:
        folder: Made if it is not there; a rack must not run in it already.
        rack_toml: Text of the rack's configuration.
        speed: Rack seconds per host second.

    Raises:
        ConfigError: the rack's configuration cannot be used.
        UnreachableError: the rack was not ready in time; its log says why.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    path, log = folder / "rack.toml", folder / "rack.log"
    path.write_text(rack_toml)
    config = load_rack(path).at_speed(speed)
    ready = config.rack.dir / "rack.json"
    ready.unlink(missing_ok=True)
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "labd", "virtual", "rack", str(path), "--speed", str(speed)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        endpoints = await _endpoints(process, ready, log)
        lab = VirtualLab(folder, config, endpoints)
        try:
            yield lab
        finally:
            await lab.stop_daemon()
    finally:
        await end_process(process)


async def _endpoints(process: asyncio.subprocess.Process, path: Path, log: Path) -> Endpoints:
    """Wait until the rack has written where its devices are."""
    try:
        async with asyncio.timeout(START_S):
            while process.returncode is None:
                if await asyncio.to_thread(path.exists):
                    return read_endpoints(path)
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise UnreachableError(f"not ready within {START_S:g} s", where="rack", remedy=f"read {log}") from error
    raise UnreachableError(f"ended with status {process.returncode}", where="rack", remedy=f"read {log}")


async def daemon_ready(process: asyncio.subprocess.Process, notices: socket.socket, log: Path) -> None:
    """Wait until a daemon has said `READY=1` to `notices`. Raises `UnreachableError` if it ends, or is late."""
    loop = asyncio.get_running_loop()
    ended = asyncio.create_task(process.wait(), name="daemon-ended")
    told = asyncio.create_task(_told_ready(loop, notices), name="daemon-ready")
    try:
        async with asyncio.timeout(START_S):
            await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError as error:
        raise UnreachableError(f"not ready within {START_S:g} s", where="daemon", remedy=f"read {log}") from error
    finally:
        for task in (ended, told):
            task.cancel()
        await asyncio.wait({ended, told})
    if process.returncode is not None:
        raise UnreachableError(f"ended with status {process.returncode}", where="daemon", remedy=f"read {log}")


async def _told_ready(loop: asyncio.AbstractEventLoop, notices: socket.socket) -> None:
    while b"READY=1" not in await loop.sock_recv(notices, 4096):
        pass


async def end_process(process: asyncio.subprocess.Process) -> int:
    """SIGTERM, and SIGKILL for one that does not end by it; return its exit status."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode


def firmware_toml(manifest: Path) -> str:
    """The `[[firmware]]` sections for a build's manifest, whose paths are relative to it."""
    builds: dict[tuple[str, str], dict[str, Path]] = {}
    for entry in json.loads(manifest.read_text()):
        images = builds.setdefault((entry["benchmark"], entry["target"]), {})
        images[entry["mode"]] = (manifest.parent / entry["path"]).resolve()
    return "\n".join(
        f'[[firmware]]\nname = "labd-dut"\nbenchmark = "{benchmark}"\ntarget = "{target}"\n'
        f"images = {{ {', '.join(f'{mode} = {json.dumps(str(path))}' for mode, path in images.items())} }}\n"
        for (benchmark, target), images in builds.items()
    )
