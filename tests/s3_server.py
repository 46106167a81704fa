"""A real S3 server for tests: moto's, as a child process on loopback, that can be killed and come back on its port."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest
from obstore.store import S3Store

from labd.trace.object_files import CLIENT, RETRY
from tests.brokers import free_port
from tests.deadline import HUNG_S

if TYPE_CHECKING:
    from obstore.store import RetryConfig

ONCE: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=5)}
"""For tests of what comes after the retries."""
KEY, SECRET = "AKIATESTONLY", "a-secret-that-nobody-may-see"
ONE_AT_A_TIME = """
import sys, threading
from moto import server

alone = threading.Lock()

class OneAtATime(server.DomainDispatcherApplication):
    def __call__(self, environ, start_response):
        with alone:
            return super().__call__(environ, start_response)

server.DomainDispatcherApplication = OneAtATime
server.main(sys.argv[1:])
"""
"""moto answers in threads that share its dictionaries unlocked: an abort beside a part in flight ends as a 500."""


@dataclass
class S3Server:
    """moto's S3, in memory: what it holds is gone after a restart."""

    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", ONE_AT_A_TIME, "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        deadline = time.monotonic() + HUNG_S
        while not self._answers():
            assert self.process.poll() is None, "the S3 server has ended"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it without warning."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def make_bucket(self, name: str) -> None:
        """Make a bucket; harmless if it is there."""
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=HUNG_S) as answer:
            assert answer.status == 200

    def open_uploads(self, bucket: str) -> int:
        """Multipart uploads that were begun and neither completed nor aborted."""
        with urllib.request.urlopen(f"{self.endpoint}/{bucket}?uploads", timeout=HUNG_S) as answer:
            return int(answer.read().count(b"<Upload>"))

    def store(self, bucket: str, prefix: str = "", endpoint: str | None = None, retry: RetryConfig = RETRY) -> S3Store:
        """The bucket as obstore sees it, through another endpoint if one is given."""
        return S3Store(
            bucket,
            prefix=prefix or None,
            endpoint=endpoint or self.endpoint,
            region="us-east-1",
            access_key_id=KEY,
            secret_access_key=SECRET,
            client_options={**CLIENT, "allow_http": True},
            retry_config=retry,
        )

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/moto-api/", timeout=HUNG_S):
                return True
        except HTTPError:
            return True
        except OSError:
            return False


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A running server."""
    server = S3Server(free_port())
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One server for all tests of a run; each takes a bucket of its own."""
    with s3_server() as server:
        yield server


class Proxy(ThreadingHTTPServer):
    """Stands before a server: counts what comes through, and can be told to answer 503, or to break off."""

    daemon_threads = False

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream.removeprefix("http://")
        self.requests: list[tuple[str, str]] = []
        """Method and path of all requests."""
        self.counting = threading.Lock()
        self.carried = 0
        """Bytes of the bodies of the answers."""
        self.refuses: Callable[[str, str], bool] = lambda method, path: False
        """Whether to answer 503 to this method and path."""
        self.breaks: Callable[[str, str], bool] = lambda method, path: False
        """Whether to break the connection off before this request is passed on."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            super().handle_one_request()

    def _pass_on(self) -> None:
        proxy = self.server
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        proxy.requests.append((self.command, self.path))
        if len(body) < length or proxy.breaks(self.command, self.path):
            self.close_connection = True
            return
        if proxy.refuses(self.command, self.path):
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        connection = HTTPConnection(proxy.upstream, timeout=30)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("server", "date", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            if answer.getheader("Content-Length") is None:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with proxy.counting:  # before the client has it: who has all bytes may look at the count
                proxy.carried += len(data)
            self.wfile.write(data)
        except ConnectionRefusedError:
            self.close_connection = True
        finally:
            connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815 - the names that http.server looks for


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy before `http://host:port`, in threads of its own."""
    with Proxy(upstream) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="proxy")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
