"""EventBridge Scheduler: schedules, in a group of their own.

A schedule has no tags; only its group does. So our schedules are in a group with our tags: a schedule in a group
without them is somebody else's, whatever its name. Deleting a group deletes its schedules.

Scheduler invokes a function under a role that it assumes, not by a permission on the function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.resource import Found, Ref, Resource, reconciles
from aistratus.core.settle import Wait, settle, until
from aistratus.resources.calls import at_once, tag_list, tag_mapping, unless_gone

GONE = frozenset({"ResourceNotFoundException"})

ROLE_USABLE = Wait(
    what="EventBridge Scheduler can assume the schedule's role, and knows its group",
    within=90,
    codes=frozenset({"ValidationException", "ResourceNotFoundException", "ConflictException"}),
    saying=r"(?i)assume the role|group .*(does not exist|being deleted)|inconsistent",
)
"""A new role is known to Scheduler some seconds later; until then it "must allow AWS EventBridge Scheduler to assume
the role". Source: IAM user guide, "Changes that I make are not always immediately visible"; aws-sdk-js-v3 issue 6494.

`saying` leaves out "Schedule … already exists".
"""

SCHEDULER_FREE = Wait(
    what="EventBridge Scheduler ends another change of the schedule or group",
    within=60,
    codes=frozenset({"ConflictException"}),
)
"""Source: Scheduler API reference, ConflictException of DeleteSchedule, DeleteScheduleGroup and TagResource."""

GROUP_GONE = Wait(what="EventBridge Scheduler has deleted the group of that name", within=300, first=0.2)
"""A group is `DELETING` until everything in it is gone. Source: Scheduler API reference, DeleteScheduleGroup."""


# --- groups -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ScheduleGroup(Resource):
    """A group of schedules, named `tinyllama-<env>-<name>`; its tags say whose the schedules in it are.

    name: the key, with dashes, unless given.
    """

    name: str = ""

    replace_on: ClassVar[frozenset[str]] = frozenset({"name"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.key.replace("_", "-"))


def find_group(aws: Cloud, want: ScheduleGroup) -> Found | None:
    """By name; one that is being deleted counts as gone."""
    name = aws.name(want.name)
    group = _group(aws, name)
    if group is None or group["State"] == "DELETING":
        return None
    tags = _group_tags(aws, name)
    aws.require_ours("schedule group", name, tags, want.key)
    return Found(state=ScheduleGroup(key=want.key, name=want.name), ids=_group_ids(aws, name), tags=tags)


def owned_groups(aws: Cloud) -> list[Found]:
    """By tags, among the groups with our name."""
    owned = []
    for page in aws.scheduler.get_paginator("list_schedule_groups").paginate(NamePrefix=aws.prefix):
        for group in page.get("ScheduleGroups", []):
            name = group["Name"]
            tags = {} if group["State"] == "DELETING" else _group_tags(aws, name)
            if aws.owns(tags):
                state = ScheduleGroup(key=tags["aistratus:key"], name=name.removeprefix(aws.prefix))
                owned.append(Found(state=state, ids=_group_ids(aws, name), tags=tags))
    return owned


def remove_group(aws: Cloud, have: Found) -> None:
    """Removes it with all its schedules, and waits until its name is free."""
    name = have.ids["name"]
    unless_gone(GONE, settle, wait=SCHEDULER_FREE, call=aws.scheduler.delete_schedule_group, clock=aws.clock, Name=name)
    _await_gone(aws, name)


@reconciles(ScheduleGroup, find=find_group, remove=remove_group, owned=owned_groups)
def ensure_group(aws: Cloud, want: ScheduleGroup, have: Found | None, changes: frozenset[str]) -> Found:
    name, tags = aws.name(want.name), tag_list(aws.tags(want.key))
    if have is None:
        _await_gone(aws, name)  # one of this name may be on its way out
        aws.create_once(
            "scheduler",
            "create_schedule_group",
            look=lambda cloud: find_group(cloud, want),
            taken={"ConflictException"},
            Name=name,
            Tags=tags,
        )
    elif "tags" in changes:
        settle(SCHEDULER_FREE, aws.scheduler.tag_resource, clock=aws.clock, ResourceArn=have.ids["arn"], Tags=tags)
    return await_match(find_group, aws, want)


def _await_gone(aws: Cloud, name: str) -> None:
    def gone() -> bool | None:
        group = unless_gone(GONE, aws.scheduler.get_schedule_group, Name=name)
        return True if group is None or group["State"] != "DELETING" else None

    until(GROUP_GONE, gone, clock=aws.clock)


def _group(aws: Cloud, name: str) -> Mapping[str, Any] | None:
    """The group, or `None`."""
    call = aws.scheduler.get_schedule_group
    found: Mapping[str, Any] | None = aws.shared(f"scheduler.group {name}", lambda: unless_gone(GONE, call, Name=name))
    return found


def _group_tags(aws: Cloud, name: str) -> dict[str, str]:
    """All tags of a group, none if it isn't there; read once for the group and all its schedules."""

    def read() -> dict[str, str]:
        call = aws.scheduler.list_tags_for_resource
        answer = unless_gone(GONE, call, ResourceArn=aws.arn("scheduler", f"schedule-group/{name}"))
        return tag_mapping((answer or {}).get("Tags"))

    return aws.shared(f"scheduler.group-tags {name}", read)


