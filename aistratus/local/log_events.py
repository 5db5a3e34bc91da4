"""Writes log events of functions and access logs into moto's logs backend.

moto creates groups and streams without a lock and keeps every event. Here writers are serialised, and a stream keeps
its latest events only, so that a cloud that runs for days doesn't grow with every poll of every chat.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from moto.backends import get_backend

KEPT: Final = 5_000
"""Events that a stream keeps at least; older ones go when it holds twice as many."""


class NoSuchGroup(Exception):
    """The log group isn't there, and the writer isn't one that makes it."""


class LogEvents:
    """Thread-safe; one for each part of the cloud that writes logs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def put(
        self, *, account: str, region: str, group: str, stream: str, events: list[tuple[int, str]], make_group: bool
    ) -> None:
        """Append events (milliseconds, text; in order of time) to a stream, which is made when it is missing.

        Raises:
            NoSuchGroup: there is no such group and `make_group` is false.
            JsonRESTError: moto refused the events.
        """
        backend: Any = get_backend("logs")[account][region]
        with self._lock:
            if make_group:
                backend.ensure_log_group(group)
            elif group not in backend.groups:
                raise NoSuchGroup(group)
            backend.ensure_log_stream(group, stream)
            backend.put_log_events(group, stream, [{"timestamp": when, "message": text} for when, text in events])
            kept = backend.groups[group].streams[stream].events
            if len(kept) > 2 * KEPT:
                del kept[:-KEPT]
