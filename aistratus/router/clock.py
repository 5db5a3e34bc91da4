"""The router's clock, which tests replace, and the deadline of each request."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

REQUEST_S: Final = 20.0
"""Time limit of a request: an HTTP API ends it after 30 s, and an error of our own says more."""

ANSWER_S: Final = 1.0
"""Reserved within the function's own time limit for writing the answer."""


@dataclass(frozen=True)
class Clock:
    """Seconds since the epoch, monotonic seconds, and a wait that its caller always caps."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep

    def ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.now() * 1000)


@dataclass(frozen=True)
class Deadline:
    """The time (of the monotonic clock) by which a request must have been answered."""

    clock: Clock
    ends: float

    @classmethod
    def of(cls, clock: Clock, context: Any) -> Deadline:
        """The deadline of this invocation, whose context knows how much of the function's time is left."""
        seconds = REQUEST_S
        remaining = getattr(context, "get_remaining_time_in_millis", None)
        if callable(remaining):
            seconds = min(seconds, max(0.0, remaining() / 1000 - ANSWER_S))
        return cls(clock, clock.monotonic() + seconds)

    def at_most(self, seconds: float) -> Deadline:
        """A deadline for one step of the request: that many seconds from now, and never later than this one."""
        return Deadline(self.clock, min(self.ends, self.clock.monotonic() + seconds))

    def left(self) -> float:
        """Seconds, never below zero."""
        return max(0.0, self.ends - self.clock.monotonic())
