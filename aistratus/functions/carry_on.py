"""A change of the node's type that the API began, seen to its end although nobody looks at it again.

No request to the API waits for the machine, so the change is noted in the jobs table, and whoever comes next carries it
on: a prompt, a poll, or this function, which looks every few minutes. It asks the router to do it, which knows how, and
may: budget, capacity and quota are minded there. What hasn't come about when the note expires is called off: the node
sleeps, and the next prompt wakes it as it is.

A command that changes the type (`aistratus node resize`) sees to its own change; a note that it left when it died says
nothing of waking, and waits for the next prompt, as sleeping costs nothing.
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
    """Carries a noted change on, or calls it off when its time is over.

    Args:
        note: the item `wire.SHAPE_PK`; empty if there is none.
        make_lambda: gives Lambda's client; called only when there is something to do.
        router: ARN of the router's alias.
        at: now, in seconds since the epoch.

    Returns:
        What was done, for the log; `None` where there was nothing to do. What fails now is tried at the next look.
    """
    if not note.get("type"):
        return None
    about = {"type": str(note["type"]), "by": str(note.get("by", ""))}
    try:
        if float(note.get("expires_at", 0)) <= at:
            _call_off(dynamodb, table, at)
            return {"level": "warning", "event": "called_off", **about}
        if not note.get("wake"):
            return None
        answer = make_lambda().invoke(FunctionName=router, Payload=json.dumps(dict(wire.CARRY_ON)))
        said = json.loads(answer["Payload"].read())
        node = json.loads(said["body"]).get("node")
    except ClientError as error:
        if (code := error.response["Error"]["Code"]) == CONDITION_FAILED:  # somebody has noted another change meanwhile
            return None
        return {"level": "error", "event": "not_carried_on", "error": code, **about}
    except (BotoCoreError, ValueError, LookupError, TypeError, AttributeError) as error:  # it failed, and has no body
        return {"level": "error", "event": "not_carried_on", "error": type(error).__name__, **about}
    return {"level": "info", "event": "carried_on", "node": node, **about}


def _call_off(dynamodb: Any, table: str, at: float) -> None:
    dynamodb.update_item(
        TableName=table,
        Key=wire.pack({"pk": wire.SHAPE_PK}),
        UpdateExpression="SET #type = :none, #wake = :no",
        ConditionExpression="#end <= :now",
        ExpressionAttributeNames={"#type": "type", "#wake": "wake", "#end": "expires_at"},
        ExpressionAttributeValues=wire.pack({":none": "", ":no": False, ":now": int(at)}),
    )
