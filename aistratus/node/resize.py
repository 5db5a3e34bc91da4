"""Changing the node's shape: between its CPU type and one with a GPU, on the same volume.

The instance is stopped, its type is changed, it is started; the worker returns its job to the queue when the machine
stops, and takes it again afterwards. The desired type is first written into the jobs table (`wire.SHAPE_PK`): if this
command dies between two steps, the next prompt finds the node asleep, changes it and starts it
(`router/node_start.py`), and so does the same command run again. Two commands for the same type join; one for another
type is refused while the first is under way.

**Where AWS has no capacity** for a type, the next one of `node.gpu_types` is tried, at last the CPU type, which answers
slower: an instance stays in the zone of its volume, and neither can change it. AWS's own Instance Scheduler does the
same ("Handling EC2 Insufficient Capacity Errors": alternate types, one after the other, in the same place). Another
zone means another instance: terminate the node and run `aistratus up`; nothing that counts is on its volume, because
model and worker come from the bucket and jobs from the queue.

Whether the account may run the type at all, and whether AWS offers it in the zone, is asked before anything stops.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aistratus import wire
from aistratus.cloud import Cloud
from aistratus.core.errors import Absent, Failure, Locked, UsageError, error_code
from aistratus.core.settle import Wait, settle, until
from aistratus.node import gpu, lifecycle
from aistratus.node.lifecycle import NoRoom, StartedAgain
from aistratus.node.states import Do, Goal, Shapes, is_gpu, step, vcpus
from aistratus.resources.calls import unless_gone
from aistratus.resources.ec2 import Described
from aistratus.resources.instance_listing import INSTANCES, state_of

QUOTA: Final = "L-DB2E81BA"
"""vCPUs of running on-demand G and VT instances; 0 in many accounts. Source: EC2 user guide, "Instance type quotas"."""

CHANGED: Final = Wait(
    what="EC2 shows the node's new type", within=60, codes=frozenset({"IncorrectInstanceState"}), first=0.2
)
"""The listing may show `stopped` a moment before the change is taken."""

NOT_HERE: Final = lifecycle.NO_ROOM | {"InvalidInstanceAttributeValue"}
"""AWS says only at the change that a type isn't for this zone, or doesn't suit the machine's image."""

READY: Final = Wait(what="the node's worker is ready", within=900, first=0.3)
"""A minute mostly. With a GPU it answers on the processor first, until the driver is there (`node/gpu.py`)."""

TRIES: Final = 3
"""So often a prompt may wake the node in its old shape just before the change; it is stopped again."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How a change ended: the type that the node has, why it isn't the one asked for, and why its GPU isn't used."""

    type: str
    why: str = ""
    remark: str = ""


def resize(
    aws: Cloud, wanted: str, shapes: Shapes, *, by: str, wake: bool = True, tell: Tell = lambda _: None
) -> Outcome:
    """Makes the node this type and, unless `wake` is off, waits until its worker is ready.

    Args:
        by: who asks, for others who ask at the same time.
        tell: hears each step as it begins.

    Raises:
        Absent: there is no node, or it was terminated meanwhile.
        Locked: it is being changed to another type.
        Failure: it couldn't be done; the sentence says how the node stands, which can be started in any case.
    """
    instance = lifecycle.look(aws)
    identity = instance["InstanceId"]
    if step(Goal(running=wake, type=wanted), state_of(instance), instance["InstanceType"]) is not Do.NOTHING:
        _allowed(aws, instance, wanted)
    note = _Note(aws, by)
    note.write(wanted)
    try:
        return _carry_out(aws, identity, wanted, shapes, wake, tell, note)
    except Absent:
        raise
    except Exception as error:
        raise _standing(aws, identity, error) from error
    finally:
        note.withdraw()


def _carry_out(aws: Cloud, identity: str, wanted: str, shapes: Shapes, wake: bool, tell: Tell, note: _Note) -> Outcome:
    why = ""
    for type_ in (wanted, *shapes.after(wanted)):
        if type_ != wanted:
            note.write(type_)  # or whoever wakes it meanwhile would make it what there is no room for
        try:
            _change(aws, identity, type_, tell)
            return Outcome(type_, why, _wake(aws, identity, type_, tell) if wake else "")
        except NoRoom as full:
            why = why or full.what
            tell(full.what)
    raise NoRoom(why or f"AWS has no room for {wanted}", todo="try again later")


