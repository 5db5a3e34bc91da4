"""The client library against an HTTP server that answers what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistratus import wire
from aistratus.client import events
from aistratus.client.api import (
    POLL_AFTER_TEXT_S,
    POLL_NODE_S,
    POLL_QUEUED_S,
    POLL_S,
    SOON_S,
    Api,
    Submitted,
)
from aistratus.client.clock import EventClock
from aistratus.client.errors import ApiError, ApiUnreachable
from aistratus.client.request import InferRequest
from aistratus.client.transport import PATIENCE_S


@dataclass
class Turned:
    """A clock that stands still but for the waits, which it remembers."""

    waits: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return sum(self.waits)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)


@dataclass
class Server:
    """Answers in order; the last one again and again. An answer is (status, JSON, headers), or None to hang up."""

    answers: list[tuple[int, Any, dict[str, str]] | None]
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    url: str = ""


@contextmanager
def server(*answers: tuple[int, Any] | tuple[int, Any, dict[str, str]] | None) -> Iterator[Server]:
    made = Server([answer and (*answer, {})[:3] for answer in answers])  # type: ignore[misc]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            return

        def _serve(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.requests.append((self.command, self.path, headers, body))
            answer = made.answers.pop(0) if len(made.answers) > 1 else made.answers[0]
            if answer is None:
                self.close_connection = True
                self.connection.close()
                return
            status, content, extra = answer
            text = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            for name, value in {**extra, "content-length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _serve

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            return

    listening = Quiet(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{listening.server_address[1]}"
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield made
    finally:
        listening.shutdown()
        listening.server_close()


ACCEPTED = {"job_id": "j1", "status": "queued", "node": "ready", "conversation": "c1", "request_id": "r1"}
SUBMITTED = Submitted("j1", "queued", "ready", "c1", "r1")
PROBLEM = {
    "type": wire.INVALID_REQUEST,
    "status": 400,
    "detail": "The body has wrong fields.",
    "request_id": "r9",
    "errors": [{"field": "prompt", "message": "is required"}],
}


def job(status: str, text: str = "", **more: Any) -> tuple[int, dict[str, Any]]:
    """An answer of GET /jobs; the cursor is told by the test where it matters."""
    base = {"job_id": "j1", "status": status, "attempt": 1, "text": text, "cursor": len(text), "node": "ready"}
    return 200, base | more


def test_a_prompt_is_sent_with_a_key_and_the_token() -> None:
    with server((202, ACCEPTED)) as api_server, Api(api_server.url, lambda: "tok", clock=Turned()) as api:
        assert api.submit(InferRequest(prompt="hi", max_tokens=5)) == SUBMITTED
    ((method, path, headers, body),) = api_server.requests
    assert (method, path, body) == ("POST", "/infer", {"prompt": "hi", "max_tokens": 5})
    assert headers["authorization"] == "Bearer tok"
    assert 1 <= len(headers["idempotency-key"]) <= 64


def test_health_sends_no_token() -> None:
    def no_token() -> str:
        raise AssertionError("asked for a token")

    with server((200, {"status": "ok"})) as api_server, Api(api_server.url, no_token) as api:
        assert api.health() == {"status": "ok"}
    assert "authorization" not in api_server.requests[0][2]


@pytest.mark.parametrize(
    "first",
    [
        None,
        (503, {"message": "Service Unavailable"}),
        (500, {"message": "Internal Server Error"}),
        (429, {}),
        (502, "x"),
    ],
    ids=["hangs up", "503", "500", "429", "502"],
)
def test_a_passing_failure_is_repeated_with_the_same_key(first: Any) -> None:
    clock = Turned()
    with server(first, first, (202, ACCEPTED)) as api_server, Api(api_server.url, lambda: "tok", clock=clock) as api:
        assert api.submit(InferRequest(prompt="hi")) == SUBMITTED
    assert len({headers["idempotency-key"] for _, _, headers, _ in api_server.requests}) == 1
    assert len(api_server.requests) == 3
    assert len(clock.waits) == 2
    assert clock.waits[1] <= 1


def test_retry_after_is_obeyed() -> None:
    clock = Turned()
    busy = (429, {"type": wire.RATE_LIMITED, "detail": "Too many."}, {"retry-after": "17"})
    with server(busy, (202, ACCEPTED)) as api_server, Api(api_server.url, lambda: "tok", clock=clock) as api:
        api.submit(InferRequest(prompt="hi"))
    assert clock.waits == [17.0]


def test_a_server_that_wants_too_long_a_wait_gets_its_answer_shown() -> None:
    clock = Turned()
    busy = (503, {"type": wire.NODE_UNAVAILABLE, "detail": "No capacity."}, {"retry-after": "3600"})
    with (
        server(busy) as api_server,
        Api(api_server.url, lambda: "tok", clock=clock) as api,
        pytest.raises(ApiError, match=r"No capacity\.") as caught,
    ):
        api.submit(InferRequest(prompt="hi"))
    assert (caught.value.type, caught.value.status, clock.waits) == (wire.NODE_UNAVAILABLE, 503, [])


def test_patience_ends_and_the_last_failure_is_told() -> None:
    clock = Turned()
    with (
        server((503, {"type": wire.SERVICE_UNAVAILABLE, "detail": "Not now."})) as api_server,
        Api(api_server.url, lambda: "tok", clock=clock) as api,
        pytest.raises(ApiError, match="Not now"),
    ):
        api.job("j1")
    assert PATIENCE_S - 6 < sum(clock.waits) <= PATIENCE_S


def test_nobody_there_is_one_sentence() -> None:
    with server((200, {})) as gone:
        pass
    with Api(gone.url, lambda: "tok", clock=Turned()) as api, pytest.raises(ApiUnreachable, match="can't be reached"):
        api.health()


def test_a_refusal_carries_what_the_problem_says() -> None:
    with (
        server((400, PROBLEM)) as api_server,
        Api(api_server.url, lambda: "tok", clock=Turned()) as api,
        pytest.raises(ApiError) as caught,
    ):
        api.submit(InferRequest(prompt="hi"))
    error = caught.value
    assert (error.type, error.status, error.request_id) == (wire.INVALID_REQUEST, 400, "r9")
    assert error.errors == (("prompt", "is required"),)
    assert str(error) == "The body has wrong fields. (prompt is required)"
    assert len(api_server.requests) == 1


def test_an_answer_of_the_edge_or_of_a_stranger_is_told_too() -> None:
    with (
        server((403, {"message": "Forbidden"}), (404, "<html>"), (200, "<html>"), (200, [1])) as api_server,
        Api(api_server.url, lambda: "tok", clock=Turned()) as api,
    ):
        for sentence in ("Forbidden", "HTTP 404", "isn't this API's", "isn't this API's"):
            with pytest.raises(ApiError, match=sentence):
                api.job("j1")


def test_a_token_that_was_renewed_meanwhile_is_used_at_once() -> None:
    tokens = iter(["old", "new"])
    clock = Turned()
    with (
        server((401, {"message": "Unauthorized"}), job("queued")) as api_server,
        Api(api_server.url, lambda: next(tokens), clock=clock) as api,
    ):
        assert api.job("j1").status == "queued"
    assert [headers["authorization"] for _, _, headers, _ in api_server.requests] == ["Bearer old", "Bearer new"]
    assert clock.waits == []


class Kept:
    """A session whose token looks valid from here."""

    def __call__(self) -> str:
        return "kept"

    def instead_of(self, refused: str) -> str:
        return f"instead of {refused}"


def test_a_session_is_told_of_a_token_that_is_not_taken() -> None:
    with (
        server((401, {"message": "Unauthorized"}), job("queued")) as api_server,
        Api(api_server.url, Kept(), clock=Turned()) as api,
    ):
        assert api.job("j1").status == "queued"
    sent = [headers["authorization"] for _, _, headers, _ in api_server.requests]
    assert sent == ["Bearer kept", "Bearer instead of kept"]


def test_a_token_that_stays_bad_is_sent_once() -> None:
    with (
        server((401, {"message": "Unauthorized"})) as api_server,
        Api(api_server.url, lambda: "bad", clock=Turned()) as api,
        pytest.raises(ApiError, match="Unauthorized"),
    ):
        api.job("j1")
    assert len(api_server.requests) == 1


# --- streaming ------------------------------------------------------------------------------------------


def streamed(*answers: Any) -> tuple[list[events.Event], list[float], list[str]]:
    clock = Turned()
    with server(*answers) as api_server, Api(api_server.url, lambda: "tok", clock=clock) as api:
        found = list(api.stream(SUBMITTED))
    return found, clock.waits, [path for _, path, _, _ in api_server.requests]


def test_a_reply_is_streamed_from_stage_to_stage() -> None:
    done = job("done", "!", cursor=6, model="demo", usage={"completion_tokens": 2}, timings={"total_ms": 9})
    found, waits, paths = streamed(
        job("queued", node="starting", attempt=0),
        job("queued", attempt=0),
        job("running"),
        job("running", "Hel"),
        job("running", "lo", cursor=5),
        done,
    )
    assert found == [
        events.Stage(events.NODE_STARTING),
        events.Stage(events.QUEUED),
        events.Stage(events.RUNNING),
        events.Piece("Hel"),
        events.Piece("lo"),
        events.Piece("!"),
        events.Done("Hello!", "demo", {"completion_tokens": 2}, {"total_ms": 9}),
    ]
    assert waits == [POLL_NODE_S, POLL_S, POLL_S, POLL_AFTER_TEXT_S, POLL_AFTER_TEXT_S]
    assert paths[0] == "/jobs/j1?after=0"
    assert paths[-1] == "/jobs/j1?after=5&attempt=1"


def test_a_long_queue_is_asked_less_often() -> None:
    polls = int(SOON_S / POLL_S) + 3
    _, waits, _ = streamed(*[job("queued", attempt=0)] * polls, job("done", "x"))
    assert (waits[0], waits[-1]) == (POLL_S, POLL_QUEUED_S)


def test_a_second_attempt_that_writes_the_same_just_goes_on() -> None:
    found, _, _ = streamed(
        job("running", "Hello wo"),
        job("queued", "", attempt=1, cursor=8),
        job("running", "Hel", attempt=2, restarted=True),
        job("running", "lo world", attempt=2, cursor=11),
        job("done", "!", attempt=2, cursor=12),
    )
    assert events.Restarted() not in found
    assert "".join(event.text for event in found if isinstance(event, events.Piece)) == "Hello world!"
    assert found[-1] == events.Done("Hello world!", "", {}, {})


def test_a_second_attempt_that_writes_something_else_begins_anew() -> None:
    found, _, _ = streamed(
        job("running", "Hello"),
        job("running", "He", attempt=2, restarted=True),
        job("running", "y you", attempt=2, cursor=7),
        job("done", "", attempt=2, cursor=7),
    )
    told = found[found.index(events.Restarted()) :]
    assert told == [events.Restarted(), events.Piece("Hey you"), events.Done("Hey you", "", {}, {})]


def test_a_second_attempt_that_ends_earlier_is_shown_as_it_is() -> None:
    found, _, _ = streamed(job("running", "Hello world"), job("done", "Hello", attempt=2, restarted=True))
    assert found[-3:] == [events.Restarted(), events.Piece("Hello"), events.Done("Hello", "", {}, {})]


def test_the_first_attempt_is_no_restart() -> None:
    found, _, _ = streamed(job("queued", attempt=0), job("running", "x", restarted=True), job("done", "", cursor=1))
    assert events.Restarted() not in found


@pytest.mark.parametrize(
    ("ended", "last"),
    [
        (job("failed", error="The model died."), events.Failed("", "The model died.")),
        (job("failed"), events.Failed("", "The job failed without a reason.")),
        (job("cancelled", "par"), events.Cancelled("par")),
    ],
)
def test_other_ends_are_told(ended: Any, last: events.Event) -> None:
    assert streamed(ended)[0][-1] == last


def test_a_job_that_vanishes_ends_the_stream_with_an_error() -> None:
    with pytest.raises(ApiError, match="no job"):
        streamed(job("running", "x"), (404, {"type": wire.NOT_FOUND, "detail": "You have no job with this id."}))


@settings(max_examples=60, deadline=None)
@given(
    attempts=st.lists(st.lists(st.text("ab", max_size=2), max_size=4), min_size=1, max_size=3),
)
def test_what_is_shown_after_the_last_restart_is_the_reply(attempts: list[list[str]]) -> None:
    answers = []
    for number, pieces in enumerate(attempts, 1):
        written = ""
        for index, piece in enumerate(["", *pieces]):
            written += piece
            restarted = number > 1 and index == 0
            answers.append(job("running", piece, attempt=number, restarted=restarted, cursor=len(written)))
    reply = "".join(attempts[-1])
    answers.append(job("done", "", attempt=len(attempts), cursor=len(reply)))
    found, _, _ = streamed(*answers)
    shown = ""
    for event in found:
        shown = "" if isinstance(event, events.Restarted) else shown
        shown += event.text if isinstance(event, events.Piece) else ""
    assert found[-1] == events.Done(reply, "", {}, {})
    assert shown == reply


def test_cancel_tells_the_status() -> None:
    with server((202, {"status": "cancelled"})) as api_server, Api(api_server.url, lambda: "tok") as api:
        assert api.cancel("j1") == "cancelled"
    assert api_server.requests[0][:2] == ("DELETE", "/jobs/j1")


def test_a_wait_ends_when_it_is_told_to() -> None:
    clock = EventClock()
    clock.stop.set()
    clock.wait(3_600)
