"""The rate limit per user: a counter for each user and minute in the jobs table."""

from __future__ import annotations

from dataclasses import dataclass

from aistratus import wire
from aistratus.router.clock import Clock, Deadline
from aistratus.router.problems import rate_limited
from aistratus.router.table import Table

_KEPT_S = 120
"""A counter means nothing after its minute."""


@dataclass(frozen=True)
class RateLimit:
    """At most `per_minute` prompts of one user in one minute by the clock."""

    table: Table
    clock: Clock
    per_minute: int

    def count(self, owner: str, deadline: Deadline) -> None:
        """Counts one request.

        Raises:
            Problem: 429 with the seconds until the next minute.
        """
        now = int(self.clock.now())
        minute, second = divmod(now, 60)
        if self.table.count(wire.rate_pk(owner, minute), now + _KEPT_S, deadline) > self.per_minute:
            raise rate_limited(f"At most {self.per_minute} prompts a minute are answered for you.", 60 - second)
