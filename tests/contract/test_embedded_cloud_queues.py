"""SQS in the embedded cloud: order, duplicates, dead letters and long polls."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from embedded_cloud_parts import Connect, eventually, unique

from aistratus.local.process import Running

POLL_BEGINS_S = 0.2
"""Until a request sent has begun to wait, and until a closed connection is known. Too short is still a right test,
only an easier one: there is nothing outside to look at."""


@pytest.fixture
def queue(connect: Connect) -> str:
    """URL of a FIFO queue whose messages come back after a second."""
    return make_queue(connect)


def make_queue(connect: Connect, **attributes: str) -> str:
    answer = connect("sqs").create_queue(
        QueueName=f"{unique()}.fifo", Attributes={"FifoQueue": "true", "VisibilityTimeout": "1", **attributes}
    )
    url: str = answer["QueueUrl"]
    return url


def send(connect: Connect, queue: str, *bodies: str, group: str = "g") -> None:
    for body in bodies:
        connect("sqs").send_message(
            QueueUrl=queue, MessageBody=body, MessageGroupId=group, MessageDeduplicationId=f"{group}-{body}"
        )


def receive(connect: Connect, queue: str, **wanted: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = connect("sqs").receive_message(QueueUrl=queue, **wanted).get("Messages", [])
    return found


def bodies(messages: list[dict[str, Any]]) -> list[str]:
    return [one["Body"] for one in messages]


def test_messages_come_back_in_their_order(connect: Connect, queue: str) -> None:
    send(connect, queue, "1", "2", "3", "4")
    assert bodies(receive(connect, queue, MaxNumberOfMessages=3)) == ["1", "2", "3"]
    assert bodies(receive(connect, queue, MaxNumberOfMessages=10, WaitTimeSeconds=20)) == ["1", "2", "3", "4"]


def test_a_group_waits_while_one_of_its_messages_is_in_flight(connect: Connect) -> None:
    queue = make_queue(connect, VisibilityTimeout="600")
    send(connect, queue, "1", "2")
    send(connect, queue, "other", group="h")
    first = receive(connect, queue)[0]
    assert bodies(receive(connect, queue, MaxNumberOfMessages=10)) == ["other"]
    assert receive(connect, queue) == []
    connect("sqs").delete_message(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"])
    assert bodies(receive(connect, queue)) == ["2"]


def test_a_message_given_back_is_there_at_once(connect: Connect) -> None:
    queue = make_queue(connect, VisibilityTimeout="600")
    send(connect, queue, "1")
    taken = receive(connect, queue)[0]
    connect("sqs").change_message_visibility(QueueUrl=queue, ReceiptHandle=taken["ReceiptHandle"], VisibilityTimeout=0)
    again = receive(connect, queue, WaitTimeSeconds=20, MessageSystemAttributeNames=["ApproximateReceiveCount"])
    assert again[0]["Attributes"]["ApproximateReceiveCount"] == "2"


def test_a_duplicate_is_one_message_even_after_it_was_deleted(connect: Connect, queue: str) -> None:
    send(connect, queue, "1")
    first = receive(connect, queue)[0]
    connect("sqs").delete_message(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"])
    repeated = connect("sqs").send_message(
        QueueUrl=queue, MessageBody="1", MessageGroupId="g", MessageDeduplicationId="g-1"
    )
    assert repeated["MessageId"] == first["MessageId"]
    assert receive(connect, queue) == []


def test_duplicates_are_told_apart_by_group_where_the_queue_says_so(connect: Connect) -> None:
    queue = make_queue(connect, DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    for group in ("a", "b"):
        connect("sqs").send_message(
            QueueUrl=queue, MessageBody=group, MessageGroupId=group, MessageDeduplicationId="same"
        )
    assert sorted(bodies(receive(connect, queue, MaxNumberOfMessages=10))) == ["a", "b"]


def test_a_used_up_message_goes_to_the_dead_letters_and_back(connect: Connect) -> None:
    sqs, dead = connect("sqs"), make_queue(connect)
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    queue = make_queue(
        connect, VisibilityTimeout="0", RedrivePolicy=json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "2"})
    )
    send(connect, queue, "poison")
    for _ in range(2):
        assert bodies(eventually(lambda: receive(connect, queue))) == ["poison"]
    assert receive(connect, queue) == []
    assert bodies(eventually(lambda: receive(connect, dead))) == ["poison"]
    sqs.start_message_move_task(SourceArn=arn)
    assert sqs.list_message_move_tasks(SourceArn=arn)["Results"][0]["ApproximateNumberOfMessagesMoved"] == 1
    assert bodies(eventually(lambda: receive(connect, queue))) == ["poison"]


def test_a_long_poll_takes_what_arrives_and_holds_nobody_up(connect: Connect, queue: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(receive, connect, queue, WaitTimeSeconds=20)
        send(connect, queue, "1")
        assert bodies(waiting.result(timeout=15)) == ["1"]


def test_a_poll_whose_client_has_gone_takes_nothing(connect: Connect, embedded_cloud: Running) -> None:
    """A worker that is killed while it waits must not take the next job with it."""
    queue = make_queue(connect, VisibilityTimeout="600")
    parts = urlsplit(embedded_cloud.endpoint)
    assert parts.hostname and parts.port
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    connection.request(
        "POST",
        "/",
        body=json.dumps({"QueueUrl": queue, "WaitTimeSeconds": 20}),
        headers={
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "AmazonSQS.ReceiveMessage",
            "Authorization": "AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-central-1/sqs/aws4_request, Signature=x",
        },
    )
    time.sleep(POLL_BEGINS_S)
    connection.close()
    time.sleep(POLL_BEGINS_S)
    send(connect, queue, "1")
    assert bodies(receive(connect, queue, WaitTimeSeconds=5)) == ["1"]
