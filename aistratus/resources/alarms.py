"""CloudWatch alarms: on one metric, or on an expression over several.

One listing shows all alarms with our prefix; tags are read one by one, since CloudWatch lists them nowhere else.
`PutMetricAlarm` both creates an alarm and replaces all of its fields, so every repair writes all fields; it accepts
tags for a new alarm only.

An alarm costs about $0.10 a month for each metric that it watches; ten are free in each account.
Source: aws.amazon.com/cloudwatch/pricing, "Alarms" (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.resource import Found, Ref, Resource, reconciles, unordered
from aistratus.resources.calls import tag_list, tag_mapping, unless_gone

GONE = frozenset({"ResourceNotFound", "ResourceNotFoundException"})
"""DeleteAlarms says the first, the calls about tags say the second."""

WATCHED = "watched"
"""The id of the expression that an alarm on several metrics looks at."""


@dataclass(frozen=True, kw_only=True)
class Alarm(Resource):
    """An alarm named `tinyllama-<env>-<name>`.

    namespace, metric, dimensions, statistic, period_s: the one metric that it watches; `statistic` is one such as `Sum`
        or a percentile such as `p95`.
    expression, metrics: or a metric math expression over several metrics by id, each with `namespace`, `metric`,
        `dimensions`, `statistic` and `period_s`.
    comparison: CloudWatch's ComparisonOperator.
    periods, datapoints: it fires when `datapoints` of the last `periods` periods are beyond the threshold.
    missing: what a period without data counts as: `notBreaching`, `breaching`, `ignore` (stays as it is), `missing`.
    low_samples: `ignore` keeps a percentile of too few samples from changing anything.
    actions: ARNs of the topics that are told when it fires.
    """

    name: str
    description: str
    namespace: str | None = None
    metric: str | None = None
    dimensions: Mapping[str, Ref | str] | None = None
    statistic: str | None = None
    period_s: int | None = None
    expression: str | None = None
    metrics: Mapping[str, Mapping[str, Any]] | None = None
    comparison: str = "GreaterThanThreshold"
    threshold: float
    periods: int
    datapoints: int
    missing: str = "notBreaching"
    low_samples: str | None = None
    actions: tuple[Ref | str, ...] = unordered()
    enabled: bool = True

    replace_on: ClassVar[frozenset[str]] = frozenset({"name"})


def find_alarm(aws: Cloud, want: Alarm) -> Found | None:
    """By name, in one listing for all alarms."""
    name = aws.name(want.name)
    entry = _alarms(aws).get(name)
    tags = _tags(aws, name) if entry is not None else None
    if entry is None or tags is None:
        return None
    aws.require_ours("alarm", name, tags, want.key)
    return _found(aws, want.key, entry, tags)


def owned_alarms(aws: Cloud) -> list[Found]:
    """By tags, among the alarms with our name."""
    owned = []
    for name, entry in sorted(_alarms(aws).items()):
        tags = _tags(aws, name)
        if tags is not None and aws.owns(tags):
            owned.append(_found(aws, tags["aistratus:key"], entry, tags))
    return owned


def remove_alarm(aws: Cloud, have: Found) -> None:
    unless_gone(GONE, aws.cloudwatch.delete_alarms, AlarmNames=[have.ids["name"]])


@reconciles(Alarm, find=find_alarm, remove=remove_alarm, owned=owned_alarms)
def ensure_alarm(aws: Cloud, want: Alarm, have: Found | None, changes: frozenset[str]) -> Found:
    settings = _encoded(aws, want)
    if have is None:
        aws.create_once(
            "cloudwatch",
            "put_metric_alarm",
            look=lambda cloud: find_alarm(cloud, want),
            Tags=tag_list(aws.tags(want.key)),
            **settings,
        )
    elif changes - {"tags"}:
        aws.cloudwatch.put_metric_alarm(**settings)
    if have is not None and "tags" in changes:
        tags = tag_list(aws.tags(want.key))
        aws.cloudwatch.tag_resource(ResourceARN=have.ids["arn"], Tags=tags)
    return await_match(find_alarm, aws, want)


def _encoded(aws: Cloud, want: Alarm) -> dict[str, Any]:
    """The whole alarm as PutMetricAlarm takes it."""
    settings: dict[str, Any] = {
        "AlarmName": aws.name(want.name),
        "AlarmDescription": want.description,
        "ActionsEnabled": want.enabled,
        "AlarmActions": list(want.actions),
        "ComparisonOperator": want.comparison,
        "Threshold": want.threshold,
        "EvaluationPeriods": want.periods,
        "DatapointsToAlarm": want.datapoints,
        "TreatMissingData": want.missing,
    }
    if want.low_samples is not None:
        settings["EvaluateLowSampleCountPercentile"] = want.low_samples
    if want.expression is not None:
        return settings | {"Metrics": _queries(want.expression, want.metrics or {})}
    assert want.statistic is not None
    percentile = want.statistic.startswith("p")
    return settings | {
        "Namespace": want.namespace,
        "MetricName": want.metric,
        "Dimensions": _dimensions(want.dimensions or {}),
        "ExtendedStatistic" if percentile else "Statistic": want.statistic,
        "Period": want.period_s,
    }


def _queries(expression: str, metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The expression, and what it is made of; CloudWatch wants exactly one that returns data."""
    queries: list[dict[str, Any]] = [{"Id": WATCHED, "Expression": expression, "Label": WATCHED, "ReturnData": True}]
    for name, metric in sorted(metrics.items()):
        source = {
            "Namespace": metric["namespace"],
            "MetricName": metric["metric"],
            "Dimensions": _dimensions(metric["dimensions"]),
        }
        stat = {"Metric": source, "Period": metric["period_s"], "Stat": metric["statistic"]}
        queries.append({"Id": name, "MetricStat": stat, "ReturnData": False})
    return queries


