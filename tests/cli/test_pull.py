"""Pulling traces: whole, resumed, damaged, not there; every byte that keeps its name is the one that was sealed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from labd.cli.trace.download import pull_trace
from labd.errors import NotFoundError, TraceError, UnreachableError
from labd.keep.store import TraceStore
from labd.model.ledger_traces import remove_trace
from labd.trace.seal import SEALED_FILES, Seal, SealState
from labd.web.server import serve_traces
from tests.cli.served import labctl, served_lab
from tests.service.labs import NOW

TRACE = "20250301T120000-j1-r1"
SIZE = 3_000_000


def make_trace(folder: Path, *, sealed: bool = True) -> dict[str, bytes]:
    """A trace's files with arbitrary contents, and a seal that fits them."""
    folder.mkdir(parents=True)
    source = random.Random(1)
    contents = {name: source.randbytes(SIZE if name == "samples.parquet" else 1000) for name in SEALED_FILES}
    if sealed:
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        seal = Seal.model_validate({"trace_id": TRACE, "state": SealState.SEALED, "rows": 1, "sha256": digests})
        contents["seal.json"] = seal.encode()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return contents


def found(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def pull(url: str, folder: Path) -> bool:
    pulled = await pull_trace(f"{url}/{TRACE}", folder, timeout_s=5.0, progressed=lambda name, there, size: None)
    return pulled.sealed


@dataclass
class Wire:
    """A server that breaks every connection off once `left` bytes of files are sent."""

    folder: Path
    left: int
    url: str = ""
    carried: int = 0

    async def list_files(self, request: web.Request) -> web.Response:
        files = [
            {"name": path.name, "size": path.stat().st_size, "sha256": None} for path in sorted(self.folder.iterdir())
        ]
        return web.json_response({"trace_id": TRACE, "state": "sealed", "files": files})

    async def send_file(self, request: web.Request) -> web.StreamResponse:
        data = (self.folder / request.match_info["file"]).read_bytes()
        begin = request.http_range.start or 0
        response = web.StreamResponse(
            status=206, headers={"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
        )
        response.content_length = len(data) - begin
        await response.prepare(request)
        sent = data[begin : begin + self.left]
        self.left -= len(sent)
        self.carried += len(sent)
        await response.write(sent)
        if begin + len(sent) < len(data) and request.transport is not None:
            request.transport.close()  # what is written still arrives, the rest never does
        return response


@asynccontextmanager
async def breaking_wire(folder: Path, left: int) -> AsyncIterator[Wire]:
    wire = Wire(folder, left)
    app = web.Application()
    app.add_routes([web.get("/{trace}/", wire.list_files), web.get("/{trace}/{file}", wire.send_file)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        wire.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield wire
    finally:
        await runner.cleanup()


async def test_a_sealed_trace_arrives_byte_for_byte(tmp_path: Path) -> None:
    contents = make_trace(tmp_path / "lab" / TRACE)
    async with serve_traces(TraceStore(tmp_path / "lab"), "127.0.0.1:0") as served:
        assert await pull(served.url, tmp_path / "here")
        assert found(tmp_path / "here") == contents


async def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    contents = make_trace(tmp_path / "lab" / TRACE)
    async with breaking_wire(tmp_path / "lab" / TRACE, SIZE // 2) as wire:
        with pytest.raises(UnreachableError):
            await pull(wire.url, tmp_path / "here")
    assert "samples.parquet" not in found(tmp_path / "here")
    assert 0 < (tmp_path / "here" / "samples.parquet.part").stat().st_size < SIZE
    async with breaking_wire(tmp_path / "lab" / TRACE, 10 * SIZE) as wire:
        assert await pull(wire.url, tmp_path / "here")
    assert wire.carried < 0.7 * SIZE
    assert found(tmp_path / "here") == contents


async def test_what_is_there_already_is_not_fetched_again(tmp_path: Path) -> None:
    make_trace(tmp_path / "lab" / TRACE)
    async with serve_traces(TraceStore(tmp_path / "lab"), "127.0.0.1:0") as served:
        await pull(served.url, tmp_path / "here")
    async with breaking_wire(tmp_path / "lab" / TRACE, 10 * SIZE) as wire:
        assert await pull(wire.url, tmp_path / "here")
    assert wire.carried < 10_000


async def test_a_file_that_is_not_what_was_sealed_never_gets_its_name(tmp_path: Path) -> None:
    make_trace(tmp_path / "lab" / TRACE)
    damaged = tmp_path / "lab" / TRACE / "samples.parquet"
    damaged.write_bytes(b"\0" + damaged.read_bytes()[1:])
    async with serve_traces(TraceStore(tmp_path / "lab"), "127.0.0.1:0") as served:
        with pytest.raises(TraceError, match=r"samples\.parquet has not arrived as it was sealed"):
            await pull(served.url, tmp_path / "here")
    assert not [name for name in found(tmp_path / "here") if name.startswith("samples")]


async def test_a_trace_without_a_seal_is_pulled_but_not_called_sealed(tmp_path: Path) -> None:
    contents = make_trace(tmp_path / "lab" / TRACE, sealed=False)
    async with serve_traces(TraceStore(tmp_path / "lab"), "127.0.0.1:0") as served:
        assert not await pull(served.url, tmp_path / "here")
        assert found(tmp_path / "here") == contents


async def test_a_trace_that_the_lab_does_not_have_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    async with serve_traces(TraceStore(tmp_path / "lab"), "127.0.0.1:0") as served:
        with pytest.raises(NotFoundError):
            await pull(served.url, tmp_path / "here")
    assert not (tmp_path / "here").exists()


async def test_labctl_pulls_all_traces_of_a_job_from_where_the_lab_says(tmp_path: Path) -> None:
    contents = make_trace(tmp_path / "lab" / TRACE)
    async with (
        serve_traces(TraceStore(tmp_path / "lab"), "127.0.0.1:0") as traces,
        served_lab(tmp_path, traces_url=traces.url) as lab,
    ):
        await labctl(*lab.options, "submit", "digits01", "energy")
        early = await labctl(*lab.options, "trace", "pull", "1")
        assert (early.status, "has no traces" in early.err) == (3, True)
        run_id = await lab.start_run(1)
        await lab.measured(run_id, TRACE, {})
        await lab.end_run(run_id)
        pulled = await labctl(*lab.options, "trace", "pull", "1", "--out", str(tmp_path / "here"), "--json")
        assert pulled.status == 0, pulled.err
        (trace,) = pulled.document["traces"]
        assert (trace["id"], trace["sealed"]) == (TRACE, True)
        assert found(tmp_path / "here" / TRACE) == contents
        missing = await labctl(*lab.options, "trace", "pull", "20250301T120000-j9-r9", "--out", str(tmp_path / "here"))
        assert (missing.status, missing.out) == (3, "")


async def test_what_became_of_a_removed_trace_is_told_to_who_wants_its_samples(tmp_path: Path) -> None:
    async with served_lab(tmp_path) as lab:
        await labctl(*lab.options, "submit", "digits01", "energy")
        run_id = await lab.start_run(1)
        await lab.measured(run_id, TRACE, {})
        await lab.end_run(run_id)
        await lab.lab.database.write(lambda session: remove_trace(session, TRACE, "it grew old", NOW))
        for verb in ("pull", "plot", "verify"):
            asked = await labctl(*lab.options, "trace", verb, TRACE)
            assert (asked.status, asked.out) == (3, "")
            assert "the trace is removed: it grew old" in asked.err
        pulled = await labctl(*lab.options, "trace", "pull", "1")
        assert (pulled.status, "no traces any more" in pulled.err) == (3, True)
        shown = await labctl(*lab.options, "job", "show", "1", "--json")
        assert shown.document["runs"][0]["traces"][0]["url"] is None


async def test_labctl_pulls_into_the_folder_that_an_earlier_pull_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = make_trace(tmp_path / "lab" / TRACE)
    make_trace(tmp_path / "here" / TRACE)
    (tmp_path / "here" / TRACE / "samples.parquet").unlink()
    monkeypatch.chdir(tmp_path / "here")
    async with serve_traces(TraceStore(tmp_path / "lab"), "127.0.0.1:0") as served:
        pulled = await labctl("--lab", "bench-1", "trace", "pull", TRACE, "--url", served.url)
    assert pulled.status == 0, pulled.err
    assert found(tmp_path / "here" / TRACE) == contents


async def test_a_lab_cannot_have_a_trace_written_anywhere_but_where_it_was_asked_for(tmp_path: Path) -> None:
    make_trace(tmp_path / "lab" / TRACE)
    async with (
        serve_traces(TraceStore(tmp_path / "lab"), "127.0.0.1:0") as traces,
        served_lab(tmp_path, traces_url=traces.url) as lab,
    ):
        await labctl(*lab.options, "submit", "digits01", "energy")
        run_id = await lab.start_run(1)
        await lab.measured(run_id, f"../lab/{TRACE}", {})
        out = tmp_path / "deep" / "here"
        pulled = await labctl(*lab.options, "trace", "pull", "1", "--out", str(out))
        assert (pulled.status, pulled.out) == (1, "")
        assert "cannot be the id of a trace" in pulled.err
        assert not out.parent.exists()
