"""What somebody may do to alarms, dashboards and metric filters from outside: a change for each field `up` repairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.alarms import Alarm
from aistratus.resources.dashboards import Dashboard
from aistratus.resources.metric_filters import MetricFilter

SETTINGS = (
    "AlarmName", "AlarmDescription", "ActionsEnabled", "AlarmActions", "MetricName", "Namespace", "Statistic",
    "ExtendedStatistic", "Dimensions", "Period", "EvaluationPeriods", "DatapointsToAlarm", "Threshold",
    "ComparisonOperator", "TreatMissingData", "EvaluateLowSampleCountPercentile", "Metrics",
)  # fmt: skip
"""What PutMetricAlarm takes of what DescribeAlarms gives."""

Change = Callable[[Cloud, Found], None]


def _alarm(**changed: Any) -> Change:
    """The alarm with some settings changed; `None` leaves one out."""

    def change(aws: Cloud, found: Found) -> None:
        (entry,) = aws.cloudwatch.describe_alarms(AlarmNames=[found.id])["MetricAlarms"]
        put = {name: entry[name] for name in SETTINGS if entry.get(name)} | {"ActionsEnabled": True} | changed
        aws.cloudwatch.put_metric_alarm(**{name: value for name, value in put.items() if value is not None})

    return change


def _query(number: int, change: Callable[[dict[str, Any]], None]) -> Change:
    """The alarm with one of its queries changed."""

    def perturb(aws: Cloud, found: Found) -> None:
        (entry,) = aws.cloudwatch.describe_alarms(AlarmNames=[found.id])["MetricAlarms"]
        change(entry["Metrics"][number])
        _alarm(Metrics=entry["Metrics"])(aws, found)

    return perturb


def _expression(query: dict[str, Any]) -> None:
    query["Expression"] = "running * 0"


def _period(query: dict[str, Any]) -> None:
    query["MetricStat"]["Period"] = 60


def _alarm_tags(aws: Cloud, found: Found) -> None:
    aws.cloudwatch.tag_resource(ResourceARN=found.ids["arn"], Tags=[{"Key": "ManagedBy", "Value": "somebody"}])


def _body(aws: Cloud, found: Found) -> None:
    """A widget is taken away in the console."""
    body = json.loads(aws.cloudwatch.get_dashboard(DashboardName=found.id)["DashboardBody"])
    body["widgets"] = body["widgets"][1:]
    aws.cloudwatch.put_dashboard(DashboardName=found.id, DashboardBody=json.dumps(body))


def _filter(pattern: str | None = None, **made: str) -> Change:
    def change(aws: Cloud, found: Found) -> None:
        where = {"logGroupName": found.ids["group"], "filterNamePrefix": found.ids["name"]}
        (entry,) = aws.logs.describe_metric_filters(**where)["metricFilters"]
        aws.logs.put_metric_filter(
            logGroupName=found.ids["group"],
            filterName=found.ids["name"],
            filterPattern=entry["filterPattern"] if pattern is None else pattern,
            metricTransformations=[{**entry["metricTransformations"][0], **made}],
        )

    return change


PERTURB: Mapping[tuple[type, str], Change] = {
    (Alarm, "description"): _alarm(AlarmDescription="mine"),
    (Alarm, "namespace"): _alarm(Namespace="Mine"),
    (Alarm, "metric"): _alarm(MetricName="mine"),
    (Alarm, "dimensions"): _alarm(Dimensions=[{"Name": "ApiId", "Value": "another"}]),
    (Alarm, "statistic"): _alarm(ExtendedStatistic=None, Statistic="Maximum"),
    (Alarm, "period_s"): _alarm(Period=60),
    (Alarm, "expression"): _query(0, _expression),
    (Alarm, "metrics"): _query(1, _period),
    (Alarm, "comparison"): _alarm(ComparisonOperator="LessThanThreshold"),
    (Alarm, "threshold"): _alarm(Threshold=77_777.0),
    (Alarm, "periods"): _alarm(EvaluationPeriods=7),
    (Alarm, "datapoints"): _alarm(DatapointsToAlarm=2, EvaluationPeriods=3),
    (Alarm, "missing"): _alarm(TreatMissingData="breaching"),
    (Alarm, "low_samples"): _alarm(EvaluateLowSampleCountPercentile="evaluate"),
    (Alarm, "actions"): _alarm(AlarmActions=[]),
    (Alarm, "enabled"): lambda aws, found: aws.cloudwatch.disable_alarm_actions(AlarmNames=[found.id]),
    (Alarm, "tags"): _alarm_tags,
    (Dashboard, "body"): _body,
    (Dashboard, "tags"): _alarm_tags,
    (MetricFilter, "pattern"): _filter(pattern="{ $.event = * }"),
    (MetricFilter, "namespace"): _filter(metricNamespace="Mine"),
    (MetricFilter, "metric"): _filter(metricName="Mine"),
    (MetricFilter, "value"): _filter(metricValue="7"),
    (MetricFilter, "unit"): _filter(unit="Seconds"),
}
