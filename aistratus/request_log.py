"""All log lines about one request of an env, in the order of time.

The id is API Gateway's: the access log has it, the router logs it and writes it into the job's item, from which the
worker logs it. Before the worker has read that item its lines name only the job, so a second query searches for the
jobs that the router's line names; it also finds the worker's lines for an earlier try of the same request. Lambda's own
lines (START, REPORT) carry Lambda's id, which the router's line names as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

WORKER: Final = "worker"
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9=_-]{1,64}")

Look = Callable[[str, str], Iterable[Mapping[str, Any]]]
"""Source and term → events of that source's log that hold the term, as CloudWatch gives them."""


@dataclass(frozen=True, order=True)
class Line:
    """One event. Of the same millisecond the edge comes before the router, and the router before the worker."""

    timestamp_ms: int
    rank: int
    source: str
    message: str
    event_id: str


@dataclass(frozen=True)
class Story:
    """What was found: the jobs that the request made or asked for, and all lines."""

    jobs: tuple[str, ...]
    lines: tuple[Line, ...]


def story(request_id: str, sources: tuple[str, ...], look: Look) -> Story:
    """Looks through all logs.

    Args:
        sources: names of the logs, in the order in which a request passes through them.
    """
    found = {line.event_id: line for line in _lines(sources, [request_id], look)}
    named = [_said(line.message) for line in found.values()]
    ours = [said for said in named if said.get("request_id") == request_id]
    jobs = sorted({str(said["job"]) for said in ours if said.get("job")})
    more = sorted({*jobs, *(str(said["invocation"]) for said in ours if said.get("invocation"))})
    for line in _lines(sources, more, look):
        # What the router says besides about the job are other requests, polls above all.
        if line.source == WORKER or _said(line.message).get("request_id") in (None, request_id):
            found.setdefault(line.event_id, line)
    return Story(tuple(jobs), tuple(sorted(found.values())))


def _lines(sources: tuple[str, ...], terms: Iterable[str], look: Look) -> Iterator[Line]:
    for term in terms:
        for rank, source in enumerate(sources):
            for event in look(source, term):
                message = str(event["message"]).rstrip("\n")
                if term in message:  # the service's own match is by words
                    yield Line(int(event["timestamp"]), rank, source, message, str(event["eventId"]))


def _said(message: str) -> Mapping[str, Any]:
    """The fields of a line that is JSON."""
    try:
        content = json.loads(message)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
