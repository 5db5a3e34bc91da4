"""Stops and starts the node by hand.

The node is the stack's one instance. Each command looks first, waits for a transitional state to end (`pending` can't
be stopped, `stopping` can't be started), and returns when EC2 shows the requested state. So it works in every state,
and for two callers at once. Source: EC2 user guide, "Instance lifecycle".
"""

from __future__ import annotations

import time
from typing import Final

from aistratus import wire
from aistratus.cloud import Cloud
from aistratus.core.errors import Absent, Failure, error_code
from aistratus.core.resource import Found
from aistratus.core.settle import Wait, until
from aistratus.node import boots, power
from aistratus.node.states import ASLEEP, AWAKE, Do, step
from aistratus.resources.calls import unless_gone
from aistratus.resources.compute import Instance
from aistratus.resources.ec2 import Described
from aistratus.resources.instance_listing import INSTANCES, state_of
from aistratus.retries import NO_CAPACITY

KEY: Final = "node"
"""The instance's key in the stack."""

RACED: Final = frozenset({"IncorrectInstanceState"})
"""The state changed between look and call, or the listing is behind."""

STOPPED: Final = Wait(what="the node has stopped", within=900, codes=RACED, first=0.2)
"""Up to five minutes until one that is `pending` runs; then mostly less than a minute. EC2 forces one that doesn't end
its programs, after some minutes."""

STARTABLE: Final = Wait(what="EC2 takes the stopped node for a start", within=60, codes=RACED, first=0.2)

START_SEEN: Final = Wait(what="EC2 shows that the node starts", within=60, first=0.2)

RUNNING: Final = Wait(what="the node runs", within=300, first=0.2)
"""Half a minute as a rule. The worker in it takes longer, and isn't waited for."""

NO_ROOM: Final = NO_CAPACITY | {"Unsupported"}
"""`Unsupported`: AWS doesn't offer the type in that zone at all. Source: EC2 API reference, client error codes."""

LATE_NO_CAPACITY: Final = "Server.InsufficientInstanceCapacity"
"""A start that was taken may find no room after all. Source: EC2 API reference, StateReason."""

OVER_THE_LIMIT: Final = frozenset({"VcpuLimitExceeded", "InstanceLimitExceeded"})
"""Source: EC2 API reference, "Error codes for the Amazon EC2 API"."""

BUILD_IT: Final = "`aistratus up` builds it"


class NoRoom(Failure):
    """AWS can't run the node as this type now: no capacity in its zone, or more than the account may run."""

    kind = "capacity"


class StartedAgain(Failure):
    """Somebody, a prompt as a rule, started the node while it was to stop."""


def look(aws: Cloud) -> Described:
    """The node, as EC2 lists it.

    Raises:
        Absent: there is none.
    """
    instance = INSTANCES.pick(aws.fresh(), KEY)
    if instance is None:
        raise Absent(f"env {aws.env!r} has no node", todo=BUILD_IT)
    return instance


def stop(aws: Cloud, identity: str) -> None:
    """Stops the node, calls off a change of its shape that would start it again, and waits until it has stopped.

    It is stopped also where the change can't be called off; that is told afterwards.

    Raises:
        Absent: it was terminated.
        StartedAgain: somebody did so meanwhile; it isn't stopped a second time, as a prompt may need it.
    """
    try:
        _call_off(aws)
    finally:
        halt(aws, identity)


def halt(aws: Cloud, identity: str) -> None:
    """`stop` for whoever changes the shape: what is to become of the node stays noted.

    Raises:
        Absent: it was terminated.
        StartedAgain: somebody did so meanwhile.
    """
    before = _now(aws, identity)
    started_at = before["LaunchTime"]
    power.seen(aws, before)

    def stopped() -> bool | None:
        instance = _now(aws, identity)
        if instance["LaunchTime"] != started_at:  # it is that of the latest start
            raise StartedAgain(
                "the node was started again while it stopped", todo="a prompt wakes it; run the command again"
            )
        next_ = step(ASLEEP, state_of(instance), instance["InstanceType"])
        if next_ is Do.STOP:  # also while the listing is behind: EC2 takes the call twice
            aws.ec2.stop_instances(InstanceIds=[identity])
        return True if next_ is Do.NOTHING else None

    until(STOPPED, stopped, clock=aws.clock)
    if state_of(before) != "stopped":
        power.stopped(aws, before)


