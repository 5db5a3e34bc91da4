"""The jobs table, as the router uses it: four operations on items with plain values.

Every name goes through `ExpressionAttributeNames`, because many of ours (`status`, `text`, `owner`, …) are reserved
words of DynamoDB. DynamoDB deletes expired items only within days, so an expired item is treated as missing here, in
one place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aistratus import wire
from aistratus.router.aws import Aws, AwsError
from aistratus.router.clock import Deadline

_NAMES = re.compile(r"#(\w+)")
CONDITION_FAILED = "ConditionalCheckFailedException"


class ConditionFailed(Exception):
    """The condition of a write didn't hold; `item` is the item that failed it, or None if there is none."""

    def __init__(self, item: dict[str, Any] | None) -> None:
        super().__init__("the condition doesn't hold")
        self.item = item


@dataclass(frozen=True)
class Table:
    """Items by their key `pk`."""

    name: str
    aws: Aws

    def get(self, pk: str, deadline: Deadline) -> dict[str, Any] | None:
        """The item as it is now (a consistent read: a job must be found right after it was accepted)."""
        found = self._call("GetItem", {"Key": wire.pack({"pk": pk}), "ConsistentRead": True}, deadline)
        return self._alive(found.get("Item"))

    def put_new(self, item: Mapping[str, Any], deadline: Deadline) -> None:
        """Writes an item if its key is free.

        Raises:
            ConditionFailed: the key is taken.
        """
        arguments = {
            "Item": wire.pack(item),
            "ConditionExpression": "attribute_not_exists(#pk) OR #expires_at <= :now",
            "ExpressionAttributeNames": {"#pk": "pk", "#expires_at": "expires_at"},
            "ExpressionAttributeValues": wire.pack({":now": int(self.aws.clock.now())}),
        }
        self._conditional("PutItem", arguments, deadline)

    def update(
        self,
        pk: str,
        deadline: Deadline,
        *,
        values: Mapping[str, Any],
        condition: str = "",
        operands: Mapping[str, Any] | None = None,
    ) -> None:
        """Sets attributes.

        Args:
            condition: an expression in which `#x` is the attribute x and `:y` the operand y; empty for none.
            operands: the condition's operands by name, without their colon.

        Raises:
            ConditionFailed: the condition doesn't hold.
        """
        names = {*values, *_NAMES.findall(condition)}
        arguments: dict[str, Any] = {
            "Key": wire.pack({"pk": pk}),
            "UpdateExpression": "SET " + ", ".join(f"#{name} = :set_{name}" for name in values),
            "ExpressionAttributeNames": {f"#{name}": name for name in names},
            "ExpressionAttributeValues": wire.pack(
                {f":set_{name}": value for name, value in values.items()}
                | {f":{name}": value for name, value in (operands or {}).items()}
            ),
        }
        if condition:
            arguments["ConditionExpression"] = condition
        self._conditional("UpdateItem", arguments, deadline)

    def delete(self, pk: str, deadline: Deadline, *, where: Mapping[str, Any]) -> None:
        """Removes an item whose attributes equal `where`.

        Raises:
            ConditionFailed: they don't, or it is gone.
        """
        arguments = {
            "Key": wire.pack({"pk": pk}),
            "ConditionExpression": " AND ".join(f"#{name} = :{name}" for name in where),
            "ExpressionAttributeNames": {f"#{name}": name for name in where},
            "ExpressionAttributeValues": wire.pack({f":{name}": value for name, value in where.items()}),
        }
        self._conditional("DeleteItem", arguments, deadline)

    def count(self, pk: str, expires_at: int, deadline: Deadline) -> int:
        """Increments a counter and returns its new value."""
        arguments = {
            "Key": wire.pack({"pk": pk}),
            "UpdateExpression": "ADD #count :one SET #expires_at = :expires_at",
            "ExpressionAttributeNames": {"#count": "count", "#expires_at": "expires_at"},
            "ExpressionAttributeValues": wire.pack({":one": 1, ":expires_at": expires_at}),
            "ReturnValues": "UPDATED_NEW",
        }
        return int(wire.unpack(self._call("UpdateItem", arguments, deadline)["Attributes"])["count"])

    def leave(self, sign: wire.Sign, deadline: Deadline) -> None:
        """Writes a sign into the power record; writing it again changes nothing."""
        with suppress(ConditionFailed):
            self._conditional("UpdateItem", sign.update(), deadline)

    def _conditional(self, operation: str, arguments: Mapping[str, Any], deadline: Deadline) -> None:
        try:
            self._call(operation, {**arguments, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}, deadline)
        except AwsError as error:
            if error.code != CONDITION_FAILED:
                raise
            raise ConditionFailed(self._alive(error.item)) from error

    def _call(self, operation: str, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        return self.aws.call("dynamodb", operation, {"TableName": self.name, **arguments}, deadline)

    def _alive(self, item: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if not item:
            return None
        plain = wire.unpack(item)
        return None if plain.get("expires_at", float("inf")) <= self.aws.clock.now() else plain
