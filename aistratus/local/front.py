"""The HTTP server in front of moto: connections that stay open, one lock per service, errors in AWS's own shape.

moto's own server (werkzeug's development server) closes each connection after one answer and waits 10 ms for further
input. Here a request is read completely before moto sees it and an answer is built completely before it is sent, so
that connections can be kept alive, which saves most of the time of a small call.

moto's backends are plain dictionaries without locks. Requests of one service are therefore carried out one after the
other, which costs nothing, because they share one interpreter. Calls that wait (a long poll, a function's invocation)
take no lock, or they would block the others.

moto answers unknown operations with an HTML page and status 500, which SDKs take for a transient error and retry for
seconds. Here the answer is a 501 with the code `NotImplemented`, in the protocol of the service.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import socket
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

from aistratus.local.hosts import is_from_page, is_link_to_an_action, is_own_host
from aistratus.local.wire_errors import error_answer

log = logging.getLogger(__name__)

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Control = Callable[[str, str, bytes], tuple[int, dict[str, Any]]]
"""Path, method and body of a control request → status and JSON body."""
Note = Callable[[dict[str, Any], str, int], None]
"""Takes note of a request: its environment, its service and the status of its answer."""

BODY_BYTES: Final = 6 * 1024**3
"""The largest body that is read: S3 takes at most 5 GiB in one call."""

_CREDENTIAL: Final = re.compile(r"Credential=[^/,\s]+/\d{8}/[^/]*/([^/]+)/aws4_request")
_INVOCATION: Final = re.compile(r"^/2015-03-31/functions/.+/invocations/?$|/invoke-async/?$")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer made whole: `status` is a line such as `200 OK`."""

    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def code(self) -> int:
        return int(self.status.split(" ", 1)[0])

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


class FrontHandler(MotoRequestHandler):
    """One connection. Builds moto's WSGI environment, but reads and writes whole messages."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or small answers wait up to 40 ms for an acknowledgement
    timeout = 120  # seconds a connection may stay silent; SDKs open a new one without a word

    def run_wsgi(self) -> None:
        environ = self.make_environ()
        try:
            self._take_body(environ)
        except ValueError:
            self.close_connection = True
            self._send(_plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body's length can't be right"), False)
            return
        answer = call(self.server.app, environ)
        self._send(answer, environ["REQUEST_METHOD"] == "HEAD")

    def _take_body(self, environ: dict[str, Any]) -> None:
        """Reads the body now, so that the next request on this connection starts where this one ends."""
        if environ.get("wsgi.input_terminated"):
            body = environ["wsgi.input"].read()
        else:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            if not 0 <= length <= BODY_BYTES:
                raise ValueError(length)
            body = self.rfile.read(length)
            if len(body) != length:
                raise ConnectionResetError("the client went away in the middle of its request")
        environ["wsgi.input"] = io.BytesIO(body)
        environ["wsgi.input_terminated"] = True
        environ["CONTENT_LENGTH"] = str(len(body))

    def _send(self, answer: Answer, head_only: bool) -> None:
        lines = [f"HTTP/1.1 {answer.status}"]
        lines += [
            f"{_one_line(name)}: {_one_line(value)}"
            for name, value in answer.headers
            if name.lower() not in ("connection", "transfer-encoding")
        ]
        if not answer.header("content-length") and answer.code >= 200 and answer.code not in (204, 304):
            lines.append(f"Content-Length: {len(answer.body)}")
        if not answer.header("date"):
            lines.append(f"Date: {self.date_time_string()}")  # AWS tells it in every answer
        if self.close_connection:
            lines.append("Connection: close")
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        bodyless = head_only or answer.code in (204, 304)
        self.wfile.write(head if bodyless else head + answer.body)

    def log_request(self, *args: Any) -> None:
        """Quiet: the log is for what went wrong."""

    def log_error(self, format: str, *args: Any) -> None:
        """A connection that was silent for too long is closed, which is no error."""
        log.debug(format, *args)


def _one_line(value: str) -> str:
    return str(value).replace("\r", " ").replace("\n", " ")


def call(app: Wsgi, environ: dict[str, Any]) -> Answer:
    """Runs a WSGI application to its end."""
    told: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], Any]:
        told[:] = [status, tuple(headers)]
        return chunks.append

    chunks: list[bytes] = []
    parts = app(environ, start_response)
    try:
        chunks.extend(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    return Answer(told[0], told[1], b"".join(chunks))


def answer_with(answer: Answer, start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response(answer.status, list(answer.headers))
    return [answer.body]


def _plain(status: HTTPStatus, text: str) -> Answer:
    body = (text + "\n").encode()
    return Answer(f"{status.value} {status.phrase}", (("Content-Type", "text/plain; charset=utf-8"),), body)


def _json(status: int, body: dict[str, Any]) -> Answer:
    kind = (("Content-Type", "application/json"),)
    return Answer(f"{status} {HTTPStatus(status).phrase}", kind, json.dumps(body).encode())


def signed_service(environ: dict[str, Any]) -> str:
    """The service named in the request's signature (`ec2`, `s3`, …), or an empty string for an unsigned request."""
    found = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    if found:
        return found.group(1).lower()
    credential = parse_qs(environ.get("QUERY_STRING", "")).get("X-Amz-Credential", [""])[0].split("/")
    return credential[3].lower() if len(credential) == 5 else ""


