"""The idle limit: minutes without a job after which the node switches itself off.

The setting `node.idle_minutes` reaches the node in its manifest at its next boot. A limit that is set here goes into
the jobs table, which the worker reads three times a minute and the guard at each run, without further permissions and
without Parameter Store's limit of 40 reads a second.
"""

from __future__ import annotations

import time

from aistratus import wire
from aistratus.cloud import Cloud
from aistratus.core.errors import Absent, error_code
from aistratus.node.lifecycle import BUILD_IT
from aistratus.node.resize import table_item


def read(aws: Cloud) -> int | None:
    """Minutes, as set last by the command; `None` if the setting holds."""
    return wire.idle_minutes(table_item(aws, wire.IDLE_PK))


def write(aws: Cloud, minutes: int, *, by: str) -> None:
    """Sets it; a node that runs goes by it within a minute.

    Raises:
        Absent: there is no table for it.
    """
    values = {":minutes": minutes, ":by": by, ":now": int(time.time() * 1000)}
    try:
        aws.dynamodb.update_item(
            TableName=aws.name("jobs"),
            Key=wire.pack({"pk": wire.IDLE_PK}),
            UpdateExpression="SET #minutes = :minutes, #by = :by, #at = :now",
            ExpressionAttributeNames={"#minutes": "minutes", "#by": "by", "#at": "at_ms"},
            ExpressionAttributeValues=wire.pack(values),
        )
    except Exception as error:
        if error_code(error) == "ResourceNotFoundException":
            raise Absent(f"env {aws.env!r} isn't up", todo=BUILD_IT) from error
        raise
