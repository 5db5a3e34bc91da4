"""The status line at the bottom of the screen: node, queue, speed of the last reply, and cost.

It shows what the API reports (`GET /queue-health`) and what was measured here, and leaves out what is unknown. Between
two reports it counts down by itself, so that "stops in 7 min" is never older than a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aistratus import wire

LOOK_BUSY_S: Final = 3.0
LOOK_S: Final = 15.0
LOOK_IDLE_S: Final = 60.0
"""Seconds between two looks: while something is awaited, as a rule, and when nobody has typed for a while. Each look
costs two calls to SQS and two to DynamoDB, some millionths of a euro."""
LOOK_LEAST_S: Final = 1.0
"""Between two looks, however much happens."""
IDLE_AFTER_S: Final = 600.0


@dataclass(frozen=True, kw_only=True)
class ReplyFigures:
    """How a reply came."""

    tokens_per_second: float | None = None
    first_s: float | None = None
    eur: float | None = None


@dataclass(frozen=True, kw_only=True)
class Known:
    """All that is known, and since when (seconds of a clock that only grows)."""

    health: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0
    trouble: str = ""
    reply: ReplyFigures = ReplyFigures()

    def part(self, name: str) -> Mapping[str, Any]:
        """`node` or `cost`, where the API tells it."""
        found = self.health.get(name)
        return found if isinstance(found, Mapping) else {}

    def number(self, part: str, name: str) -> float | None:
        """A number in it."""
        found = self.part(part).get(name)
        return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else None


@dataclass(frozen=True)
class _Part:
    """A part of the line. Where there is no room for all of them, those of the highest `rank` go first."""

    text: str
    rank: int = 0


def bottom_line(env: str, known: Known, now: float, width: int = 1_000) -> str:
    """The line for so many columns, its groups with a bar between them."""
    groups = [
        [_Part(env), *_node(known, now), *_queue(known)],
        _reply(known.reply),
        _cost(known),
        [_Part(known.trouble)] if known.trouble else [],
    ]
    ranks = sorted({part.rank for group in groups for part in group}, reverse=True)
    line = _joined(groups, ranks[0])
    for rank in ranks[1:]:
        if len(line) <= width:
            break
        line = _joined(groups, rank)
    return line


def _joined(groups: list[list[_Part]], rank: int) -> str:
    kept = [[part.text for part in group if part.rank <= rank] for group in groups]
    return " │ ".join(" · ".join(group) for group in kept if group)


def _node(known: Known, now: float) -> list[_Part]:
    node, passed = known.part("node"), now - known.at
    told = " ".join(str(node[name]) for name in ("type", "state") if node.get(name))
    parts = [_Part(told)] if told else _sign_of_life(known, passed)
    if (eta := known.number("node", "eta_s")) is not None and eta > passed:
        parts.append(_Part(f"ready in {span(eta - passed)}"))
    if (stops := known.number("node", "stops_in_s")) is not None:
        parts.append(_Part(f"stops in {span(max(0.0, stops - passed))}"))
    return parts


def _sign_of_life(known: Known, passed: float) -> list[_Part]:
    """All that an API tells which doesn't know the node's state: when its worker was last heard of."""
    age = known.health.get("heartbeat_age_s")
    if not isinstance(age, (int, float)):
        return []
    if age + passed <= wire.HEARTBEAT_FRESH_S * 2:
        return [_Part("node awake")]
    return [_Part(f"node last seen {span(age + passed)} ago")]


def _queue(known: Known) -> list[_Part]:
    depth = known.health.get("depth")
    return [_Part(f"queue {depth}", 3)] if isinstance(depth, int) else []


def _reply(reply: ReplyFigures) -> list[_Part]:
    parts = []
    if reply.tokens_per_second:
        parts.append(_Part(f"{reply.tokens_per_second:.0f} tokens/s", 4))
    if reply.first_s is not None:
        parts.append(_Part(f"first {reply.first_s:.1f} s", 5))
    if reply.eur is not None:
        parts.append(_Part(euros(reply.eur), 2))
    return parts


def _cost(known: Known) -> list[_Part]:
    names = {"today_eur": "today", "month_eur": "month"}
    told = {label: known.number("cost", name) for name, label in names.items()}
    parts = [
        _Part(f"{label} {euros(amount)}", rank)
        for rank, (label, amount) in enumerate(told.items())
        if amount is not None
    ]
    if parts and (limit := known.number("cost", "limit_eur")) is not None:
        parts.append(_Part(f"limit {euros(limit)}", 6))
    return parts


def euros(amount: float) -> str:
    """Cents for what is worth one, more digits for less."""
    if 0 < amount < 0.00001:
        return "<€0.00001"
    return f"€{amount:.2f}" if abs(amount) >= 0.01 or not amount else f"€{amount:.5f}"


def span(seconds: float) -> str:
    """A time to come or gone, as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


class Watch:
    """Looks at the API in a thread of its own and keeps what is known.

    Args:
        look: asks the API; raises what it likes, which is told in the line.
        changed: called after each look.
    """

    def __init__(self, look: Callable[[], Mapping[str, Any]], changed: Callable[[], None]) -> None:
        self._look = look
        self._changed = changed
        self._known = Known()
        self._soon = threading.Event()
        self._over = threading.Event()
        self._busy = False
        self._typed_at = time.monotonic()

    @property
    def known(self) -> Known:
        return self._known

    def start(self) -> None:
        """Begins to look."""
        threading.Thread(target=self._run, name="bottom line", daemon=True).start()

    def busy(self, busy: bool) -> None:
        """Something is awaited, or not any more: looks at once, and more often while it is."""
        self._busy, self._typed_at = busy, time.monotonic()
        self._soon.set()

    def replied(self, figures: ReplyFigures) -> None:
        """A reply has come."""
        self._known = replace(self._known, reply=figures)

    def close(self) -> None:
        """Looks no more."""
        self._over.set()
        self._soon.set()

    def _run(self) -> None:
        while not self._over.is_set():
            self._soon.clear()
            self.look_once()
            self._changed()
            self._over.wait(LOOK_LEAST_S)
            idle = time.monotonic() - self._typed_at > IDLE_AFTER_S
            self._soon.wait(LOOK_BUSY_S if self._busy else LOOK_IDLE_S if idle else LOOK_S)

    def look_once(self) -> None:
        """One look; what went wrong is kept as a word beside what was known before."""
        try:
            health = self._look()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the line
            self._known = replace(self._known, trouble=_trouble(error))
            return
        self._known = replace(self._known, health=health, at=time.monotonic(), trouble="")


def _trouble(error: Exception) -> str:
    from aistratus.client.errors import ApiUnreachable, SignInError

    if isinstance(error, ApiUnreachable):
        return "no connection"
    return "signed out" if isinstance(error, SignInError) else "state unknown"
