"""An analyzer that is never the bottleneck: answers the N6705C driver's few commands and hands out prepared samples.

A process of its own, so that its work is not counted to whoever receives. After `INIT:ELOG` a connection has a log of a
fixed number of records; `FETC:ELOG? n` gives the next n of them, fewer at the end, as fast as the socket takes them.
The log period that it claims, 20 ns, is one at which the driver is never late for the FIFO.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socketserver
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache

import numpy as np

RECORD_BYTES = 8
PERIOD_S = 20e-9
_FETCH = re.compile(rb"FETC:ELOG\? (\d+)")
_ANSWERS = {
    b"*IDN?": b"Keysight Technologies,N6705C,MY00000001,E.02.03",
    b"*OPT?": b"0",
    b"SYST:CHAN:MOD?": b'"N6781A"',
    b"SYST:CHAN:OPT?": b'"0"',
    b"SYST:ERR?": b'0,"No error"',
    b"SENS:ELOG:CURR:RANG?": b"0.1",
    b"SENS:ELOG:VOLT:RANG?": b"20",
    b"SENS:ELOG:PER?": b"%.9e" % PERIOD_S,
}


@lru_cache(maxsize=4)
def answer_block(records: int) -> bytes:
    """A definite length block of `records` pairs of current [A] and voltage [V]: a board that works and sleeps."""
    rng = np.random.default_rng(1)
    pairs = np.empty((records, 2), dtype="<f4")
    busy = np.arange(records) // 700 % 3 == 0
    pairs[:, 0] = np.where(busy, 0.031, 0.0021) + rng.normal(0.0, 4e-6, records)
    pairs[:, 1] = 3.0 + rng.normal(0.0, 9e-4, records)
    length = str(records * RECORD_BYTES)
    return f"#{len(length)}{length}".encode() + pairs.tobytes() + b"\n"


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        left = 0
        for line in self.rfile:
            command = line.strip()
            fetch = _FETCH.match(command)
            if fetch:
                count = min(int(fetch[1]), left)
                left -= count
                self.request.sendall(answer_block(count))
            elif command.startswith(b"INIT:ELOG"):
                left = self.server.records
            elif command.split(b" ")[0].endswith(b"?"):
                self.request.sendall(_ANSWERS[command.split(b" ")[0]] + b"\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, records: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.records = records


@asynccontextmanager
async def elog_server(records: int) -> AsyncIterator[int]:
    """Run the server as a child process; yield its port.

    Args:
        records: Length of every log.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, "--records", str(records), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            port = int(await process.stdout.readline())
        yield port
    finally:
        process.terminate()
        await process.wait()


def main() -> None:
    """Print the port, then serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, required=True)
    with _Server(parser.parse_args().records) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
