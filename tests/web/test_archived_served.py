"""Archived traces over HTTP: as local ones are, straight from a real S3 server, or an answer that says why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from obstore.store import MemoryStore

from labd.cli.trace.download import pull_trace
from labd.errors import UnreachableError
from labd.keep.archive import PART, Archive
from labd.keep.store import TraceStore
from labd.trace.object_files import http_files
from labd.web.server import serve_traces
from tests.keep.sealed import arbitrary_trace, contents
from tests.s3_server import ONCE, Proxy, S3Server, proxy, s3

__all__ = ["s3"]

SIZE = PART + 1_000_000


@dataclass
class Scene:
    """A lab whose trace `t1` is in the archive only, and `t2` here only."""

    url: str
    between: Proxy
    files: dict[str, bytes]

    @asynccontextmanager
    async def get(self, path: str, method: str = "GET", **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self.url}{path}", headers=headers) as response,
        ):
            yield response


@pytest.fixture
async def scene(s3: S3Server, tmp_path: Path) -> AsyncIterator[Scene]:
    bucket = f"b-{uuid4()}"
    s3.make_bucket(bucket)
    with proxy(s3.endpoint) as between:
        archive = Archive(s3.store(bucket, endpoint=between.endpoint, retry=ONCE), f"s3://{bucket}")
        folder = arbitrary_trace(tmp_path / "elsewhere", size=SIZE)
        await archive.put(folder)
        arbitrary_trace(tmp_path / "here", "t2")
        async with serve_traces(TraceStore(tmp_path / "here", archive), "127.0.0.1:0") as served:
            yield Scene(served.url, between, contents(folder))


async def test_all_traces_are_listed_wherever_they_lie(scene: Scene) -> None:
    async with scene.get("/") as response:
        assert await response.json() == [
            {"trace_id": "t1", "state": "archived"},
            {"trace_id": "t2", "state": "sealed"},
        ]
        assert "X-Labd-Incomplete" not in response.headers


async def test_an_archived_trace_is_listed_with_its_digests(scene: Scene) -> None:
    async with scene.get("/t1/") as response:
        listing = await response.json()
    assert (listing["trace_id"], listing["state"]) == ("t1", "sealed")
    assert {file["name"]: file["size"] for file in listing["files"]} == {n: len(d) for n, d in scene.files.items()}
    assert [file["name"] for file in listing["files"] if file["sha256"] is None] == ["seal.json"]


async def test_files_and_ranges_of_them_are_sent(scene: Scene) -> None:
    data = scene.files["samples.parquet"]
    path = "/t1/samples.parquet"
    async with scene.get(path) as response:
        assert (response.status, await response.read()) == (200, data)
        etag = response.headers["ETag"]
        assert response.headers["Accept-Ranges"] == "bytes"
    async with scene.get(path, Range="bytes=1000-", **{"If-Range": etag}) as response:
        assert (response.status, await response.read()) == (206, data[1000:])
        assert response.headers["Content-Range"] == f"bytes 1000-{SIZE - 1}/{SIZE}"
    for asked, expected in (
        ("10-19", data[10:20]),
        ("-5", data[-5:]),
        (f"{SIZE - 3}-{SIZE + 9}", data[-3:]),
        ("0-", data),
    ):
        async with scene.get(path, Range=f"bytes={asked}") as response:
            assert (response.status, await response.read()) == (206, expected)
    async with scene.get(path, Range="bytes=0-3", **{"If-Range": '"other"'}) as response:
        assert (response.status, len(await response.read())) == (200, SIZE)
    async with scene.get(path, **{"If-None-Match": etag}) as response:
        assert response.status == 304


async def test_the_head_of_a_file_tells_its_size(scene: Scene) -> None:
    async with scene.get("/t1/samples.parquet", method="HEAD") as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(SIZE))


@pytest.mark.parametrize("asked", [f"{SIZE}-", "9-3", "x-y"])
async def test_a_range_that_is_none_is_refused(scene: Scene, asked: str) -> None:
    async with scene.get("/t1/samples.parquet", Range=f"bytes={asked}") as response:
        assert (response.status, response.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


@pytest.mark.parametrize("path", ["/t3/", "/t3/meta.json", "/t1/notes.txt", "/t1/samples.arrow", "/.x/", "/t1%2f../x"])
async def test_nothing_else_is_found(scene: Scene, path: str) -> None:
    async with scene.get(path) as response:
        assert response.status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed(scene: Scene, method: str) -> None:
    async with scene.get("/t1/meta.json", method=method) as response:
        assert response.status == 405


async def test_a_window_of_an_archived_trace_is_read_by_range_through_the_lab(scene: Scene) -> None:
    before = scene.between.carried
    files = http_files(f"{scene.url}/t1")
    found = await asyncio.to_thread(lambda: bytes(files.span("samples.parquet", 5_000_000, 5_001_000)))
    assert found == scene.files["samples.parquet"][5_000_000:5_001_000]
    assert scene.between.carried - before < 0.1 * SIZE


async def test_an_archived_trace_is_pulled_and_checked(scene: Scene, tmp_path: Path) -> None:
    pulled = await pull_trace(f"{scene.url}/t1", tmp_path / "out", timeout_s=10, progressed=lambda *_: None)
    assert pulled.sealed
    assert contents(tmp_path / "out") == scene.files


async def test_while_the_archive_is_down_what_is_here_is_served(scene: Scene) -> None:
    scene.between.refuses = lambda method, path: True
    async with scene.get("/") as response:
        assert await response.json() == [{"trace_id": "t2", "state": "sealed"}]
        assert response.headers["X-Labd-Incomplete"] == "the archive cannot be used"
    async with scene.get("/t2/samples.parquet") as response:
        assert response.status == 200
    for path in ("/t1/", "/t1/meta.json"):
        async with scene.get(path) as response:
            assert response.status == 502
            assert "the archive cannot be used" in await response.text()


async def test_an_archive_that_fails_in_the_middle_breaks_the_answer_off(scene: Scene, tmp_path: Path) -> None:
    ranges: list[str] = []

    def second_range(method: str, path: str) -> bool:
        if method == "GET" and path.endswith("samples.parquet"):
            ranges.append(path)
        return len(ranges) > 1

    scene.between.refuses = second_range
    with pytest.raises(aiohttp.ClientPayloadError):
        async with scene.get("/t1/samples.parquet") as response:
            await response.read()
    with pytest.raises(UnreachableError, match="502"):
        await pull_trace(f"{scene.url}/t1", tmp_path / "out", timeout_s=10, progressed=lambda *_: None)
    scene.between.refuses = lambda method, path: False
    await pull_trace(f"{scene.url}/t1", tmp_path / "out", timeout_s=10, progressed=lambda *_: None)
    assert contents(tmp_path / "out") == scene.files


class Vanishing(TraceStore):
    """A store whose local copies go right after somebody has seen them."""

    def is_local(self, trace_id: str) -> bool:
        seen = super().is_local(trace_id)
        if seen:
            self.drop_local(trace_id)
        return seen


async def test_a_copy_that_is_dropped_while_it_is_asked_for_comes_from_the_archive(tmp_path: Path) -> None:
    archive = Archive(MemoryStore(), "memory://")
    for trace_id in ("t1", "t2"):
        await archive.put(arbitrary_trace(tmp_path, trace_id))
    whole = contents(tmp_path / "t1")
    async with serve_traces(Vanishing(tmp_path, archive), "127.0.0.1:0") as served, aiohttp.ClientSession() as http:
        async with http.get(f"{served.url}/t1/") as response:
            listing = await response.json()
        assert (listing["state"], {file["name"]: file["size"] for file in listing["files"]}) == (
            "sealed",
            {name: len(data) for name, data in whole.items()},
        )
        async with http.get(f"{served.url}/t2/seal.json") as response:
            assert response.status == 200


async def test_a_trace_that_is_removed_while_it_is_asked_for_is_not_found(tmp_path: Path) -> None:
    arbitrary_trace(tmp_path, "t1")
    async with (
        serve_traces(Vanishing(tmp_path), "127.0.0.1:0") as served,
        aiohttp.ClientSession() as http,
        http.get(f"{served.url}/t1/") as response,
    ):
        assert response.status == 404
