"""Decides when the node's machine switches itself off: the first guard against a forgotten machine.

The decision uses this machine's clock only and is carried out by the operating system (`wire.POWER_OFF`), so that it
works when AWS, the role or the network don't. Its state is kept in the worker's folder, so that a worker that keeps
dying doesn't restart the count.

Before switching off, the worker deletes its heartbeat and polls the queue once more, for longer than a request to the
router may last. A client that was told that the node is awake has then sent its prompt, which is answered; a later one
finds no heartbeat, and wakes the node.

The limit is in the manifest, and can be changed at any time by an item of the jobs table (`wire.IDLE_PK`), which is
read three times a minute. A limit that can't be read or is out of bounds is ignored: there is always a limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from aistratus import wire
from aistratus.worker.clients import Clients
from aistratus.worker.keeper import LOAD_LIMIT_S
from aistratus.worker.log import Log

LOOK_EVERY_S: Final = 0.5
READ_EVERY_S: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds without a job, and seconds altogether, after which the machine is switched off."""

    idle_s: float
    run_s: float


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What has happened since the machine was switched on, in seconds of its monotonic clock.

    began: the first worker's start.
    active: the end of the latest job, or the time when the model became ready.
    busy: whether a job is running.
    loading: whether no model is loaded yet.
    """

    began: float
    active: float
    busy: bool = False
    loading: bool = False


def left_s(now: float, activity: Activity, limits: Limits) -> float:
    """Seconds until the machine is to be switched off; negative when that is due.

    A running job is finished first. The time to load a model is added, because no job can run before.
    """
    run = activity.began + limits.run_s - now
    if activity.busy:
        return run
    loading_s = LOAD_LIMIT_S if activity.loading else 0.0
    return min(run, activity.active + limits.idle_s + loading_s - now)


def has_run_long_enough(now: float, activity: Activity, limits: Limits) -> bool:
    """Whether the limit on the whole running time is reached; then a new prompt doesn't keep the machine on."""
    return now - activity.began >= limits.run_s


class Notes(Protocol):
    """Keeps `began` and `active` across restarts of the worker, until the machine's next boot."""

    def recall(self) -> tuple[float, float] | None: ...
    def note(self, began: float, active: float) -> None: ...


class Power:
    """Watches the limits in a thread of its own.

    Args:
        clients: for reading the limit.
        table: the jobs table.
        limits: the manifest's.
        look: returns whether a job is running, and whether the model is being loaded.
        leave: called when the machine is about to be switched off.
        stay: called when a prompt has come after `leave`.
        off: called to switch off; the watch then ends.
        last_look_s: seconds between `leave` and `off`.

    Attributes:
        closed: set when no other job is to be taken.
    """

    def __init__(
        self,
        *,
        clients: Clients,
        table: str,
        limits: Limits,
        notes: Notes,
        look: Callable[[], tuple[bool, bool]],
        leave: Callable[[], None],
        stay: Callable[[], None],
        off: Callable[[], None],
        log: Log,
        last_look_s: float,
    ) -> None:
        self._clients, self._table, self._given, self._limits = clients, table, limits, limits
        self._notes, self._look, self._log, self._last_look_s = notes, look, log, last_look_s
        self._leave, self._stay, self._off = leave, stay, off
        self._worked = 0.0
        now = time.monotonic()
        began, active = notes.recall() or (now, now)
        self._activity = Activity(began=min(began, now), active=min(active, now), loading=True)
        self._ended = threading.Event()
        self.closed = threading.Event()

    def start(self) -> None:
        """Starts watching, and reading the limit."""
        self._notes.note(self._activity.began, self._activity.active)
        for work in (self._watch, self._read_limit):
            threading.Thread(target=work, name=f"power{work.__name__}", daemon=True).start()

    def end(self) -> None:
        """Stops watching, because the worker stops for another reason."""
        self._ended.set()

    def worked(self) -> None:
        """To be called when a job has ended: one may start and end between two looks."""
        self._worked = time.monotonic()

    def report(self) -> dict[str, int | None]:
        """For the heartbeat: seconds without a job, since the worker's first start, and until power-off.

        As of now, not of the last look: a model that is ready is reported at once. While a job runs, the time until
        power-off is the earliest possible one, as if the job ended now; while a model loads, it isn't known.
        """
        now, (busy, loading) = time.monotonic(), self._look()
        before = self._activity
        fresh = busy or (before.loading and not loading)
        active = now if fresh else max(before.active, min(self._worked, now))
        activity = replace(before, active=active, busy=False, loading=loading)
        left = left_s(now, activity, self._limits)
        return {
            "idle_s": 0 if busy else int(now - activity.active),
            "up_s": int(now - activity.began),
            "stops_in_s": None if loading else max(0, int(left)),
        }

    def _watch(self) -> None:
        leaving: float | None = None
        while not self._ended.wait(LOOK_EVERY_S):
            self._see()
            now = time.monotonic()
            due = left_s(now, self._activity, self._limits) <= 0
            over = has_run_long_enough(now, self._activity, self._limits)
            if leaving is None and due:
                leaving = now
                self._log.event("power_off_soon", **self._why())
                self._leave()
            elif leaving is not None and not due and not over:
                leaving = None
                self._log.event("power_stays_on")
                self._stay()
            elif leaving is not None and now - leaving >= self._last_look_s:
                self.closed.set()
                if self._activity.busy:
                    continue  # the running job is finished first, and no other is taken
                self._log.event("power_off", **self._why())
                self._ended.set()
                self._off()

    def _see(self) -> None:
        before = self._activity
        busy, loading = self._look()
        now, active = time.monotonic(), max(before.active, min(self._worked, time.monotonic()))
        if busy or (before.loading and not loading):
            active = now
        self._activity = replace(before, active=active, busy=busy, loading=loading)
        if active > before.active and not (busy and before.busy):
            self._notes.note(before.began, active)

    def _why(self) -> dict[str, int]:
        now = time.monotonic()
        return {
            "idle_s": int(now - self._activity.active),
            "idle_limit_s": int(self._limits.idle_s),
            "up_s": int(now - self._activity.began),
            "up_limit_s": int(self._limits.run_s),
        }

    def _read_limit(self) -> None:
        while True:
            try:
                answer = self._clients.dynamodb.get_item(TableName=self._table, Key=wire.pack({"pk": wire.IDLE_PK}))
                self._set(wire.idle_minutes(wire.unpack(answer.get("Item", {}))))
            except (BotoCoreError, ClientError):
                pass  # the last known limit holds; the heartbeat's failure logs the outage
            if self._ended.wait(READ_EVERY_S):
                return

    def _set(self, minutes: int | None) -> None:
        idle_s = self._given.idle_s if minutes is None else minutes * 60.0
        if idle_s != self._limits.idle_s:
            self._log.event("idle_limit", minutes=idle_s / 60)
        self._limits = replace(self._limits, idle_s=idle_s)
