"""Stops all machines of an env, whatever happens to one of them.

All stop calls are made before any is waited for, one per machine, because EC2 carries out a call for all of its ids
or for none. A machine that is `pending` can't be stopped yet; the call is repeated when it runs.
Source: EC2 API reference, StopInstances; EC2 user guide, "Instance lifecycle".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, Unsettled, error_code
from aistratus.core.settle import until
from aistratus.node import power
from aistratus.node.lifecycle import RACED, STOPPED
from aistratus.node.states import ASLEEP, Do, step
from aistratus.resources.ec2 import Described
from aistratus.resources.instance_listing import INSTANCES, state_of

GONE: Final = frozenset({"InvalidInstanceID.NotFound"})
"""It was terminated meanwhile, and forgotten."""


@dataclass
class Stops:
    """What became of the machines, by id.

    left: those that aren't stopped yet, as EC2 listed them.
    gone: terminated meanwhile, and not by us.
    """

    left: dict[str, Described]
    stopped: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)

    def each(self, work: Callable[[Described], list[str] | None]) -> None:
        """Does this to each that is left; `work` says where it ends, or nothing yet."""
        for identity, instance in list(self.left.items()):
            try:
                end = work(instance)
            except Exception as error:  # noqa: BLE001 - told at the end; the others are to stop all the same
                self.failed[identity] = error
            else:
                if end is None:
                    continue
                end.append(identity)
            del self.left[identity]


def stop_all(aws: Cloud, instances: Iterable[Described]) -> Stops:
    """Stops machines, and waits until they have stopped; gives what became of each, and raises for none.

    Args:
        instances: as EC2 has just listed them, `pending` or `running`.
    """
    stops = Stops({instance["InstanceId"]: instance for instance in instances})

    def ask(instance: Described) -> list[str] | None:
        try:
            aws.ec2.stop_instances(InstanceIds=[instance["InstanceId"]])
        except Exception as error:
            if error_code(error) in GONE:
                return stops.gone
            if error_code(error) not in RACED:
                raise
        return None

    def look(instance: Described) -> list[str] | None:
        now = INSTANCES.by_id(aws, instance["InstanceId"])
        if now is None:
            return ask(instance)
        if not INSTANCES.alive(now):
            return stops.gone
        if now["LaunchTime"] != instance["LaunchTime"]:  # it is that of the latest start
            raise Failure("it was started again while it stopped", todo="run the command again")
        next_ = step(ASLEEP, state_of(now), now["InstanceType"])
        if next_ is Do.NOTHING:
            power.stopped(aws, instance)
            return stops.stopped
        return ask(instance) if next_ is Do.STOP else None

    def ended() -> bool | None:
        stops.each(look)
        return None if stops.left else True

    stops.each(ask)
    for instance in stops.left.values():
        power.seen(aws, instance)
    try:
        until(STOPPED, ended, clock=aws.clock)
    except Unsettled as error:
        stops.failed |= dict.fromkeys(stops.left, error)
    return stops
