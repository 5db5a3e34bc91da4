"""One request's lines, picked out of many logs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aistratus.request_log import story

SOURCES = ("api", "router", "worker", "guard")


def events(*lines: tuple[int, str, dict[str, Any] | str]) -> dict[str, list[Mapping[str, Any]]]:
    logs: dict[str, list[Mapping[str, Any]]] = {source: [] for source in SOURCES}
    for number, (at, source, said) in enumerate(lines):
        message = said if isinstance(said, str) else json.dumps(said)
        logs[source].append({"timestamp": at, "message": f"{message}\n", "eventId": str(number)})
    return logs


LOGS = events(
    (30, "api", {"request_id": "X=", "status": "202"}),
    (10, "router", "START RequestId: 1f-2 Version: 3"),
    (20, "router", {"request_id": "X=", "invocation": "1f-2", "job": "J", "status": 202}),
    (25, "router", "REPORT RequestId: 1f-2"),
    (40, "worker", {"event": "job_received", "job": "J"}),
    (50, "worker", {"event": "job_done", "job": "J", "request_id": "X="}),
    # Others: a poll for the same job, and another request whose id ours is a part of.
    (45, "router", {"request_id": "Y=", "invocation": "1f-3", "job": "J", "route": "GET /jobs/{id}"}),
    (46, "router", "REPORT RequestId: 1f-3"),
    (47, "worker", {"event": "job_received", "job": "K"}),
    (20, "guard", "START RequestId: 77"),
)


def look(source: str, term: str) -> Iterable[Mapping[str, Any]]:
    return [event for event in LOGS[source] if term in event["message"]]


def test_a_request_is_followed_through_all_logs_in_the_order_of_time() -> None:
    found = story("X=", SOURCES, look)
    assert found.jobs == ("J",)
    assert [(line.timestamp_ms, line.source) for line in found.lines] == [
        (10, "router"),
        (20, "router"),
        (25, "router"),
        (30, "api"),
        (40, "worker"),
        (50, "worker"),
    ]


def test_a_request_that_was_sent_again_finds_what_the_worker_did_for_the_first() -> None:
    again = story("Y=", SOURCES, look)
    assert [line.timestamp_ms for line in again.lines] == [40, 45, 46, 50]


def test_an_unknown_request_left_nothing() -> None:
    assert story("Z=", SOURCES, look).lines == ()