def _group_ids(aws: Cloud, name: str) -> dict[str, str]:
    return {"id": name, "name": name, "arn": aws.arn("scheduler", f"schedule-group/{name}")}


# --- schedules --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Schedule(Resource):
    """A schedule named `tinyllama-<env>-<name>` that calls one function.

    name: the key, with dashes, unless given.
    group: name of the group that it stands in.
    expression: `cron(0 8 * * ? *)`, `rate(1 day)` or `at(2030-01-01T08:00:00)`.
    timezone: where `cron` and `at` are read, as `Europe/Berlin`.
    target: ARN of the function.
    role: ARN of the role under which Scheduler calls it; it trusts `scheduler.amazonaws.com`.
    input: JSON text that the function gets.
    flexible_min: minutes within which Scheduler may choose the moment; 0: at once.
    retries: how often a call that failed is made again, 0 to 185.
    max_age_s: seconds after which it is given up, 60 to 86,400.
    """

    name: str = ""
    group: Ref | str
    expression: str
    timezone: str = "UTC"
    target: Ref | str
    role: Ref | str
    input: str = "{}"
    description: str = ""
    enabled: bool = True
    flexible_min: int = 0
    retries: int = 3
    max_age_s: int = 3_600

    replace_on: ClassVar[frozenset[str]] = frozenset({"name", "group"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.key.replace("_", "-"))


def find_schedule(aws: Cloud, want: Schedule) -> Found | None:
    """By its name and its group's, if the group is ours."""
    name, group = aws.name(want.name), _group_name(aws, want.group)
    found, tags = at_once(
        lambda: unless_gone(GONE, aws.scheduler.get_schedule, Name=name, GroupName=group),
        lambda: _group_tags(aws, group),
    )
    if found is None:
        return None
    aws.require_ours("schedule group", group, tags, tags.get("aistratus:key", ""))
    target, window = found["Target"], found["FlexibleTimeWindow"]
    retry: Mapping[str, Any] = target.get("RetryPolicy", {})
    state = Schedule(
        key=want.key,
        name=want.name,
        group=group,
        expression=found["ScheduleExpression"],
        timezone=found.get("ScheduleExpressionTimezone", "UTC"),
        target=target["Arn"],
        role=target["RoleArn"],
        input=target.get("Input", ""),
        description=found.get("Description") or "",
        enabled=found.get("State") != "DISABLED",
        flexible_min=0 if window["Mode"] == "OFF" else int(window.get("MaximumWindowInMinutes", 0)),
        retries=int(retry.get("MaximumRetryAttempts", 185)),
        max_age_s=int(retry.get("MaximumEventAgeInSeconds", 86_400)),
    )
    return Found(state=state, ids={"id": f"{group}/{name}", "name": name, "group": group, "arn": found["Arn"]})


def remove_schedule(aws: Cloud, have: Found) -> None:
    """Removes it; its group stays."""
    which = {"Name": have.ids["name"], "GroupName": have.ids["group"]}
    unless_gone(GONE, settle, wait=SCHEDULER_FREE, call=aws.scheduler.delete_schedule, clock=aws.clock, **which)


@reconciles(Schedule, find=find_schedule, remove=remove_schedule)
def ensure_schedule(aws: Cloud, want: Schedule, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        aws.create_once(
            "scheduler",
            "create_schedule",
            look=lambda cloud: find_schedule(cloud, want),
            taken={"ConflictException"},
            settling=ROLE_USABLE,
            **_encoded(aws, want),
        )
    elif changes:
        # UpdateSchedule sets everything anew: what is left out goes back to its default.
        settle(ROLE_USABLE, aws.scheduler.update_schedule, clock=aws.clock, **_encoded(aws, want))
    return await_match(find_schedule, aws, want)


def _encoded(aws: Cloud, want: Schedule) -> dict[str, Any]:
    """All of it, as CreateSchedule and UpdateSchedule take it."""
    window: dict[str, Any] = {"Mode": "OFF"}
    if want.flexible_min:
        window = {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": want.flexible_min}
    return {
        "Name": aws.name(want.name),
        "GroupName": want.group,
        "ScheduleExpression": want.expression,
        "ScheduleExpressionTimezone": want.timezone,
        "Description": want.description,
        "State": "ENABLED" if want.enabled else "DISABLED",
        "FlexibleTimeWindow": window,
        "Target": {
            "Arn": want.target,
            "RoleArn": want.role,
            "Input": want.input,
            "RetryPolicy": {"MaximumRetryAttempts": want.retries, "MaximumEventAgeInSeconds": want.max_age_s},
        },
    }


def _group_name(aws: Cloud, group: Ref | str) -> str:
    if isinstance(group, str):
        return group
    assert isinstance(group.to, ScheduleGroup)
    return aws.name(group.to.name)
