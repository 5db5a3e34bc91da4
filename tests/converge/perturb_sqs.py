"""What somebody may do to queues from outside: one change for each field that `up` repairs."""

from __future__ import annotations

import json
from collections.abc import Callable

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.sqs import Queue


def _attributes(**attributes: str) -> Callable[[Cloud, Found], None]:
    def change(aws: Cloud, found: Found) -> None:
        aws.sqs.set_queue_attributes(QueueUrl=found.ids["url"], Attributes=attributes)

    return change


def _dead_letter(aws: Cloud, found: Found) -> None:
    """The queue no longer gives anything up."""
    _attributes(RedrivePolicy="")(aws, found)


def _max_receives(aws: Cloud, found: Found) -> None:
    assert isinstance(found.state, Queue)
    policy = {"deadLetterTargetArn": found.state.dead_letter, "maxReceiveCount": 77}
    _attributes(RedrivePolicy=json.dumps(policy))(aws, found)


def _policy(aws: Cloud, found: Found) -> None:
    statement = {"Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage", "Resource": found.ids["arn"]}
    _attributes(Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))(aws, found)


def _tags(aws: Cloud, found: Found) -> None:
    aws.sqs.tag_queue(QueueUrl=found.ids["url"], Tags={"ManagedBy": "somebody"})


PERTURB: dict[tuple[type, str], Callable[[Cloud, Found], None]] = {
    (Queue, "visibility_timeout"): _attributes(VisibilityTimeout="7"),
    (Queue, "retention_s"): _attributes(MessageRetentionPeriod="777"),
    (Queue, "receive_wait_s"): _attributes(ReceiveMessageWaitTimeSeconds="7"),
    (Queue, "content_based_deduplication"): _attributes(ContentBasedDeduplication="true"),
    (Queue, "high_throughput"): _attributes(DeduplicationScope="queue", FifoThroughputLimit="perQueue"),
    (Queue, "sse"): _attributes(SqsManagedSseEnabled="false"),
    (Queue, "dead_letter"): _dead_letter,
    (Queue, "max_receives"): _max_receives,
    (Queue, "policy"): _policy,
    (Queue, "tags"): _tags,
}
