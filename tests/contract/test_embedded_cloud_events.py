"""What happens by the clock and by topics in the embedded cloud: who is called, with what, and who isn't."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from embedded_cloud_parts import REGION, eventually, function, log_lines, refused, role, unique, zipped
from strict_judge import Judge

from aistratus.local.schedule_expression import parse
from aistratus.local.server import ACCOUNT

ECHO = """
import json
def handle(event, context):
    print("got " + json.dumps(event))
"""
MINUTES = 60


def echo(judge: Judge) -> str:
    """Name of a function that writes what it gets into its log."""
    return function(judge.connect, Code={"ZipFile": zipped({"code.py": ECHO})})


def arn(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def got(judge: Judge, name: str) -> list[Any]:
    """What the function got so far."""
    logs = judge("logs")
    groups = logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"]
    lines = log_lines(judge.connect, f"/aws/lambda/{name}") if groups else []
    return [json.loads(line.removeprefix("got ")) for line in lines if line.startswith("got ")]


def await_calls(judge: Judge, name: str, number: int) -> list[Any]:
    found = eventually(lambda: got(judge, name), until=lambda calls: len(calls) >= number)
    assert len(found) == number
    return found


def allow(judge: Judge, name: str, service: str, source: str) -> None:
    judge("lambda").add_permission(
        FunctionName=name,
        StatementId=unique(),
        Action="lambda:InvokeFunction",
        Principal=service,
        SourceArn=source,
    )


def rule(judge: Judge, name: str, expression: str = "rate(30 minutes)", **target: str) -> str:
    """ARN of a new rule that calls a function."""
    events, called = judge("events"), unique("rule")
    source: str = events.put_rule(Name=called, ScheduleExpression=expression)["RuleArn"]
    events.put_targets(Rule=called, Targets=[{"Id": "function", "Arn": arn(name), **target}])
    return source


# --- rules ----------------------------------------------------------------------------------------------------------


def test_a_rule_calls_its_function_when_it_is_due_and_not_before(judge: Judge) -> None:
    name = echo(judge)
    source = rule(judge, name)
    allow(judge, name, "events.amazonaws.com", source)
    judge.order(advance_s=29 * MINUTES)
    assert got(judge, name) == []
    judge.order(advance_s=2 * MINUTES)
    (event,) = await_calls(judge, name, 1)
    assert (event["source"], event["detail-type"], event["detail"]) == ("aws.events", "Scheduled Event", {})
    assert (event["resources"], event["account"], event["region"]) == ([source], ACCOUNT, REGION)
    judge.order(advance_s=30 * MINUTES)
    first, second = (datetime.fromisoformat(event["time"]) for event in await_calls(judge, name, 2))
    assert (second - first).total_seconds() == 30 * MINUTES


def test_nobody_is_called_without_permission_by_a_disabled_rule_or_for_another_rule(judge: Judge) -> None:
    closed, disabled, mistaken, sure = (echo(judge) for _ in range(4))
    rule(judge, closed)
    asleep = rule(judge, disabled)
    allow(judge, disabled, "events.amazonaws.com", asleep)
    judge("events").disable_rule(Name=asleep.rpartition("/")[2])
    rule(judge, mistaken)
    allow(judge, mistaken, "events.amazonaws.com", asleep)
    allow(judge, sure, "events.amazonaws.com", rule(judge, sure))
    judge.order(advance_s=31 * MINUTES)
    await_calls(judge, sure, 1)  # was called last
    assert [got(judge, name) for name in (closed, disabled, mistaken)] == [[], [], []]


def test_a_target_with_input_gets_that_and_a_long_sleep_is_one_call(judge: Judge) -> None:
    name = echo(judge)
    allow(judge, name, "events.amazonaws.com", rule(judge, name, Input='{"warm": true}'))
    judge.order(advance_s=600 * MINUTES)
    assert await_calls(judge, name, 1) == [{"warm": True}]


def test_a_rule_with_targets_is_not_deleted(judge: Judge) -> None:
    name = rule(judge, echo(judge)).rpartition("/")[2]
    events = judge("events")
    assert refused(events.delete_rule, Name=name) == "ValidationException"
    events.remove_targets(Rule=name, Ids=["function"])
    events.delete_rule(Name=name)
    events.delete_rule(Name=name)


def test_schedule_expression(judge: Judge) -> None:
    events, scheduler = judge("events"), judge("scheduler")
    wrong = ("rate(1 minutes)", "rate(5 minute)", "rate(0 days)", "cron(0 8 * * *)", "cron(0 8 * * * *)",
             "cron(60 8 * * ? *)", "at(2030-01-01T00:00:00)", "every day")  # fmt: skip
    for expression in wrong:
        assert refused(events.put_rule, Name=unique(), ScheduleExpression=expression) == "ValidationException"
    target = {"Arn": arn("any"), "RoleArn": "arn:aws:iam::123456789012:role/any"}
    off = {"Mode": "OFF"}
    for expression, timezone in (("rate(1 days)", "UTC"), ("cron(0 8 * * ? *)", "Europe/Nowhere")):
        code = refused(
            scheduler.create_schedule, Name=unique(), ScheduleExpression=expression,
            ScheduleExpressionTimezone=timezone, FlexibleTimeWindow=off, Target=target,
        )  # fmt: skip
        assert code == "ValidationException"


def test_targets_refused(judge: Judge) -> None:
    """The answer is good, and what it says isn't."""
    events, name = judge("events"), unique("rule")
    events.put_rule(Name=name, ScheduleExpression="rate(1 hour)")
    judge.delay("targets-refused", 1)
    wanted = {"Rule": name, "Targets": [{"Id": "function", "Arn": arn("any")}]}
    answer = events.put_targets(**wanted)
    assert answer["FailedEntryCount"] == 1
    assert answer["FailedEntries"][0]["ErrorCode"] == "ConcurrentModificationException"
    assert events.list_targets_by_rule(Rule=name)["Targets"] == []
    assert events.put_targets(**wanted)["FailedEntryCount"] == 0


