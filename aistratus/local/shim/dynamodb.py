"""DynamoDB: items past their time to live disappear, some time later, as they do on AWS.

AWS promises days, not seconds, and readers have to treat an expired item as gone themselves. Sweeping once a
minute keeps the table small without hiding a reader that forgets this.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from moto.dynamodb.models import dynamodb_backends

from aistratus.local.shim.cloud import Cloud

SWEEP_EVERY_S: Final = 60.0
OLDEST_S: Final = 5 * 365 * 86_400
"""DynamoDB leaves items alone whose time is more than five years past: it takes them for something else."""


def patch(cloud: Cloud) -> None:
    def keep_sweeping() -> None:
        pause = threading.Event()
        while not pause.wait(SWEEP_EVERY_S):
            with cloud.locks.of("dynamodb"):
                sweep(time.time())

    threading.Thread(target=keep_sweeping, daemon=True, name="dynamodb-ttl").start()


def sweep(now: float) -> int:
    """Deletes what had expired at `now` (seconds since the epoch) from every table; gives back how many."""
    tables = [
        table
        for regions in dynamodb_backends.values()
        for backend in list(regions.values())
        for table in backend.tables.values()
    ]
    return sum(_sweep_table(table, now) for table in tables)


def _sweep_table(table: Any, now: float) -> int:
    if table.ttl.get("TimeToLiveStatus") != "ENABLED":
        return 0
    name = table.ttl["AttributeName"]
    over = [item for item in table.all_items() if _expired(item, name, now)]
    for item in over:
        table.delete_item(item.hash_key, item.range_key)
    return len(over)


def _expired(item: Any, name: str, now: float) -> bool:
    value = item.attrs.get(name)
    if value is None or value.type != "N":
        return False
    return bool(now - OLDEST_S < float(value.value) < now)
