"""Is somebody there to answer, and if not, who wakes the node?

The worker writes a heartbeat into the jobs table. As long as it is fresh, a request makes no EC2 call at all. When
it isn't, the first request to claim the wake item starts the node, and everybody else within `WAKE_AGAIN_S` reads
from that item what came of it. boto3 is imported here and only then: starting a node takes a minute, and nobody
minds half a second of it.

A prompt is queued after its node was woken, as nothing is queued for a node that can't start. So waking may use only
what a request can spare of its time, and where AWS doesn't answer in it, the prompt is taken all the same: the wake
item then says that nothing was started, and whoever asks for the queued job tries anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aistratus import wire
from aistratus.router import log
from aistratus.router.aws import AwsError, is_passing
from aistratus.router.clock import Clock, Deadline
from aistratus.router.registry import READ_S, Registry
from aistratus.router.table import ConditionFailed, Table

READY: Final = "ready"
STARTING: Final = "starting"
STOPPING: Final = "stopping"
UNAVAILABLE: Final = "unavailable"
ASLEEP: Final = "asleep"

WAKE_KEPT_S: Final = 3_600
"""The wake item's time to live; it is only read for `WAKE_AGAIN_S`."""

LONGEST_RETRY_S: Final = 3_600
"""What a caller is told at most, however long the budget is still exhausted: somebody may raise it."""

CONNECT_S: Final = 1
READ_EC2_S: Final = 2
"""Seconds until a call to EC2 is given up: it answers in a tenth of them, and the next poll asks again."""

SUBMIT_S: Final = 4.0
"""Kept back from waking for what must follow: the wake item, the job's item and its message."""

IMPORT_S: Final = 2.0
"""boto3's import and EC2's client at the function's share of a processor, with room."""

SETTLED_S: Final = 300
"""Where AWS has no room for what the settings wake the node as, it isn't tried again in this time."""

WAKE_SOON_S: Final = 1
"""After an attempt that nothing came of, the next may follow this much later: throttled calls must not pile up."""

RACED: Final = "IncorrectInstanceState"
GONE: Final = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})

REFUSALS: Final[Mapping[str, str]] = {
    "InsufficientInstanceCapacity": "AWS has no capacity for the node's instance type right now",
    "InsufficientHostCapacity": "AWS has no capacity for the node's instance type right now",
    "InstanceLimitExceeded": "the account's limit on running instances is reached",
    "VcpuLimitExceeded": "the account's limit on running instances is reached",
    "Unsupported": "AWS doesn't offer the node's instance type in its zone",
    "InvalidParameterValue": "EC2 refused to start the node; its volume may be detached",
    "UnauthorizedOperation": "the router may not start the node",
    "AccessDenied": "the router may not start the node",
}
"""Why EC2 doesn't start an instance, in words for the caller."""

NO_ROOM: Final = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InstanceLimitExceeded",
        "Unsupported",
        "VcpuLimitExceeded",
    }
)
"""Another type may be had where this one isn't: in the zone, or within the account's limit.

Source: AWS's Instance Scheduler, "Handling EC2 Insufficient Capacity Errors", does the same.
"""

