"""The body of the env's one dashboard: pure data, made of other resources' outputs.

The widgets show about fifteen metrics. Three of them are custom metrics and may cost something (see
`resources/metric_filters`): the tokens per second, extracted from the worker's log; the node's starts, which the router
emits (also for all envs together, which no widget shows); and the month's cost, which the guard emits while the node
runs and otherwise four times a day. AWS publishes the others for free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aistratus.core.resource import Ref

PERIOD_S: Final = 300
BILLING_PERIOD_S: Final = 21_600
"""AWS publishes its estimate about every six hours. Source: CloudWatch user guide, "Monitor your estimated charges"."""
BILLING_REGION: Final = "us-east-1"
"""The only region that has it."""

OWN_NAMESPACE: Final = "Aistratus"
"""Where the router's metrics are (`router/node_start.py`)."""
STARTS: Final = "EC2Starts"
TOKENS: Final = "TokensPerSecond"
SPEND: Final = "SpendUSD"
"""What the guard has metered this month (`functions/metering.py`)."""

Json = dict[str, Any]
Row = list[Any]


def namespace(env: str) -> str:
    """Of the metrics that come from an env's logs: a filter can't add the env as a dimension."""
    return f"{OWN_NAMESPACE}/{env}"


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What the dashboard is about: names and ids, or `Ref`s to them."""

    env: str
    region: str
    api: Ref
    stage: str
    queue: Ref
    dead_letters: Ref
    node: Ref
    alarms: tuple[Ref, ...]


def dashboard(watched: Watched) -> Json:
    """The dashboard's body. Source: CloudWatch API reference, "Dashboard Body Structure and Syntax"."""
    api = ["ApiId", watched.api, "Stage", watched.stage]
    queue, dead = ["QueueName", watched.queue], ["QueueName", watched.dead_letters]
    sqs = "AWS/SQS"
    graphs = [
        _graph("Requests", watched.region, [["AWS/ApiGateway", "Count", *api, {"stat": "Sum", "label": "requests"}]]),
        _graph(
            "Latency, ms",
            watched.region,
            [["AWS/ApiGateway", "Latency", *api, {"stat": stat, "label": stat}] for stat in ("p50", "p95")],
        ),
        _graph(
            "Errors",
            watched.region,
            [["AWS/ApiGateway", name, *api, {"stat": "Sum", "label": name}] for name in ("4xx", "5xx")],
        ),
        _graph(
            "Queue",
            watched.region,
            [
                [sqs, "ApproximateNumberOfMessagesVisible", *queue, {"label": "waiting"}],
                [sqs, "ApproximateNumberOfMessagesNotVisible", *queue, {"label": "in flight"}],
                [sqs, "ApproximateNumberOfMessagesVisible", *dead, {"label": "dead letters"}],
                [sqs, "ApproximateAgeOfOldestMessage", *queue, {"label": "oldest, s", "yAxis": "right"}],
            ],
            stat="Maximum",
        ),
        _graph("Tokens a second", watched.region, [[namespace(watched.env), TOKENS, {"label": "tokens/s"}]]),
        _node(watched),
        _graph(
            "Starts of the sleeping node",
            watched.region,
            [[OWN_NAMESPACE, STARTS, "Env", watched.env, "Reason", "ColdBoot", {"label": STARTS}]],
            stat="Sum",
        ),
        _graph(
            "Spend this month, USD (metered at list prices)",
            watched.region,
            [[OWN_NAMESPACE, SPEND, "Env", watched.env, {"label": watched.env}]],
            stat="Maximum",
        ),
        _graph(
            "Spend of the account this month, USD (needs billing alerts)",
            BILLING_REGION,
            [["AWS/Billing", "EstimatedCharges", "Currency", "USD", {"label": "estimate"}]],
            stat="Maximum",
            period=BILLING_PERIOD_S,
        ),
    ]
    alarms = {"type": "alarm", "properties": {"title": "Alarms", "alarms": list(watched.alarms)}}
    return {"widgets": [_placed(widget, number) for number, widget in enumerate([*graphs, alarms])]}


def _node(watched: Watched) -> Json:
    """A stopped instance has no status checks, so that their number says whether it runs."""
    instance = ["InstanceId", watched.node]
    rows: list[Row] = [
        ["AWS/EC2", "StatusCheckFailed", *instance, {"stat": "SampleCount", "label": "minutes running of 5"}],
        ["AWS/EC2", "CPUUtilization", *instance, {"stat": "Average", "label": "processor, %", "yAxis": "right"}],
    ]
    return _graph("Node", watched.region, rows)


def _graph(title: str, region: str, rows: list[Row], *, stat: str = "Average", period: int = PERIOD_S) -> Json:
    properties = {
        "title": title,
        "region": region,
        "view": "timeSeries",
        "stat": stat,
        "period": period,
        "metrics": rows,
    }
    return {"type": "metric", "properties": properties}


def _placed(widget: Json, number: int) -> Json:
    """Three in a row."""
    return {**widget, "x": number % 3 * 8, "y": number // 3 * 6, "width": 8, "height": 6}
