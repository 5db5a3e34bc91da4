"""The worker's entries in the power record: once a minute, that its machine runs.

Where nothing records that a machine stopped (a failure, the AWS console), its cost is counted up to the last entry. The
heartbeat can't serve for that, because it is deleted when the worker stops. A worker that switches its machine off
records that too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from aistratus.wire import SEEN, SEEN_EVERY_S, STOP, WORKER, Sign
from aistratus.worker.clients import CONDITION_FAILED, Clients, error_code
from aistratus.worker.log import Log
from aistratus.worker.settings import Settings


class PowerRecorder:
    """Writes one worker's signs. A failed write is logged and otherwise ignored.

    Args:
        busy_ms: returns how long the worker has worked on jobs since it started.
    """

    def __init__(self, clients: Clients, settings: Settings, busy_ms: Callable[[], int], log: Log) -> None:
        self._clients = clients
        self._busy_ms = busy_ms
        self._settings = settings
        self._log = log
        self._since_ms: int | None = None
        self._due = 0.0
        self._failing = False

    def record_if_due(self) -> None:
        """Records that the machine runs, if that wasn't done within the last minute."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + SEEN_EVERY_S
            self._record_seen(self._clients.dynamodb)

    def record_last(self) -> None:
        """Records that the machine still runs, with the short time-outs for the end of the process."""
        self._record_seen(self._clients.last_dynamodb)

    def record_stop(self) -> None:
        """Records that this worker switches the machine off."""
        now = self._clients.time.now_ms()
        self._write(self._clients.last_dynamodb, self._sign(STOP, now, now))

    def _record_seen(self, dynamodb: Any) -> None:
        now = self._clients.time.now_ms()
        if self._since_ms is None:
            self._since_ms = now
        self._write(dynamodb, replace(self._sign(SEEN, self._since_ms, now), busy_ms=self._busy_ms()))

    def _sign(self, verb: str, since_ms: int, now_ms: int) -> Sign:
        settings = self._settings
        return Sign(
            verb=verb,
            instance=settings.instance_id,
            since_ms=since_ms,
            at_ms=now_ms,
            type=settings.instance_type,
            by=WORKER,
        )

    def _write(self, dynamodb: Any, sign: Sign) -> None:
        try:
            dynamodb.update_item(TableName=self._settings.jobs_table, **sign.update())
            self._failing = False
        except (BotoCoreError, ClientError) as error:
            if error_code(error) != CONDITION_FAILED and not self._failing:  # once per outage, not every minute
                self._log.event("witness_failed", code=error_code(error))
                self._failing = True
