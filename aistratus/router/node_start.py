"""Starts the node's stopped EC2 instance, as the type that it should have or as the next one with capacity.

A request carries the start as far as its time lasts. What it leaves undone stands in the jobs table (the pending
change of type, `pending_resize.py`), so that the next request continues from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aistratus import wire
from aistratus.router import log
from aistratus.router.aws import AwsError, is_transient
from aistratus.router.clock import Clock, Deadline
from aistratus.router.ec2 import (
    GONE,
    IMPORT_S,
    NO_CAPACITY,
    RACED,
    REASONS,
    TRANSIENT,
    Ec2,
    Ec2Error,
    Undecided,
    require_time,
)
from aistratus.router.node_state import STARTING, STOPPING, UNAVAILABLE, Node
from aistratus.router.pending_resize import PendingResize
from aistratus.router.registry import READ_S, Registry
from aistratus.router.table import Table

BOOKKEEPING_S: Final = 1.0
"""Time limit of a write that only statistics depend on."""


@dataclass(frozen=True)
class Starter:
    """Starts the node.

    Args:
        make_ec2: makes EC2's client; called only when the node must be looked at.
        env: whose node it is.
        types: the instance types that the settings allow, in the order they are tried in; the last is the CPU type.
        wake_as: the type to give the node before it starts, unless a change to another is pending; empty: none.
    """

    table: Table
    registry: Registry
    clock: Clock
    make_ec2: Callable[[], Ec2]
    resize: PendingResize
    env: str
    types: tuple[str, ...] = ()
    wake_as: str = ""

    def start(self, deadline: Deadline) -> Node:
        """Starts the instance if it is stopped, and returns its state; what AWS refuses becomes the reason.

        Raises:
            Undecided: AWS didn't answer, or too little time was left to ask it.
        """
        try:
            node = self._start_known(deadline)
            if node is None:  # a remembered id may be of an instance that was replaced
                self.registry.forget()
                node = self._start_known(deadline)
        except AwsError as error:
            if is_transient(error):
                raise Undecided("the ledger doesn't answer") from error
            log.write(level="error", event="wake", error=str(error))
            return Node(UNAVAILABLE, "the ledger can't be read")
        return node or Node(UNAVAILABLE, "there is no node; `aistratus up` creates it")

    def record_power(self, verb: str, instance_id: str, type_: str, deadline: Deadline) -> None:
        """Writes a start or stop into the power record, for the meter.

        Never raises: the guard records it some minutes later too.
        """
        now = self.clock.ms()
        sign = wire.Sign(verb=verb, instance=instance_id, since_ms=now, at_ms=now, type=type_, by="router")
        try:
            self.table.leave(sign, deadline.at_most(BOOKKEEPING_S))
        except AwsError as error:
            log.write(level="error", event="power_record", error=str(error))

    def _start_known(self, deadline: Deadline) -> Node | None:
        """Starts the instance that the ledger names; `None` when it names none or EC2 doesn't know it."""
        require_time(READ_S, deadline)
        instance_id = self.registry.get_id("node")
        if instance_id is None:
            return None
        require_time(IMPORT_S, deadline)
        try:
            return self._start_instance(self.make_ec2(), instance_id, deadline)
        except Ec2Error as error:
            if error.code in GONE:
                return None
            if error.code == RACED:  # the next request sees what it has become
                return Node(STOPPING)
            if error.code in TRANSIENT:
                raise Undecided(f"EC2 doesn't answer ({error.code})") from error
            log.write(level="error", event="wake", error=error.code, instance=instance_id)
            return Node(UNAVAILABLE, REASONS.get(error.code, "EC2 refused to start the node"))

    def _start_instance(self, ec2: Ec2, instance_id: str, deadline: Deadline) -> Node | None:
        instance = ec2.describe(instance_id, deadline)
        if instance is None:
            return None
        state, type_ = instance["State"]["Name"], instance["InstanceType"]
        if state in ("pending", "running"):
            return Node(STARTING)
        if state == "stopping":
            return Node(STOPPING)
        wanted = self.resize.type(deadline) or self.wake_as
        if wanted in self.types and wanted != type_:
            type_ = self._change_type(ec2, instance_id, type_, wanted, deadline)
        type_ = self._start_with_fallback(ec2, instance_id, type_, deadline)
        self._emit_start_metric(instance_id)
        self.record_power(wire.START, instance_id, type_, deadline)
        self._note_start(type_, deadline)
        if wanted:
            self.resize.complete(deadline)
        return Node(STARTING)

    def _change_type(self, ec2: Ec2, instance_id: str, current: str, wanted: str, deadline: Deadline) -> str:
        """Makes it the wanted type and returns the type that it has then: where EC2 refuses, it starts as it is."""
        try:
            ec2.set_type(instance_id, wanted, deadline)
            return wanted
        except Ec2Error as error:
            if not error.is_final:
                raise
            log.write(level="error", event="no_change", error=error.code, type=wanted, instead=current)
            self.resize.complete(deadline)
            return current

    def _start_with_fallback(self, ec2: Ec2, instance_id: str, type_: str, deadline: Deadline) -> str:
        """Starts it and returns its type: the next one of the list where AWS has no capacity, the CPU type at last."""
        while True:
            try:
                ec2.start(instance_id, deadline)
                return type_
            except Ec2Error as error:
                if error.code not in NO_CAPACITY:
                    raise
                type_ = self._change_to_next_type(ec2, instance_id, type_, error, deadline)

    def _change_to_next_type(self, ec2: Ec2, instance_id: str, current: str, why: Ec2Error, deadline: Deadline) -> str:
        """Makes it the next type of the list that it can become, and returns that.

        Raises:
            Ec2Error: `why` it has no capacity as it is, where no other type is left.
        """
        other = wire.next_shape(self.types, current)
        while other is not None:
            log.write(level="error", event="no_room", error=why.code, type=current, instead=other)
            self.resize.fall_back_to(other, configured=bool(self.wake_as), deadline=deadline)
            try:
                ec2.set_type(instance_id, other, deadline)
                return other
            except Ec2Error as error:
                if not error.is_final:
                    raise
                current, why, other = other, error, wire.next_shape(self.types, other)
        raise why

    def _note_start(self, type_: str, deadline: Deadline) -> None:
        """When it was started, and as what: the worker computes from it how long the boot took."""
        values = {"started_ms": self.clock.ms(), "type": type_}
        try:
            self.table.update(wire.WAKE_PK, deadline.at_most(BOOKKEEPING_S), values=values)
        except AwsError as error:  # this boot then doesn't count in the estimate
            log.write(level="error", event="wake", error=str(error))

    def _emit_start_metric(self, instance_id: str) -> None:
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