def _dimensions(dimensions: Mapping[str, Ref | str]) -> list[dict[str, Any]]:
    return [{"Name": name, "Value": value} for name, value in sorted(dimensions.items())]


def _found(aws: Cloud, key: str, entry: Mapping[str, Any], tags: Mapping[str, str]) -> Found:
    name = entry["AlarmName"]
    queries = entry.get("Metrics") or []
    state = Alarm(
        key=key,
        name=name.removeprefix(aws.prefix),
        description=entry.get("AlarmDescription", ""),
        namespace=entry.get("Namespace"),
        metric=entry.get("MetricName"),
        dimensions=_mapping(entry.get("Dimensions")),
        statistic=entry.get("Statistic") or entry.get("ExtendedStatistic"),
        period_s=entry.get("Period"),
        expression=next((query["Expression"] for query in queries if query.get("Expression")), None),
        metrics={query["Id"]: _metric(query["MetricStat"]) for query in queries if query.get("MetricStat")} or None,
        comparison=entry.get("ComparisonOperator", ""),
        threshold=entry.get("Threshold", 0.0),
        periods=entry.get("EvaluationPeriods", 0),
        datapoints=entry.get("DatapointsToAlarm", entry.get("EvaluationPeriods", 0)),
        missing=entry.get("TreatMissingData", "missing"),
        low_samples=entry.get("EvaluateLowSampleCountPercentile"),
        actions=tuple(entry.get("AlarmActions", ())),
        enabled=entry.get("ActionsEnabled", True),
    )
    ids = {"id": name, "name": name, "arn": _arn(aws, name)}
    # One that has had no data yet is well: nobody has talked to the stack.
    return Found(state=state, ids=ids, tags=tags, health="alarm" if entry.get("StateValue") == "ALARM" else "ok")


def _metric(stat: Mapping[str, Any]) -> dict[str, Any]:
    source = stat["Metric"]
    return {
        "namespace": source["Namespace"],
        "metric": source["MetricName"],
        "dimensions": _mapping(source.get("Dimensions")),
        "statistic": stat["Stat"],
        "period_s": stat["Period"],
    }


def _mapping(dimensions: list[dict[str, str]] | None) -> dict[str, Ref | str]:
    return {entry["Name"]: entry["Value"] for entry in dimensions or []}


def _alarms(aws: Cloud) -> dict[str, dict[str, Any]]:
    """All metric alarms whose name starts like ours, by name."""

    def read() -> dict[str, dict[str, Any]]:
        pages = aws.cloudwatch.get_paginator("describe_alarms").paginate(
            AlarmNamePrefix=aws.prefix, AlarmTypes=["MetricAlarm"]
        )
        return {alarm["AlarmName"]: alarm for page in pages for alarm in page.get("MetricAlarms", [])}

    return aws.shared("cloudwatch.alarms", read)


def _tags(aws: Cloud, name: str) -> dict[str, str] | None:
    """All tags; `None` if the alarm is gone."""
    answer = unless_gone(GONE, aws.cloudwatch.list_tags_for_resource, ResourceARN=_arn(aws, name))
    return None if answer is None else tag_mapping(answer.get("Tags"))


def _arn(aws: Cloud, name: str) -> str:
    return aws.arn("cloudwatch", f"alarm:{name}")
