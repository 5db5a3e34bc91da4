"""`GET /queue-health`: waiting, running and dead messages, the age of the oldest, and the worker's heartbeat.

This is a route of the router and not a function of its own, so that tokens are verified in one place only.

SQS publishes the age of the oldest message only to CloudWatch, once a minute: looking for it by receiving would count
as an attempt. So the age is the newest data point plus the time since; it may be a minute or two behind, and is unknown
where CloudWatch has none (the first minutes of a queue that was unused for six hours).
Source: SQS developer guide, "Available CloudWatch metrics for Amazon SQS".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aistratus import wire
from aistratus.router import log, spending
from aistratus.router.aws import Aws, AwsError
from aistratus.router.clock import Deadline
from aistratus.router.node_view import NodeView
from aistratus.router.table import Table

WAITING: Final = "ApproximateNumberOfMessages"
IN_FLIGHT: Final = "ApproximateNumberOfMessagesNotVisible"
OLDEST: Final = "ApproximateAgeOfOldestMessage"

PERIOD_S: Final = 60
LOOK_BACK_S: Final = 600
"""An older number says nothing about now."""


@dataclass(frozen=True)
class QueueHealth:
    """Reads it anew for each request."""

    table: Table
    aws: Aws
    queue_url: str
    dead_letter_url: str
    usd_per_eur: float
    limit_eur: float
    node: NodeView

    def read(self, deadline: Deadline) -> dict[str, Any]:
        """Counts of messages and ages in seconds, `None` for an age that isn't known or of nothing; what the env costs.

        Raises:
            AwsError: the queues or the table can't be asked.
        """
        waiting, in_flight = self._counts(self.queue_url, deadline)
        dead, looked_at = self._counts(self.dead_letter_url, deadline)
        return {
            "depth": waiting,
            "in_flight": in_flight,
            # The worker looks through them now and then, and hides them for that moment.
            "dead": dead + looked_at,
            "oldest_age_s": self._oldest_age(deadline) if waiting + in_flight else None,
            "heartbeat_age_s": self._heartbeat_age(deadline),
            "cost": self._cost(deadline),
            "node": self.node.read(deadline),
        }

    def _cost(self, deadline: Deadline) -> dict[str, float] | None:
        metered = self.table.get(wire.METER_PK, deadline)
        return spending.cost(metered, self.aws.clock.ms(), self.usd_per_eur, self.limit_eur)

    def _counts(self, url: str, deadline: Deadline) -> tuple[int, int]:
        wanted = {"QueueUrl": url, "AttributeNames": [WAITING, IN_FLIGHT]}
        found = self.aws.call("sqs", "GetQueueAttributes", wanted, deadline)["Attributes"]
        return int(found[WAITING]), int(found[IN_FLIGHT])

    def _oldest_age(self, deadline: Deadline) -> float | None:
        now = self.aws.clock.now()
        wanted = {
            "Namespace": "AWS/SQS",
            "MetricName": OLDEST,
            "Dimensions": [{"Name": "QueueName", "Value": self.queue_url.rpartition("/")[2]}],
            "StartTime": int(now) - LOOK_BACK_S,
            "EndTime": int(now) + PERIOD_S,
            "Period": PERIOD_S,
            "Statistics": ["Maximum"],
        }
        try:
            points = self.aws.call("monitoring", "GetMetricStatistics", wanted, deadline).get("Datapoints") or []
        except AwsError as error:  # the other numbers are worth having without it
            log.write(level="error", event="queue_health", error=str(error))
            return None
        if not points:
            return None
        newest = max(points, key=lambda point: float(point["Timestamp"]))
        age: float = float(newest["Maximum"]) + max(0.0, now - float(newest["Timestamp"]))
        return round(age, 1)

    def _heartbeat_age(self, deadline: Deadline) -> float | None:
        beat = self.table.get(wire.HEARTBEAT_PK, deadline)
        if beat is None:
            return None
        age: float = max(0.0, self.aws.clock.now() - beat.get("at_ms", 0) / 1000)
        return round(age, 1)
