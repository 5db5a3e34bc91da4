"""The time of day by AWS's clock.

Timestamps that the worker writes are compared with the router's clock: when a job expires, how fresh the heartbeat is.
The node's clock may be wrong for a while after a start, and may be set at any moment; an ended job would then expire
before its owner has read it. So the system clock is read once, continued with the monotonic clock, and corrected by the
`Date` header of AWS's answers.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any, Final

OFF_S: Final = 5.0
"""Smaller differences (seconds) are ignored: `Date` has whole seconds, and an answer takes some time to arrive."""


class AwsTime:
    """Seconds and milliseconds since the epoch, corrected by the answers of the attached clients."""

    def __init__(self) -> None:
        self._origin_s = time.time() - time.monotonic()

    def attach(self, client: Any) -> None:
        """Corrects the time by this client's answers from now on."""
        client.meta.events.register("after-call", self._answered)

    def now_s(self) -> float:
        return self._origin_s + time.monotonic()

    def now_ms(self) -> int:
        return int(self.now_s() * 1000)

    def _answered(self, http_response: Any, **_: Any) -> None:
        try:
            told_s = parsedate_to_datetime(http_response.headers.get("Date", "")).timestamp()
        except ValueError:  # no `Date` header, or an unreadable one
            return
        if abs(told_s - self.now_s()) > OFF_S:
            self._origin_s = told_s - time.monotonic()
