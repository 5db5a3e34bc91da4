"""The time of day as AWS tells it.

What the worker writes into items is read by the router on its own clock: when a job's text goes, how fresh the
heartbeat is. The node's clock may be wrong for a while after a start, and may be set in either direction at any moment;
an ended job would then count as expired before its owner has read it. So the clock is read once, counted on with one
that nobody sets, and put right by the `Date` of AWS's answers.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any, Final

OFF_S: Final = 5.0
"""Seconds of difference that count: `Date` has whole seconds, and an answer may have been on its way for some."""


class AwsTime:
    """Seconds and milliseconds since the epoch; listens to the answers that its clients get."""

    def __init__(self) -> None:
        self._origin_s = time.time() - time.monotonic()

    def attach(self, client: Any) -> None:
        """From now on the client's answers put the time right."""
        client.meta.events.register("after-call", self._answered)

    def now_s(self) -> float:
        return self._origin_s + time.monotonic()

    def now_ms(self) -> int:
        return int(self.now_s() * 1000)

    def _answered(self, http_response: Any, **_: Any) -> None:
        try:
            told_s = parsedate_to_datetime(http_response.headers.get("Date", "")).timestamp()
        except ValueError:  # an answer without a date, or with an unreadable one, teaches nothing
            return
        if abs(told_s - self.now_s()) > OFF_S:
            self._origin_s = told_s - time.monotonic()