def _change(aws: Cloud, identity: str, type_: str, tell: Tell) -> None:
    """Stops the node and changes its type, if it has another."""
    for _ in range(TRIES):
        instance = _now(aws, identity)
        if instance["InstanceType"] == type_:
            return
        if state_of(instance) != "stopped":
            tell("stopping the node; a job in hand is given back …")
            try:
                lifecycle.halt(aws, identity)
            except StartedAgain:  # a prompt woke it meanwhile, in its old shape perhaps
                continue
        tell(f"making it {type_} …")
        if _modify(aws, identity, type_):
            return
    raise Failure("prompts keep waking the node before it is changed", todo="run the command again")


def _modify(aws: Cloud, identity: str, type_: str) -> bool:
    """Changes the type of a stopped machine; False if somebody has started it first."""

    def changed() -> bool | None:
        instance = _now(aws, identity)
        if instance["InstanceType"] == type_:
            return True
        if state_of(instance) != "stopped":
            return False
        change = {"InstanceId": identity, "InstanceType": {"Value": type_}}
        try:
            settle(CHANGED, aws.ec2.modify_instance_attribute, clock=aws.clock, **change)
        except Exception as error:
            if error_code(error) not in NOT_HERE:
                raise
            raise NoRoom(f"the node can't become {type_} in its zone ({error_code(error)})") from error
        return None

    return until(CHANGED, changed, clock=aws.clock)


def _wake(aws: Cloud, identity: str, type_: str, tell: Tell) -> str:
    """Starts it, and waits for its worker and its GPU; why that isn't used, if it isn't."""
    instance = _now(aws, identity)
    if state_of(instance) != "running":
        tell(f"starting it as {type_} …")
    lifecycle.start(aws, identity)
    began: float = _now(aws, identity)["LaunchTime"].timestamp()
    tell("waiting for its worker …")

    def ready() -> dict[str, Any] | None:
        if state_of(_now(aws, identity)) in ("stopping", "stopped"):
            raise Failure("the node was stopped again before its worker was ready", todo="run the command again")
        beat = heartbeat(aws)
        if beat.get("instance_id") != identity or not fresh(beat) or beat["at_ms"] / 1000 < began:
            return None  # or the last word of a worker that was cut off
        if beat.get("reason"):
            raise Failure(f"the node runs as {type_}, but its worker can't get ready: {beat['reason']}")
        return None if beat.get("state") == "loading" else beat

    beat = until(READY, ready, clock=aws.clock)
    return gpu.settled(beat, type_, ready, tell=tell, clock=aws.clock)


def _now(aws: Cloud, identity: str) -> Described:
    instance = INSTANCES.by_id(aws, identity)
    if instance is None or not INSTANCES.alive(instance):
        raise Absent(f"the node {identity} was terminated", todo=lifecycle.BUILD_IT)
    return instance


def _standing(aws: Cloud, identity: str, error: Exception) -> Failure:
    """The failure, with how the node stands now."""
    from aistratus.explain import explain

    failure = explain(error)
    try:
        instance = _now(aws, identity)
    except Exception:  # noqa: BLE001 - what is asked now is only for the sentence; what failed first counts
        return failure
    stands = f"the node is {state_of(instance)} as {instance['InstanceType']}"
    todo = failure.todo or "`aistratus node start` or a prompt wakes it"
    return type(failure)(f"{failure.what}; {stands}", todo=todo)


# --- may it be done at all? -------------------------------------------------------------------------------------------


def chosen(shapes: Shapes, word: str) -> str:
    """The type that a person means by a word.

    Raises:
        UsageError: settings don't allow it.
    """
    meant = shapes.named(word)
    if meant is None:
        raise UsageError(
            f"{word} isn't a type that settings allow: {', '.join(shapes.all)}",
            todo="name one of these, `cpu` or `gpu`; node.gpu_types in aistratus.toml holds the list",
        )
    return meant


def _allowed(aws: Cloud, instance: Described, wanted: str) -> None:
    """Refuses what AWS would refuse anyway, before anything is stopped for it.

    Raises:
        NoRoom: the account's quota is too small, or AWS doesn't offer the type in the node's zone.
    """
    if wanted == instance["InstanceType"]:
        return
    zone = instance["Placement"]["AvailabilityZone"]
    if not _offered(aws, zone, wanted):
        raise NoRoom(
            f"AWS doesn't offer {wanted} in {zone}, where the node's volume is",
            todo="choose another type of node.gpu_types; a node in another zone is another one: terminate this one "
            "and run `aistratus up`",
        )
    if is_gpu(wanted) and (have := gpu_quota(aws)) < vcpus(wanted):
        raise NoRoom(
            f"the account may run {have:.0f} vCPUs of G and VT instances, and {wanted} has {vcpus(wanted)}",
            todo=f"ask for more: {quota_page(aws.region)}",
        )


