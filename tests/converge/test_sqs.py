"""Queues: made, repaired, removed, and told apart from strangers'."""

from __future__ import annotations

import json

import pytest
from converge_engine import ACCOUNT, REGION, Engine
from perturb_sqs import PERTURB

from aistratus.cloud import Cloud
from aistratus.core.errors import Stranger
from aistratus.core.resource import Ref, Resource
from aistratus.resources.sqs import Queue, owned_queues


def stack(aws: Cloud) -> list[Resource]:
    dead = Queue(key="dead_letters", name="jobs-dlq", retention_s=1_209_600)
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{aws.name('guarded.fifo')}"
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": arn,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    jobs = Queue(key="jobs_queue", name="jobs", dead_letter=Ref(dead, "arn"))
    return [jobs, dead, Queue(key="guarded", name="guarded", policy=policy)]


def test_up_makes_them_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    url = aws.sqs.get_queue_url(QueueName=f"tinyllama-{aws.env}-jobs.fifo")["QueueUrl"]
    attributes = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert json.loads(attributes["RedrivePolicy"]) == {
        "deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:tinyllama-{aws.env}-jobs-dlq.fifo",
        "maxReceiveCount": 3,
    }
    assert attributes["VisibilityTimeout"] == "60"
    assert attributes["MessageRetentionPeriod"] == "86400"
    assert (attributes["SqsManagedSseEnabled"], attributes["FifoQueue"]) == ("true", "true")
    assert (attributes["DeduplicationScope"], attributes["FifoThroughputLimit"]) == (
        "messageGroup",
        "perMessageGroupId",
    )
    assert aws.sqs.list_queue_tags(QueueUrl=url)["Tags"] == aws.tags("jobs_queue")
    assert engine.plan(*stack(aws)).empty


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    key = "guarded" if field == "policy" else "jobs_queue"
    standing.assert_repairs(stack(standing.aws), key, field, PERTURB[kind, field])


def test_a_standard_queue_has_none_of_the_settings_of_a_fifo_queue(aws: Cloud, engine: Engine) -> None:
    queue = Queue(key="plain", name="plain", fifo=False)
    engine.up(queue)
    assert aws.sqs.get_queue_url(QueueName=f"tinyllama-{aws.env}-plain")
    assert engine.plan(queue).empty


def test_down_removes_them_and_up_makes_them_again(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    assert engine.down(*stack(aws)).ok
    assert owned_queues(aws.fresh()) == []
    assert engine.down(*stack(aws)).ok


def test_a_queue_with_our_name_without_our_tags_is_refused_and_left_alone(aws: Cloud, engine: Engine) -> None:
    name = aws.name("jobs.fifo")
    url = aws.sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})["QueueUrl"]
    outcome = engine.try_up(*stack(aws))
    assert [type(change.error) for change in outcome.failures] == [Stranger]
    assert engine.down(*stack(aws)).failures
    assert aws.sqs.list_queue_tags(QueueUrl=url).get("Tags", {}) == {}


def test_owned_finds_what_an_older_description_left_and_no_other_env(aws: Cloud, engine: Engine) -> None:
    # The name of this one starts like the names of our env.
    other = aws.sqs.create_queue(QueueName=aws.name("2-jobs"), tags={"Project": "tinyllama", "Env": f"{aws.env}-2"})
    engine.up(*stack(aws), Queue(key="old", name="old"))
    assert {found.state.key for found in owned_queues(aws.fresh())} == {"jobs_queue", "dead_letters", "guarded", "old"}
    assert engine.down(*stack(aws)).ok
    assert owned_queues(aws.fresh()) == []
    assert aws.sqs.get_queue_attributes(QueueUrl=other["QueueUrl"])
