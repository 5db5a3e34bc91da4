"""What an operator does with the node by the API: stop it, start it, make it another type.

No request waits for the machine: stopping one takes up to some minutes, and an HTTP API ends a request after 30 s. So
what is wanted is written into the jobs table (`wire.SHAPE_PK`), the machine is told to stop, and the answer says how it
stands. Whoever looks next goes on from there: a prompt, a poll for a queued job, `GET /queue-health`, or the guard,
which looks every few minutes (`functions/carry_on.py`). All of them read the same item and ask EC2 how far it is, so
that it makes no difference who it is, how many they are, or whether one of them dies. What hasn't come about within an
hour isn't wanted any more (`wire.SHAPE_KEPT_S`): the node sleeps.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aistratus import wire
from aistratus.router import problems
from aistratus.router.aws import AwsError
from aistratus.router.clock import Clock, Deadline
from aistratus.router.problems import Problem
from aistratus.router.registry import Registry
from aistratus.router.table import ConditionFailed, Table
from aistratus.router.wake import (
    ASLEEP,
    GONE,
    RACED,
    REFUSALS,
    STOPPING,
    UNAVAILABLE,
    Node,
    NotNow,
    Waker,
    code_of,
    spare,
)

ACTIONS: Final = ("start", "stop", "resize")
STOPPED: Final = "stopped"
CHANGING: Final = "shape-changing"

LOOK_S: Final = 3.0
"""For one look at EC2 or one call to it."""


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
    clock: Clock
    make_ec2: Callable[[], Any]
    waker: Waker

    def carry_out(self, order: Order, by: str, deadline: Deadline) -> dict[str, Any]:
        """How the node stands then: `{"state", "type"}`.

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
            self._note(self.waker.wake_as or found["InstanceType"], by, deadline)
        return _told(node)

    def go_on(self, deadline: Deadline) -> str | None:
        """Goes on with a change of shape that waits for its machine to have stopped, if there is one.

        Returns:
            The node's state then; `None` where no change waits.
        """
        wanted = self.table.get(wire.SHAPE_PK, deadline) or {}
        if not wanted.get("type") or not wanted.get("wake"):
            return None
        return self.waker.ensure_awake(deadline).state

    def _stop(self, deadline: Deadline) -> dict[str, Any]:
        ec2, found = self._instance(deadline)
        state, type_ = found["State"]["Name"], found["InstanceType"]
        if state == "pending":
            raise problems.conflict(
                "The node is starting, and can be stopped when it runs; ask again in half a minute."
            )
        self._call_off(deadline)
        if state == "running":
            self._asked(ec2.stop_instances, deadline, found)
            self._forget_attempt(deadline)
            self.waker.record(wire.STOP, found["InstanceId"], type_, deadline)
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
        joined = (self.table.get(wire.SHAPE_PK, deadline) or {}).get("type") == type_
        token = self._note(type_, by, deadline)
        if state == "running":
            try:
                self._asked(ec2.stop_instances, deadline, found)
            except Problem:
                if not joined:  # nobody else's change is called off by this one's failure
                    self._call_off(deadline, token)
                raise
            self._forget_attempt(deadline)
            self.waker.record(wire.STOP, found["InstanceId"], found["InstanceType"], deadline)
        elif state == STOPPED:
            return {**_told(self.waker.ensure_awake(deadline)), "type": type_}
        return {"state": CHANGING, "type": type_}

    def _forget_attempt(self, deadline: Deadline) -> None:
        """Whoever wakes the node next needn't wait for the end of an earlier attempt."""
        self.table.update(wire.WAKE_PK, deadline, values={"at_ms": 0, "started_ms": 0, "state": ASLEEP})

    def _call_off(self, deadline: Deadline, token: str | None = None) -> None:
        """No change is wanted any more; with a token, only if it is the change that was noted with it."""
        with suppress(ConditionFailed):  # none is noted, or another
            self.table.update(
                wire.SHAPE_PK,
                deadline,
                values={"type": "", "wake": False},
                condition="#token = :token" if token else "attribute_exists(#type)",
                operands={"token": token} if token else None,
            )

    def _note(self, type_: str, by: str, deadline: Deadline) -> str:
        """Notes what the node is to become, and gives the note's token.

        Raises:
            Problem: 409 where it is to become something else.
        """
        now, token = self.clock.ms() // 1000, secrets.token_hex(8)
        values = {"type": type_, "token": token, "by": by, "at": now, "wake": True,
                  "expires_at": now + wire.SHAPE_KEPT_S}  # fmt: skip
        try:
            self.table.update(
                wire.SHAPE_PK,
                deadline,
                values=values,
                condition="attribute_not_exists(#type) OR #type IN (:same, :none) OR #expires_at <= :now",
                operands={"same": type_, "none": "", "now": now},
            )
        except ConditionFailed as taken:
            other = (taken.item or {}).get("type") or "another type"
            raise problems.conflict(f"The node is being made {other} already; wait until that has ended.") from taken
        return token

    def _instance(self, deadline: Deadline) -> tuple[Any, Mapping[str, Any]]:
        """EC2's client and the node as EC2 describes it.

        Raises:
            Problem: 503 where there is none, or EC2 or the ledger doesn't answer.
        """
        try:
            for _ in range(2):
                identity = self.registry.get_id("node")
                ec2 = self.make_ec2() if identity else None
                found = self._described(ec2, identity, deadline) if identity else None
                if found is not None:
                    return ec2, found
                self.registry.forget()  # a remembered id may be of an instance that was replaced
        except AwsError as error:
            raise _not_now("The ledger can't be read.") from error
        raise problems.node_unavailable("There is no node; `aistratus up` creates it.", wire.WAKE_AGAIN_S)

    def _described(self, ec2: Any, identity: str, deadline: Deadline) -> Mapping[str, Any] | None:
        try:
            answer = self._call(ec2.describe_instances, deadline, InstanceIds=[identity])
        except (
            Exception
        ) as error:  # EC2's client is boto3's, which isn't imported here; `_refused` sorts its errors out
            if code_of(error) in GONE:
                return None
            raise self._refused(error) from error
        found = [one for entry in answer["Reservations"] for one in entry["Instances"]]
        alive = [one for one in found if one["State"]["Name"] not in ("terminated", "shutting-down")]
        return alive[0] if alive else None

    def _asked(self, call: Callable[..., Any], deadline: Deadline, instance: Mapping[str, Any]) -> None:
        try:
            self._call(call, deadline, InstanceIds=[instance["InstanceId"]])
        except Exception as error:  # as above
            if code_of(error) == RACED:  # it changed between the look and the call
                raise problems.conflict("The node is just changing its state; ask again in a moment.") from error
            raise self._refused(error) from error

    def _call(self, call: Callable[..., Any], deadline: Deadline, **arguments: Any) -> Any:
        spare(LOOK_S, deadline)
        return call(**arguments)

    def _refused(self, error: Exception) -> Problem:
        code = code_of(error)
        if isinstance(error, NotNow) or not code:
            return _not_now("EC2 doesn't answer; ask again in a moment.")
        reason = REFUSALS.get(code, f"EC2 refused ({code})")
        return problems.node_unavailable(f"It can't be done: {reason}.", wire.WAKE_AGAIN_S)


def _told(node: Node) -> dict[str, Any]:
    """The state of a node that was to be woken.

    Raises:
        Problem: 503 when it can't start, and why.
    """
    if node.state == UNAVAILABLE:
        raise problems.node_unavailable(f"The node can't be started: {node.reason}.", node.retry_after)
    return {"state": node.state, "type": None}


def _not_now(detail: str) -> Problem:
    return problems.node_unavailable(detail, retry_after=2)
