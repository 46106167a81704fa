"""An operator's day with traces: `labctl` against a whole lab with an archive, and kill -9 in the middle of each work.

A request to the archive is held when a kill shall land in the middle of an upload or of a deletion, so it does.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labd.benchmarks import Mode
from labd.keep.archive import Archive
from labd.model.states import JobState
from labd.service.traces.messages import TraceDetails, TraceRef
from labd.trace.export.formats import Format
from labd.trace.seal import verify
from tests.cli.served import Ended, ended, labctl, started
from tests.deadline import HUNG_S
from tests.end_to_end.labs import Scene, scene, spec
from tests.end_to_end.labs import ended as job_ended
from tests.s3_server import KEY, SECRET, Proxy, S3Server, proxy, s3
from tests.trace.sessions.published_folders import EnergyRunnerSession

__all__ = ["s3"]

SCRAP_GOES = '\n[[keep.rule]]\nlabel = { purpose = "scrap" }\nmax_age_days = 1e-6\n'
"""A rule under which a trace of such a job goes at the next round, or when somebody asks."""


@dataclass
class Hold:
    """Keeps those requests waiting that it is told to, until it is released; then they fail."""

    of: Callable[[str, str], bool]
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def __call__(self, method: str, path: str) -> bool:
        """Whether to refuse this request."""
        if self.released.is_set() or not self.of(method, path):
            return False
        self.reached.set()
        self.released.wait(HUNG_S)
        return True


@contextmanager
def held(between: Proxy, of: Callable[[str, str], bool]) -> Iterator[Hold]:
    """Hold such requests while the block lasts."""
    hold = Hold(of)
    between.refuses = hold
    try:
        yield hold
    finally:
        hold.released.set()


@dataclass(frozen=True)
class Bench:
    """The lab, its archive, and what stands between the two."""

    lab: Scene
    between: Proxy
    archive: Archive

    async def labctl(self, *arguments: str | Path) -> Ended:
        """What an operator on the lab's own host types."""
        return await labctl("--config", str(self.lab.lab.lab_toml), *map(str, arguments))

    async def measure(self, **labels: str) -> tuple[int, str]:
        """Number of an energy job that has completed, and the id of its trace."""
        asked = spec(Mode.ENERGY).model_copy(update={"labels": labels})
        async with self.lab.client() as client:
            job = await job_ended(client, (await client.submit(asked)).job_id)
        assert job.state is JobState.COMPLETED, job.cause
        (trace,) = job.runs[-1].traces
        return job.id, trace.id

    async def trace_is(self, trace_id: str, state: Callable[[TraceDetails], bool]) -> TraceDetails:
        """Wait until the lab says so of a trace."""
        async with self.lab.client() as client, asyncio.timeout(HUNG_S):
            while not state(found := await client.request("trace.get", TraceRef(id=trace_id), TraceDetails)):
                await asyncio.sleep(0.05)
            return found

    async def nowhere(self, trace_id: str) -> None:
        """Wait until no file of a trace is left, here or in the archive."""
        async with asyncio.timeout(HUNG_S):
            while (self.lab.lab.traces_dir / trace_id).exists() or await self.archive.sizes(trace_id):
                await asyncio.sleep(0.05)

    async def kill_when(self, hold: Hold) -> None:
        """Kill the daemon when it has come to a request that is held."""
        assert await asyncio.to_thread(hold.reached.wait, HUNG_S)
        await self.lab.lab.kill_daemon()


@asynccontextmanager
async def bench(s3: S3Server, folder: Path, bucket: str, *, keep_local: str) -> AsyncIterator[Bench]:
    """A lab with an archive of its own, and a daemon that runs."""
    s3.make_bucket(bucket)
    with proxy(s3.endpoint) as between:
        async with scene(folder) as lab:
            head = f'[store]\narchive_url = "s3://{bucket}/demo"\nendpoint = "{between.endpoint}"\nallow_http = true\n'
            toml = lab.lab.lab_toml
            toml.write_text(f"{head}keep_local = {keep_local}\n\n{toml.read_text()}{SCRAP_GOES}")
            await lab.lab.start_daemon()
            yield Bench(lab, between, Archive(s3.store(bucket, prefix="demo"), f"s3://{bucket}/demo"))
            assert await lab.lab.stop_daemon() == 0
            assert SECRET not in lab.log()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