def start(aws: Cloud, identity: str) -> None:
    """Starts the node, and waits until the machine runs. One that is stopping has to stop first.

    Raises:
        Absent: it was terminated.
        Failure: AWS has no room for it, the account may not run more, or it was stopped again.
    """

    def settled() -> Described | None:
        instance = _now(aws, identity)
        return None if state_of(instance) == "stopping" else instance

    instance = until(STOPPED, settled, clock=aws.clock)
    if step(AWAKE, state_of(instance), instance["InstanceType"]) is Do.START:
        _start(aws, instance)
        boots.started(aws, instance["InstanceType"])
        power.seen(aws, _now(aws, identity))

    def running() -> bool | None:
        now = _now(aws, identity)
        if state_of(now) in ("stopping", "stopped"):
            reason = now.get("StateReason", {})
            why = reason.get("Message") or "EC2 doesn't say why"
            if reason.get("Code") == LATE_NO_CAPACITY:
                raise NoRoom(f"AWS has no capacity for {now['InstanceType']} right now: {why}", todo="try again later")
            raise Failure(f"the node was stopped again before it ran: {why}", todo="run the command again")
        return True if state_of(now) == "running" else None

    until(RUNNING, running, clock=aws.clock)


def has_root(instance: Described) -> bool:
    """Is the volume attached that the node starts from? Somebody may have detached it by hand while it was stopped."""
    attached = {entry["DeviceName"] for entry in instance.get("BlockDeviceMappings", [])}
    return instance.get("RootDeviceName") in attached


def budget_until(aws: Cloud, kill_usd: float) -> str | None:
    """The day (UTC) until which no prompt wakes the node because the budget's limit is reached, if it is.

    Args:
        kill_usd: the limit as it is now, in US dollars; a mark of a lower one means nothing any more.
    """
    mark = {"TableName": aws.name("jobs"), "Key": wire.pack({"pk": wire.BUDGET_PK})}
    answer = unless_gone({"ResourceNotFoundException"}, aws.dynamodb.get_item, **mark) or {}
    told = wire.unpack(answer.get("Item", {}))
    ends, limit = int(told.get("expires_at", 0)), float(told.get("limit_usd", kill_usd))
    return time.strftime("%Y-%m-%d", time.gmtime(ends)) if ends > time.time() and limit >= kill_usd else None


def _call_off(aws: Cloud) -> None:
    """Nobody who looks at the node from now on makes it another type, or starts it for that."""
    place = {"TableName": aws.name("jobs"), "Key": wire.pack({"pk": wire.SHAPE_PK})}
    answer = unless_gone({"ResourceNotFoundException"}, aws.dynamodb.get_item, ConsistentRead=True, **place) or {}
    told = wire.unpack(answer.get("Item", {}))
    if told.get("type") or told.get("wake"):
        aws.dynamodb.update_item(
            **place,
            UpdateExpression="SET #type = :none, #wake = :no",
            ExpressionAttributeNames={"#type": "type", "#wake": "wake"},
            ExpressionAttributeValues=wire.pack({":none": "", ":no": False}),
        )


def _now(aws: Cloud, identity: str) -> Described:
    instance = INSTANCES.by_id(aws, identity)
    if instance is None or not INSTANCES.alive(instance):
        raise Absent(f"the node {identity} was terminated", todo=BUILD_IT)
    return instance


def _start(aws: Cloud, instance: Described) -> None:
    """The call, with the care of one that makes something: what AWS has no room for isn't asked for ten times."""
    identity, shape = instance["InstanceId"], instance["InstanceType"]
    zone = instance["Placement"]["AvailabilityZone"]
    if not has_root(instance):
        raise Failure(
            f"the node {identity} can't start: its root volume is detached",
            todo=f"attach it as {instance.get('RootDeviceName')} in {zone} again, or terminate the instance and run "
            "`aistratus up`, which makes another one: nothing is kept on the volume",
        )

    def starting(cloud: Cloud) -> Found | None:
        now = _now(cloud, identity)
        if state_of(now) not in ("pending", "running"):
            return None
        state = Instance(key=KEY, image=now["ImageId"], type=shape, subnets=(), security_groups=())
        return INSTANCES.found(cloud, now, state)

    try:
        aws.create_once(
            "ec2", "start_instances", look=starting, settling=STARTABLE, seen=START_SEEN, InstanceIds=[identity]
        )
    except Exception as error:
        if error_code(error) in NO_ROOM:
            raise NoRoom(f"AWS has no capacity for {shape} in {zone} right now", todo="try again later") from error
        if error_code(error) in OVER_THE_LIMIT:
            raise NoRoom(
                f"the account's limit on running instances leaves no room for {shape}",
                todo="stop others, or have it raised in the AWS console under Service Quotas",
            ) from error
        raise