# --- schedules ------------------------------------------------------------------------------------------------------


def schedule(judge: Judge, name: str, role_arn: str, expression: str = "rate(1 day)", **target: str) -> dict[str, str]:
    """Name and group of a new schedule that calls a function."""
    scheduler, which = judge("scheduler"), {"Name": unique("schedule"), "GroupName": unique("group")}
    scheduler.create_schedule_group(Name=which["GroupName"])
    scheduler.create_schedule(
        **which,
        ScheduleExpression=expression,
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": arn(name), "RoleArn": role_arn, **target},
    )
    return which


def caller(judge: Judge, *names: str, service: str = "scheduler.amazonaws.com") -> str:
    """ARN of a new role that may invoke functions."""
    role_arn = role(judge.connect, service)
    statement = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": [arn(name) for name in names]}
    judge("iam").put_role_policy(
        RoleName=role_arn.rpartition("/")[2],
        PolicyName="invoke",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    return role_arn


def test_a_schedule_calls_its_function_under_its_role_and_under_no_other(judge: Judge) -> None:
    called, untrusted, not_allowed = (echo(judge) for _ in range(3))
    schedule(judge, untrusted, caller(judge, untrusted, service="lambda.amazonaws.com"))
    schedule(judge, not_allowed, caller(judge, called))
    which = schedule(judge, called, caller(judge, called), Input='{"at": "<aws.scheduler.scheduled-time>"}')
    judge.order(advance_s=25 * 60 * MINUTES)
    (event,) = await_calls(judge, called, 1)
    assert datetime.fromisoformat(event["at"]).tzinfo is not None
    assert [got(judge, name) for name in (untrusted, not_allowed)] == [[], []]
    judge("scheduler").delete_schedule_group(Name=which["GroupName"])
    assert refused(judge("scheduler").get_schedule, **which) == "ResourceNotFoundException"


def test_names_of_schedules_and_groups_are_given_out_once(judge: Judge) -> None:
    scheduler = judge("scheduler")
    which = schedule(judge, "any", role(judge.connect, "scheduler.amazonaws.com"))
    again = {"ScheduleExpression": "rate(1 day)", "FlexibleTimeWindow": {"Mode": "OFF"},
             "Target": {"Arn": arn("any"), "RoleArn": "arn:aws:iam::123456789012:role/any"}}  # fmt: skip
    assert refused(scheduler.create_schedule_group, Name=which["GroupName"]) == "ConflictException"
    assert refused(scheduler.create_schedule, **which, **again) == "ConflictException"
    nowhere = {**which, "GroupName": unique()}
    assert refused(scheduler.create_schedule, **nowhere, **again) == "ResourceNotFoundException"
    assert refused(scheduler.delete_schedule_group, Name=unique()) == "ResourceNotFoundException"


def test_scheduler_role_not_assumable(judge: Judge) -> None:
    judge.delay("scheduler-role-not-assumable", 1)
    wanted = {"Name": unique(), "ScheduleExpression": "rate(1 day)", "FlexibleTimeWindow": {"Mode": "OFF"},
              "Target": {"Arn": arn("any"), "RoleArn": role(judge.connect)}}  # fmt: skip
    assert refused(judge("scheduler").create_schedule, **wanted) == "ValidationException"
    judge("scheduler").create_schedule(**wanted)


def test_schedule_group_lingers(judge: Judge) -> None:
    scheduler, name = judge("scheduler"), unique()
    scheduler.create_schedule_group(Name=name)
    judge.delay("schedule-group-lingers", 1)
    scheduler.delete_schedule_group(Name=name)
    assert refused(scheduler.create_schedule_group, Name=name) == "ConflictException"
    assert scheduler.get_schedule_group(Name=name)["State"] == "DELETING"
    assert refused(scheduler.get_schedule_group, Name=name) == "ResourceNotFoundException"
    scheduler.create_schedule_group(Name=name)


# --- topics ---------------------------------------------------------------------------------------------------------


def test_what_is_published_reaches_the_functions_that_let_the_topic(judge: Judge) -> None:
    sns, open_to_it, closed = judge("sns"), echo(judge), echo(judge)
    topic = sns.create_topic(Name=unique("topic"))["TopicArn"]
    other = sns.create_topic(Name=unique("topic"))["TopicArn"]
    allow(judge, open_to_it, "sns.amazonaws.com", topic)
    allow(judge, closed, "sns.amazonaws.com", other)
    for name in (closed, open_to_it):
        sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn(name))
    sns.publish(TopicArn=topic, Subject="told", Message="the text")
    (event,) = await_calls(judge, open_to_it, 1)
    (record,) = event["Records"]
    assert record["EventSource"] == "aws:sns"
    notice = record["Sns"]
    assert (notice["TopicArn"], notice["Subject"], notice["Message"]) == (topic, "told", "the text")
    assert got(judge, closed) == []


