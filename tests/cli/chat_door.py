"""A door to an API that answers as a test needs it, over HTTP or without a network: what it does is said by the prompt.

Each word of a prompt that stands in `Door.answer` has its meaning; everything else is repeated, piece by piece, one
with each poll. The paths, the statuses and the forms are the router's.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from aistratus import wire

REPLIES = {
    "code": "Look:\n\n```python\ndef f():\n    return 1\n```\n\nDone **now**.\n",
    "list": "# Title\n\n1. one\n2. two\n3. three\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "escape": "before \x1b]52;c;eA==\x07 \x1b[2Jafter\n",
}


@dataclass
class Door:
    """What was asked, and what became of it.

    Attributes:
        piece: characters that each poll brings.
        pause: seconds that each answer takes.
        text: the reply where the prompt names none; else the prompt is repeated.
        down: until when (monotonic) every connection breaks.
    """

    piece: int = 1_000_000
    pause: float = 0.0
    text: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    health: dict[str, Any] = field(default_factory=dict)
    token: str = "token"
    down: float = 0.0
    refused: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, path: str, query: dict[str, str], token: str, body: Any) -> Any:
        """(status, JSON, headers), or None to break the connection."""
        time.sleep(self.pause)
        if time.monotonic() < self.down:
            return None
        with self.lock:
            self.calls[f"{method} {path.partition('/jobs')[0] or '/jobs'}"] += 1
            if token != f"Bearer {self.token}":
                return 401, {"message": "Unauthorized"}, {}
            if path == "/infer":
                return self._infer(body, query["key"])
            if path.startswith("/jobs/"):
                return self._job(method, path.removeprefix("/jobs/"), query)
            if path == "/queue-health":
                return 200, {"depth": 0, "in_flight": 0, "dead": 0, "heartbeat_age_s": 1.0, **self.health}, {}
            return self._node(path, body)

    def _infer(self, body: dict[str, Any], key: str) -> Any:
        prompt = body["prompt"]
        if "crowd" in prompt and key not in self.refused:
            self.refused.add(key)
            return 429, problem(wire.RATE_LIMITED, 429, "Too many prompts."), {"retry-after": "1"}
        if "budget" in prompt:
            told = "The node can't be started: the budget's limit is reached, and it stays off until 2026-12-01 (UTC)."
            return 503, problem(wire.NODE_UNAVAILABLE, 503, told), {"retry-after": "3600"}
        if "capacity" in prompt:
            told = "The node can't be started: AWS has no capacity for the node's instance type right now."
            return 503, problem(wire.NODE_UNAVAILABLE, 503, told), {"retry-after": "15"}
        if key not in self.jobs:
            self.bodies.append(body)
            text = next((reply for word, reply in REPLIES.items() if word in prompt), self.text or prompt)
            self.jobs[key] = {"prompt": prompt, "text": text, "polls": 0, "shown": 0, "status": wire.QUEUED}
        told = {"job_id": key, "status": wire.QUEUED, "node": "ready", "conversation": body["conversation"]}
        return 202, {**told, "request_id": f"request-{len(self.jobs)}"}, {}

    def _job(self, method: str, job_id: str, query: dict[str, str]) -> Any:
        job = self.jobs.get(job_id)
        if job is None:
            return 404, problem(wire.NOT_FOUND, 404, "You have no job with this id."), {}
        if method == "DELETE":
            job["status"] = wire.CANCELLED
            return 202, {"job_id": job_id, "status": wire.CANCELLED}, {}
        job["polls"] += 1
        node = "ready"
        if "asleep" in job["prompt"] and job["polls"] < 4:
            node = "starting"
        elif "nowhere" in job["prompt"] and job["polls"] < 3:
            node = "unavailable"
        elif job["status"] not in wire.FINAL:
            self._write(job)
        after = int(query.get("after", 0))
        answer = {
            "job_id": job_id,
            "status": job["status"],
            "attempt": 1,
            "restarted": False,
            "text": job["text"][after : job["shown"]],
            "cursor": job["shown"],
            "node": node,
            "eta_s": 42 if node == "starting" else None,
        }
        if job["status"] == wire.DONE:
            figures = {"queued_ms": 1, "first_token_ms": 2, "total_ms": 3000, "tokens_per_second": 34.0}
            answer |= {"model": "fake", "usage": {"prompt_tokens": 10, "completion_tokens": 5}, "timings": figures}
        if job["status"] == wire.FAILED:
            answer["error"] = "The model process died three times."
        return 200, answer, {}

    def _write(self, job: dict[str, Any]) -> None:
        job["status"] = wire.RUNNING
        job["shown"] = min(len(job["text"]), job["shown"] + self.piece)
        if "cut" in job["prompt"] and "was_cut" not in job:
            job["was_cut"], self.down = True, time.monotonic() + 0.5
        if "expire" in job["prompt"] and self.token == "token":
            self.token = "renewed"
        if "endless" in job["prompt"]:
            return
        if job["shown"] == len(job["text"]):
            job["status"] = wire.FAILED if "broken" in job["prompt"] else wire.DONE

    def _node(self, path: str, body: Any) -> Any:
        if path == "/stop":
            self.health["node"] = {"state": "stopping", "type": "t3.small"}
            return 202, {"status": "stopping"}, {}
        if path == "/resize" and body.get("type") == "p5.48xlarge":
            return 400, problem(wire.INVALID_REQUEST, 400, "p5.48xlarge isn't one of the settings' types."), {}
        self.health["node"] = {"state": "starting", "type": body.get("type") or "t3.small"}
        return 202, {"status": body["action"]}, {}

    def without_network(self) -> httpx.Client:
        """A client whose requests are answered in this process."""

        def handle(request: httpx.Request) -> httpx.Response:
            query = {**dict(request.url.params), "key": request.headers.get("idempotency-key", "")}
            body = json.loads(request.content) if request.content else None
            answered = self.answer(
                request.method, request.url.path, query, request.headers.get("authorization", ""), body
            )
            if answered is None:
                raise httpx.ConnectError("broken", request=request)
            status, content, headers = answered
            return httpx.Response(status, json=content, headers=headers)

        return httpx.Client(base_url="http://door", transport=httpx.MockTransport(handle))


def problem(kind: str, status: int, detail: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "detail": detail, "request_id": "request-9"}


@contextmanager
def serving(door: Door) -> Iterator[str]:
    """The door over HTTP; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            return

        def _serve(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            path, _, query = self.path.partition("?")
            parameters = dict(pair.split("=") for pair in query.split("&") if pair)
            parameters["key"] = self.headers.get("idempotency-key", "")
            answered = door.answer(self.command, path, parameters, self.headers.get("authorization", ""), body)
            if answered is None:
                self.close_connection = True
                self.connection.close()
                return
            status, content, headers = answered
            text = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _serve

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            return

    listening = Quiet(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        listening.server_close()
