"""Named, capped waits for AWS's eventual consistency.

AWS answers before it is done, and changes aren't visible everywhere at once. Each such wait is a `Wait`: a name that
users see, a cap in seconds, and the reason. Waiting goes through a `Clock`, so that tests take no time and Ctrl-C ends
a wait at once. A `Wait` names the error codes that it retries, so that a retry never hides a wrong order.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from aistratus.core.errors import Interrupted, Unsettled, error_code, error_message

T = TypeVar("T")


class Clock(Protocol):
    """Time as the engine sees it."""

    def now(self) -> float:
        """Seconds of a monotonic clock."""

    def wait(self, seconds: float) -> None:
        """Lets `seconds` pass.

        Raises:
            Interrupted: the run is being ended.
        """


class RealClock:
    """The machine's clock. Setting `stop` ends every wait with `Interrupted`."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.stop = stop or threading.Event()

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Interrupted("interrupted while waiting")


@dataclass(frozen=True, kw_only=True)
class Wait:
    """A named, capped wait.

    what: what is being waited for, as people read it ("the role can be assumed by Lambda").
    within: seconds after which it is given up.
    codes: error codes of the call that mean "not yet".
    saying: if set, the error's message must match this too (some codes mean many things).
    first, longest: seconds of the first pause and of the longest.
    """

    what: str
    within: float
    codes: frozenset[str] = frozenset()
    saying: str = ""
    first: float = 0.5
    longest: float = 5.0

    def forgives(self, error: BaseException) -> bool:
        """Whether this error means "not yet"."""
        return error_code(error) in self.codes and re.search(self.saying, error_message(error)) is not None

    def pauses(self, clock: Clock) -> Iterator[None]:
        """Waits with exponential backoff, and ends when the cap is reached."""
        end, pause = clock.now() + self.within, self.first
        while (left := end - clock.now()) > 0:
            clock.wait(min(pause, left))
            pause = min(pause * 1.6, self.longest)
            yield


def settle(wait: Wait, call: Callable[..., T], *, clock: Clock, **arguments: Any) -> T:
    """Calls `call(**arguments)` until it no longer fails with one of the wait's codes.

    Raises:
        Unsettled: the cap was reached; the service's last words are in it.
    """
    pauses = wait.pauses(clock)
    while True:
        try:
            return call(**arguments)
        except Exception as error:  # the core knows no service's exceptions: the wait tells by their codes
            if not wait.forgives(error):
                raise
            if next(pauses, StopIteration) is StopIteration:
                raise Unsettled(
                    f"{wait.what}: not after {wait.within:.0f} s ({error_message(error)})", todo="run the command again"
                ) from error


def until(wait: Wait, probe: Callable[[], T | None], *, clock: Clock) -> T:
    """Calls `probe` until it returns a value; the wait's error codes count as "not yet".

    Raises:
        Unsettled: the cap was reached.
    """
    pauses = wait.pauses(clock)
    while True:
        try:
            seen = probe()
        except Exception as error:  # as in `settle`
            if not wait.forgives(error):
                raise
            seen = None
        if seen is not None:
            return seen
        if next(pauses, StopIteration) is StopIteration:
            raise Unsettled(f"{wait.what}: not after {wait.within:.0f} s", todo="run the command again")
