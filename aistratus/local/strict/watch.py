"""CloudWatch: what an alarm and a dashboard may say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from moto.cloudwatch.exceptions import DashboardInvalidInputError, InvalidParameterCombination, ValidationError
from moto.cloudwatch.models import CloudWatchBackend

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule

SHORT_PERIODS_S: Final = frozenset({10, 20, 30})
DAY_S: Final = 86_400
WEEK_S: Final = 7 * DAY_S
COLUMNS: Final = 24
WIDGETS: Final = 500
METRICS: Final = 500
WIDGET_NEEDS: Final[Mapping[str, frozenset[str]]] = {
    "metric": frozenset({"region"}),
    "text": frozenset({"markdown"}),
    "log": frozenset({"query", "region"}),
    "alarm": frozenset({"alarms"}),
    "explorer": frozenset(),
    "custom": frozenset({"endpoint"}),
}

book = Book()

PUT_ALARM: Final = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html"


@book.rule("alarm-one-source", code="InvalidParameterCombination", source=PUT_ALARM)
def alarm_one_source(cloud: Cloud, delays: Delays) -> None:
    """One metric with one statistic, or an expression; never both, and exactly one query that returns data."""

    @wrap(CloudWatchBackend, "put_metric_alarm")
    def put_metric_alarm(original: Any, backend: Any, *args: Any, **wanted: Any) -> Any:
        queries = wanted.get("metric_data_queries")
        single = ("metric_name", "namespace", "statistic", "extended_statistic", "period", "dimensions", "unit")
        if queries and any(wanted.get(name) for name in single):
            raise InvalidParameterCombination("Metrics list cannot be specified together with a single metric.")
        if queries and sum(query.return_data is not False for query in queries) != 1:
            raise ValidationError("Exactly one element of the metrics list should return data.")
        if not queries and wanted.get("rule") is None:
            if not wanted.get("metric_name"):
                raise ValidationError("Either MetricName or the Metrics list must be specified.")
            if bool(wanted.get("statistic")) == bool(wanted.get("extended_statistic")):
                raise InvalidParameterCombination("Exactly one of Statistic and ExtendedStatistic must be specified.")
        return original(backend, *args, **wanted)


@book.rule("alarm-period", code="ValidationError", source=PUT_ALARM)
def alarm_period(cloud: Cloud, delays: Delays) -> None:
    """10, 20, 30 or a multiple of 60 seconds; all periods together a day, or a week from an hour a period on."""

    @wrap(CloudWatchBackend, "put_metric_alarm")
    def put_metric_alarm(original: Any, backend: Any, *args: Any, **wanted: Any) -> Any:
        stats = [query.metric_stat for query in wanted.get("metric_data_queries") or [] if query.metric_stat]
        periods = [int(stat.period) for stat in stats] + ([int(wanted["period"])] if wanted.get("period") else [])
        for period in periods:
            if period not in SHORT_PERIODS_S and (period <= 0 or period % 60):
                raise ValidationError(f"Invalid period {period}: valid are 10, 20, 30 and multiples of 60.")
            most = WEEK_S if period >= 3_600 else DAY_S
            if period * int(wanted.get("evaluation_periods") or 1) > most:
                raise ValidationError(f"Metrics cannot be checked across more than {most} seconds.")
        return original(backend, *args, **wanted)


@book.rule(
    "dashboard-body",
    code="InvalidParameterInput",
    source="https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html",
)
def dashboard_body(cloud: Cloud, delays: Delays) -> None:
    """Widgets have a known type, their place lies within 24 columns, and each says what its type needs."""

    @wrap(CloudWatchBackend, "put_dashboard")
    def put_dashboard(original: Any, backend: Any, name: str, body: str) -> Any:
        if problem := _problem(json.loads(body)):
            raise DashboardInvalidInputError(f"The field DashboardBody is invalid: {problem}")
        return original(backend, name, body)


def _problem(body: Any) -> str:
    """What is wrong with a dashboard's body, empty if nothing is."""
    widgets = body.get("widgets") if isinstance(body, dict) else None
    if not isinstance(widgets, list) or len(widgets) > WIDGETS:
        return f"it should have a list of up to {WIDGETS} widgets"
    return next((f"/widgets/{number}: {wrong}" for number, one in enumerate(widgets) if (wrong := _wrong(one))), "")


def _wrong(widget: Any) -> str:
    kind = widget.get("type") if isinstance(widget, dict) else None
    if not isinstance(kind, str) or kind not in WIDGET_NEEDS:
        return f"unknown type {kind!r}"
    properties = widget.get("properties")
    if not isinstance(properties, dict):
        return "it should have properties"
    if missing := sorted(WIDGET_NEEDS[kind] - properties.keys()):
        return f"it should have the required property {missing[0]!r}"
    x, width, height = widget.get("x", 0), widget.get("width", 6), widget.get("height", 6)
    if not (0 <= x < COLUMNS and 1 <= width <= COLUMNS and x + width <= COLUMNS and 1 <= height <= 1_000):
        return f"it doesn't fit into {COLUMNS} columns"
    return _wrong_metrics(properties.get("metrics", [])) if kind == "metric" else ""


def _wrong_metrics(rows: Any) -> str:
    """A row is `[namespace, metric, (dimension, value)…, options?]` of texts, or `[{"expression": …}]`."""
    if not isinstance(rows, list) or len(rows) > METRICS:
        return f"metrics should be a list of up to {METRICS} rows"
    for row in rows:
        if not isinstance(row, list) or not row:
            return "a row of metrics should be a list"
        options = row[-1] if isinstance(row[-1], dict) else {}
        texts = row[:-1] if isinstance(row[-1], dict) else row
        if any(not isinstance(text, str) or not text for text in texts):
            return "namespaces, names and dimensions should be texts"
        if not texts and "expression" not in options:
            return "a row without a metric should have an expression"
        if texts and (len(texts) < 2 or len(texts) % 2):
            return "each dimension should have a value"
    return ""


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)
