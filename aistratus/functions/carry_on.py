"""Continues a pending change of the node's type (`router/pending_resize.py`) although no request comes.

No request to the API waits for the machine, so the change is recorded in the jobs table, and whoever looks next
continues it: a prompt, a poll, or the guard, which calls this every few minutes. The work itself is left to the router,
which has the permission for it and respects budget and capacity. A change that isn't carried out when it expires is
withdrawn: the node sleeps, and the next prompt wakes it with the type that it has.

A command that changes the type (`aistratus node resize`) carries out its own change. The item that it leaves when it
dies doesn't ask for a wake-up and waits for the next prompt, because sleeping costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from aistratus import wire

CONDITION_FAILED: Final = "ConditionalCheckFailedException"


def carry_on(
    note: Mapping[str, Any], *, dynamodb: Any, table: str, make_lambda: Callable[[], Any], router: str, at: float
) -> dict[str, Any] | None:
    """Has the router continue a pending change, or withdraws it when it has expired.

    Args:
        note: the item `wire.SHAPE_PK`; empty if there is none.
        make_lambda: makes Lambda's client; called only when there is something to do.
        router: ARN of the router's alias.
        at: now, in seconds since the epoch.

    Returns:
        What was done, for the log; `None` where there was nothing to do. A failure is retried at the next call.
    """
    if not note.get("type"):
        return None
    about = {"type": str(note["type"]), "by": str(note.get("by", ""))}
    try:
        if float(note.get("expires_at", 0)) <= at:
            _withdraw(dynamodb, table, at)
            return {"level": "warning", "event": "called_off", **about}
        if not note.get("wake"):
            return None
        answer = make_lambda().invoke(FunctionName=router, Payload=json.dumps(dict(wire.CARRY_ON)))
        said = json.loads(answer["Payload"].read())
        node = json.loads(said["body"]).get("node")
    except ClientError as error:
        if (code := error.response["Error"]["Code"]) == CONDITION_FAILED:  # another change was requested meanwhile
            return None
        return {"level": "error", "event": "not_carried_on", "error": code, **about}
    except (
        BotoCoreError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:  # an unhandled error in the router has no such body
        return {"level": "error", "event": "not_carried_on", "error": type(error).__name__, **about}
    return {"level": "info", "event": "carried_on", "node": node, **about}


def _withdraw(dynamodb: Any, table: str, at: float) -> None:
    dynamodb.update_item(
        TableName=table,
        Key=wire.pack({"pk": wire.SHAPE_PK}),
        UpdateExpression="SET #type = :none, #wake = :no",
        ConditionExpression="#end <= :now",
        ExpressionAttributeNames={"#type": "type", "#wake": "wake", "#end": "expires_at"},
        ExpressionAttributeValues=wire.pack({":none": "", ":no": False, ":now": int(at)}),
    )
