"""Estimates how long the node takes to become ready, from its latest boots.

`started` records that a boot begins; the worker records when it was ready (`worker/boots.py`).
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

from aistratus import wire
from aistratus.cloud import Cloud

KEPT_S: Final = 3_600
"""The note's time to live, as the router gives it (`router/wake.py`); it is read until the boot is over."""


def started(aws: Cloud, type_: str) -> None:
    """Notes the moment of a start; without the note this boot teaches nothing."""
    now = time.time()
    values = {":now": int(now * 1000), ":type": type_, ":end": int(now) + KEPT_S}
    with suppress(Exception):  # no table, no permission, no network: the start counts, not its note
        aws.dynamodb.update_item(
            TableName=aws.name("jobs"),
            Key=wire.pack({"pk": wire.WAKE_PK}),
            UpdateExpression="SET started_ms = :now, #type = :type, expires_at = :end",
            ExpressionAttributeNames={"#type": "type"},
            ExpressionAttributeValues=wire.pack(values),
        )


def eta_s(aws: Cloud, type_: str, up_s: float) -> int:
    """Seconds until a node that was started `up_s` seconds ago is ready; at least one."""
    from aistratus.node.resize import table_item

    told = table_item(aws, wire.BOOTS_PK).get("boots", [])
    return max(1, round(wire.boot_s(told if isinstance(told, list) else [], type_) - up_s))
