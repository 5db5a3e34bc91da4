"""The heartbeat item, by which the router knows that a worker is awake without asking EC2.

It is written every few seconds by a thread of its own, so that neither a slow model nor a stuck queue makes the worker
look dead, and at once when the model becomes ready or can't be loaded. A worker that stops deletes it, so that the next
prompt wakes the node without waiting for the item to grow stale.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from aistratus import __version__
from aistratus.wire import HEARTBEAT_EVERY_S, HEARTBEAT_PK, pack
from aistratus.worker.clients import CONDITION_FAILED, Clients, error_code
from aistratus.worker.log import Log
from aistratus.worker.power_record import PowerRecorder
from aistratus.worker.settings import Settings

KEPT_S: Final = 3_600
"""How long a heartbeat that wasn't deleted stays readable, as "last seen"."""

WATCH_EVERY_S: Final = 0.25
"""How soon it is reported that the model became ready or can't be loaded."""


class Heartbeat:
    """Writes the item.

    Args:
        report: the item's contents: `state`, `tokens_per_second`, `busy_ms` (since the worker started), idle time and
            time until power-off (`Power.report`), GPU (`Gpu.report`), model (`Models.report`), and a `reason` if the
            model can't be loaded.
    """

    def __init__(self, clients: Clients, settings: Settings, report: Callable[[], Mapping[str, Any]], log: Log) -> None:
        self._clients = clients
        self._settings = settings
        self._report = report
        self._log = log
        self.power_record = PowerRecorder(clients, settings, lambda: int(report().get("busy_ms", 0)), log)
        self._ended, self._paused = threading.Event(), threading.Event()
        self._writing = threading.Lock()
        self._failing = False
        self._thread = threading.Thread(target=self._beat_until_ended, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def pause(self) -> None:
        """Deletes the item, and writes none until `resume`."""
        self._paused.set()
        self._delete()

    def resume(self) -> None:
        """Writes it again, at once."""
        self._paused.clear()

    def remove(self) -> None:
        """Stops writing and deletes the item, if it is still this worker's."""
        self._ended.set()
        self._delete()

    def _delete(self) -> None:
        held = self._writing.acquire(timeout=0.5)  # a write in progress would bring the item back
        try:
            self._clients.last_dynamodb.delete_item(
                TableName=self._settings.jobs_table,
                Key=pack({"pk": HEARTBEAT_PK}),
                ConditionExpression="instance_id = :mine",
                ExpressionAttributeValues=pack({":mine": self._settings.instance_id}),
            )
        except (BotoCoreError, ClientError) as error:
            if error_code(error) != CONDITION_FAILED:
                self._log.event("heartbeat_stays", code=error_code(error))
        finally:
            if held:
                self._writing.release()
            self.power_record.record_last()

    def _beat_until_ended(self) -> None:
        told: tuple[Any, ...] | None = None
        due = 0.0
        while not self._ended.is_set():
            report = self._report()
            news = (report["state"] == "loading", report.get("reason"), report.get("gpu_trouble"))
            if self._paused.is_set():
                told = None
            elif time.monotonic() >= due or news != told:
                self._beat(report)
                told, due = news, time.monotonic() + HEARTBEAT_EVERY_S
            self._ended.wait(WATCH_EVERY_S)

    def _beat(self, report: Mapping[str, Any]) -> None:
        now_s = self._clients.time.now_s()
        item = {
            "pk": HEARTBEAT_PK,
            "at_ms": int(now_s * 1000),
            "instance_id": self._settings.instance_id,
            "type": self._settings.instance_type or None,
            "worker_version": __version__,
            "expires_at": int(now_s) + KEPT_S,
            **report,
        }
        with self._writing:
            if self._ended.is_set() or self._paused.is_set():
                return
            try:
                self._clients.dynamodb.put_item(TableName=self._settings.jobs_table, Item=pack(item))
                self._failing = False
                self.power_record.record_if_due()
            except (BotoCoreError, ClientError) as error:
                if not self._failing:  # once per outage, not every five seconds
                    self._log.event("heartbeat_failed", code=error_code(error))
                self._failing = True
