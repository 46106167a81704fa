"""labgrid's coordinator under the same load: run by the Python of an environment of its own, with nothing of labd.

Prints one JSON object, by how many other reservations are outstanding: how long one takes from the asking until it is
allocated, and how long a place takes to be acquired and released, s, medians. The coordinator is a process of its own;
this one is its client, over gRPC.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

BUSY, FREE = "busy", "free"
OTHERS = 198
"""Places that are free and that nobody asks for: with the two, as many as labd has boards in the same run."""


async def measure(each: int, outstanding: list[int]) -> dict[str, dict[str, float]]:
    """Run the coordinator in a folder of its own and ask it."""
    with tempfile.TemporaryDirectory(prefix="labgrid-bench-") as folder:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "labgrid-coordinator"),
            *("-l", "127.0.0.1:0"),
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        drain: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(30):
                while (found := re.search(rb"listening on .*:(\d+)", await process.stdout.readline())) is None:
                    pass
            drain = asyncio.create_task(_drain(process.stdout))
            return await _ask(f"127.0.0.1:{int(found[1])}", each, outstanding)
        finally:
            process.kill()
            await process.wait()
            if drain is not None:
                await drain


async def _drain(stream: asyncio.StreamReader) -> None:
    """The coordinator prints what it does: a full pipe would stop it."""
    while await stream.read(65536):
        pass


async def _ask(address: str, each: int, outstanding: list[int]) -> dict[str, dict[str, float]]:
    grpc: Any = import_module("grpc.aio")
    pb: Any = import_module("labgrid.remote.generated.labgrid_coordinator_pb2")
    stubs: Any = import_module("labgrid.remote.generated.labgrid_coordinator_pb2_grpc")
    done = asyncio.Event()

    async def said() -> AsyncIterator[Any]:
        startup = pb.ClientInMessage()
        startup.startup.version, startup.startup.name = "bench", "bench/bench"
        yield startup
        synced = pb.ClientInMessage()
        synced.sync.id = 1
        yield synced
        await done.wait()

    async with grpc.insecure_channel(address) as channel:
        stub = stubs.CoordinatorStub(channel)
        stream = stub.ClientStream(said())
        await stream.read()  # the session is known from here on
        for place in (BUSY, FREE, *(f"other-{number}" for number in range(OTHERS))):
            await stub.AddPlace(pb.AddPlaceRequest(name=place))
        await stub.AcquirePlace(pb.AcquirePlaceRequest(placename=BUSY))

        def wish(place: str) -> Any:
            return pb.CreateReservationRequest(
                filters={"main": pb.Reservation.Filter(filter={"name": place})}, prio=0.0
            )

        async def granted() -> float:
            began = time.perf_counter()
            reservation = (await stub.CreateReservation(wish(FREE))).reservation
            while not reservation.allocations:
                reservation = (
                    await stub.PollReservation(pb.PollReservationRequest(token=reservation.token))
                ).reservation
            took_s = time.perf_counter() - began
            await stub.CancelReservation(pb.CancelReservationRequest(token=reservation.token))
            return took_s

        async def pair() -> float:
            began = time.perf_counter()
            await stub.AcquirePlace(pb.AcquirePlaceRequest(placename=FREE))
            await stub.ReleasePlace(pb.ReleasePlaceRequest(placename=FREE))
            return time.perf_counter() - began

        took: dict[str, dict[str, float]] = {}
        there = 0
        for wanted in outstanding:
            while there < wanted:
                await stub.CreateReservation(wish(BUSY))
                there += 1
            took[str(wanted)] = {
                "granted_s": statistics.median([await granted() for _ in range(each)]),
                "pair_s": statistics.median([await pair() for _ in range(each)]),
            }
        done.set()
        return took


def main() -> None:
    """Measure as the arguments say: how often each, then the numbers of outstanding reservations."""
    each, *outstanding = map(int, sys.argv[1:])
    print(json.dumps(asyncio.run(measure(each, outstanding))))


if __name__ == "__main__":
    main()
