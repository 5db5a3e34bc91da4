"""Alarms, dashboards and metric filters: made, repaired, removed, and told apart from strangers'."""

from __future__ import annotations

import json
from typing import Any

from converge_engine import Engine
from perturb_watch import PERTURB

from aistratus import watch
from aistratus.cloud import Cloud
from aistratus.core.errors import Stranger
from aistratus.core.resource import Ref, Resource
from aistratus.resources.alarms import Alarm, owned_alarms
from aistratus.resources.dashboards import Dashboard, owned_dashboards
from aistratus.resources.logs import LogGroup
from aistratus.resources.metric_filters import MetricFilter
from aistratus.resources.sns import Topic


def stack(aws: Cloud) -> list[Resource]:
    topic = Topic(key="alerts", name="alerts")
    group = LogGroup(key="node_log", name=f"/tinyllama/{aws.env}/node")
    common: dict[str, Any] = {"actions": (Ref(topic, "arn"),), "threshold": 0, "periods": 3, "datapoints": 3}
    latency = Alarm(
        key="latency",
        name="latency",
        description="Slow",
        namespace="AWS/ApiGateway",
        metric="Latency",
        dimensions={"ApiId": "abc", "Stage": "$default"},
        statistic="p95",
        period_s=300,
        low_samples="ignore",
        **common,
    )
    running = {
        "namespace": "AWS/EC2",
        "metric": "StatusCheckFailed",
        "dimensions": {"InstanceId": "i-1"},
        "statistic": "SampleCount",
        "period_s": 300,
    }
    heartbeat = Alarm(
        key="heartbeat",
        name="heartbeat",
        description="Silent",
        expression="FILL(running, 0)",
        metrics={"running": running},
        **common,
    )
    tokens = MetricFilter(
        key="tokens",
        log_group=Ref(group, "name"),
        name="tokens",
        pattern='{ $.event = "job_done" }',
        namespace=watch.namespace(aws.env),
        metric=watch.TOKENS,
        value="$.tokens_per_second",
        unit="Count/Second",
    )
    text = {"type": "text", "properties": {"markdown": "# hello"}}
    alarms = {"type": "alarm", "properties": {"alarms": [Ref(latency, "arn"), Ref(heartbeat, "arn")]}}
    dashboard = Dashboard(key="dashboard", name="overview", body={"widgets": [text, alarms]})
    return [topic, group, latency, heartbeat, tokens, dashboard]


def owned(aws: Cloud) -> set[str]:
    return {found.id for found in (*owned_alarms(aws.fresh()), *owned_dashboards(aws.fresh()))}


def test_up_makes_them_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    alarms = {
        alarm["AlarmName"]: alarm
        for alarm in aws.cloudwatch.describe_alarms(AlarmNamePrefix=aws.prefix)["MetricAlarms"]
    }
    latency, heartbeat = alarms[aws.name("latency")], alarms[aws.name("heartbeat")]
    assert (latency["ExtendedStatistic"], latency["EvaluateLowSampleCountPercentile"]) == ("p95", "ignore")
    assert latency["AlarmActions"] == [aws.arn("sns", aws.name("alerts"))]
    assert [(query["Id"], query["ReturnData"]) for query in heartbeat["Metrics"]] == [
        ("watched", True), ("running", False)
    ]  # fmt: skip
    body = json.loads(aws.cloudwatch.get_dashboard(DashboardName=aws.name("overview"))["DashboardBody"])
    assert body["widgets"][1]["properties"]["alarms"] == [latency["AlarmArn"], heartbeat["AlarmArn"]]
    assert engine.plan(*stack(aws)).empty
    assert owned(aws) == {aws.name(name) for name in ("latency", "heartbeat", "overview")}


def test_each_change_from_outside_is_shown_and_repaired(aws: Cloud, engine: Engine) -> None:
    """One after the other on the same stack: a repair that left something behind would show at the next."""
    resources = stack(aws)
    found = {change.key: change.found for change in engine.up(*resources).changes}
    for (kind, field), perturb in PERTURB.items():
        key = next(one.key for one in resources if type(one) is kind and getattr(one, field, "") is not None)
        there = found[key]
        assert there is not None
        perturb(aws, there)
        assert engine.differences(*resources) == {key: {field}}
        engine.up(*resources)
    assert engine.plan(*resources).empty


