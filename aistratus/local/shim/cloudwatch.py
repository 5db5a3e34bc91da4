"""CloudWatch: tags of dashboards, states of alarms, and the numbers that SQS publishes about its queues.

moto gives a dashboard no tags, sets a changed alarm's tags and state anew, and keeps the tags of what is deleted.
"""

from __future__ import annotations

from typing import Any

from moto.cloudwatch.exceptions import ResourceNotFoundException
from moto.cloudwatch.models import CloudWatchBackend, MetricDatum, MetricDatumBase
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.utils import unix_time, utcnow
from moto.sqs.models import Queue, sqs_backends

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap


def patch(cloud: Cloud) -> None:
    _alarms()
    _dashboards()
    _tags()
    _queues()


def _alarms() -> None:
    @wrap(CloudWatchBackend, "put_metric_alarm")
    def put_metric_alarm(original: Any, backend: CloudWatchBackend, *args: Any, **wanted: Any) -> Any:
        """Tags count for a new alarm only, and only a new alarm begins without a state."""
        before = backend.alarms.get(wanted["name"])
        alarm = original(backend, *args, **(wanted if before is None else wanted | {"tags": None}))
        alarm.state_value = "INSUFFICIENT_DATA" if before is None else before.state_value
        return alarm

    @wrap(CloudWatchBackend, "delete_alarms")
    def delete_alarms(original: Any, backend: CloudWatchBackend, alarm_names: list[str]) -> None:
        for name in alarm_names:
            if name in backend.alarms:
                backend.tagger.delete_all_tags_for_resource(backend.alarms[name].alarm_arn)
        original(backend, alarm_names)


def _dashboards() -> None:
    @wrap(CloudWatchResponse, "put_dashboard")
    def put_dashboard(original: Any, self: CloudWatchResponse) -> Any:
        backend, name = self.cloudwatch_backend, self._get_param("DashboardName")
        new = name not in backend.dashboards
        answer = original(self)
        if new and (tags := self._get_param("Tags", [])):
            backend.tagger.tag_resource(backend.dashboards[name].arn, tags)
        return answer

    @wrap(CloudWatchBackend, "delete_dashboards")
    def delete_dashboards(original: Any, backend: CloudWatchBackend, dashboards: list[str]) -> Any:
        for name in dashboards:
            if name in backend.dashboards:
                backend.tagger.delete_all_tags_for_resource(backend.dashboards[name].arn)
        return original(backend, dashboards)


def _tags() -> None:
    @wrap(CloudWatchBackend, "list_tags_for_resource")
    def list_tags_for_resource(original: Any, backend: CloudWatchBackend, arn: str) -> Any:
        if not _exists(backend, arn):
            raise ResourceNotFoundException
        return original(backend, arn)

    @wrap(CloudWatchBackend, "tag_resource")
    def tag_resource(original: Any, backend: CloudWatchBackend, arn: str, tags: dict[str, str]) -> None:
        if not _exists(backend, arn):
            raise ResourceNotFoundException
        backend.tagger.tag_resource(arn, backend.tagger.convert_dict_to_tags_input(tags))


def _exists(backend: CloudWatchBackend, arn: str) -> bool:
    owners = [alarm.alarm_arn for alarm in backend.alarms.values()]
    owners += [dashboard.arn for dashboard in backend.dashboards.values()]
    owners += [rule.rule_arn for rule in backend.insight_rules.values()]
    return arn in owners


def _queues() -> None:
    @wrap(CloudWatchBackend, "get_all_metrics")
    def get_all_metrics(original: Any, backend: CloudWatchBackend) -> list[MetricDatumBase]:
        """With what SQS publishes about its queues: here as it is when asked, on AWS once a minute.

        Source: SQS developer guide, "Available CloudWatch metrics for Amazon SQS".
        """
        found: list[MetricDatumBase] = original(backend)
        return found + [
            MetricDatum("AWS/SQS", name, value, [{"Name": "QueueName", "Value": queue.name}], utcnow(), "Count")
            for queue in list(sqs_backends[backend.account_id][backend.region_name].queues.values())
            for name, value in _numbers(queue).items()
        ]


def _numbers(queue: Queue) -> dict[str, float]:
    messages = list(queue._messages)
    sent = [message.sent_timestamp or 0 for message in messages]
    return {
        "ApproximateNumberOfMessagesVisible": float(sum(message.visible for message in messages)),
        "ApproximateNumberOfMessagesNotVisible": float(sum(not message.visible for message in messages)),
        "ApproximateAgeOfOldestMessage": max(0.0, unix_time() - min(sent) / 1000) if sent else 0.0,
    }
