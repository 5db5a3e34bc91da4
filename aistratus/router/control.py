"""What an operator does with the node through the API: stop it, start it, change its type.

No request waits for the machine: stopping one takes up to some minutes, and an HTTP API ends a request after 30 s. So
the change is recorded as pending in the jobs table (`pending_resize.py`), the machine is told to stop, and the answer
gives the state so far. Whoever looks next continues: a prompt, a poll for a queued job, `GET /queue-health`, or the
guard, which looks every few minutes (`functions/carry_on.py`). All of them read the same item and ask EC2 for the
instance's state, so it makes no difference which one continues, how many do, or whether one of them dies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aistratus import wire
from aistratus.router import problems
from aistratus.router.aws import AwsError
from aistratus.router.clock import Deadline
from aistratus.router.ec2 import RACED, REASONS, Ec2, Ec2Error, Undecided
from aistratus.router.node_start import Starter
from aistratus.router.node_state import ASLEEP, CHANGING, STOPPED, STOPPING, UNAVAILABLE, Node
from aistratus.router.pending_resize import OtherPending, PendingResize
from aistratus.router.problems import Problem
from aistratus.router.registry import Registry
from aistratus.router.table import Table
from aistratus.router.wake import Waker

ACTIONS: Final = ("start", "stop", "resize")

EC2_SILENT: Final = "EC2 doesn't answer; ask again in a moment."


@dataclass(frozen=True)
class Order:
    """A checked body of `POST /resize`."""

    action: str
    type: str = ""


def order_of(data: Any, types: tuple[str, ...]) -> Order:
    """The order in a parsed body.

    Raises:
        Problem: 400 naming each bad field.
    """
    if not isinstance(data, dict):
        raise problems.bad_field("body", "must be a JSON object")
    refused = [
        {"field": name[:64], "message": "is not a field of this request"}
        for name in data
        if name not in ("action", "type")
    ]
    action, type_ = data.get("action"), data.get("type")
    if action not in ACTIONS:
        refused.append({"field": "action", "message": f"must be one of {', '.join(ACTIONS)}"})
    elif action == "resize" and type_ not in types:
        refused.append({"field": "type", "message": f"must be one of {', '.join(types)}"})
    elif action != "resize" and type_ is not None:
        refused.append({"field": "type", "message": "belongs to the action resize"})
    if refused:
        raise problems.invalid("The body has fields that are missing or wrong: see errors.", refused[:20])
    return Order(str(action), str(type_ or ""))


@dataclass(frozen=True)
class Control:
    """Carries orders out as far as a request may."""

    table: Table
    registry: Registry
    make_ec2: Callable[[], Ec2]
    waker: Waker
    starter: Starter
    resize: PendingResize

    def carry_out(self, order: Order, by: str, deadline: Deadline) -> dict[str, Any]:
        """The node's state afterwards: `{"state", "type"}`.

        Raises:
            Problem: 409 where it can't be done now, 503 where EC2 refuses or doesn't answer.
        """
        if order.action == "stop":
            return self._stop(deadline)
        if order.action == "resize":
            return self._resize(order.type, by, deadline)
        node = self.waker.ensure_awake(deadline)
        if node.state == STOPPING:  # it can be started when it has stopped, as after a change of shape
            _, found = self._instance(deadline)
            self._request(self.starter.wake_as or found["InstanceType"], by, deadline)
        return _started(node)

    def carry_on(self, deadline: Deadline) -> str | None:
        """Continues a change of type that waits for its machine to have stopped, if there is one.

        Returns:
            The node's state afterwards; `None` where no change waits.
        """
        pending = self.resize.read(deadline)
        if not pending.get("type") or not pending.get("wake"):
            return None
        return self.waker.ensure_awake(deadline).state

    def _stop(self, deadline: Deadline) -> dict[str, Any]:
        ec2, found = self._instance(deadline)
        state, type_ = found["State"]["Name"], found["InstanceType"]
        if state == "pending":
            raise problems.conflict(
                "The node is starting, and can be stopped when it runs; ask again in half a minute."
            )
        self.resize.withdraw(deadline)
        if state == "running":
            self._stop_instance(ec2, found, deadline)
            state = STOPPING
        return {"state": state, "type": type_}

    def _resize(self, type_: str, by: str, deadline: Deadline) -> dict[str, Any]:
        ec2, found = self._instance(deadline)
        state = found["State"]["Name"]
        if found["InstanceType"] == type_ and state in ("pending", "running"):
            return {"state": state, "type": type_}
        if state == "pending":
            raise problems.conflict(
                "The node is starting, and can be changed when it runs; ask again in half a minute."
            )
        joined = self.resize.type(deadline) == type_
        token = self._request(type_, by, deadline)
        if state == "running":
            try:
                self._stop_instance(ec2, found, deadline)
            except Problem:
                if not joined:  # this request's failure must not withdraw somebody else's change
                    self.resize.withdraw(deadline, token)
                raise
        elif state == STOPPED:
            return {**_started(self.waker.ensure_awake(deadline)), "type": type_}
        return {"state": CHANGING, "type": type_}

    def _request(self, type_: str, by: str, deadline: Deadline) -> str:
        """Makes a change to this type pending, and returns its token.

        Raises:
            Problem: 409 where a change to another type is pending.
        """
        try:
            return self.resize.request(type_, by, deadline)
        except OtherPending as other:
            taken = other.type or "another type"
            raise problems.conflict(f"The node is being made {taken} already; wait until that has ended.") from other

    def _stop_instance(self, ec2: Ec2, instance: Mapping[str, Any], deadline: Deadline) -> None:
        """Tells EC2 to stop the instance, and records that.

        Raises:
            Problem: 409 where its state has just changed, 503 where EC2 refuses or doesn't answer.
        """
        try:
            ec2.stop(instance["InstanceId"], deadline)
        except Ec2Error as error:
            if error.code == RACED:
                raise problems.conflict("The node is just changing its state; ask again in a moment.") from error
            raise _refused(error) from error
        except Undecided as error:
            raise _not_now(EC2_SILENT) from error
        # Whoever wakes the node next needn't wait for the end of an earlier attempt.
        self.table.update(wire.WAKE_PK, deadline, values={"at_ms": 0, "started_ms": 0, "state": ASLEEP})
        self.starter.record_power(wire.STOP, instance["InstanceId"], instance["InstanceType"], deadline)

    def _instance(self, deadline: Deadline) -> tuple[Ec2, Mapping[str, Any]]:
        """EC2's client and the node as EC2 describes it.

        Raises:
            Problem: 503 where there is none, or EC2 or the ledger doesn't answer.
        """
        try:
            for _ in range(2):
                identity = self.registry.get_id("node")
                if identity:
                    ec2 = self.make_ec2()
                    found = ec2.describe(identity, deadline)
                    if found is not None:
                        return ec2, found
                self.registry.forget()  # a remembered id may be of an instance that was replaced
        except AwsError as error:
            raise _not_now("The ledger can't be read.") from error
        except Ec2Error as error:
            raise _refused(error) from error
        except Undecided as error:
            raise _not_now(EC2_SILENT) from error
        raise problems.node_unavailable("There is no node; `aistratus up` creates it.", wire.WAKE_AGAIN_S)


def _refused(error: Ec2Error) -> Problem:
    if not error.code:
        return _not_now(EC2_SILENT)
    reason = REASONS.get(error.code, f"EC2 refused ({error.code})")
    return problems.node_unavailable(f"It can't be done: {reason}.", wire.WAKE_AGAIN_S)


def _started(node: Node) -> dict[str, Any]:
    """The answer for a node that was to be started.

    Raises:
        Problem: 503 when it can't start, and why.
    """
    if node.state == UNAVAILABLE:
        raise problems.node_unavailable(f"The node can't be started: {node.reason}.", node.retry_after)
    return {"state": node.state, "type": None}


def _not_now(detail: str) -> Problem:
    return problems.node_unavailable(detail, retry_after=2)
