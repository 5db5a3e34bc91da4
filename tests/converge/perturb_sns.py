"""What somebody may do to topics from outside: one change for each field that `up` repairs."""

from __future__ import annotations

import json
from collections.abc import Callable

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.sns import Topic, TopicSubscription


def _policy(aws: Cloud, found: Found) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": "SNS:Publish", "Resource": found.ids["arn"]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws.sns.set_topic_attributes(TopicArn=found.ids["arn"], AttributeName="Policy", AttributeValue=policy)


def _tags(aws: Cloud, found: Found) -> None:
    aws.sns.tag_resource(ResourceArn=found.ids["arn"], Tags=[{"Key": "ManagedBy", "Value": "somebody"}])


PERTURB: dict[tuple[type, str], Callable[[Cloud, Found], None]] = {
    (Topic, "policy"): _policy,
    (Topic, "tags"): _tags,
}

NOT_FROM_OUTSIDE: dict[tuple[type, str], str] = {
    (TopicSubscription, "endpoint"): "another address is another subscription; ours is then missing and made again",
}
"""Mutable fields that nobody can make differ from outside, with the reason."""
