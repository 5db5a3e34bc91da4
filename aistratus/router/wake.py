"""Decides whether the node is awake, and who starts it when it isn't.

The worker writes a heartbeat into the jobs table. While that is fresh, a request makes no EC2 call at all. When it
isn't, the first request to claim the wake item starts the node (`node_start.py`), and every other request within
`wire.WAKE_AGAIN_S` reads the outcome from that item.

A prompt is queued only after its node was woken, because nothing is queued for a node that can't start. So waking may
use only the time that a request can spare. Where AWS doesn't answer in that time, the prompt is accepted all the same:
the claim is released, and whoever polls for the queued job tries again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aistratus import wire
from aistratus.router import log
from aistratus.router.aws import AwsError
from aistratus.router.clock import Clock, Deadline
from aistratus.router.ec2 import Undecided
from aistratus.router.node_start import Starter
from aistratus.router.node_state import ASLEEP, READY, STARTING, UNAVAILABLE, Node
from aistratus.router.table import ConditionFailed, Table

WAKE_KEPT_S: Final = 3_600
"""The wake item's time to live; it is only read for `wire.WAKE_AGAIN_S`."""

LONGEST_RETRY_S: Final = 3_600
"""The longest `Retry-After`, however long the budget stays exhausted: somebody may raise it."""

WAKE_SOON_S: Final = 1
"""Pause after a released claim before the next attempt: throttled calls must not pile up."""

RELEASE_S: Final = 1.0
"""Time limit for releasing a claim."""


@dataclass(frozen=True)
class Waker:
    """Knows whether the node is awake, and has it started when it isn't.

    Args:
        kill_usd: the budget's limit as it is now, in US dollars.
    """

    table: Table
    clock: Clock
    starter: Starter
    kill_usd: float

    def ensure_awake(self, deadline: Deadline) -> Node:
        """The node's state, after starting it if it sleeps and nobody else has just tried.

        Raises:
            AwsError: the jobs table can't be reached.
        """
        node = self._by_heartbeat(deadline) or self._by_budget(deadline)
        if node is not None:
            return node
        earlier = self._claim(deadline)
        if earlier is not None:
            return earlier
        try:
            node = self.starter.start(deadline)
        except Undecided as reason:
            log.write(level="error", event="wake", error=str(reason))
            self._release(str(reason), deadline)
            return Node(STARTING)
        if node.state != STARTING:  # which the claim has written already
            values = {"state": node.state, "reason": node.reason}
            self.table.update(wire.WAKE_PK, deadline, values=values)
        return node

    def look(self, deadline: Deadline) -> Node:
        """The node's state as the jobs table has it. Starts nothing and makes no other call.

        Raises:
            AwsError: the jobs table can't be reached.
        """
        beat = self.table.get(wire.HEARTBEAT_PK, deadline)
        if beat is not None and self._is_fresh(beat, wire.HEARTBEAT_FRESH_S):
            state = STARTING if beat.get("state") == "loading" else READY
            return Node(state, str(beat.get("reason") or ""))
        attempt = self.table.get(wire.WAKE_PK, deadline)
        if attempt is not None and self._is_fresh(attempt, wire.WAKE_AGAIN_S):
            return Node(attempt.get("state", STARTING), attempt.get("reason", ""))
        return Node(ASLEEP)

    def _is_fresh(self, item: Mapping[str, Any], seconds: float) -> bool:
        return self.clock.ms() - int(item.get("at_ms", 0)) <= seconds * 1000

    def _by_heartbeat(self, deadline: Deadline) -> Node | None:
        beat = self.table.get(wire.HEARTBEAT_PK, deadline)
        if beat is None or not self._is_fresh(beat, wire.HEARTBEAT_FRESH_S):
            return None
        return Node(STARTING if beat.get("state") == "loading" else READY)

    def _by_budget(self, deadline: Deadline) -> Node | None:
        """What the budget's killer has stopped stays off until the month ends, or until its limit is raised."""
        mark = self.table.get(wire.BUDGET_PK, deadline)
        if mark is None or float(mark.get("limit_usd", self.kill_usd)) < self.kill_usd:
            return None
        ends = int(mark.get("expires_at", 0))
        until = time.strftime("%Y-%m-%d", time.gmtime(ends))
        left = ends - self.clock.ms() // 1000
        reason = (
            f"the budget's limit is reached, and it stays off until {until} (UTC), or until its operator runs "
            "`aistratus cost resume`, or raises budget.kill_eur and runs `aistratus up`"
        )
        return Node(UNAVAILABLE, reason, min(LONGEST_RETRY_S, max(wire.WAKE_AGAIN_S, left)))

    def _claim(self, deadline: Deadline) -> Node | None:
        """Claims the next attempt for this request, or returns the outcome of the one that another request claimed."""
        now = self.clock.ms()
        expires_at = now // 1000 + WAKE_KEPT_S
        try:
            self.table.update(
                wire.WAKE_PK,
                deadline,
                values={"at_ms": now, "state": STARTING, "reason": "", "expires_at": expires_at},
                # Without `at_ms` it is the note of a start by hand.
                condition="attribute_not_exists(#at_ms) OR #at_ms <= :before",
                operands={"before": now - wire.WAKE_AGAIN_S * 1000},
            )
        except ConditionFailed as taken:
            item = taken.item or {}
            state = item.get("state", STARTING)
            if state == ASLEEP:  # released a moment ago; the caller's next poll claims it
                return Node(STARTING)
            return Node(state, item.get("reason", ""))
        return None

    def _release(self, reason: str, deadline: Deadline) -> None:
        """Writes into the wake item that nothing was started, and lets the next attempt follow soon."""
        at_ms = self.clock.ms() - (wire.WAKE_AGAIN_S - WAKE_SOON_S) * 1000
        values = {"at_ms": at_ms, "state": ASLEEP, "reason": reason}
        try:
            self.table.update(wire.WAKE_PK, deadline.at_most(RELEASE_S), values=values)
        except AwsError as error:  # the claim then expires by itself, and the prompt matters more
            log.write(level="error", event="wake", error=str(error))
