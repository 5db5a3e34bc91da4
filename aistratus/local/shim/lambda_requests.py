"""What the files of Lambda's shim share: names in requests, the form of answers, the 409 error."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from moto.awslambda.exceptions import LambdaClientError

Reply = tuple[int, dict[str, Any], Any]


class ResourceConflict(LambdaClientError):
    """409, the code by which Lambda refuses a second thing of one name and changes at a wrong moment."""

    code = 409

    def __init__(self, message: str) -> None:
        super().__init__("ResourceConflictException", message)


def reply(status: int, body: Any) -> Reply:
    return status, {"status": status, "content-type": "application/json"}, json.dumps(body) if body is not None else ""


def name_in_path(path: str) -> str:
    """`/2015-03-31/functions/<name or arn>/…` → the name or ARN."""
    found = re.match(r"/[^/]+/functions/([^/]+)", path)
    return unquote(found.group(1)) if found else ""


def plain_name(name_or_arn: str) -> tuple[str, str | None]:
    """Function name and qualifier of a name, `name:qualifier`, a partial or a whole ARN."""
    tail = name_or_arn.rpartition("function:")[2]
    name, _, qualifier = tail.partition(":")
    return name, qualifier or None
