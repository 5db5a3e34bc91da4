"""The change of the node's type that was asked for and isn't carried out yet: the item `wire.SHAPE_PK`.

At most one change is pending. Whoever finds the node stopped applies it before starting the node, whether that is a
prompt, a poll or the guard. A change that isn't carried out within `wire.SHAPE_KEPT_S` expires. The command line
writes the same item (`aistratus/node/resize.py`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aistratus import wire
from aistratus.router import log
from aistratus.router.aws import AwsError
from aistratus.router.clock import Clock, Deadline
from aistratus.router.table import ConditionFailed, Table

FALLBACK_KEPT_S: Final = 300
"""For this long a type without capacity isn't tried again where only the settings ask for it (`node.wake_as`)."""


class OtherPending(Exception):
    """A change to another type is pending already; `type` names it, and is empty when it was withdrawn meanwhile."""

    def __init__(self, type_: str) -> None:
        super().__init__(f"a change to {type_} is pending")
        self.type = type_


@dataclass(frozen=True)
class PendingResize:
    """Reads and writes the pending change. AwsError is raised where the jobs table doesn't answer, unless noted."""

    table: Table
    clock: Clock

    def read(self, deadline: Deadline) -> Mapping[str, Any]:
        """The item; empty when there is none."""
        return self.table.get(wire.SHAPE_PK, deadline) or {}

    def type(self, deadline: Deadline) -> str:
        """The type that the node is to become; empty when no change is pending."""
        return str(self.read(deadline).get("type", ""))

    def request(self, type_: str, by: str, deadline: Deadline) -> str:
        """Makes a change to this type pending.

        Args:
            by: who asked for it, for people who read the item.

        Returns:
            The request's token, by which `withdraw` recognises it.

        Raises:
            OtherPending: the node is to become another type.
        """
        now, token = self.clock.ms() // 1000, secrets.token_hex(8)
        expires_at = now + wire.SHAPE_KEPT_S
        try:
            self.table.update(
                wire.SHAPE_PK,
                deadline,
                values={"type": type_, "token": token, "by": by, "at": now, "wake": True, "expires_at": expires_at},
                condition="attribute_not_exists(#type) OR #type IN (:same, :none) OR #expires_at <= :now",
                operands={"same": type_, "none": "", "now": now},
            )
        except ConditionFailed as taken:
            raise OtherPending(str((taken.item or {}).get("type") or "")) from taken
        return token

    def withdraw(self, deadline: Deadline, token: str | None = None) -> None:
        """Nothing is pending any more; with a token, only if the pending change is the one requested with it."""
        with suppress(ConditionFailed):  # nothing is pending, or another change
            self.table.update(
                wire.SHAPE_PK,
                deadline,
                values={"type": "", "wake": False},
                condition="#token = :token" if token else "attribute_exists(#type)",
                operands={"token": token} if token else None,
            )

    def complete(self, deadline: Deadline) -> None:
        """The change was carried out, or EC2 refused it for good. Never raises: the item expires within the hour."""
        try:
            self.table.update(wire.SHAPE_PK, deadline, values={"type": "", "wake": False})
        except AwsError as error:
            log.write(level="error", event="wake", error=str(error))

    def fall_back_to(self, type_: str, *, configured: bool, deadline: Deadline) -> None:
        """A pending change becomes one to this type, or the next request would again try what has no capacity.

        Never raises: the node's start matters more.

        Args:
            configured: the settings ask for a type as well; this one then holds against them for `FALLBACK_KEPT_S`.
        """
        try:
            if not (configured and self._override_settings(type_, deadline)):
                self.table.update(
                    wire.SHAPE_PK,
                    deadline,
                    values={"type": type_},
                    condition="attribute_exists(#type) AND #type <> :none",
                    operands={"none": ""},
                )
        except ConditionFailed:
            pass  # nothing is pending
        except AwsError as error:
            log.write(level="error", event="wake", error=str(error))

    def _override_settings(self, type_: str, deadline: Deadline) -> bool:
        """Makes this type pending for a while, unless somebody has asked for one."""
        now = self.clock.ms() // 1000
        values = {"type": type_, "token": "", "wake": False, "by": "node.wake_as", "at": now}
        try:
            self.table.update(
                wire.SHAPE_PK,
                deadline,
                values={**values, "expires_at": now + FALLBACK_KEPT_S},
                condition="attribute_not_exists(#type) OR #type = :none OR #expires_at <= :now",
                operands={"none": "", "now": now},
            )
        except ConditionFailed:
            return False
        return True