PASSING: Final = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "Unavailable",
    }
)
"""EC2 didn't decide: throttled, or its own failure.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""


class NotNow(Exception):
    """It isn't known whether the node can start: AWS didn't answer, or too little time was left to ask."""


@dataclass(frozen=True)
class Node:
    """How the node is: a state for the answer, and in trouble the reason and when to ask again (seconds)."""

    state: str
    reason: str = ""
    retry_after: int = wire.WAKE_AGAIN_S


@dataclass(frozen=True)
class Waker:
    """Knows whether the node is awake, and starts it when it isn't.

    Args:
        make_ec2: gives boto3's EC2 client; called only when the node must be looked at.
        kill_usd: the budget's limit as it is now, in US dollars.
        env: whose node it is.
        types: the instance types that settings allow, in the order they are tried in; the last is the CPU type.
        wake_as: the one that it is made before it starts, unless a change to another was asked for; empty: as it is.
    """

    table: Table
    registry: Registry
    clock: Clock
    make_ec2: Callable[[], Any]
    kill_usd: float
    env: str
    types: tuple[str, ...] = ()
    wake_as: str = ""

    def ensure_awake(self, deadline: Deadline) -> Node:
        """The node's state, after starting it if it sleeps and nobody else has just tried.

        Raises:
            AwsError: the jobs table can't be reached.
        """
        node = self._by_heartbeat(deadline) or self._by_budget(deadline)
        if node is not None:
            return node
        earlier = self._claim(deadline)
        if earlier is not None:
            return earlier
        try:
            node = self._start(deadline)
        except NotNow as reason:
            log.write(level="error", event="wake", error=str(reason))
            self._give_back(str(reason), deadline)
            return Node(STARTING)
        if node.state != STARTING:  # which the claim has written already
            values = {"state": node.state, "reason": node.reason}
            self.table.update(wire.WAKE_PK, deadline, values=values)
        return node

    def look(self, deadline: Deadline) -> Node:
        """The node's state as the jobs table tells it. Starts nothing and asks nobody else.

        Raises:
            AwsError: the jobs table can't be reached.
        """
        beat = self.table.get(wire.HEARTBEAT_PK, deadline)
        if beat is not None and self._is_fresh(beat, wire.HEARTBEAT_FRESH_S):
            state = STARTING if beat.get("state") == "loading" else READY
            return Node(state, str(beat.get("reason") or ""))
        attempt = self.table.get(wire.WAKE_PK, deadline)
        if attempt is not None and self._is_fresh(attempt, wire.WAKE_AGAIN_S):
            return Node(attempt.get("state", STARTING), attempt.get("reason", ""))
        return Node(ASLEEP)

    def _is_fresh(self, item: Mapping[str, Any], seconds: float) -> bool:
        return self.clock.ms() - int(item.get("at_ms", 0)) <= seconds * 1000

    def _by_heartbeat(self, deadline: Deadline) -> Node | None:
        beat = self.table.get(wire.HEARTBEAT_PK, deadline)
        if beat is None or not self._is_fresh(beat, wire.HEARTBEAT_FRESH_S):
            return None
        return Node(STARTING if beat.get("state") == "loading" else READY)

    def _by_budget(self, deadline: Deadline) -> Node | None:
        """What the budget's killer has stopped stays off until the month ends, or until its limit is raised."""
        mark = self.table.get(wire.BUDGET_PK, deadline)
        if mark is None or float(mark.get("limit_usd", self.kill_usd)) < self.kill_usd:
            return None
        ends = int(mark.get("expires_at", 0))
        until = time.strftime("%Y-%m-%d", time.gmtime(ends))
        left = ends - self.clock.ms() // 1000
        reason = (
            f"the budget's limit is reached, and it stays off until {until} (UTC), or until its operator runs "
            "`aistratus cost resume`, or raises budget.kill_eur and runs `aistratus up`"
        )
        return Node(UNAVAILABLE, reason, min(LONGEST_RETRY_S, max(wire.WAKE_AGAIN_S, left)))

    def _claim(self, deadline: Deadline) -> Node | None:
        """Takes the next attempt for this request, or tells what came of the one that another request took."""
        now = self.clock.ms()
        try:
            self.table.update(
                wire.WAKE_PK,
                deadline,
                values={
                    "at_ms": now,
                    "state": STARTING,
                    "reason": "",
                    "expires_at": now // 1000 + WAKE_KEPT_S,
                },
                # Without `at_ms` it is the note of a start by hand.
                condition="attribute_not_exists(#at_ms) OR #at_ms <= :before",
                operands={"before": now - wire.WAKE_AGAIN_S * 1000},
            )
        except ConditionFailed as taken:
            item = taken.item or {}
            state = item.get("state", STARTING)
            if state == ASLEEP:  # given back a moment ago; the caller's next poll takes it
                return Node(STARTING)
            return Node(state, item.get("reason", ""))
        return None

    def _give_back(self, reason: str, deadline: Deadline) -> None:
        """Says in the wake item that nothing was started, and lets the next attempt follow soon."""
        at_ms = self.clock.ms() - (wire.WAKE_AGAIN_S - WAKE_SOON_S) * 1000
        brief = Deadline(self.clock, min(deadline.ends, self.clock.monotonic() + 1))
        try:
            self.table.update(wire.WAKE_PK, brief, values={"at_ms": at_ms, "state": ASLEEP, "reason": reason})
        except AwsError as error:  # the claim then ends by itself, and the prompt matters more
            log.write(level="error", event="wake", error=str(error))

    def _start(self, deadline: Deadline) -> Node:
        """Looks at the instance and starts it if it is stopped. What AWS refuses becomes a reason.

        Raises:
            NotNow: AWS didn't say.
        """
        try:
            node = self._start_once(deadline)
            if node is None:  # a remembered id may be of an instance that was replaced
                self.registry.forget()
                node = self._start_once(deadline)
        except AwsError as error:
            if is_passing(error):
                raise NotNow("the ledger doesn't answer") from error
            log.write(level="error", event="wake", error=str(error))
            return Node(UNAVAILABLE, "the ledger can't be read")
        return node or Node(UNAVAILABLE, "there is no node; `aistratus up` creates it")

    def _start_once(self, deadline: Deadline) -> Node | None:
        """None when there is no such instance."""
        spare(READ_S, deadline)
        instance_id = self.registry.get_id("node")
        if instance_id is None:
            return None
        spare(IMPORT_S, deadline)
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self._start_instance(self.make_ec2(), instance_id, deadline)
        except ClientError as error:
            code = code_of(error)
            if code in GONE:
                return None
            if code == RACED:  # it changed between the look and the start; the next request sees to what
                return Node(STOPPING)
            if code in PASSING:
                raise NotNow(f"EC2 doesn't answer ({code})") from error
            log.write(level="error", event="wake", error=code, instance=instance_id)
            return Node(UNAVAILABLE, REFUSALS.get(code, "EC2 refused to start the node"))
        except BotoCoreError as error:
            raise NotNow(f"EC2 doesn't answer ({type(error).__name__})") from error

    def _start_instance(self, ec2: Any, instance_id: str, deadline: Deadline) -> Node | None:
        spare(CONNECT_S + READ_EC2_S, deadline)
        reservations = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
        found = [instance for entry in reservations for instance in entry["Instances"]]
        state = found[0]["State"]["Name"] if found else "terminated"
        if state in ("pending", "running"):
            return Node(STARTING)
        if state == "stopping":
            return Node(STOPPING)
        if state != "stopped":
            return None
        wanted, type_ = self._wanted_shape(deadline) or self.wake_as, found[0]["InstanceType"]
        if wanted in self.types and wanted != type_:  # as settings say, or a change of shape whose stop has just ended
            type_ = self._make_wanted(ec2, instance_id, type_, wanted, deadline)
        type_ = self._start_somehow(ec2, instance_id, type_, deadline)
        self._count_start(instance_id)
        self.record(wire.START, instance_id, type_, deadline)
        self._note_start(type_, deadline)
        if wanted:
            self._shape_is_done(deadline)
        return Node(STARTING)

    def _make_wanted(self, ec2: Any, instance_id: str, type_: str, wanted: str, deadline: Deadline) -> str:
        """Makes it the wanted type, and gives the type that it has then: where EC2 refuses, it starts as it is."""
        try:
            return _reshape(ec2, instance_id, wanted, deadline)
        except Exception as error:
            if not _is_refused(error):
                raise
            log.write(level="error", event="no_change", error=code_of(error), type=wanted, instead=type_)
            self._shape_is_done(deadline)
            return type_

    def _start_somehow(self, ec2: Any, instance_id: str, type_: str, deadline: Deadline) -> str:
        """Starts it, and gives its type; where AWS has no room for it, that is the next one, at last the CPU type.

        It goes down the list as far as the request's time lasts; the next request goes on from there.
        """
        while True:
            spare(CONNECT_S + READ_EC2_S, deadline)
            try:
                ec2.start_instances(InstanceIds=[instance_id])
                return type_
            except Exception as error:
                if code_of(error) not in NO_ROOM:
                    raise
                type_ = self._next_shape(ec2, instance_id, type_, error, deadline)

    def _next_shape(self, ec2: Any, instance_id: str, full: str, why: Exception, deadline: Deadline) -> str:
        """Makes it the next type that it can become, and gives that.

        Raises:
            Exception: `why` there is no room for it as it is, where no other type is left.
        """
        other = wire.next_shape(self.types, full)
        while other is not None:
            log.write(level="error", event="no_room", error=code_of(why), type=full, instead=other)
            self._settle_for(other, deadline)
            try:
                return _reshape(ec2, instance_id, other, deadline)
            except Exception as error:
                if not _is_refused(error):
                    raise
                full, why, other = other, error, wire.next_shape(self.types, other)
        raise why

    def _wanted_shape(self, deadline: Deadline) -> str:
        """The type that somebody wants the node to be made before it starts; empty if nobody does."""
        wanted = self.table.get(wire.SHAPE_PK, deadline) or {}
        return str(wanted.get("type", ""))

    def _shape_is_done(self, deadline: Deadline) -> None:
        """No change of shape is wanted any more."""
        try:
            self.table.update(wire.SHAPE_PK, deadline, values={"type": "", "wake": False})
        except AwsError as error:  # it ends by itself within the hour, and does no harm until then
            log.write(level="error", event="wake", error=str(error))

    def _settle_for(self, type_: str, deadline: Deadline) -> None:
        """A change that is noted becomes one to this type, or the next request would try what there is no room for.

        Where the settings alone want another one, that is noted for the same reason, for a while.
        """
        now = self.clock.ms() // 1000
        brief = {"wake": False, "by": "node.wake_as", "at": now, "expires_at": now + SETTLED_S} if self.wake_as else {}
        try:
            if not (brief and self._noted_for_a_while(type_, brief, deadline)):
                self.table.update(
                    wire.SHAPE_PK,
                    deadline,
                    values={"type": type_},
                    condition="attribute_exists(#type) AND #type <> :none",
                    operands={"none": ""},
                )
        except ConditionFailed:
            pass  # none is noted
        except AwsError as error:  # the node's start matters more
            log.write(level="error", event="wake", error=str(error))

    def _noted_for_a_while(self, type_: str, brief: Mapping[str, Any], deadline: Deadline) -> bool:
        """Notes this type, unless somebody has asked for one."""
        try:
            self.table.update(
                wire.SHAPE_PK,
                deadline,
                values={"type": type_, "token": "", **brief},
                condition="attribute_not_exists(#type) OR #type = :none OR #expires_at <= :now",
                operands={"none": "", "now": brief["at"]},
            )
        except ConditionFailed:
            return False
        return True

    def _note_start(self, type_: str, deadline: Deadline) -> None:
        """When it was started, and as what: the worker tells by it how long the boot took."""
        brief = Deadline(self.clock, min(deadline.ends, self.clock.monotonic() + 1))
        try:
            self.table.update(wire.WAKE_PK, brief, values={"started_ms": self.clock.ms(), "type": type_})
        except AwsError as error:  # this boot then teaches nothing
            log.write(level="error", event="wake", error=str(error))

    def record(self, verb: str, instance_id: str, kind: str, deadline: Deadline) -> None:
        """A start or stop, for the meter. The guard tells it some minutes later too, so it isn't worth a request."""
        now, brief = self.clock.ms(), Deadline(self.clock, min(deadline.ends, self.clock.monotonic() + 1))
        sign = wire.Sign(verb=verb, instance=instance_id, since_ms=now, at_ms=now, type=kind, by="router")
        try:
            self.table.leave(sign, brief)
        except AwsError as error:
            log.write(level="error", event="power_record", error=str(error))

    def _count_start(self, instance_id: str) -> None:
        """The metric `EC2Starts`, in the embedded metric format: Lambda's logs turn the line into a metric.

        One for all envs of the account together, and one for each.

        https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
        """
        log.write(
            _aws={
                "Timestamp": self.clock.ms(),
                "CloudWatchMetrics": [
                    {
                        "Namespace": "Aistratus",
                        "Dimensions": [["Reason"], ["Env", "Reason"]],
                        "Metrics": [{"Name": "EC2Starts", "Unit": "Count"}],
                    }
                ],
            },
            Env=self.env,
            Reason="ColdBoot",
            EC2Starts=1,
            instance=instance_id,
        )


