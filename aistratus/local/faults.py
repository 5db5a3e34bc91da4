"""Fault injection: a loopback proxy before a cloud that throttles, delays, breaks connections, or kills the caller.

A client reaches the cloud through `FaultyFront.url`. Requests are numbered from 1 in order of arrival, and each fault
selects requests by number. With `Lost` the request is carried out and its answer is dropped, so that the caller can't
know whether it was.

    with FaultyFront(endpoint, [Throttle(every=4), Lost(every=7)]) as front:
        subprocess.run([...], env={"AWS_ENDPOINT_URL": front.url})
"""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from aistratus.local.front import signed_service
from aistratus.local.wire_errors import error_answer

THROTTLES = {
    "ec2": (503, "RequestLimitExceeded"),
    "s3": (503, "SlowDown"),
    "iam": (400, "Throttling"),
    "sts": (400, "Throttling"),
    "lambda": (429, "TooManyRequestsException"),
    "apigateway": (429, "TooManyRequestsException"),
    "cognito-idp": (400, "TooManyRequestsException"),
}
"""Status and code by signing name. Source: each service's API reference, "Common errors"."""

OTHERWISE = (400, "ThrottlingException")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Takes every `every`-th request, or just the one with the number `only`."""

    every: int = 0
    only: int = 0

    def takes(self, number: int) -> bool:
        """Is it this request's turn?"""
        return number == self.only or (self.every > 0 and number % self.every == 0)


@dataclass(frozen=True, kw_only=True)
class Throttle(Fault):
    """The service's own throttling error; nothing is carried out."""


@dataclass(frozen=True, kw_only=True)
class Unavailable(Fault):
    """A 503 without a body; nothing is carried out."""


@dataclass(frozen=True, kw_only=True)
class Reset(Fault):
    """The connection breaks before anything is carried out."""


@dataclass(frozen=True, kw_only=True)
class Lost(Fault):
    """The request is carried out, then the connection breaks without an answer."""


@dataclass(frozen=True, kw_only=True)
class Slow(Fault):
    """The answer comes after `seconds`."""

    seconds: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Death(Fault):
    """The calling process is killed: before the request is carried out, or right after it was."""

    after: bool = False
    victim: Callable[[], int | None] = lambda: None


@dataclass
class FaultyFront:
    """The proxy; a context manager. `requests` counts what has arrived."""

    endpoint: str
    faults: Sequence[Fault] = ()
    requests: int = 0
    operations: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def __enter__(self) -> FaultyFront:
        self._stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.front = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="faults", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def number(self, operation: str) -> int:
        """The number of the request that has just arrived."""
        with self._lock:
            self.requests = next(self._numbers)
            self.operations.append(operation)
            return self.requests

    def wait(self, seconds: float) -> None:
        """Lets time pass, unless the proxy is being closed."""
        self._stopping.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    front: FaultyFront

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that dies breaks its connections, which is what this is for; anything else is told as usual."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _handle(self) -> None:
        front = self.server.front
        try:
            body = self._body()
        except (ConnectionError, ValueError):
            # The client died in the middle of its request. Half of one is nothing that AWS would carry out.
            self.close_connection = True
            return
        number = front.number(self._operation(body))
        chosen = [fault for fault in front.faults if fault.takes(number)]
        for fault in chosen:
            if isinstance(fault, Slow):
                front.wait(fault.seconds)
        ending = next((fault for fault in chosen if not isinstance(fault, Slow)), None)
        match ending:
            case Throttle():
                self._refuse(*THROTTLES.get(self._service(), OTHERWISE))
            case Unavailable():
                self._answer(503, [], b"")
            case Reset():
                self._break()
            case Death(after=False):
                _kill(ending.victim())
                self._break()
            case Lost():
                self._forward(body)
                self._break()
            case Death(after=True):
                self._forward(body)
                _kill(ending.victim())
                self._break()
            case _:
                self._answer(*self._forward(body))

    # --- the request

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            return b"".join(iter(self._chunk, b""))
        if self.headers.get("Expect", "").lower() == "100-continue":
            pass  # http.server has answered it already
        return self._read(int(self.headers.get("Content-Length") or 0))

    def _chunk(self) -> bytes:
        data = self._read(int(self.rfile.readline().split(b";")[0], 16))
        self.rfile.readline()
        return data

    def _read(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) != size:
            raise ConnectionError("the client went away in the middle of its request")
        return data

    def _environ(self) -> dict[str, Any]:
        return {
            "HTTP_AUTHORIZATION": self.headers.get("Authorization", ""),
            "QUERY_STRING": urlsplit(self.path).query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
        }

    def _service(self) -> str:
        return signed_service(self._environ())

    def _operation(self, body: bytes) -> str:
        target = self.headers.get("X-Amz-Target")
        if target:
            return target.rsplit(".", 1)[-1]
        if b"Action=" in body:
            return body.split(b"Action=", 1)[1].split(b"&", 1)[0].decode()
        return f"{self._service()} {self.command} {urlsplit(self.path).path}"

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        place = urlsplit(self.server.front.endpoint)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=120)
        # The cloud's own host goes in, so that addresses in its answers (a queue's) are the same through every front.
        skipped = {"host", "connection", "transfer-encoding", "content-length", "expect", "accept-encoding"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in skipped}
        headers["Content-Length"] = str(len(body))
        try:
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    # --- the answer

    def _refuse(self, status: int, code: str) -> None:
        _, headers, body = error_answer(self._environ(), self._service(), status, code, "Rate exceeded")
        self._answer(status, list(headers), body)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _break(self) -> None:
        """Ends the connection with a reset instead of a goodbye."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


def _kill(process: int | None) -> None:
    if process is not None:
        os.kill(process, signal.SIGKILL)
