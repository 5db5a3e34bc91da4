"""Records how long a boot took, once the worker is ready; the next boot is estimated from it.

The wake item (`wire.WAKE_PK`) holds the time at which the start was requested. A machine that was started in the AWS
console has no such time, and isn't recorded. Only the first worker of a boot records it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from aistratus import wire
from aistratus.worker.clients import Clients, error_code
from aistratus.worker.log import Log
from aistratus.worker.settings import Settings

LONGEST_MS: Final = 900_000
"""A start that was requested longer ago doesn't belong to this boot."""


def stages(asked_ms: int, began_ms: int, ready_ms: int, type_: str) -> dict[str, Any] | None:
    """The record of a boot; `None` where these times can't belong to one boot.

    Args:
        asked_ms: when the machine was told to start.
        began_ms: when its worker began.
        ready_ms: when the model was loaded.
    """
    if not asked_ms <= began_ms <= ready_ms or began_ms - asked_ms > LONGEST_MS:
        return None
    seconds = {"machine_s": began_ms - asked_ms, "model_s": ready_ms - began_ms, "total_s": ready_ms - asked_ms}
    return {"type": type_, "at_ms": ready_ms, **{name: round(ms / 1000, 1) for name, ms in seconds.items()}}


class Boots:
    """Records this boot, once."""

    def __init__(self, clients: Clients, settings: Settings, log: Log, *, first: bool) -> None:
        self._clients, self._settings, self._log, self._first = clients, settings, log, first
        self._began_ms = clients.time.now_ms()

    def record(self, ready: Callable[[], bool]) -> None:
        """Waits until the model is ready and then adds this boot to the latest ones; meant for a thread of its own."""
        if not self._first or not ready():
            return
        try:
            self._write(self._clients.time.now_ms())
        except (BotoCoreError, ClientError) as error:  # an estimate isn't worth a second try
            self._log.event("boot_not_recorded", code=error_code(error))

    def _write(self, now_ms: int) -> None:
        boot = stages(
            int(self._item(wire.WAKE_PK).get("started_ms", 0)), self._began_ms, now_ms, self._settings.instance_type
        )
        if boot is None:
            return
        before = self._item(wire.BOOTS_PK).get("boots", [])
        latest = [*(before if isinstance(before, list) else []), boot][-wire.BOOTS_KEPT :]
        item = wire.pack({"pk": wire.BOOTS_PK, "boots": latest})
        self._clients.dynamodb.put_item(TableName=self._settings.jobs_table, Item=item)
        self._log.event("boot_recorded", **boot)

    def _item(self, pk: str) -> dict[str, Any]:
        place = {"TableName": self._settings.jobs_table, "Key": wire.pack({"pk": pk})}
        return wire.unpack(self._clients.dynamodb.get_item(**place).get("Item", {}))