def _offered(aws: Cloud, zone: str, type_: str) -> bool:
    filters = [{"Name": "instance-type", "Values": [type_]}, {"Name": "location", "Values": [zone]}]
    answer = aws.ec2.describe_instance_type_offerings(LocationType="availability-zone", Filters=filters)
    return bool(answer["InstanceTypeOfferings"])


def gpu_quota(aws: Cloud) -> float:
    """vCPUs of G and VT instances that the account may run in this region at once."""
    answer = aws.service_quotas.get_service_quota(ServiceCode="ec2", QuotaCode=QUOTA)
    return float(answer["Quota"]["Value"])


def quota_page(region: str) -> str:
    """Where it is raised; mostly granted within a day."""
    return f"https://{region}.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{QUOTA}"


# --- what is wanted, in the jobs table --------------------------------------------------------------------------------


def _table(aws: Cloud) -> str:
    return aws.name("jobs")


def heartbeat(aws: Cloud) -> dict[str, Any]:
    """The worker's heartbeat item; empty where there is none."""
    return table_item(aws, wire.HEARTBEAT_PK)


def fresh(beat: dict[str, Any]) -> bool:
    """Was it given just now?"""
    return time.time() - float(beat.get("at_ms", 0)) / 1000 < wire.HEARTBEAT_FRESH_S


def changing_to(aws: Cloud) -> str:
    """The type that the node is being changed to; empty if it isn't."""
    told = table_item(aws, wire.SHAPE_PK)
    return str(told.get("type", "")) if int(told.get("expires_at", 0)) > time.time() else ""


def table_item(aws: Cloud, pk: str) -> dict[str, Any]:
    """An item of the jobs table; empty where there is none, or no table."""
    place = {"TableName": _table(aws), "Key": wire.pack({"pk": pk})}
    answer = unless_gone({"ResourceNotFoundException"}, aws.dynamodb.get_item, ConsistentRead=True, **place) or {}
    return wire.unpack(answer.get("Item", {}))


class _Note:
    """What one command wants, for others who work on the node at the same time."""

    def __init__(self, aws: Cloud, by: str) -> None:
        self._aws, self._by, self._token = aws, by, secrets.token_hex(8)

    def write(self, wanted: str) -> None:
        """Writes it down, unless something else is under way.

        Raises:
            Absent: there is no table for it.
            Locked: the node is being changed to another type.
        """
        now = int(time.time())
        times, plain = {":now": now, ":end": now + wire.SHAPE_KEPT_S}, {":none": "", ":no": False}
        try:
            self._update(
                "SET #type = :type, #token = :mine, #by = :by, #at = :now, #end = :end, #wake = :no",
                "attribute_not_exists(#type) OR #type IN (:type, :none) OR #end <= :now OR #token = :mine",
                {"#type": "type", "#token": "token", "#by": "by", "#at": "at", "#end": "expires_at", "#wake": "wake"},
                {":type": wanted, ":by": self._by, **times, **plain},
            )
        except Exception as error:
            if error_code(error) == "ResourceNotFoundException":
                raise Absent(f"env {self._aws.env!r} has no jobs table", todo=lifecycle.BUILD_IT) from error
            if error_code(error) != "ConditionalCheckFailedException":
                raise
            raise self._taken(now) from error

    def withdraw(self) -> None:
        """Nothing is wanted any more, unless somebody else wants it too by now."""
        with suppress(Exception):  # then it ends by itself, and whoever wakes the node does what is left
            names = {"#type": "type", "#token": "token", "#wake": "wake"}
            self._update("SET #type = :none, #wake = :no", "#token = :mine", names, {":none": "", ":no": False})

    def _update(self, update: str, condition: str, names: dict[str, str], values: dict[str, Any]) -> None:
        self._aws.dynamodb.update_item(
            TableName=_table(self._aws),
            Key=wire.pack({"pk": wire.SHAPE_PK}),
            UpdateExpression=update,
            ConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=wire.pack({**values, ":mine": self._token}),
        )

    def _taken(self, now: int) -> Locked:
        told = table_item(self._aws, wire.SHAPE_PK)
        ago = max(0, now - int(told.get("at", now)))
        return Locked(
            f"{told.get('by', 'somebody')} began {ago} s ago to make the node {told.get('type') or 'another type'}",
            todo="wait until that has ended; if its command has died, run the same one again to end it",
        )
