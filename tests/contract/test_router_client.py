# ruff: noqa: F401, F811 (fixtures are imported by name)
"""The client library and the router from its zip, with nothing between them but HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from router_function import Function, event
from router_stack import Stack, code, moto, runtime

from aistratus import wire
from aistratus.client import events
from aistratus.client.api import Api
from aistratus.client.conversation import Conversation
from aistratus.client.errors import ApiError
from aistratus.client.request import InferRequest


@pytest.fixture(scope="module")
def stack(moto: str) -> Stack:
    return Stack.create(moto)


@pytest.fixture(scope="module")
def edge(stack: Stack, code: Path, runtime: Path) -> Iterator[str]:
    """As much of API Gateway as turns a request into an event; one at a time, as one Lambda environment does."""
    function = Function(code, runtime, stack.variables())
    one = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            return

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            made = event(f"{self.command} {parts.path}", None, headers=headers, query=dict(parse_qsl(parts.query)))
            if parts.path.startswith("/jobs/"):
                made["routeKey"] = f"{self.command} /jobs/{{id}}"
                made["pathParameters"] = {"id": parts.path.removeprefix("/jobs/")}
            length = int(self.headers.get("content-length", 0))
            if length:
                made["body"] = self.rfile.read(length).decode()
            with one:
                result = function.invoke(made)
            body = json.dumps(result.body).encode()
            self.send_response(result.status)
            for name, value in {**result.headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _serve

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    function.close()


@pytest.fixture(scope="module")
def token(stack: Stack) -> str:
    return stack.user("alice")


@pytest.fixture
def api(edge: str, token: str, stack: Stack) -> Iterator[Api]:
    stack.beat()
    with Api(edge, lambda: token) as made:
        yield made


def work(stack: Stack, pieces: list[str], **end: Any) -> None:
    """What a worker does with the next message, as far as the job item shows it."""
    (job,) = stack.messages()
    item = stack.item(job.pk) or {}
    text = ""
    for piece in pieces:
        text += piece
        stack.put({**item, "status": wire.RUNNING, "attempt": 1, "text": text})
    stack.put({**item, "attempt": 1, "text": text, **end})


def test_a_prompt_comes_back_as_a_reply(api: Api, stack: Stack) -> None:
    usage = {"prompt_tokens": 4, "completion_tokens": 3}
    submitted = api.submit(Conversation().with_exchange("hi 🙂", "hello").ask("How?"))
    stages = api.stream(submitted)
    assert next(stages) == events.Stage(events.QUEUED)
    done = {"status": wire.DONE, "model": "demo", "usage": usage, "timings": {"total_ms": 5}}
    worker = threading.Thread(target=work, args=(stack, ["Grüß", " 🙂", " Gott"]), kwargs=done)
    worker.start()
    told = list(stages)
    worker.join()
    assert "".join(event.text for event in told if isinstance(event, events.Piece)) == "Grüß 🙂 Gott"
    assert told[-1] == events.Done("Grüß 🙂 Gott", "demo", usage, {"total_ms": 5})


def test_a_failed_job_tells_its_reason(api: Api, stack: Stack) -> None:
    submitted = api.submit(InferRequest(prompt="break"))
    work(stack, ["par"], status=wire.FAILED, error="The model ran out of memory.")
    assert list(api.stream(submitted))[-1] == events.Failed("par", "The model ran out of memory.")


def test_a_cancelled_job_ends_its_stream(api: Api, stack: Stack) -> None:
    submitted = api.submit(InferRequest(prompt="never mind"))
    assert api.cancel(submitted.job_id) == wire.CANCELLED
    assert list(api.stream(submitted)) == [events.Cancelled("")]
    stack.messages()


def test_the_same_key_gives_the_same_job(api: Api, stack: Stack) -> None:
    request = InferRequest(prompt="once")
    assert api.submit(request, "my-key").job_id == api.submit(request, "my-key").job_id == "my-key"
    assert len(stack.messages()) == 1
    with pytest.raises(ApiError) as caught:
        api.submit(InferRequest(prompt="twice"), "my-key")
    assert (caught.value.status, caught.value.type) == (409, wire.CONFLICT)


def test_a_refused_token_is_an_error_with_a_type(edge: str) -> None:
    with Api(edge, lambda: "x.y.z") as api, pytest.raises(ApiError) as caught:
        api.submit(InferRequest(prompt="hi"))
    assert (caught.value.status, caught.value.type) == (401, wire.UNAUTHORIZED)


def test_health_needs_nobody(edge: str) -> None:
    with Api(edge, lambda: "") as api:
        assert api.health()["status"] == "ok"
