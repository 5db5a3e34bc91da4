"""Metric filters: CloudWatch Logs turns matching lines of a group into a metric.

A filter carries no tags and belongs to its log group: it is found in the group by our name, and goes with the group.

Each metric that comes of one is a custom metric: ten are free in an account, every further one costs $0.30 a month
while it gets data. Source: aws.amazon.com/cloudwatch/pricing, "Metrics" (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.resource import Found, Ref, Resource, reconciles
from aistratus.core.settle import settle
from aistratus.resources.calls import unless_gone
from aistratus.resources.logs import GONE, LOGS_SETTLE, LogGroup


@dataclass(frozen=True, kw_only=True)
class MetricFilter(Resource):
    """A filter named `tinyllama-<env>-<name>` on a log group.

    log_group: the group's name.
    pattern: which lines count, in CloudWatch Logs' filter syntax.
    namespace, metric: the metric that they become.
    value: a number, or the field of the line that holds it (`$.tokens`).
    unit: CloudWatch's StandardUnit.
    """

    log_group: Ref | str
    name: str
    pattern: str
    namespace: str
    metric: str
    value: str = "1"
    unit: str = "Count"

    replace_on: ClassVar[frozenset[str]] = frozenset({"log_group", "name"})


def find_metric_filter(aws: Cloud, want: MetricFilter) -> Found | None:
    """By name, in one listing for each log group."""
    group, name = _group(want.log_group), aws.name(want.name)
    entry = _filters(aws, group).get(name)
    if entry is None:
        return None
    made = entry["metricTransformations"][0]
    state = MetricFilter(
        key=want.key,
        log_group=group,
        name=want.name,
        pattern=entry.get("filterPattern", ""),
        namespace=made["metricNamespace"],
        metric=made["metricName"],
        value=made["metricValue"],
        unit=made.get("unit", "None"),
    )
    return Found(state=state, ids={"id": f"{group}:{name}", "name": name, "group": group})


def remove_metric_filter(aws: Cloud, have: Found) -> None:
    unless_gone(GONE, aws.logs.delete_metric_filter, logGroupName=have.ids["group"], filterName=have.ids["name"])


@reconciles(MetricFilter, find=find_metric_filter, remove=remove_metric_filter)
def ensure_metric_filter(aws: Cloud, want: MetricFilter, have: Found | None, changes: frozenset[str]) -> Found:
    # The call makes a filter or replaces the whole of it; repeating it changes nothing.
    settle(
        LOGS_SETTLE,
        aws.logs.put_metric_filter,
        clock=aws.clock,
        logGroupName=want.log_group,
        filterName=aws.name(want.name),
        filterPattern=want.pattern,
        metricTransformations=[
            {
                "metricNamespace": want.namespace,
                "metricName": want.metric,
                "metricValue": want.value,
                "unit": want.unit,
            }
        ],
    )
    return await_match(find_metric_filter, aws, want)


def _group(value: Ref | str) -> str:
    """The name of the group, which needs no look at it."""
    if isinstance(value, str):
        return value
    if not isinstance(value.to, LogGroup):
        raise TypeError(f"{value!r} is no log group")
    return value.to.name


def _filters(aws: Cloud, group: str) -> dict[str, Mapping[str, Any]]:
    """The filters of a group whose name starts like ours, by name; none where there is no such group."""

    def read() -> dict[str, Mapping[str, Any]]:
        pages = aws.logs.get_paginator("describe_metric_filters").paginate(
            logGroupName=group, filterNamePrefix=aws.prefix
        )
        return {entry["filterName"]: entry for page in pages for entry in page.get("metricFilters", [])}

    return aws.shared(f"logs.filters.{group}", lambda: unless_gone(GONE, read) or {})
