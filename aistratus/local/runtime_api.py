"""The Lambda Runtime API, by which an execution environment fetches invocations and returns results.

One small HTTP server on the loopback interface serves all environments. Each environment's URL has its own secret first
path segment, so that no other program on the machine can take an invocation, which carries users' tokens. An
environment keeps one connection, and so one thread here, for its lifetime.

Events are reported to the environment's `Mailbox`, whose owner waits on a file descriptor: the runner watches that, the
process's output and the deadline in one place.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import socket
import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Final

API: Final = "/2018-06-01/runtime"
RESPONSE_BYTES: Final = 6_291_556
"""The largest answer of a function (Lambda quotas: 6 MB)."""
ERROR_BYTES: Final = 1024 * 1024
"""More than any error description needs; a longer one is cut off by closing the connection."""


@dataclass(frozen=True)
class Work:
    """One invocation as the runtime receives it; `deadline_ms` is milliseconds since the epoch."""

    request_id: str
    payload: bytes
    deadline_ms: int
    function_arn: str
    trace_id: str


@dataclass(frozen=True)
class Ready:
    """The environment asked for work: its initialisation is over, or the last invocation is."""


@dataclass(frozen=True)
class Answered:
    request_id: str
    payload: bytes


@dataclass(frozen=True)
class Failed:
    """The function raised; `payload` is AWS's JSON error object."""

    request_id: str
    payload: bytes


@dataclass(frozen=True)
class AnswerTooLarge:
    request_id: str


@dataclass(frozen=True)
class InitFailed:
    payload: bytes


Happening = Ready | Answered | Failed | AnswerTooLarge | InitFailed


class Mailbox:
    """Both directions between the runner and one environment.

    `fileno()` becomes readable whenever `happenings()` has something new.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._happenings: deque[Happening] = deque()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)
        self._lock = threading.Lock()
        self._closed = False
        self.taken: str | None = None
        """Request id of the last invocation that the environment really received."""

    def fileno(self) -> int:
        return self._read_end

    def offer(self, work: Work) -> None:
        self._work.put(work)

    def next_work(self) -> Work | None:
        """Blocks until there is work; None when the environment is being ended."""
        work = self._work.get()
        if work is not None:
            self.taken = work.request_id
        return work

    def report(self, happening: Happening) -> None:
        with self._lock:
            if self._closed:
                return
            self._happenings.append(happening)
            with contextlib.suppress(BlockingIOError):  # a full pipe is readable already
                os.write(self._write_end, b"!")

    def happenings(self) -> list[Happening]:
        with self._lock:
            if self._closed:
                return []
            with contextlib.suppress(BlockingIOError):
                os.read(self._read_end, 4096)
            found = list(self._happenings)
            self._happenings.clear()
            return found

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._read_end)
            os.close(self._write_end)
        self._work.put(None)


class RuntimeApi:
    """The server. `open` gives a new environment its mailbox, `close_mailbox` ends its conversation."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 1.0}, name="runtime-api", daemon=True
        )
        self._thread.start()

    def open(self) -> Mailbox:
        secret = secrets.token_hex(16)
        mailbox = Mailbox(f"127.0.0.1:{self._server.server_address[1]}/{secret}")
        self._server.mailboxes[secret] = mailbox
        return mailbox

    def close_mailbox(self, mailbox: Mailbox) -> None:
        self._server.mailboxes.pop(mailbox.address.rpartition("/")[2], None)
        mailbox.close()

    def close(self) -> None:
        for mailbox in list(self._server.mailboxes.values()):
            self.close_mailbox(mailbox)
        ending = threading.Thread(target=self._server.shutdown, daemon=True)
        ending.start()
        with contextlib.suppress(OSError):  # wakes the accept loop; else it sees the request at its next look
            socket.create_connection(("127.0.0.1", self._server.server_address[1]), 1.0).close()
        ending.join()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingTCPServer):  # not HTTPServer, which asks DNS for its own name
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        self.mailboxes: dict[str, Mailbox] = {}
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A killed environment breaks its connection in the middle of anything; its owner sees the exit."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # with it, each call would wait 40 ms for a delayed acknowledgement
    wbufsize = -1  # head and body leave in one packet

    server: _Server

    def do_GET(self) -> None:
        mailbox, path = self._addressed()
        if mailbox is None or path != f"{API}/invocation/next":
            self._send(404, b'{"errorType":"NotFound"}')
            return
        mailbox.report(Ready())
        work = mailbox.next_work()
        if work is None:
            self.close_connection = True
            return
        self._send(
            200,
            work.payload,
            {
                "Lambda-Runtime-Aws-Request-Id": work.request_id,
                "Lambda-Runtime-Deadline-Ms": str(work.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": work.function_arn,
                "Lambda-Runtime-Trace-Id": work.trace_id,
            },
        )

    def do_POST(self) -> None:
        mailbox, path = self._addressed()
        length = self.headers.get("Content-Length", "")
        if mailbox is None or not length.isdigit():
            self.close_connection = True
            self._send(404 if mailbox is None else 411, b"{}")
            return
        size = int(length)
        parts = path.removeprefix(API + "/").split("/")
        if path == f"{API}/init/error" and size <= ERROR_BYTES:
            mailbox.report(InitFailed(self.rfile.read(size)))
        elif len(parts) == 3 and parts[0] == "invocation" and parts[2] == "response":
            if size > RESPONSE_BYTES:
                self._refuse_large(mailbox, parts[1], size)
                return
            mailbox.report(Answered(parts[1], self.rfile.read(size)))
        elif len(parts) == 3 and parts[0] == "invocation" and parts[2] == "error" and size <= ERROR_BYTES:
            mailbox.report(Failed(parts[1], self.rfile.read(size)))
        else:
            self.close_connection = True
            self._send(400, b"{}")
            return
        self._send(202, b'{"status":"OK"}')

    def _refuse_large(self, mailbox: Mailbox, request_id: str, size: int) -> None:
        while size > 0:  # read it all, so that the runtime gets to see the answer
            size -= len(self.rfile.read(min(size, 1 << 20))) or size
        mailbox.report(AnswerTooLarge(request_id))
        self._send(413, b'{"errorType":"RequestEntityTooLarge"}')

    def _addressed(self) -> tuple[Mailbox | None, str]:
        secret, _, rest = self.path.removeprefix("/").partition("/")
        return self.server.mailboxes.get(secret), f"/{rest}"

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
