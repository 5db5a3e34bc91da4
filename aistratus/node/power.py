"""The commands' entries in the power record: when they start, stop or see an instance of the env.

No command depends on it, so a failed write is no failure: the guard records within minutes what runs, and the meter
counts up to the last entry.
"""

from __future__ import annotations

import time
from contextlib import suppress

from aistratus import wire
from aistratus.cloud import Cloud
from aistratus.resources.ec2 import Described
from aistratus.resources.instance_listing import state_of

BY = "operator"


def seen(aws: Cloud, instance: Described) -> None:
    """Records that this instance runs, if it does: the LaunchTime of a stopped one is that of an earlier start."""
    if state_of(instance) in ("pending", "running"):
        _leave(aws, sign(wire.SEEN, instance, _now_ms()))


def stopped(aws: Cloud, instance: Described) -> None:
    """Records that this instance has just been stopped."""
    _leave(aws, sign(wire.STOP, instance, _now_ms()))


def sign(verb: str, instance: Described, now_ms: int) -> wire.Sign:
    """A sign of an instance; `seen` starts at EC2's LaunchTime, the time of the latest start."""
    since_ms = min(int(instance["LaunchTime"].timestamp() * 1000), now_ms) if verb == wire.SEEN else now_ms
    identity, type_ = instance["InstanceId"], instance["InstanceType"]
    return wire.Sign(verb=verb, instance=identity, since_ms=since_ms, at_ms=now_ms, type=type_, by=BY)


def _leave(aws: Cloud, sign: wire.Sign) -> None:
    with suppress(Exception):  # no table yet or any more, no permission, no network: the record has gaps, and says so
        aws.dynamodb.update_item(TableName=aws.name("jobs"), **sign.update())


def _now_ms() -> int:
    """This machine's clock: AWS refuses whoever's is five minutes off."""
    return int(time.time() * 1000)
