"""Traces over HTTP: whole, in ranges, and nothing but traces."""

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from labd.errors import ConfigError
from labd.keep.store import TraceStore
from labd.trace.seal import SEALED_FILES
from labd.web.server import Served, serve_traces

SAMPLES = bytes(range(256)) * 1000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A sealed trace, one that is being recorded, and things that are none of a client's business."""
    store = tmp_path / "traces"
    sealed = store / "t-1"
    sealed.mkdir(parents=True)
    content = {
        "meta.json": b"{}",
        "journal.jsonl": b"",
        **{f"pyramid-{level}.bin": b"pyramid" for level in range(4)},
        "samples.parquet": SAMPLES,
    }
    for name, data in content.items():
        (sealed / name).write_bytes(data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    seal = {"format": 2, "trace_id": "t-1", "state": "sealed", "rows": 3, "sha256": digests}
    (sealed / "seal.json").write_text(json.dumps(seal, indent=1, separators=(",", ": ")) + "\n")
    (sealed / "notes.txt").write_text("not part of a trace")
    recording = store / "t-2"
    recording.mkdir()
    (recording / "meta.json").write_text("{}")
    (recording / "samples.arrow").write_bytes(SAMPLES[:1000])
    (store / "empty").mkdir()
    (tmp_path / "labd.db").write_text("secret")
    (tmp_path / "meta.json").write_text("secret")
    return store


@pytest.fixture
async def server(store: Path) -> AsyncIterator[Served]:
    async with serve_traces(TraceStore(store), "127.0.0.1:0") as server:
        yield server


@pytest.fixture
async def http(server: Served) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session


async def test_a_sealed_trace_is_listed_with_its_digests(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/traces/t-1/") as response:
        listing = await response.json()
    assert (listing["trace_id"], listing["state"]) == ("t-1", "sealed")
    files = {file["name"]: file for file in listing["files"]}
    assert set(files) == {*SEALED_FILES, "seal.json"}
    assert files["samples.parquet"]["size"] == len(SAMPLES)
    assert files["samples.parquet"]["sha256"] == hashlib.sha256(SAMPLES).hexdigest()
    assert files["seal.json"]["sha256"] is None


async def test_a_trace_can_be_pulled_while_it_is_recorded(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/traces/t-2/") as response:
        listing = await response.json()
    assert listing["state"] == "recording"
    assert [file["sha256"] for file in listing["files"]] == [None, None]
    async with http.get("/v1/traces/t-2/samples.arrow") as response:
        assert await response.read() == SAMPLES[:1000]


async def test_a_damaged_seal_is_said_and_vouches_for_nothing(http: aiohttp.ClientSession, store: Path) -> None:
    (store / "t-1" / "seal.json").write_text("{")
    async with http.get("/v1/traces/t-1/") as response:
        listing = await response.json()
    assert listing["state"] == "damaged"
    assert {file["sha256"] for file in listing["files"]} == {None}


async def test_all_traces_are_listed(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/traces/") as response:
        assert await response.json() == [
            {"trace_id": "t-1", "state": "sealed"},
            {"trace_id": "t-2", "state": "recording"},
        ]


async def test_a_broken_pull_goes_on_where_it_stopped(http: aiohttp.ClientSession) -> None:
    path = "/v1/traces/t-1/samples.parquet"
    async with http.get(path) as response:
        assert (response.status, await response.read()) == (200, SAMPLES)
        etag = response.headers["ETag"]
    async with http.get(path, headers={"Range": "bytes=1000-", "If-Range": etag}) as response:
        assert (response.status, await response.read()) == (206, SAMPLES[1000:])
        assert response.headers["Content-Range"] == f"bytes 1000-{len(SAMPLES) - 1}/{len(SAMPLES)}"
    async with http.get(path, headers={"Range": "bytes=10-19"}) as response:
        assert (response.status, await response.read()) == (206, SAMPLES[10:20])
    async with http.get(path, headers={"Range": f"bytes={len(SAMPLES)}-"}) as response:
        assert response.status == 416
    async with http.get(path, headers={"If-None-Match": etag}) as response:
        assert response.status == 304


async def test_the_head_of_a_file_tells_its_size(http: aiohttp.ClientSession) -> None:
    async with http.head("/v1/traces/t-1/samples.parquet") as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(SAMPLES)))
        assert response.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/traces/t-1/notes.txt",
        "/v1/traces/t-1/..",
        "/v1/traces/t-9/",
        "/v1/traces/t-9/meta.json",
        "/v1/traces/empty/",
        "/v1/traces/../meta.json",
        "/v1/traces/../../labd.db",
        "/v1/traces/%2e%2e/meta.json",
        "/v1/traces/..%2f..%2flabd.db",
        "/v1/traces/t-1/..%2f..%2f..%2flabd.db",
        "/v1/traces/t-1%2f..%2f../meta.json",
        "/v1/traces/%00/meta.json",
        "/v1/traces/.hidden/",
        "/",
    ],
)
async def test_nothing_else_is_found(server: Served, path: str) -> None:
    """Sent as it is: a client library would tidy the path up first."""
    assert await raw_status(server.port, f"GET {path} HTTP/1.1") == 404


async def test_a_link_that_leads_out_of_the_store_is_not_followed(http: aiohttp.ClientSession, store: Path) -> None:
    (store / "t-1" / "samples.arrow").symlink_to(store.parent / "labd.db")
    async with http.get("/v1/traces/t-1/samples.arrow") as response:
        assert response.status == 404
    async with http.get("/v1/traces/t-1/") as response:
        assert "samples.arrow" not in {file["name"] for file in (await response.json())["files"]}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/v1/traces/", "/v1/traces/t-1/", "/v1/traces/t-1/meta.json", "/healthz"])
async def test_nothing_can_be_changed(http: aiohttp.ClientSession, method: str, path: str) -> None:
    async with http.request(method, path, data=b"x") as response:
        assert response.status == 405


async def test_the_server_says_that_it_is_there(http: aiohttp.ClientSession) -> None:
    async with http.get("/healthz") as response:
        assert await response.json() == {"ok": True}


async def test_a_port_in_use_is_named(store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match=r"http\.listen"):
        async with serve_traces(TraceStore(store), f"127.0.0.1:{taken.getsockname()[1]}"):
            pass


async def raw_status(port: int, request_line: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{request_line}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        status = await reader.readline()
        await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    return int(status.split()[1])


async def test_a_folder_that_cannot_be_read_is_told_and_the_server_goes_on(
    http: aiohttp.ClientSession, store: Path
) -> None:
    unmounted = await asyncio.to_thread(store.rename, store.with_name("unmounted"))
    async with http.get("/v1/traces") as response:
        assert (response.status, await response.text()) == (503, "the lab's traces cannot be read; see its log\n")
    await asyncio.to_thread(unmounted.rename, store)
    async with http.get("/v1/traces") as response:
        assert response.status == 200
