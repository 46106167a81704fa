"""The same of a trace's files wherever they lie: a folder, memory, an S3 server, a web server like the lab's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import numpy as np
import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore, ObjectStore

from labd.errors import TraceError, UnreachableError
from labd.trace.files import FileMissingError, LocalFiles, TraceFiles
from labd.trace.object_files import PIECE, ObjectFiles, PlaceError, PlaceUnreachableError, http_files
from tests.brokers import free_port
from tests.s3_server import SECRET, S3Server, proxy, s3

__all__ = ["s3"]

Contents = dict[str, bytes]
Place = Callable[[Contents], AbstractContextManager[TraceFiles]]
CONTENTS = {
    "meta.json": b'{"a": 1}',
    "journal.jsonl": b"",
    "big.bin": np.arange(5 * PIECE // 8 + 100, dtype="<u8").tobytes(),
}


@contextmanager
def in_a_folder(folder: Path, contents: Contents) -> Iterator[TraceFiles]:
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    yield LocalFiles(folder)


@contextmanager
def in_memory(contents: Contents) -> Iterator[TraceFiles]:
    store = MemoryStore()
    put_all(store, "lab/t1", contents)
    yield ObjectFiles(store, "lab/t1", "memory:///lab/t1")


@contextmanager
def in_s3(server: S3Server, contents: Contents) -> Iterator[TraceFiles]:
    bucket = f"b-{uuid4()}"
    server.make_bucket(bucket)
    store = server.store(bucket, prefix="a/b")
    put_all(store, "t1", contents)
    yield ObjectFiles(store, "t1", f"s3://{bucket}/a/b/t1")


@contextmanager
def behind_http(folder: Path, contents: Contents) -> Iterator[TraceFiles]:
    """A plain web server that knows ranges and keeps connections."""
    with in_a_folder(folder, contents), ranges_served(folder) as url:
        yield http_files(url)


def put_all(store: ObjectStore, prefix: str, contents: Contents) -> None:
    for name, data in contents.items():
        obstore.put(store, f"{prefix}/{name}", data)


class _Ranges(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        start, stop = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
        data = path.read_bytes()
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop}/{len(data)}")
        self.send_header("Content-Length", str(stop + 1 - start))
        self.end_headers()
        self.wfile.write(data[start : stop + 1])


@contextmanager
def ranges_served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ranges, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="ranges")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["folder", "memory", "s3", "http"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3: S3Server) -> Place:
    match request.param:
        case "folder":
            return partial(in_a_folder, tmp_path)
        case "memory":
            return in_memory
        case "s3":
            return partial(in_s3, s3)
        case _:
            return partial(behind_http, tmp_path)


def test_files_are_there_with_their_sizes_and_contents(place: Place) -> None:
    with place(CONTENTS) as files:
        for name, data in CONTENTS.items():
            assert files.has(name)
            assert (files.size(name), files.read(name)) == (len(data), data)
            assert bytes(files.span(name, 0, len(data))) == data
        assert "t1" in files.where or files.where.startswith(("/", "http://127"))


def test_any_span_is_those_bytes(place: Place) -> None:
    data = CONTENTS["big.bin"]
    limits = st.integers(0, len(data))
    near = st.sampled_from([0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, len(data) - 1, len(data)])
    with place(CONTENTS) as files:

        @settings(max_examples=60, deadline=None)
        @given(st.tuples(limits | near, limits | near))
        def check(ends: tuple[int, int]) -> None:
            start, stop = sorted(ends)
            assert bytes(files.span("big.bin", start, stop)) == data[start:stop]

        check()


def test_a_missing_file_is_named(place: Place) -> None:
    with place(CONTENTS) as files:
        assert not files.has("seal.json")
        for ask in (files.size, files.read, files.source, lambda name: files.span(name, 0, 1)):
            with pytest.raises(FileMissingError, match=r"seal\.json"):
                ask("seal.json")


@pytest.mark.parametrize(("start", "stop"), [(0, 9), (-1, 3), (5, 4), (9, 9)])
def test_a_span_outside_the_file_is_refused(place: Place, start: int, stop: int) -> None:
    with place(CONTENTS) as files, pytest.raises(TraceError, match=rf"bytes {start} to {stop} of 8"):
        files.span("meta.json", start, stop)


def test_arrow_reads_parquet_through_it(place: Place, tmp_path: Path) -> None:
    table = pa.table({"x": np.random.default_rng(1).random(300_000), "y": np.arange(300_000)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=50_000)
    with place({"x.parquet": (tmp_path / "x.parquet").read_bytes()}) as files:
        file = pq.ParquetFile(files.source("x.parquet"), pre_buffer=False)
        assert file.read().equals(table)
        assert file.read_row_group(3, columns=["y"]).column("y").to_numpy()[0] == 150_000


def test_a_window_of_a_large_file_costs_about_its_own_bytes(s3: S3Server, tmp_path: Path) -> None:
    columns = {name: np.random.default_rng(1).random(2_000_000, dtype="f4") for name in ("current", "voltage")}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=50_000, use_dictionary=False)
    size = (tmp_path / "x.parquet").stat().st_size
    s3.make_bucket("window")
    with proxy(s3.endpoint) as before:
        obstore.put(s3.store("window"), "t/x.parquet", tmp_path / "x.parquet")
        files = ObjectFiles(s3.store("window", endpoint=before.endpoint), "t", "s3://window/t")
        file = pq.ParquetFile(files.source("x.parquet"), pre_buffer=False)
        group = file.read_row_group(20, use_threads=False)
        assert group.column("current").to_numpy().tolist() == columns["current"][1_000_000:1_050_000].tolist()
        assert before.carried < 0.1 * size
        assert len(before.requests) <= 5
        asked = len(before.requests)
        file.read_row_group(20, use_threads=False)
        assert len(before.requests) == asked


def test_reading_straight_on_takes_few_requests(s3: S3Server) -> None:
    data = np.random.default_rng(1).bytes(40 * PIECE)
    s3.make_bucket("straight")
    obstore.put(s3.store("straight"), "t/x", data)
    with proxy(s3.endpoint) as before:
        files = ObjectFiles(s3.store("straight", endpoint=before.endpoint), "t", "s3://straight/t")
        step = 100_000
        assert b"".join(files.span("x", k, min(k + step, len(data))) for k in range(0, len(data), step)) == data
        assert len(before.requests) <= 10
        assert before.carried == len(data)


def test_a_server_that_stumbles_is_asked_again(s3: S3Server) -> None:
    s3.make_bucket("stumbles")
    put_all(s3.store("stumbles"), "t", CONTENTS)
    with proxy(s3.endpoint) as before:
        faults = iter([True, True, False, True])
        before.refuses = lambda method, path: next(faults, False)
        files = ObjectFiles(s3.store("stumbles", endpoint=before.endpoint), "t", "s3://stumbles/t")
        assert bytes(files.span("big.bin", 10, PIECE + 10)) == CONTENTS["big.bin"][10 : PIECE + 10]
        before.breaks = lambda method, path: len(before.requests) == 7
        assert files.read("meta.json") == CONTENTS["meta.json"]


def test_a_file_that_was_cut_meanwhile_is_not_taken_for_whole() -> None:
    store = MemoryStore()
    put_all(store, "t", CONTENTS)
    files = ObjectFiles(store, "t", "memory:///t")
    assert files.size("big.bin") == len(CONTENTS["big.bin"])
    obstore.put(store, "t/big.bin", CONTENTS["big.bin"][: PIECE + 5])
    with pytest.raises(TraceError, match=r"big\.bin: .*was cut"):
        files.span("big.bin", PIECE, 2 * PIECE)
    with pytest.raises(TraceError, match=r"big\.bin"):
        files.span("big.bin", 3 * PIECE, 4 * PIECE)


def test_a_server_that_is_down_is_told_with_its_address_and_no_secret(s3: S3Server) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for files in (
        ObjectFiles(s3.store("b", endpoint=nowhere), "t", "s3://b/t"),
        http_files(f"{nowhere}/v1/traces/t"),
    ):
        with pytest.raises(UnreachableError, match="does not answer") as caught:
            files.has("meta.json")
        assert isinstance(caught.value, PlaceUnreachableError)
        assert files.where in str(caught.value)
        assert SECRET not in f"{caught.value} {caught.value.__cause__}"
        assert "\n" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_no_missing_file(s3: S3Server) -> None:
    with pytest.raises(PlaceError, match="no such bucket") as caught:
        ObjectFiles(s3.store("nowhere"), "t", "s3://nowhere/t").read("meta.json")
    assert not isinstance(caught.value, FileMissingError)


@pytest.mark.parametrize("url", ["ftp://host/t", "host/t", "http:///t", "http://h/t?x=1", "http://h:1/t#x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(TraceError, match="is not an http address"):
        http_files(url)


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(TraceError, match="carries credentials") as caught:
        http_files("http://me:hidden@host:8080/v1/traces/t")
    assert "hidden" not in str(caught.value)
    assert "host:8080" in str(caught.value)


def test_two_places_can_be_open_at_once(tmp_path: Path) -> None:
    with ExitStack() as open_places:
        (tmp_path / "a").mkdir()
        one = open_places.enter_context(behind_http(tmp_path / "a", {"x": b"one"}))
        two = open_places.enter_context(in_memory({"x": b"two"}))
        assert (one.read("x"), two.read("x")) == (b"one", b"two")
