"""A native board's program as a child process: frames out of its standard output, frames into its standard input.

The child ends when its standard input ends (power-off, by the link's rules), and also when it writes to a pipe that
nobody holds any more: so a rack that is killed leaves no child behind.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import structlog

from labd.virtual.link import FrameReader, Frames, LinkError

_READ_BYTES = 1 << 16

log = structlog.get_logger(__name__)


class NativeProgram:
    """One run of a board's image, from power-on to power-off.

    Args:
        image: An executable file that speaks the link.
        on_frames: Takes the frames as they are read, on the event loop.
        on_end: Told once when the program ended by itself, or said something that the link does not know.

    Raises:
        OSError: the image is no program of this machine.
    """

    def __init__(self, image: Path, on_frames: Callable[[Frames], None], on_end: Callable[[], None]) -> None:
        self._on_frames = on_frames
        self._on_end = on_end
        self._reader = FrameReader()
        self._unsent = bytearray()
        self._paused = False
        self._loop = asyncio.get_running_loop()
        self._process = subprocess.Popen(
            [image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self._loop.add_reader(self._stdout.fileno(), self._read)

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def send(self, data: bytes) -> None:
        """Send frames to the board; what the pipe does not take now goes out later."""
        self._unsent += data
        self._write()

    def pause(self) -> None:
        """Stop reading: the program blocks once the pipe is full."""
        if not self._paused and not self._stdout.closed:
            self._paused = True
            self._loop.remove_reader(self._stdout.fileno())

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self._stdout.closed:
            self._paused = False
            self._loop.add_reader(self._stdout.fileno(), self._read)

    def end(self) -> None:
        """Kill the program if it still runs, and close the pipes. Harmless when repeated."""
        if self._stdout.closed:
            return
        self._loop.remove_reader(self._stdout.fileno())
        self._loop.remove_writer(self._stdin.fileno())
        self._stdin.close()
        self._stdout.close()
        self._process.kill()
        self._process.wait()  # a killed child is gone within the time of a context switch

    def _read(self) -> None:
        try:
            data = os.read(self._stdout.fileno(), _READ_BYTES)
            frames = self._reader.feed(data)
        except BlockingIOError:
            return
        except LinkError as error:
            log.warning("board_program_refused", pid=self.pid, error=str(error))
            self._fail()
            return
        if not data:
            self._fail()
        elif len(frames):
            self._on_frames(frames)

    def _fail(self) -> None:
        self.end()
        log.warning("board_program_ended", pid=self.pid, exit_code=self._process.returncode)
        self._on_end()

    def _write(self) -> None:
        if self._stdin.closed:
            return
        try:
            while self._unsent:
                del self._unsent[: os.write(self._stdin.fileno(), self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self._stdin.fileno(), self._write)
            return
        except BrokenPipeError:
            self._unsent.clear()  # the end of its output tells the rest
        self._loop.remove_writer(self._stdin.fileno())
