"""Rules, schedules and who may call a function: made, repaired, removed, and told apart from strangers'."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from converge_engine import ACCOUNT, REGION, Engine
from lost_answers import lose_answers
from perturb_events import ELSEWHERE, PERTURB
from perturb_functions import package

from aistratus.cloud import Cloud
from aistratus.core.errors import Stranger
from aistratus.core.resource import Ref, Resource
from aistratus.policies import trust
from aistratus.resources.events import EventRule, owned_rules
from aistratus.resources.functions import Function, ServicePermission
from aistratus.resources.iam import Role
from aistratus.resources.scheduler import Schedule, ScheduleGroup, owned_groups

KEYS = {EventRule: "half_hourly", ServicePermission: "rule_permission", ScheduleGroup: "schedules", Schedule: "daily"}


OURS = "arn:aws:lambda:eu-central-1:123456789012:function:ours"


def rule(target: Ref | str = OURS) -> EventRule:
    return EventRule(key="half_hourly", schedule="rate(30 minutes)", target=target, input='{"half": 1}')


def schedules(target: Ref | str = OURS) -> list[Resource]:
    caller = Role(key="caller_role", trust=trust("scheduler.amazonaws.com"))
    group = ScheduleGroup(key="schedules")
    daily = Schedule(
        key="daily",
        group=Ref(group),
        expression="cron(0 8 * * ? *)",
        timezone="Europe/Berlin",
        target=target,
        role=Ref(caller, "arn"),
    )
    return [daily, group, caller]


def function() -> list[Resource]:
    content = package("tick")
    role = Role(key="tick_role", trust=trust("lambda.amazonaws.com"))
    sha256 = base64.b64encode(hashlib.sha256(content).digest()).decode()
    tick = Function(key="tick", code=lambda: content, code_sha256=sha256, handler="app.handle", role=Ref(role, "arn"))
    return [tick, role]


def permission(tick: Resource, source: Ref | str) -> ServicePermission:
    principal = "events.amazonaws.com"
    return ServicePermission(key="rule_permission", function=Ref(tick), principal=principal, source_arn=source)


def stack() -> list[Resource]:
    tick, role = function()
    half_hourly = rule(Ref(tick, "arn"))
    return [
        *schedules(Ref(tick, "arn")), permission(tick, Ref(half_hourly, "arn")), half_hourly, tick, role,
    ]  # fmt: skip


def part(kind: type) -> list[Resource]:
    """As little as a resource of this kind needs."""
    if kind is EventRule:
        return [rule()]
    if kind is ServicePermission:
        tick, role = function()
        return [permission(tick, "arn:aws:events:eu-central-1:123456789012:rule/half-hourly"), tick, role]
    return schedules()


def test_up_makes_them_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    name, function = f"tinyllama-{aws.env}-half-hourly", f"tinyllama-{aws.env}-tick"
    rule = aws.events.describe_rule(Name=name)
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(30 minutes)", "ENABLED")
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"
    targets = aws.events.list_targets_by_rule(Rule=name)["Targets"]
    assert targets == [{"Id": "function", "Arn": arn, "Input": '{"half": 1}'}]
    tags = aws.events.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == aws.tags("half_hourly")
    (statement,) = json.loads(aws.lambda_.get_policy(FunctionName=function)["Policy"])["Statement"]
    assert (statement["Resource"], statement["Principal"]) == (arn, {"Service": "events.amazonaws.com"})
    assert list(statement["Condition"]["ArnLike"].values()) == [rule["Arn"]]
    group = f"tinyllama-{aws.env}-schedules"
    daily = aws.scheduler.get_schedule(Name=f"tinyllama-{aws.env}-daily", GroupName=group)
    assert (daily["ScheduleExpression"], daily["ScheduleExpressionTimezone"]) == ("cron(0 8 * * ? *)", "Europe/Berlin")
    assert (daily["Target"]["Arn"], daily["FlexibleTimeWindow"]) == (arn, {"Mode": "OFF"})
    again = engine.up(*stack())
    assert {change.action for change in again.changes} == {"unchanged"}


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    standing.assert_repairs(part(kind), KEYS[kind], field, PERTURB[kind, field])


def test_a_rule_without_input_hands_the_event_on_itself(aws: Cloud, engine: Engine) -> None:
    plain = EventRule(key="plain", schedule="rate(1 hour)", target=ELSEWHERE)
    engine.up(plain)
    aws.events.put_targets(
        Rule=aws.name("plain"), Targets=[{"Id": "function", "Arn": ELSEWHERE, "Input": '{"not": "ours"}'}]
    )
    assert engine.differences(plain) == {"plain": {"input"}}
    engine.up(plain)
    assert aws.events.list_targets_by_rule(Rule=aws.name("plain"))["Targets"] == [{"Id": "function", "Arn": ELSEWHERE}]


def test_a_run_that_died_before_the_target_was_put_is_finished(aws: Cloud, engine: Engine) -> None:
    tags = [{"Key": name, "Value": value} for name, value in aws.tags("plain").items()]
    aws.events.put_rule(Name=aws.name("plain"), ScheduleExpression="rate(1 hour)", Tags=tags)
    plain = EventRule(key="plain", schedule="rate(1 hour)", target=ELSEWHERE)
    assert engine.differences(plain) == {"plain": {"target"}}
    engine.up(plain)
    assert engine.plan(plain).empty


def test_down_removes_them_with_what_others_hung_on_them_and_up_makes_them_again(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    aws.events.put_targets(Rule=aws.name("half-hourly"), Targets=[{"Id": "theirs", "Arn": ELSEWHERE}])
    assert engine.down(*stack()).ok
    assert owned_rules(aws.fresh()) == []
    assert owned_groups(aws.fresh()) == []
    assert engine.down(*stack()).ok
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_each_alone_can_be_removed_and_comes_back(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    for key in KEYS.values():
        engine.remove(next(resource for resource in stack() if resource.key == key))
        engine.up(*stack())
        assert engine.plan(*stack()).empty


def test_what_has_our_names_without_our_tags_is_refused_and_left_alone(aws: Cloud, engine: Engine) -> None:
    """A schedule has no tags: in a stranger's group it is the stranger's."""
    half_hourly, group, schedule = aws.name("half-hourly"), aws.name("schedules"), aws.name("daily")
    aws.events.put_rule(Name=half_hourly, ScheduleExpression="rate(5 days)")
    aws.scheduler.create_schedule_group(Name=group, Tags=[{"Key": "Project", "Value": "other"}])
    target = {"Arn": ELSEWHERE, "RoleArn": "arn:aws:iam::123456789012:role/somebody"}
    aws.scheduler.create_schedule(
        Name=schedule,
        GroupName=group,
        ScheduleExpression="rate(5 days)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=target,
    )
    strangers = engine.plan(rule(), *schedules()).survey.failed
    assert {key: type(error) for key, error in strangers.items()} == dict.fromkeys(
        ("half_hourly", "schedules", "daily"), Stranger
    )
    assert engine.try_up(rule(), *schedules()).failures
    engine.down(rule(), *schedules())
    assert aws.events.describe_rule(Name=half_hourly)["ScheduleExpression"] == "rate(5 days)"
    assert aws.scheduler.get_schedule(Name=schedule, GroupName=group)["Target"]["Arn"] == ELSEWHERE


def test_owned_finds_what_an_older_description_left_and_no_other_env(aws: Cloud, engine: Engine) -> None:
    # The names of these start like the names of our env.
    other = [{"Key": "Project", "Value": "tinyllama"}, {"Key": "Env", "Value": f"{aws.env}-2"}]
    aws.events.put_rule(Name=aws.name("2-rule"), ScheduleExpression="rate(5 days)", Tags=other)
    aws.scheduler.create_schedule_group(Name=aws.name("2-group"), Tags=other)
    old = EventRule(key="old", schedule="rate(1 day)", target=ELSEWHERE)
    engine.up(*stack(), old, ScheduleGroup(key="old_group"))
    assert {found.state.key for found in owned_rules(aws.fresh())} == {"half_hourly", "old"}
    assert {found.state.key for found in owned_groups(aws.fresh())} == {"schedules", "old_group"}
    assert engine.down(*stack()).ok
    assert owned_rules(aws.fresh()) == []
    assert owned_groups(aws.fresh()) == []
    assert aws.events.describe_rule(Name=aws.name("2-rule"))
    assert aws.scheduler.get_schedule_group(Name=aws.name("2-group"))


def test_a_run_with_nothing_to_do_makes_seven_calls_for_the_four(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    others = [resource for resource in stack() if resource.key not in KEYS.values()]
    base = engine.calls(lambda: engine.plan(*others))
    assert engine.calls(lambda: engine.plan(*stack())) - base <= 7


def test_lost_answers_make_nothing_twice(aws: Cloud, engine: Engine) -> None:
    lost = [lose_answers(aws, service) for service in ("events", "scheduler", "lambda")]
    engine.up(*stack())
    assert all(lost)
    assert engine.plan(*stack()).empty
    assert engine.down(*stack()).ok
