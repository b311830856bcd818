"""An S3-compatible server on loopback, and a proxy before it that fails as real ones do."""

import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

#: What becomes of a request: it is refused (503), its connection is reset before or after it was served, half
#: of the answer comes (the rest is missing, or was never announced), none comes in time, or not all of what
#: was to be deleted is.
type Failure = Literal["slow down", "reset", "lost", "truncated", "shortened", "timeout", "not deleted"]

#: What fails: a request's method and path with its query, such as "GET" and "/bucket/em.zarr/zarr.json".
type Rule = Callable[[str, str], Failure | None]

#: Seconds after which clients give up waiting for an answer.
PATIENCE = 1.0

_SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_NOT_DELETED = (
    b'<?xml version="1.0" encoding="UTF-8"?><DeleteResult><Error><Key>one</Key><Code>InternalError</Code>'
    b"<Message>We encountered an internal error. Please try again.</Message></Error></DeleteResult>"
)


class Proxy(ThreadingHTTPServer):
    """Forwards to a server, except for what fails."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.rule: Rule = lambda method, path: None
        #: Failures that were made, and requests that came, by method.
        self.failures: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def failure_of(self, method: str, path: str) -> Failure | None:
        with self._lock:
            self.requests[method] += 1
            failure = self.rule(method, path)
            if failure:
                self.failures[failure] += 1
            return failure

    @contextmanager
    def failing(self, rule: Rule) -> Iterator[Counter[str]]:
        """Let requests fail for a while; the failures that were made."""
        self.failures, self.rule = Counter(), rule
        try:
            yield self.failures
        finally:
            self.rule = lambda method, path: None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are none of the tests' business."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, template: str, *args: Any) -> None:
        """Nothing is told."""

    def _serve(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        failure = self.server.failure_of(self.command, self.path)
        match failure:
            case "slow down":
                return self._answer(503, {}, _SLOW_DOWN)
            case "not deleted":
                return self._answer(200, {}, _NOT_DELETED)
            case "reset":
                return self._reset()
            case "timeout":
                time.sleep(PATIENCE + 0.5)
                return self._reset()
        status, headers, body = self._forward(content)
        if failure == "lost":
            return self._reset()
        if failure == "shortened":
            body = body[: len(body) // 2]
        return self._answer(status, headers, body, cut=failure == "truncated")

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815 - names that http.server looks for

    def _forward(self, content: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.server.target, timeout=30)
        connection.request(self.command, self.path, content, dict(self.headers))
        answer = connection.getresponse()
        body, headers = answer.read(), dict(answer.getheaders())
        connection.close()
        return answer.status, headers, body

    def _answer(self, status: int, headers: dict[str, str], body: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        kept = {k: v for k, v in headers.items() if k.lower() not in _HOP_BY_HOP}
        for name, value in {**kept, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _reset(self) -> None:
        self.close_connection = True
        # With nothing to linger for, closing sends a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


_HOP_BY_HOP = {"content-length", "transfer-encoding", "connection"}


@contextmanager
def serving() -> Iterator[Proxy]:
    """A server in a process of its own, behind a proxy."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, server)
        with Proxy(("127.0.0.1", port)) as proxy:
            threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            yield proxy
            proxy.shutdown()
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, "the server ended at once"
        time.sleep(0.1)
    raise TimeoutError("the server does not answer")


def environment(proxy: Proxy) -> dict[str, str]:
    """What tells clients, and processes they start, of the server."""
    return {
        **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "testing"),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
