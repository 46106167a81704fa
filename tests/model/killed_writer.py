"""A program that commits jobs and tells each id on standard output, until somebody kills it."""

import asyncio
import sys
from datetime import UTC, datetime

from labd.benchmarks import Mode
from labd.model import ledger
from labd.model.database import Database


async def write_forever(url: str) -> None:
    async with Database.open(url) as database:

        async def submit() -> None:
            while True:
                job = await database.write(
                    lambda session: ledger.submit_job(
                        session,
                        benchmark="digits01",
                        mode=Mode.ENERGY,
                        client="killed",
                        spec={},
                        now=datetime.now(UTC),
                    )
                )
                print(job.id, flush=True)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(submit())


if __name__ == "__main__":
    asyncio.run(write_forever(sys.argv[1]))
