"""Monitoring: four alarms that notify the operator, and one dashboard.

An alarm costs $0.10 a month for each metric (six here; ten are free in an account), a metric of our own $0.30 (four;
ten free), dashboards nothing up to three and $3 each beyond: `watch.dashboard` switches ours off.
"""

from __future__ import annotations

from typing import Any

from aistratus import watch
from aistratus.core.resource import Ref
from aistratus.policies import Names
from aistratus.resources.alarms import Alarm
from aistratus.resources.dashboards import Dashboard
from aistratus.resources.metric_filters import MetricFilter
from aistratus.settings import Settings
from aistratus.stack.api import Api
from aistratus.stack.data import Data
from aistratus.stack.group import Group
from aistratus.stack.node import Node
from aistratus.stack.people import People

ALARM_PERIOD_S = 300
HEARTBEATS_WANTED = 30
"""Writes in five minutes; a healthy worker makes sixty (`wire.HEARTBEAT_EVERY_S`)."""


def declare_watch(settings: Settings, names: Names, data: Data, people: People, api: Api, node: Node) -> Group:
    """The metric that is ours, the alarms, and the dashboard."""
    tokens = MetricFilter(
        key="tokens_filter",
        log_group=Ref(node.log, "name"),
        name="tokens",
        pattern='{ $.event = "job_done" }',
        namespace=watch.namespace(names.env),
        metric=watch.TOKENS,
        value="$.tokens_per_second",
        unit="Count/Second",
    )
    alarms = (*_of_requests(settings, data, people, api), _heartbeat(data, people, node))
    overview = Dashboard(
        key="dashboard",
        name="overview",
        body=watch.dashboard(
            watch.Watched(
                env=names.env,
                region=names.region,
                api=Ref(api.api),
                stage=api.stage.name,
                queue=Ref(data.queue, "name"),
                dead_letters=Ref(data.dead_letters, "name"),
                node=Ref(node.instance),
                alarms=tuple(Ref(one, "arn") for one in alarms),
            )
        ),
    )
    if settings.watch.dashboard:
        return Group(wanted=(tokens, *alarms, overview))
    return Group(wanted=(tokens, *alarms), unwanted=(overview,))


def _alarm(people: People, key: str, **about: Any) -> Alarm:
    """An alarm that notifies people; `about` has its other fields."""
    name = key.removeprefix("alarm_").replace("_", "-")
    return Alarm(key=key, name=name, actions=(Ref(people.alerts, "arn"),), **about)


def _of_requests(settings: Settings, data: Data, people: People, api: Api) -> tuple[Alarm, ...]:
    """Alarms for slow and failed requests, and for dead letters."""
    of_api: dict[str, Any] = {
        "namespace": "AWS/ApiGateway",
        "dimensions": {"ApiId": Ref(api.api), "Stage": api.stage.name},
        "period_s": ALARM_PERIOD_S,
    }
    return (
        _alarm(
            people,
            "alarm_latency",
            description="One of twenty requests to the API takes too long, for a quarter of an hour",
            **of_api,
            metric="Latency",
            statistic="p95",
            threshold=settings.watch.latency_p95_ms,
            periods=3,
            datapoints=3,
            # The one cold start of a quiet day is no reason to write to anybody.
            low_samples="ignore",
        ),
        _alarm(
            people,
            "alarm_errors",
            description="The API fails: five or more answers of 5xx in five minutes",
            **of_api,
            metric="5xx",
            statistic="Sum",
            comparison="GreaterThanOrEqualToThreshold",
            threshold=5,
            periods=1,
            datapoints=1,
        ),
        _alarm(
            people,
            "alarm_dead_letters",
            description="Prompts were given up; `aistratus queue redrive` shows them",
            namespace="AWS/SQS",
            dimensions={"QueueName": Ref(data.dead_letters, "name")},
            period_s=ALARM_PERIOD_S,
            metric="ApproximateNumberOfMessagesVisible",
            statistic="Maximum",
            threshold=0,
            periods=1,
            datapoints=1,
            # SQS falls silent about a queue that nobody asks for six hours; the letters lie there all the same.
            missing="ignore",
        ),
    )


def _heartbeat(data: Data, people: People, node: Node) -> Alarm:
    """An alarm for a node that runs without a worker, from metrics that are free.

    Status checks exist only while an instance runs; the jobs table is put to by the worker's heartbeat and once for
    each prompt that is sent to the queue, which is taken off. Gaps are filled, because alarms on DynamoDB's metrics
    stay as they are while data are missing.
    """
    expression = f"IF((FILL(running, 0) > 0) AND ((FILL(puts, 0) - FILL(prompts, 0)) < {HEARTBEATS_WANTED}), 1, 0)"
    puts = {"TableName": Ref(data.jobs, "name"), "Operation": "PutItem"}
    counted = (
        ("running", "AWS/EC2", "StatusCheckFailed", {"InstanceId": Ref(node.instance)}, "SampleCount"),
        ("puts", "AWS/DynamoDB", "SuccessfulRequestLatency", puts, "SampleCount"),
        ("prompts", "AWS/SQS", "NumberOfMessagesSent", {"QueueName": Ref(data.queue, "name")}, "Sum"),
    )
    return _alarm(
        people,
        "alarm_heartbeat",
        description="The node runs, and is paid for, but its worker gives no sign of life for 15 minutes",
        expression=expression,
        metrics={
            name: {
                "namespace": namespace,
                "metric": metric,
                "dimensions": dimensions,
                "statistic": statistic,
                "period_s": ALARM_PERIOD_S,
            }
            for name, namespace, metric, dimensions, statistic in counted
        },
        threshold=0,
        # A first boot installs packages and fetches the model before its worker is there.
        periods=3,
        datapoints=3,
    )