def _reshape(ec2: Any, instance_id: str, type_: str, deadline: Deadline) -> str:
    """Makes the stopped instance this type, and gives it back."""
    spare(CONNECT_S + READ_EC2_S, deadline)
    ec2.modify_instance_attribute(InstanceId=instance_id, InstanceType={"Value": type_})
    return type_


def _is_refused(error: Exception) -> bool:
    """Has EC2 decided that a machine, which is there and stopped, can't become that type?

    `Unsupported`, `InvalidInstanceAttributeValue` and their like; asking again wouldn't help.
    """
    return code_of(error) not in PASSING | GONE | {RACED, ""}


def code_of(error: Exception) -> str:
    """AWS's code for what it refused; empty where it didn't answer."""
    response = getattr(error, "response", None)  # which botocore also gives an error without an answer, as None
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def spare(seconds: float, deadline: Deadline) -> None:
    """Goes on only where a step of that many seconds leaves enough for taking the prompt.

    Raises:
        NotNow: it doesn't.
    """
    if deadline.left() < seconds + SUBMIT_S:
        raise NotNow("too little of the request's time was left to ask EC2")


def boto3_ec2(region: str, endpoint: str | None) -> Any:
    """boto3's EC2 client, impatient and with one try for each call: a later request tries again anyway."""
    import boto3
    from botocore.config import Config

    once = {"mode": "standard", "total_max_attempts": 1}
    config = Config(connect_timeout=CONNECT_S, read_timeout=READ_EC2_S, retries=once)
    return boto3.client("ec2", region_name=region, endpoint_url=endpoint, config=config)
