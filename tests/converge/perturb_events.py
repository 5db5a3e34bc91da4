"""What somebody may do to rules and schedules from outside: one change for each field that `up` repairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.events import EventRule
from aistratus.resources.functions import ServicePermission
from aistratus.resources.scheduler import Schedule, ScheduleGroup

Perturbation = Callable[[Cloud, Found], None]

ELSEWHERE = "arn:aws:lambda:eu-central-1:123456789012:function:somebody"


# --- rules ----------------------------------------------------------------------------------------------------------


def _rule(**other: str) -> Perturbation:
    """The rule is put again with one other value."""

    def change(aws: Cloud, found: Found) -> None:
        rule = aws.events.describe_rule(Name=found.ids["name"])
        kept = {name: rule[name] for name in ("Name", "ScheduleExpression", "Description", "State") if name in rule}
        aws.events.put_rule(**{**kept, **other})

    return change


def _switched(aws: Cloud, found: Found) -> None:
    """Off if it is on, on if it is off."""
    assert isinstance(found.state, EventRule)
    switch = aws.events.disable_rule if found.state.enabled else aws.events.enable_rule
    switch(Name=found.ids["name"])


def _target(**other: str) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        assert isinstance(found.state, EventRule)
        target = {"Id": "function", "Arn": found.state.target}
        if found.state.input:
            target["Input"] = found.state.input
        aws.events.put_targets(Rule=found.ids["name"], Targets=[{**target, **other}])

    return change


def _other_target(aws: Cloud, found: Found) -> None:
    aws.events.put_targets(Rule=found.ids["name"], Targets=[{"Id": "somebody", "Arn": ELSEWHERE}])


def _rule_tags(aws: Cloud, found: Found) -> None:
    aws.events.tag_resource(ResourceARN=found.ids["arn"], Tags=[{"Key": "ManagedBy", "Value": "somebody"}])


# --- permissions of services ----------------------------------------------------------------------------------------


def _permission(*, principal: str = "", source_arn: str = "", action: str = "") -> Perturbation:
    """Takes the statement away and gives one of the same id that differs in one thing."""

    def change(aws: Cloud, found: Found) -> None:
        state = found.state
        assert isinstance(state, ServicePermission)
        where = {"FunctionName": found.ids["function"]}
        if found.ids["qualifier"]:
            where["Qualifier"] = found.ids["qualifier"]
        aws.lambda_.remove_permission(StatementId=found.ids["id"], **where)
        aws.lambda_.add_permission(
            StatementId=found.ids["id"],
            Action=action or state.action,
            Principal=principal or state.principal,
            SourceArn=source_arn or state.source_arn,
            **where,
        )

    return change


# --- schedules ------------------------------------------------------------------------------------------------------


def _schedule(**other: Any) -> Perturbation:
    """The schedule is updated with one other value; what an update leaves out would be lost."""

    def change(aws: Cloud, found: Found) -> None:
        which = {"Name": found.ids["name"], "GroupName": found.ids["group"]}
        now = aws.scheduler.get_schedule(**which)
        fields = ("ScheduleExpression", "ScheduleExpressionTimezone", "Description", "State", "FlexibleTimeWindow",
                  "Target")  # fmt: skip
        aws.scheduler.update_schedule(**which, **{**{name: now[name] for name in fields}, **other})

    return change


def _schedule_target(**other: Any) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        which = {"Name": found.ids["name"], "GroupName": found.ids["group"]}
        target = aws.scheduler.get_schedule(**which)["Target"]
        _schedule(Target={**target, **other})(aws, found)

    return change


def _retry(**other: int) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        which = {"Name": found.ids["name"], "GroupName": found.ids["group"]}
        target = aws.scheduler.get_schedule(**which)["Target"]
        _schedule(Target={**target, "RetryPolicy": {**target["RetryPolicy"], **other}})(aws, found)

    return change


def _group_tags(aws: Cloud, found: Found) -> None:
    aws.scheduler.tag_resource(ResourceArn=found.ids["arn"], Tags=[{"Key": "ManagedBy", "Value": "somebody"}])


PERTURB: dict[tuple[type, str], Perturbation] = {
    (EventRule, "schedule"): _rule(ScheduleExpression="rate(7 days)"),
    (EventRule, "description"): _rule(Description="Somebody's"),
    (EventRule, "enabled"): _switched,
    (EventRule, "target"): _target(Arn=ELSEWHERE),
    (EventRule, "input"): _target(Input='{"somebody": 1}'),
    (EventRule, "other_targets"): _other_target,
    (EventRule, "tags"): _rule_tags,
    (ServicePermission, "principal"): _permission(principal="s3.amazonaws.com"),
    (ServicePermission, "source_arn"): _permission(source_arn="arn:aws:events:eu-central-1:123456789012:rule/another"),
    (ServicePermission, "action"): _permission(action="lambda:GetFunction"),
    (ScheduleGroup, "tags"): _group_tags,
    (Schedule, "expression"): _schedule(ScheduleExpression="rate(7 days)"),
    (Schedule, "timezone"): _schedule(ScheduleExpressionTimezone="Asia/Tokyo"),
    (Schedule, "description"): _schedule(Description="Somebody's"),
    (Schedule, "enabled"): _schedule(State="DISABLED"),
    (Schedule, "flexible_min"): _schedule(FlexibleTimeWindow={"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 7}),
    (Schedule, "target"): _schedule_target(Arn=ELSEWHERE),
    (Schedule, "role"): _schedule_target(RoleArn="arn:aws:iam::123456789012:role/somebody"),
    (Schedule, "input"): _schedule_target(Input='{"somebody": 1}'),
    (Schedule, "retries"): _retry(MaximumRetryAttempts=77),
    (Schedule, "max_age_s"): _retry(MaximumEventAgeInSeconds=7_777),
}