# --- the moments of an expression -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "timezone", "expected"),
    [
        ("rate(1 minute)", "UTC", "2026-02-28T10:16:00+00:00"),
        ("rate(2 days)", "UTC", "2026-03-02T10:15:00+00:00"),
        ("cron(0 8 * * ? *)", "UTC", "2026-03-01T08:00:00+00:00"),
        ("cron(0 8 * * ? *)", "Europe/Berlin", "2026-03-01T07:00:00+00:00"),
        ("cron(0/20 9-17 ? * MON-FRI *)", "UTC", "2026-03-02T09:00:00+00:00"),
        ("cron(30 10 L * ? *)", "UTC", "2026-02-28T10:30:00+00:00"),
        ("cron(0 0 15W * ? *)", "UTC", "2026-03-16T00:00:00+00:00"),
        ("cron(0 0 ? * 6#3 *)", "UTC", "2026-03-20T00:00:00+00:00"),
        ("cron(0 0 ? * 6L 2027)", "UTC", "2027-01-29T00:00:00+00:00"),
        ("cron(0 0 29 FEB ? *)", "UTC", "2028-02-29T00:00:00+00:00"),
        ("cron(0 0 1 1 ? 2025)", "UTC", None),
        ("at(2026-03-01T08:00:00)", "America/New_York", "2026-03-01T13:00:00+00:00"),
        ("at(2026-01-01T08:00:00)", "UTC", None),
    ],
)
def test_the_next_moment_of_an_expression(expression: str, timezone: str, expected: str | None) -> None:
    now = datetime(2026, 2, 28, 10, 15, tzinfo=UTC).timestamp()
    following = parse(expression, timezone, one_time=True)(now)
    assert (following and datetime.fromtimestamp(following, UTC).isoformat()) == expected
