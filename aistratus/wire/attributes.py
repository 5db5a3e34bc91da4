"""DynamoDB's typed attribute values, to and from plain Python values.

The router (plain HTTP) and the worker (boto3's low-level client) use the same JSON form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class WireError(ValueError):
    """A message or an item that doesn't follow this contract."""


def pack(item: Mapping[str, Any]) -> dict[str, Any]:
    """A plain mapping as DynamoDB's typed attribute values; `None` entries are left out."""
    return {name: _pack(value) for name, value in item.items() if value is not None}


def unpack(item: Mapping[str, Any]) -> dict[str, Any]:
    """DynamoDB's typed attribute values as a plain mapping; whole numbers come back as int."""
    return {name: _unpack(value) for name, value in item.items()}


def _pack(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, (int, float)):
        return {"N": repr(value)}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, Mapping):
        return {"M": pack(value)}
    if isinstance(value, (list, tuple)):
        return {"L": [_pack(entry) for entry in value]}
    raise WireError(f"a {type(value).__name__} can't be stored")


def _unpack(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "N":
        return int(content) if content.lstrip("-").isdigit() else float(content)
    if kind == "M":
        return unpack(content)
    if kind == "L":
        return [_unpack(entry) for entry in content]
    if kind == "NULL":
        return None
    return content
