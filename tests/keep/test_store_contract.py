"""An archive holds a trace whole or not at all, whatever cuts an upload off; the same in memory and on an S3 server."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import obstore
import pytest
from obstore.store import MemoryStore, ObjectStore

from labd.errors import TraceError
from labd.keep.archive import PART, AnotherTraceError, Archive
from labd.keep.names import TraceIdError
from labd.keep.store import TraceStore
from labd.trace.files import FileMissingError, LocalFiles
from labd.trace.object_files import PlaceError, PlaceUnreachableError
from labd.trace.seal import SEALED_FILES
from tests.brokers import free_port
from tests.deadline import HUNG_S
from tests.keep.sealed import arbitrary_trace, contents, damaged
from tests.s3_server import ONCE, SECRET, S3Server, proxy, s3, s3_server

__all__ = ["s3"]


@pytest.fixture(params=["memory", "s3"])
def objects(request: pytest.FixtureRequest, s3: S3Server) -> ObjectStore:
    if request.param == "memory":
        return MemoryStore()
    bucket = f"b-{uuid4()}"
    s3.make_bucket(bucket)
    return s3.store(bucket, prefix="labs/bench-1")


@pytest.fixture
def archive(objects: ObjectStore) -> Archive:
    return Archive(objects, "s3://bucket/labs/bench-1")


def held(objects: ObjectStore, trace_id: str = "t1") -> dict[str, bytes]:
    """All files of a trace in the store."""
    paths = [entry["path"] for entry in obstore.list(objects, f"{trace_id}/").collect()]
    return {path.removeprefix(f"{trace_id}/"): obstore.get(objects, path).bytes().to_bytes() for path in paths}


async def test_a_trace_arrives_byte_for_byte(archive: Archive, objects: ObjectStore, tmp_path: Path) -> None:
    folder = arbitrary_trace(tmp_path)
    assert not await archive.has("t1")
    seal = await archive.put(folder)
    assert held(objects) == contents(folder)
    assert (await archive.has("t1"), await archive.ids()) == (True, ["t1"])
    assert await archive.verify("t1") == await archive.seal("t1") == seal
    assert await archive.sizes("t1") == {name: len(data) for name, data in contents(folder).items()}


async def test_a_file_of_many_parts_arrives(archive: Archive, objects: ObjectStore, tmp_path: Path) -> None:
    folder = arbitrary_trace(tmp_path, size=2 * PART + 12_345)
    await archive.put(folder)
    assert held(objects) == contents(folder)


async def test_bringing_it_again_changes_nothing(archive: Archive, objects: ObjectStore, tmp_path: Path) -> None:
    folder = arbitrary_trace(tmp_path)
    await archive.put(folder)
    before = {entry["path"]: entry["last_modified"] for entry in obstore.list(objects).collect()}
    await archive.put(folder)
    assert {entry["path"]: entry["last_modified"] for entry in obstore.list(objects).collect()} == before


@pytest.mark.parametrize("name", [*SEALED_FILES, "seal.json"])
async def test_what_was_changed_in_the_store_is_found_and_sent_again(
    archive: Archive, objects: ObjectStore, tmp_path: Path, name: str
) -> None:
    folder = arbitrary_trace(tmp_path)
    await archive.put(folder)
    data = held(objects)[name]
    obstore.put(objects, f"t1/{name}", data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(TraceError, match=name.replace(".", r"\.")):
        await archive.verify("t1")
    await archive.put(folder)
    assert held(objects) == contents(folder)


async def test_what_is_missing_in_the_store_is_named_and_sent_again(
    archive: Archive, objects: ObjectStore, tmp_path: Path
) -> None:
    folder = arbitrary_trace(tmp_path)
    await archive.put(folder)
    obstore.delete(objects, "t1/samples.parquet")
    with pytest.raises(FileMissingError, match=r"samples\.parquet"):
        await archive.verify("t1")
    await archive.put(folder)
    await archive.verify("t1")


@pytest.mark.parametrize("size", [100_000, 2 * PART + 5])
async def test_a_trace_that_is_damaged_here_never_gets_there(
    archive: Archive, objects: ObjectStore, tmp_path: Path, size: int
) -> None:
    folder = arbitrary_trace(tmp_path, size=size)
    with damaged(folder / "samples.parquet"), pytest.raises(TraceError, match=r"samples\.parquet: .*not what was"):
        await archive.put(folder)
    assert not {"samples.parquet", "seal.json"} & held(objects).keys()
    await archive.put(folder)
    await archive.verify("t1")


async def test_a_trace_without_a_seal_is_refused(archive: Archive, objects: ObjectStore, tmp_path: Path) -> None:
    folder = arbitrary_trace(tmp_path)
    (folder / "seal.json").unlink()
    with pytest.raises(TraceError, match="not sealed"):
        await archive.put(folder)
    assert held(objects) == {}


async def test_a_trace_under_another_name_is_refused(archive: Archive, tmp_path: Path) -> None:
    folder = arbitrary_trace(tmp_path).rename(tmp_path / "t2")
    with pytest.raises(TraceError, match="that of 't1'"):
        await archive.put(folder)


async def test_another_trace_of_the_same_id_is_never_overwritten(
    archive: Archive, objects: ObjectStore, tmp_path: Path
) -> None:
    theirs = arbitrary_trace(tmp_path / "theirs", seed=2)
    await archive.put(theirs)
    with pytest.raises(AnotherTraceError, match="a prefix of its own"):
        await archive.put(arbitrary_trace(tmp_path / "ours", seed=1))
    assert held(objects) == contents(theirs)


async def test_a_deleted_trace_is_gone_and_its_neighbours_are_not(archive: Archive, tmp_path: Path) -> None:
    for trace_id in ("t1", "t10"):
        await archive.put(arbitrary_trace(tmp_path, trace_id))
    await archive.delete("t1")
    await archive.delete("t1")
    assert (await archive.ids(), await archive.sizes("t1")) == (["t10"], {})
    await archive.verify("t10")


@pytest.mark.parametrize("name", ["", "..", "../t1", "a/b", "/etc", ".hidden", "t1\n", "x" * 129, "t1/../../x"])
async def test_no_name_leads_out_of_the_store(archive: Archive, tmp_path: Path, name: str) -> None:
    store = TraceStore(tmp_path, archive)
    for ask in (store.files, store.folder, store.is_local, store.drop_local, archive.files):
        with pytest.raises(TraceIdError):
            ask(name)
    for wait in (archive.has, archive.seal, archive.verify, archive.delete):
        with pytest.raises(TraceIdError):
            await wait(name)


async def test_a_probe_leaves_nothing(archive: Archive, objects: ObjectStore) -> None:
    await archive.probe()
    assert obstore.list(objects).collect() == []


async def test_the_local_copy_is_preferred_and_the_archive_serves_without_one(archive: Archive, tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "here", archive)
    folder = arbitrary_trace(tmp_path / "here")
    await archive.put(folder)
    await archive.put(arbitrary_trace(tmp_path / "elsewhere", "t2"))
    assert isinstance(store.files("t1"), LocalFiles)
    assert await store.ids() == ["t1", "t2"]
    expected = contents(folder)["samples.parquet"]
    await asyncio.to_thread(store.drop_local, "t1")
    assert (store.local_ids(), await store.ids()) == ([], ["t1", "t2"])
    files = store.files("t1")
    assert await asyncio.to_thread(lambda: bytes(files.span("samples.parquet", 500, 700))) == expected[500:700]
    assert list((tmp_path / "here").iterdir()) == []


def test_without_an_archive_a_trace_that_is_not_here_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such trace"):
        TraceStore(tmp_path).files("t1")


def test_what_a_kill_left_of_a_deletion_is_cleared_up(tmp_path: Path) -> None:
    arbitrary_trace(tmp_path).rename(tmp_path / ".going-t1")
    store = TraceStore(tmp_path)
    assert store.local_ids() == []
    store.clear_up()
    assert list(tmp_path.iterdir()) == []


async def test_an_upload_that_is_cut_off_at_any_request_goes_on(s3: S3Server, tmp_path: Path) -> None:
    """Each time one request more comes through; what counts as there is there whole every time."""
    folder = arbitrary_trace(tmp_path, size=2 * PART + 5)
    s3.make_bucket("cut-off")
    direct = Archive(s3.store("cut-off"), "s3://cut-off")
    with proxy(s3.endpoint) as between:
        cut = Archive(s3.store("cut-off", endpoint=between.endpoint, retry=ONCE), "s3://cut-off")
        done, granted = False, 0
        while not done:
            granted += 1
            last = len(between.requests) + granted
            between.refuses = lambda method, path, last=last: len(between.requests) > last  # type: ignore[misc]
            try:
                await cut.put(folder)
                done = True
            except PlaceUnreachableError:
                if await direct.has("t1"):
                    await direct.verify("t1")
            await direct.delete("t1") if granted % 3 == 0 and not done else None
        assert granted > 2 * len(SEALED_FILES)
    await direct.verify("t1")
    assert held(s3.store("cut-off")) == contents(folder)


@pytest.mark.parametrize("lines", [3, 12, 25, 40])
async def test_an_upload_that_is_killed_goes_on(s3: S3Server, tmp_path: Path, lines: int) -> None:
    """The process is killed while its request of that number is under way."""
    folder = arbitrary_trace(tmp_path, size=3 * PART)
    bucket = f"killed-{lines}"
    s3.make_bucket(bucket)
    direct = Archive(s3.store(bucket), f"s3://{bucket}")
    with proxy(s3.endpoint) as between:
        program = (
            "import asyncio, pathlib, sys\n"
            "from labd.keep.archive import Archive\n"
            "from tests.s3_server import S3Server\n"
            "store = S3Server(0).store(sys.argv[1], endpoint=sys.argv[2])\n"
            "asyncio.run(Archive(store, 's3://x').put(pathlib.Path(sys.argv[3])))"
        )
        reached = asyncio.Event()
        loop = asyncio.get_running_loop()

        def seen(method: str, path: str) -> bool:
            if len(between.requests) == lines:
                loop.call_soon_threadsafe(reached.set)
            return False

        between.refuses = seen
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, bucket, between.endpoint, str(folder), stderr=asyncio.subprocess.DEVNULL
        )
        ended = asyncio.create_task(process.wait())
        met = asyncio.create_task(reached.wait())
        async with asyncio.timeout(HUNG_S):
            await asyncio.wait({ended, met}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            process.send_signal(signal.SIGKILL)
        await ended
        met.cancel()
    if await direct.has("t1"):
        await direct.verify("t1")
    await direct.put(folder)
    assert held(s3.store(bucket)) == contents(folder)


async def test_a_cancelled_upload_ends_at_once_and_goes_on_later(s3: S3Server, tmp_path: Path) -> None:
    folder = arbitrary_trace(tmp_path, size=4 * PART)
    s3.make_bucket("cancelled")
    archive = Archive(s3.store("cancelled"), "s3://cancelled")
    task = asyncio.create_task(archive.put(folder))
    async with asyncio.timeout(HUNG_S):
        while s3.open_uploads("cancelled") == 0 and not task.done():
            await asyncio.sleep(0.005)
    task.cancel()
    async with asyncio.timeout(1):
        await asyncio.gather(task, return_exceptions=True)
    await archive.put(folder)
    await archive.verify("t1")


async def test_an_upload_that_fails_leaves_no_parts_behind(s3: S3Server, tmp_path: Path) -> None:
    folder = arbitrary_trace(tmp_path, size=4 * PART)
    s3.make_bucket("no-parts")
    with proxy(s3.endpoint) as between:
        between.refuses = lambda method, path: "partNumber=3" in path
        archive = Archive(s3.store("no-parts", endpoint=between.endpoint, retry=ONCE), "s3://no-parts")
        with pytest.raises(PlaceUnreachableError, match="503"):
            await archive.put(folder)
    assert s3.open_uploads("no-parts") == 0
    assert "samples.parquet" not in held(s3.store("no-parts"))


async def test_a_server_that_stumbles_is_asked_again(s3: S3Server, tmp_path: Path) -> None:
    folder = arbitrary_trace(tmp_path)
    s3.make_bucket("stumbles-too")
    with proxy(s3.endpoint) as between:
        between.refuses = lambda method, path: len(between.requests) % 3 == 1
        await Archive(s3.store("stumbles-too", endpoint=between.endpoint), "s3://x").put(folder)
    assert held(s3.store("stumbles-too")) == contents(folder)


async def test_a_store_that_forgets_what_it_was_given_is_not_trusted(s3: S3Server, tmp_path: Path) -> None:
    folder = arbitrary_trace(tmp_path)
    s3.make_bucket("forgets")
    other = s3.store("forgets")

    def forgets(method: str, path: str) -> bool:
        if method == "HEAD" and path.endswith("samples.parquet"):
            obstore.put(other, "t1/samples.parquet", bytes(100_000))
        return False

    with proxy(s3.endpoint) as between:
        between.refuses = forgets
        archive = Archive(s3.store("forgets", endpoint=between.endpoint), "s3://forgets")
        with pytest.raises(PlaceError, match="not what was sent, 3 times"):
            await archive.put(folder)
    assert not await archive_of(s3, "forgets").has("t1")


async def test_an_archive_that_is_down_says_so_and_an_absent_bucket_too(s3: S3Server, tmp_path: Path) -> None:
    folder = arbitrary_trace(tmp_path)
    down = Archive(s3.store("bucket", endpoint=f"http://127.0.0.1:{free_port()}", retry=ONCE), "s3://bucket")
    asks: list[Callable[[], object]] = [
        lambda: down.put(folder),
        lambda: down.has("t1"),
        down.ids,
        lambda: down.delete("t1"),
    ]
    for ask in asks:
        with pytest.raises(PlaceUnreachableError, match=r"s3://bucket.*does not answer") as caught:
            await ask()  # type: ignore[misc]
        assert SECRET not in f"{caught.value} {caught.value.__cause__}"
    with pytest.raises(PlaceError, match="no such bucket"):
        await archive_of(s3, "absent").put(folder)


async def test_an_archive_comes_back_empty_and_is_filled_again(tmp_path: Path) -> None:
    folder = arbitrary_trace(tmp_path)
    with s3_server() as server:
        server.make_bucket("bucket")
        archive = Archive(server.store("bucket", retry=ONCE), "s3://bucket")
        await archive.put(folder)
        server.kill()
        with pytest.raises(PlaceUnreachableError):
            await archive.verify("t1")
        server.start()
        server.make_bucket("bucket")
        assert not await archive.has("t1")
        await archive.put(folder)
        await archive.verify("t1")


def archive_of(server: S3Server, bucket: str) -> Archive:
    return Archive(server.store(bucket), f"s3://{bucket}")