async def test_traces_that_lie_in_the_archive_only_are_looked_at_kept_and_let_go(s3: S3Server, tmp_path: Path) -> None:
    async with bench(s3, tmp_path / "lab", "by-hand", keep_local="false") as by:
        job, kept = await by.measure(purpose="paper")
        _, scrap = await by.measure(purpose="scrap")
        for each in (kept, scrap):
            rows = (await by.trace_is(each, lambda trace: trace.archived_at is not None and not trace.local)).rows
            assert rows > 1000

        picture = tmp_path / "window.svg"
        pull = ("trace", "pull", str(job), "--out", tmp_path, "--json", "--format")
        listed, shown, plotted, verified, *pulled = await asyncio.gather(
            by.labctl("trace", "list", "--json"),
            by.labctl("trace", "show", kept),
            by.labctl("trace", "plot", kept, "--trial", "1", "--out", picture),
            by.labctl("trace", "verify", kept, scrap),
            *(by.labctl(*pull, form) for form in Format),
        )
        assert [each["id"] for each in listed.document["traces"]] == [scrap, kept]
        assert (shown.status, "purpose = paper" in shown.out, "µJ" in shown.out) == (0, True, True)
        assert (plotted.status, "trial 1" in picture.read_text()) == (0, True)
        assert verified.status == 0
        rows = listed.document["traces"][1]["rows"]
        for form, file in zip(Format, pulled, strict=True):
            assert file.status == 0, file.err
            (made,) = file.document["traces"]
            assert (made["samples"], (tmp_path / f"{kept}{form.suffix}").stat().st_size) == (rows, made["size"])

        would = (await by.labctl("trace", "gc", "--dry-run", "--json")).document
        assert [(each["id"], each["way"]) for each in would["going"]] == [(scrap, "remove")]
        assert (await by.labctl("trace", "pin", scrap, "--reason", "odd spike")).status == 0
        assert (await by.labctl("trace", "gc", "--json")).document["count"] == 0
        assert (await by.labctl("trace", "unpin", scrap)).status == 0
        assert (await by.labctl("trace", "gc", "--json")).document["count"] == 1
        await by.nowhere(scrap)
        gone = await by.labctl("trace", "show", scrap)
        assert (gone.status, "removed" in gone.out, "it ended" in gone.out) == (0, True, True)
        assert (await by.labctl("trace", "pull", scrap, "--out", tmp_path)).status == 3
        assert (await by.labctl("trace", "verify", kept)).status == 0


@pytest.mark.slow
async def test_kill_9_in_an_upload_a_deletion_and_an_import_leaves_nothing_lost_stuck_or_half(
    s3: S3Server, tmp_path: Path
) -> None:
    session = EnergyRunnerSession(tmp_path / "kws", rate_hz=10_000.0)
    session.write_energy()
    async with bench(s3, tmp_path / "lab", "killed", keep_local="true") as by:
        lab, traces_dir = by.lab.lab, by.lab.lab.traces_dir

        with held(by.between, lambda method, path: method == "PUT" and "parquet" in path) as hold:
            _, scrap = await by.measure(purpose="scrap")
            assert (await by.labctl("trace", "pin", scrap)).status == 0
            await by.kill_when(hold)
        await lab.start_daemon()
        assert (await by.trace_is(scrap, lambda trace: trace.archived_at is not None)).pinned
        await by.archive.verify(scrap)
        await asyncio.to_thread(verify, traces_dir / scrap)
        assert s3.open_uploads("killed") == 0

        with held(by.between, lambda method, path: method == "DELETE" or "?delete" in path) as hold:
            assert (await by.labctl("trace", "unpin", scrap)).status == 0
            assert (await by.labctl("trace", "gc", "--json")).document["count"] == 1
            await by.kill_when(hold)
        assert await by.archive.sizes(scrap)  # the kill came before the end
        await lab.start_daemon()
        await by.nowhere(scrap)
        assert (await by.labctl("trace", "list", "--state", "removed", "--json")).document["traces"][0]["id"] == scrap

        take_in = ("--config", str(lab.lab_toml), "trace", "import", str(tmp_path / "kws"), "--json")
        async with started(*take_in) as operator:
            async with asyncio.timeout(HUNG_S):
                while not (traces_dir / ".importing").exists():
                    assert operator.returncode is None
                    await asyncio.sleep(0.001)
            await lab.kill_daemon()
            told = await ended(operator)
        assert (told.status, told.out) == (4, ""), told.err
        await lab.start_daemon()
        assert list(traces_dir.glob("session-*")) == []
        assert not (traces_dir / ".importing").exists()

        again = await labctl(*take_in)
        assert again.status == 0, again.err
        (job,) = again.document["sessions"][0]["jobs"]
        shown = await by.labctl("job", "show", str(job), "--json")
        (imported,) = [trace["id"] for run in shown.document["runs"] for trace in run["traces"]]
        assert {score["scorer"] for score in shown.document["runs"][0]["scores"]} >= {"energyrunner-published/1"}
        words = await by.labctl("job", "show", str(job))
        assert (words.status, "Imported" in words.out) == (0, True)
        assert list((lab.data_dir / "inbox").iterdir()) == []
        await by.trace_is(imported, lambda trace: trace.archived_at is not None)
        await by.archive.verify(imported)
        assert json.loads((await by.labctl("trace", "verify", imported, "--json")).out)["ok"] is True

        _, fresh = await by.measure()  # and the lab goes on measuring
        await asyncio.to_thread(verify, traces_dir / fresh)
