"""Rules of strict mode, and the counters behind rules about time.

A rule wraps a method of a moto backend and raises moto's own exceptions, so that each protocol's error has the right
form. Rules about order, state and limits always hold in strict mode. Rules about time hold when a test activates them,
and count calls instead of waiting: a *delay* applies to the first n calls for each new object (an id, a name, a change
of a function), a *rate* refuses every n-th call. Minutes are counted by a clock that a test moves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from aistratus.local.wire_errors import error_answer

if TYPE_CHECKING:
    from aistratus.local.shim.cloud import Cloud

Asked = Literal["", "calls", "every"]
"""How a test asks for a rule: not at all, as a delay of n calls, or as a rate of every n-th call."""


@dataclass
class Delays:
    """Which of the rules about time are asked for, how often each still bites, and the clock of the others."""

    _asked: dict[str, int] = field(default_factory=dict)
    _left: dict[tuple[str, str], int] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)
    _met: dict[str, int] = field(default_factory=dict)
    _paused: bool = False
    _offset_s: float = 0.0
    _watchers: list[Callable[[], object]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, rule: str, number: int) -> None:
        """From now on: the first `number` calls on each new thing, or every `number`-th call; 0 ends it."""
        with self._lock:
            self._asked[rule], self._seen[rule], self._met[rule] = number, 0, 0
            for key in [key for key in self._left if key[0] == rule]:
                del self._left[key]

    def pause(self, paused: bool) -> None:
        """While paused, calls pass, and what is made then is known at once."""
        with self._lock:
            self._paused = paused

    def asked(self, rule: str) -> int:
        """The number that was asked for, 0 for none."""
        with self._lock:
            return self._asked.get(rule, 0)

    def met(self, rule: str) -> int:
        """How many calls have met the rule since it was asked for."""
        with self._lock:
            return self._met.get(rule, 0)

    # --- delays -----------------------------------------------------------------------------------------------------

    def born(self, rule: str, subject: str) -> None:
        """`subject` is new: its delay begins, if one is asked for."""
        with self._lock:
            if self._asked.get(rule, 0) > 0 and not self._paused:
                self._left[rule, subject] = self._asked[rule]

    def take(self, rule: str, subject: str) -> bool:
        """Whether a call on `subject` meets the rule; counts it."""
        with self._lock:
            left = 0 if self._paused else self._left.get((rule, subject), 0)
            if left > 0:
                self._left[rule, subject] = left - 1
                self._met[rule] = self._met.get(rule, 0) + 1
            return left > 0

    def meets(self, rule: str, subject: str) -> bool:
        """The same, where a subject counts as new when it is met first."""
        with self._lock:
            new = (rule, subject) not in self._left
        if new:
            self.born(rule, subject)
        return self.take(rule, subject)

    def waiting(self, rule: str) -> frozenset[str]:
        """The subjects that the rule still bites."""
        with self._lock:
            left = {} if self._paused else self._left
            return frozenset(subject for (name, subject), calls in left.items() if name == rule and calls > 0)

    # --- rates ------------------------------------------------------------------------------------------------------

    def refuses(self, rule: str) -> bool:
        """Whether this is the n-th call again; counts it."""
        with self._lock:
            every = self._asked.get(rule, 0)
            if every <= 0 or self._paused:
                return False
            self._seen[rule] = self._seen.get(rule, 0) + 1
            refused = self._seen[rule] % every == 0
            self._met[rule] = self._met.get(rule, 0) + refused
            return refused

    # --- the clock --------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds on the clock of this cloud."""
        with self._lock:
            return time.monotonic() + self._offset_s

    def ahead(self) -> float:
        """Seconds by which the cloud's clock is ahead of the machine's."""
        with self._lock:
            return self._offset_s

    def advance(self, seconds: float) -> None:
        """Moves the clock, then lets what goes by it happen."""
        with self._lock:
            self._offset_s += seconds
        for watcher in self._watchers:
            watcher()

    def on_advance(self, watcher: Callable[[], object]) -> None:
        self._watchers.append(watcher)


Install = Callable[["Cloud", Delays], None]


@dataclass(frozen=True)
class Rule:
    """One rule of the real AWS: a name for tests and README, where it stands, the error code, and how it is put in.

    A rule without an error code is about what is shown, not about what is refused.
    """

    name: str
    source: str
    code: str
    install: Install
    asked: Asked = ""


@dataclass
class Book:
    """Collects the rules of one service, in the order in which they stand in its file."""

    rules: list[Rule] = field(default_factory=list)

    def rule(self, name: str, *, code: str = "", source: str, asked: Asked = "") -> Callable[[Install], Install]:
        """Decorator for a function that installs the rule."""

        def add(install: Install) -> Install:
            self.rules.append(Rule(name, source, code, install, asked))
            return install

        return add


def refuse_with(response: Any, service: str, status: int, code: str, message: str) -> tuple[int, dict[str, Any], bytes]:
    """A refusal with a status of its own, for code that stands before moto's way of answering with errors."""
    environ = {"CONTENT_TYPE": response.headers.get("Content-Type") or ""}
    _, headers, body = error_answer(environ, service, status, code, message)
    return status, {**dict(headers), "status": status}, body
