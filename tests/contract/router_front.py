"""A proxy between the router and moto, by which tests throttle, break and drop its AWS calls."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[[BaseHTTPRequestHandler, Callable[[], None]], None]
"""Called instead of forwarding, with the way to forward after all."""


@dataclass
class Front:
    """Forwards to `behind`, keeps the operations that passed, serves keys of its own, and breaks where it is told."""

    behind: str
    url: str = ""
    keys: list[dict[str, Any]] | None = None
    key_requests: int = 0
    operations: list[str] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)

    def break_next(self, operation: str, *faults: Fault) -> None:
        """Makes the next calls of an operation, e.g. `SendMessage`, meet these faults, one each."""
        self.faults.setdefault(operation, []).extend(faults)


def throttled(handler: BaseHTTPRequestHandler, _: Callable[[], None]) -> None:
    _reply(handler, 400, {"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "slow down"})


def failing(handler: BaseHTTPRequestHandler, _: Callable[[], None]) -> None:
    _reply(handler, 500, {"__type": "com.amazon.coral.service#InternalServerError"})


def denied(handler: BaseHTTPRequestHandler, _: Callable[[], None]) -> None:
    _reply(handler, 400, {"__type": "com.amazon.coral.service#AccessDeniedException", "message": "not allowed"})


def reset(handler: BaseHTTPRequestHandler, _: Callable[[], None]) -> None:
    handler.close_connection = True
    handler.connection.close()


def answer_lost(handler: BaseHTTPRequestHandler, forward: Callable[[], None]) -> None:
    """Carried out, but the caller never hears of it."""
    handler.wfile = io.BytesIO()
    forward()
    handler.close_connection = True
    handler.connection.close()


def _reply(handler: BaseHTTPRequestHandler, status: int, content: Any) -> None:
    body = json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def front_of(behind: str) -> Iterator[Front]:
    front = Front(behind)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            return

        def do_GET(self) -> None:
            if self.path.endswith("/.well-known/jwks.json"):
                front.key_requests += 1
                if front.keys is not None:
                    _reply(self, 200, {"keys": front.keys})
                    return
            self._pass(b"")

        def do_POST(self) -> None:
            self._pass(self.rfile.read(int(self.headers.get("content-length", 0))))

        def _pass(self, body: bytes) -> None:
            operation = self.headers.get("x-amz-target", "").rpartition(".")[2] or self._action(body)
            front.operations.append(operation)
            waiting = front.faults.get(operation)
            if waiting:
                waiting.pop(0)(self, lambda: self._forward(body))
            else:
                self._forward(body)

        def _action(self, body: bytes) -> str:
            """Of EC2's form-encoded calls."""
            return next((p[7:].decode() for p in body.split(b"&") if p.startswith(b"Action=")), self.path)

        def _forward(self, body: bytes) -> None:
            connection = http.client.HTTPConnection(front.behind.removeprefix("http://"), timeout=20)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            self.send_response(answer.status)
            self.send_header("content-type", answer.getheader("content-type", ""))
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            return  # connections that a fault has closed

    server = Server(("127.0.0.1", 0), Handler)
    front.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield front
    finally:
        server.shutdown()
        server.server_close()
