"""Computes from the power record (`wire.Sign`) when each instance ran; pure.

A span lasts from a `start`, or from the start that a `seen` reports, to the `stop`. Each sign may be missing, duplicate
or slightly off: starts within two minutes of each other are one; where a stop is missing, the span ends at the last
`seen`, and is marked as assumed. So only time that was observed counts, and what may be missing is bounded by how often
`seen` is written.

It ships with the functions, so that the guard meters with the same code: standard library and `wire` only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from aistratus.wire import SEEN, STOP, WORKER, Sign

SAME_MS: Final = 120_000
"""Starts less than this apart are one, reported by a call, by EC2's LaunchTime and by the booted system."""
FRESH_MS: Final = 600_000
"""Where EC2 isn't asked, an instance seen this recently counts as running: the guard writes every few minutes."""


@dataclass(frozen=True)
class Span:
    """An instance ran from `begin_ms` to `end_ms`.

    type: empty where nobody knew it.
    busy_ms: for how long of it its model has worked, as its workers said.
    running: it still does.
    assumed: nobody recorded its stop; it ends with the last sign of life.
    """

    instance: str
    type: str
    begin_ms: int
    end_ms: int
    running: bool = False
    assumed: bool = False
    busy_ms: int = 0


@dataclass
class _Open:
    begin: int
    last: int
    type: str
    busy: dict[int, int] = field(default_factory=dict)
    """Busy time by worker, identified by its start; its last sign covers all its time."""


def spans(signs: Iterable[Sign], now_ms: int, *, running: Collection[str] | None = None) -> list[Span]:
    """The spans of all instances, by instance and in order.

    Args:
        signs: in any order. Those from the future (a clock that was wrong) count as of now.
        running: the instances that run now, as EC2 says; `None`: nobody asked it.
    """
    of: dict[str, list[Sign]] = defaultdict(list)
    for sign in signs:
        of[sign.instance].append(replace(sign, at_ms=min(sign.at_ms, now_ms), since_ms=min(sign.since_ms, now_ms)))
    made: list[Span] = []
    for instance, its in sorted(of.items()):
        alive = None if running is None else instance in running
        made += _typed(_Life(instance).told(its, now_ms, alive))
    return made


class _Life:
    """The spans of one instance, from its signs.

    A sign that it was seen is good for all the time between the two moments that it names. So signs are taken in the
    order in which what they are about began, and a stop counts where nothing says that it ran on.
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._done: list[Span] = []
        self._open: _Open | None = None

    def told(self, signs: Iterable[Sign], now_ms: int, alive: bool | None) -> list[Span]:
        """Its spans in order. `alive`: whether it runs now; `None`: EC2 wasn't asked."""
        signs = list(signs)
        stops = sorted((sign.at_ms for sign in signs if sign.verb == STOP), reverse=True)
        for sign in sorted((sign for sign in signs if sign.verb != STOP), key=_begin):
            while stops and stops[-1] < _begin(sign)[0]:
                self._stop(stops.pop())
            self._seen(sign)
        for stop in reversed(stops):
            self._stop(stop)
        if self._open is not None:
            on = now_ms - self._open.last <= FRESH_MS if alive is None else alive
            self._close(now_ms if on else self._open.last, running=on, assumed=not on)
        return self._done

    def _stop(self, at_ms: int) -> None:
        """Drops stops that were refused or recorded too early: the instance was seen running afterwards."""
        if self._open is not None and self._open.last <= at_ms + SAME_MS:
            self._close(at_ms)

    def _seen(self, sign: Sign) -> None:
        since, at_ms = _begin(sign)
        ended = self._done[-1].end_ms if self._done else 0
        # A worker may have begun again on a machine that ran all the time.
        slack = FRESH_MS if sign.by == WORKER else SAME_MS
        if self._open is not None and since > self._open.last + slack:
            self._close(self._open.last, assumed=True)
        if self._open is not None:
            self._open.last = max(self._open.last, at_ms)
            self._open.type = sign.type or self._open.type
        elif at_ms >= ended:
            self._open = _Open(max(since, ended), at_ms, sign.type)
        if self._open is not None and sign.busy_ms:
            self._open.busy[sign.since_ms] = max(self._open.busy.get(sign.since_ms, 0), sign.busy_ms)

    def _close(self, end_ms: int, *, running: bool = False, assumed: bool = False) -> None:
        life, self._open = self._open, None
        if life is not None:
            end = max(end_ms, life.begin)
            busy = min(sum(life.busy.values()), end - life.begin)
            self._done.append(Span(self._instance, life.type, life.begin, end, running, assumed, busy))


def _begin(sign: Sign) -> tuple[int, int]:
    """The start that a sign reports, and the time until which it ran."""
    since = sign.since_ms if sign.verb == SEEN else sign.at_ms
    return min(since, sign.at_ms), sign.at_ms


def _typed(found: Sequence[Span]) -> list[Span]:
    """Fills in unknown types: that of the span before, or after."""
    known = [span.type for span in found if span.type]
    typed, last = [], known[0] if known else ""
    for span in found:
        last = span.type or last
        typed.append(replace(span, type=last))
    return typed