@dataclass
class ServiceLocks:
    """A lock for each service, made when first asked for; re-entrant, as a backend may call its own service."""

    _locks: defaultdict[str, threading.RLock] = field(default_factory=lambda: defaultdict(threading.RLock))
    _making: threading.Lock = field(default_factory=threading.Lock)

    def of(self, service: str) -> threading.RLock:
        with self._making:
            return self._locks[service]

    @contextlib.contextmanager
    def for_request(self, environ: dict[str, Any], service: str) -> Iterator[None]:
        if waits_by_nature(environ, service):
            yield
            return
        with self.of(service):
            yield


def waits_by_nature(environ: dict[str, Any], service: str) -> bool:
    """Calls that may take seconds and lock what they touch by themselves: `shim/sqs.py` and `shim/lambda_.py`."""
    if service == "sqs":
        return str(environ.get("HTTP_X_AMZ_TARGET", "")).endswith(".ReceiveMessage")
    return service == "lambda" and _INVOCATION.search(environ.get("PATH_INFO", "")) is not None


@dataclass(frozen=True)
class Guarded:
    """The WSGI application that the server runs: guards, locks, and moto behind them."""

    moto: Wsgi
    locks: ServiceLocks
    control: Control | None = None
    """Answers paths below `/_aistratus/`, which no AWS service has; there in strict mode only."""
    note: Note | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return answer_with(self._answer(environ), start_response)

    def _answer(self, environ: dict[str, Any]) -> Answer:
        answer = self._guarded(environ)
        if self.note is not None:
            self.note(environ, signed_service(environ), answer.code)
        return answer

    def _guarded(self, environ: dict[str, Any]) -> Answer:
        if not _is_of_this_machine(environ):
            return _plain(HTTPStatus.FORBIDDEN, "the embedded cloud serves programs on this machine only")
        if self.control is not None and environ.get("PATH_INFO", "").startswith("/_aistratus/"):
            status, body = self.control(environ["PATH_INFO"], environ["REQUEST_METHOD"], environ["wsgi.input"].read())
            return _json(status, body)
        service = signed_service(environ)
        try:
            with self.locks.for_request(environ, service):
                answer = call(self.moto, environ)
        except NotImplementedError as gap:
            return self._missing(environ, service, str(gap))
        except Exception:
            # moto's own mistake, or a request that it can't digest: it may raise anything. It would fail again, hence
            # not a 500.
            log.exception("%s %s %s failed", service, environ["REQUEST_METHOD"], environ.get("PATH_INFO"))
            message = "the embedded cloud failed on this call; see its log"
            return Answer(*error_answer(environ, service, 501, "InternalFailure", message))
        if _is_routing_page(answer, service):
            return self._missing(environ, service, f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO')}")
        return answer

    @staticmethod
    def _missing(environ: dict[str, Any], service: str, what: str) -> Answer:
        log.warning("missing: %s %s", service, what)
        message = f"the embedded cloud doesn't have this operation of {service or 'AWS'}: {what}"
        return Answer(*error_answer(environ, service, 501, "NotImplemented", message))


def _is_of_this_machine(environ: dict[str, Any]) -> bool:
    if not is_own_host(environ.get("HTTP_HOST")):
        return False
    if is_from_page(environ.get("HTTP_ORIGIN"), environ.get("HTTP_SEC_FETCH_SITE")):
        return False
    query, signature = environ.get("QUERY_STRING", ""), environ.get("HTTP_AUTHORIZATION", "")
    return not is_link_to_an_action(environ["REQUEST_METHOD"], query, signature)


def _is_routing_page(answer: Answer, service: str) -> bool:
    """Flask's HTML page for a path nobody serves, or moto's bare 404 for an action it can't name."""
    if answer.code not in (404, 405) or not service or service == "s3":
        return False
    return b"<title>40" in answer.body[:200] or not answer.body


class FrontServer:
    """Serves a WSGI application on a loopback socket, a thread for each connection."""

    def __init__(self, app: Wsgi, listening: socket.socket) -> None:
        host, port = listening.getsockname()[:2]
        self._server: BaseWSGIServer = make_server(
            host, port, app, threaded=True, request_handler=FrontHandler, fd=listening.fileno()
        )
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self._server.block_on_close = False  # type: ignore[attr-defined]
        self._server.log = _server_log  # type: ignore[method-assign, assignment]

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="front").start()

    def stop(self) -> None:
        self._server.shutdown()


def _server_log(kind: str, message: str, *args: Any) -> None:
    if kind == "error":
        print(message % args if args else message, file=sys.stderr)
