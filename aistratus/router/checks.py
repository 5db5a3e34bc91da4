"""The deep health check: whether the services behind the router answer.

Each check makes one call with a short time limit and returns a state; a failed check doesn't prevent the others. A
sleeping node and a secret without a value are normal states. The check doesn't wake the node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aistratus import wire
from aistratus.router.aws import Aws, AwsError
from aistratus.router.clock import Deadline
from aistratus.router.node_state import UNAVAILABLE
from aistratus.router.table import Table
from aistratus.router.wake import Waker

CHECK_S: Final = 2.5
"""Time limit (seconds) of each of the four checks; together they stay below the router's own."""

PROBE_KEPT_S: Final = 120
"""Time to live (seconds) of the item that is written, which has a fixed key."""

NO_VALUE: Final = "staging label"
"""Part of Secrets Manager's message for a secret without a value; a missing secret has the same error code.

Source: GetSecretValue answers "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT".
"""

Finding = dict[str, Any]


@dataclass(frozen=True)
class Checks:
    """The checks. `secret` is the secret's name."""

    aws: Aws
    table: Table
    waker: Waker
    queue_url: str
    secret: str

    def run(self, deadline: Deadline) -> dict[str, Finding]:
        """`{"ok", "state", "reason"}` by the name of the check; `reason` only where it isn't well."""
        return {
            "secret": self._checked(self._secret, "unreadable", deadline),
            "queue": self._checked(self._queue, "unreachable", deadline),
            "table": self._checked(self._table, "read-only", deadline),
            "node": self._checked(self._node, "unknown", deadline),
        }

    def _checked(self, check: Callable[[Deadline], Finding], failed: str, deadline: Deadline) -> Finding:
        try:
            return check(deadline.at_most(CHECK_S))
        except AwsError as error:
            return {"ok": False, "state": failed, "reason": error.code}

    def _secret(self, deadline: Deadline) -> Finding:
        """Reads the secret; the value itself is discarded at once."""
        try:
            self.aws.call("secretsmanager", "GetSecretValue", {"SecretId": self.secret}, deadline)
        except AwsError as error:
            if error.code == "ResourceNotFoundException" and NO_VALUE in error.message:
                return _well("unset")
            raise
        return _well("set")

    def _queue(self, deadline: Deadline) -> Finding:
        arguments = {"QueueUrl": self.queue_url, "AttributeNames": ["QueueArn"]}
        self.aws.call("sqs", "GetQueueAttributes", arguments, deadline)
        return _well("reachable")

    def _table(self, deadline: Deadline) -> Finding:
        now = self.aws.clock.ms()
        values = {"at_ms": now, "expires_at": now // 1000 + PROBE_KEPT_S}
        self.table.update(wire.PROBE_PK, deadline, values=values)
        return _well("writable")

    def _node(self, deadline: Deadline) -> Finding:
        node = self.waker.look(deadline)
        if node.reason or node.state == UNAVAILABLE:
            return {"ok": False, "state": node.state, "reason": node.reason}
        return _well(node.state)


def _well(state: str) -> Finding:
    return {"ok": True, "state": state, "reason": None}
