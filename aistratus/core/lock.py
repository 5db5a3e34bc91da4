"""The lock of an env: one command at a time changes it.

The lock is a parameter in the ledger's store, a lease with an expiry. Acquiring it is one write that fails if the
parameter exists. Parameters have no conditional overwrite for taking over from a dead owner, so whoever does that first
creates a claim to exactly the version that was read. The expiry shows that an owner on another machine has died; a live
owner renews its lease, with a claim as well.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from aistratus.core.errors import Locked
from aistratus.core.ledger import Ledger, Parameter

LOCK = "lock"
CLAIM_S = 60.0
"""Seconds after which a claim, which lasts for two calls, counts as left by a dead process."""


@dataclass(frozen=True)
class Holder:
    """Who holds the lock. Times are seconds since the epoch."""

    command: str
    user: str
    host: str
    pid: int
    pid_started: float
    since: float
    expires: float
    nonce: str = ""

    def describe(self, now: float) -> str:
        """For messages: command, user, machine, and since when."""
        minutes = int(max(0.0, now - self.since) // 60)
        age = "less than a minute ago" if minutes == 0 else f"{minutes} min ago"
        return f"`{self.command}` of {self.user}@{self.host} (process {self.pid}), started {age}"


class Lock:
    """One `up` or `down` at a time per env.

    Args:
        ledger: where it is kept.
        me: who takes it (`nonce` is filled in here).
        now: seconds since the epoch.
        is_dead: whether a holder's process is known to have ended (only decidable on its own machine).
    """

    def __init__(
        self,
        ledger: Ledger,
        me: Holder,
        *,
        now: Callable[[], float],
        is_dead: Callable[[Holder], bool],
        name: str = LOCK,
    ) -> None:
        self._ledger = ledger
        self._me = replace(me, nonce=secrets.token_hex(8))
        self._now = now
        self._is_dead = is_dead
        self._key = name
        self._name = ledger.name(name)

    def take(self, *, steal: bool = False) -> str:
        """Acquires the lock. Returns a sentence if it was taken over from another owner, else an empty string.

        Raises:
            Locked: somebody else holds it.
        """
        store, mine = self._ledger.store, json.dumps(asdict(self._me))
        for _ in range(3):
            if store.create(self._name, mine, key=LOCK):
                return ""
            held = store.get([self._name]).get(self._name)
            if held is None:
                continue  # released between the two calls
            holder = _holder(held.value)
            if holder is not None and holder.nonce == self._me.nonce:
                return ""  # our own write, whose answer was lost
            why = self._why_free(holder, steal=steal)
            if not why:
                raise self._refusal(holder)
            if self._take_over(held, mine):
                return why
        raise Locked("the lock changes hands all the time", todo="try again in a minute")

    def _take_over(self, held: Parameter, mine: str) -> bool:
        """Overwrites the lock if it is still what was read; returns false if another process was faster.

        Of all who read this version one creates the claim to it, and only that one writes: an overwritten text is never
        that of a living owner. The claim is a small lock of its own: left by a dead process, it is taken over too.

        Raises:
            Locked: somebody else is taking it over just now.
        """
        now = self._now()
        me = replace(self._me, since=now, expires=now + CLAIM_S)
        claim = Lock(self._ledger, me, now=self._now, is_dead=self._is_dead, name=f"{self._key}.{held.version}")
        claim.take()
        try:
            if self._ledger.store.get([self._name]).get(self._name) != held:
                return False
            self._ledger.store.overwrite(self._name, mine)
            return True
        finally:
            claim.release()

    def renew(self, lasts: float) -> str:
        """Extends the lease to `lasts` seconds from now. Returns a sentence if the lock is no longer ours.

        Our text is overwritten as a dead owner's would be: of a renewal and a take-over that meet one has the claim,
        and the other one sees what that wrote.

        Raises:
            Locked: somebody is about to take it over, which the next look will show.
        """
        for _ in range(3):
            held = self._ledger.store.get([self._name]).get(self._name)
            holder = _holder(held.value) if held else None
            if held is None:
                return "the lock of this env was removed, and no command holds it now"
            if holder is None:
                return "the lock of this env was overwritten, and holds no readable owner now"
            if holder.nonce != self._me.nonce:
                return f"the lock of this env was taken over by {holder.describe(self._now())}"
            later = replace(self._me, expires=self._now() + lasts)
            if self._take_over(held, json.dumps(asdict(later))):
                self._me = later
                return ""
        raise Locked("the lock changes hands all the time", todo="try again in a minute")

    def keep(self, *, every: float, lasts: float, ended: Callable[[float], bool]) -> str:
        """Renews the lease until the lock is to be released. Returns a sentence once it is lost, else an empty string.

        A renewal that fails is tried again as long as the lock lasts.

        Args:
            every: seconds between two renewals.
            lasts: seconds for which each one holds.
            ended: waits so many seconds, and says whether the lock is to be given back.
        """
        while not ended(every):
            try:
                if lost := self.renew(lasts):
                    return lost
            except Exception as error:  # noqa: BLE001 - told when it is too late for another try
                if self._now() >= self._me.expires:
                    return f"the lock of this env has expired, because it couldn't be renewed ({error})"
        return ""

    def check(self, *, steal: bool = False) -> str:
        """For a run with nothing to change, which needs no lock: removes an expired one.

        One call where there is none. Gives a sentence if there was one.

        Raises:
            Locked: somebody holds it, so that what this run saw may be about to change.
        """
        if not self._ledger.store.get([self._name]):
            return ""
        told = self.take(steal=steal)
        self.release()
        return told

    def release(self) -> None:
        """Releases the lock, if it is still ours."""
        held = self._ledger.store.get([self._name]).get(self._name)
        holder = _holder(held.value) if held else None
        if holder is not None and holder.nonce == self._me.nonce:
            self._ledger.store.delete([self._name])

    def _why_free(self, holder: Holder | None, *, steal: bool) -> str:
        if holder is None:
            return "the lock held no readable owner and was taken over"
        told = holder.describe(self._now())
        if steal:
            return f"the lock was taken over from {told}"
        if self._is_dead(holder):
            return f"a lock was left by {told}, whose process has ended; it was taken over"
        if holder.expires < self._now():
            return f"a lock was left by {told} and had expired; it was taken over"
        return ""

    def _refusal(self, holder: Holder | None) -> Locked:
        told = holder.describe(self._now()) if holder else "somebody"
        return Locked(
            f"this env is being changed by {told}",
            todo="wait for it to end, or take over with --steal-lock if you know that it has died",
        )


def _holder(value: str) -> Holder | None:
    try:
        return Holder(**json.loads(value))
    except (ValueError, TypeError):
        return None
