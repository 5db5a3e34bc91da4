"""The worker as a witness: once a minute it writes into the power record that its machine runs.

Where nobody records that a machine stopped (a failure, the console), what it cost is counted to its last sign of life.
The heartbeat can't be that: it is taken away when the worker stops. A worker that switches its machine off says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from aistratus.wire import SEEN, STOP, WITNESS_EVERY_S, WORKER, Sign
from aistratus.worker.clients import CONDITION_FAILED, Clients, error_code
from aistratus.worker.log import Log
from aistratus.worker.settings import Settings


class Witness:
    """Leaves the signs of one worker. A sign that can't be left is one less, and no reason to stop anything.

    Args:
        busy_ms: for how long the worker has worked on jobs since it began.
    """

    def __init__(self, clients: Clients, settings: Settings, busy_ms: Callable[[], int], log: Log) -> None:
        self._clients = clients
        self._busy_ms = busy_ms
        self._settings = settings
        self._log = log
        self._since_ms: int | None = None
        self._due = 0.0
        self._failing = False

    def look(self) -> None:
        """Says that the machine runs, if that wasn't said within the last minute."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + WITNESS_EVERY_S
            self._leave(self._clients.dynamodb)

    def farewell(self) -> None:
        """The last sign of life, with as little patience as the end of a process allows."""
        self._leave(self._clients.last_dynamodb)

    def off(self) -> None:
        """Says that the machine is being switched off, by nobody but this worker."""
        now = self._clients.time.now_ms()
        self._write(self._clients.last_dynamodb, self._sign(STOP, now, now))

    def _leave(self, dynamodb: Any) -> None:
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
            if error_code(error) != CONDITION_FAILED and not self._failing:  # an outage once, not every minute
                self._log.event("witness_failed", code=error_code(error))
                self._failing = True
