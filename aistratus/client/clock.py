"""A clock whose waits can be ended from another thread, and which tests replace."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock (seconds), and a wait."""

    def monotonic(self) -> float: ...

    def wait(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class EventClock:
    """The real clock. A wait ends at once on Ctrl-C, or when another thread sets `stop`."""

    stop: threading.Event = field(default_factory=threading.Event)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        self.stop.wait(seconds)
