"""The power record as the operator's commands write it: when they start, stop or see an instance of the env.

Nothing that a command does depends on it, so a sign that can't be left is no failure: the guard sees within minutes
what runs, and the meter counts to the last sign of life.
"""

from __future__ import annotations

import time
from contextlib import suppress

from aistratus import wire
from aistratus.cloud import Cloud
from aistratus.resources.ec2 import Thing
from aistratus.resources.instance_listing import state_of

BY = "operator"


def seen(aws: Cloud, thing: Thing) -> None:
    """Says that this instance runs, if it does: of one that is off, LaunchTime is that of an earlier start."""
    if state_of(thing) in ("pending", "running"):
        _leave(aws, sign(wire.SEEN, thing, _now_ms()))


def stopped(aws: Cloud, thing: Thing) -> None:
    """Says that this instance has stopped, just now."""
    _leave(aws, sign(wire.STOP, thing, _now_ms()))


def sign(verb: str, thing: Thing, now_ms: int) -> wire.Sign:
    """A sign of an instance; that it runs is said with EC2's LaunchTime, which is that of the latest start."""
    since_ms = min(int(thing["LaunchTime"].timestamp() * 1000), now_ms) if verb == wire.SEEN else now_ms
    kind, instance = thing["InstanceType"], thing["InstanceId"]
    return wire.Sign(verb=verb, instance=instance, since_ms=since_ms, at_ms=now_ms, type=kind, by=BY)


def _leave(aws: Cloud, sign: wire.Sign) -> None:
    with suppress(Exception):  # no table yet or any more, no permission, no network: the record has gaps, and says so
        aws.dynamodb.update_item(TableName=aws.name("jobs"), **sign.update())


def _now_ms() -> int:
    """This machine's clock: AWS refuses whoever's is five minutes off."""
    return int(time.time() * 1000)