def test_a_dashboard_that_is_written_in_another_way_is_the_same(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    name = aws.name("overview")
    body = json.loads(aws.cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"])
    body["widgets"] = [dict(reversed(widget.items())) for widget in body["widgets"]]
    aws.cloudwatch.put_dashboard(DashboardName=name, DashboardBody=json.dumps(body, indent=3))
    assert engine.plan(*stack(aws)).empty


def test_an_alarm_that_was_turned_into_another_sort_is_turned_back(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    aws.cloudwatch.put_metric_alarm(
        AlarmName=aws.name("heartbeat"), Namespace="Mine", MetricName="mine", Statistic="Sum", Period=60,
        EvaluationPeriods=3, DatapointsToAlarm=3, Threshold=0, ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching", AlarmDescription="Silent",
        AlarmActions=[aws.arn("sns", aws.name("alerts"))],
    )  # fmt: skip
    assert engine.differences(*stack(aws)) == {"heartbeat": {"expression", "metrics"}}
    engine.up(*stack(aws))
    assert engine.plan(*stack(aws)).empty


def test_an_alarm_that_has_fired_shows_in_its_health(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    aws.cloudwatch.set_alarm_state(AlarmName=aws.name("latency"), StateValue="ALARM", StateReason="slow")
    changes = {change.key: change.found for change in engine.plan(*stack(aws)).changes}
    assert [changes[key].health for key in ("latency", "heartbeat") if changes[key]] == ["alarm", "ok"]  # type: ignore[union-attr]


def test_down_removes_them_also_without_the_description(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    assert engine.down().ok
    assert owned(aws) == set()
    assert engine.down(*stack(aws)).ok


def test_what_has_our_name_without_our_tags_is_refused(aws: Cloud, engine: Engine) -> None:
    plain = {"Namespace": "Theirs", "MetricName": "theirs", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1}
    aws.cloudwatch.put_metric_alarm(
        AlarmName=aws.name("latency"), Threshold=1, ComparisonOperator="GreaterThanThreshold", **plain
    )
    aws.cloudwatch.put_dashboard(DashboardName=aws.name("overview"), DashboardBody='{"widgets":[]}')
    refused = {key: type(error) for key, error in engine.plan(*stack(aws)).survey.failed.items()}
    assert refused == {"latency": Stranger, "dashboard": Stranger}
    assert engine.try_up(*stack(aws)).failures
    assert engine.down(*stack(aws)).failures
    assert aws.cloudwatch.get_dashboard(DashboardName=aws.name("overview"))["DashboardBody"] == '{"widgets":[]}'
    assert aws.cloudwatch.describe_alarms(AlarmNames=[aws.name("latency")])["MetricAlarms"]


def test_those_of_an_env_whose_name_starts_like_ours_are_left_alone(aws: Cloud, engine: Engine) -> None:
    tags = [{"Key": "Project", "Value": "tinyllama"}, {"Key": "Env", "Value": f"{aws.env}-2"}]
    tags.append({"Key": "aistratus:key", "Value": "dashboard"})
    name = f"{aws.prefix}2-overview"
    aws.cloudwatch.put_dashboard(DashboardName=name, DashboardBody='{"widgets":[]}', Tags=tags)
    engine.up(*stack(aws))
    assert engine.down(*stack(aws)).ok
    assert aws.cloudwatch.get_dashboard(DashboardName=name)


def test_they_are_found_with_few_calls(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    mine = [one for one in stack(aws) if isinstance(one, (Alarm, Dashboard, MetricFilter))]
    rest = [one for one in stack(aws) if one not in mine]
    calls = engine.calls(lambda: engine.plan(*stack(aws))) - engine.calls(lambda: engine.plan(*rest))
    assert calls <= 1.5 * len(mine)
