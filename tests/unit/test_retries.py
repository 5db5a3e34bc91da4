"""Calls go on failing for a while and pass in the end; what is an answer is not asked for again."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from aistratus.retries import ATTEMPTS, stay_patient

URL = "http://127.0.0.1:9"
ASKED = "needs-retry.sqs.ListQueueTags"


@pytest.fixture
def spent() -> Any:
    """A client that makes each call once, as any does whose quota of repeated calls is used up."""
    once = Config(retries={"mode": "standard", "total_max_attempts": 1})
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    client = boto3.client("sqs", region_name="eu-central-1", endpoint_url=URL, config=once, **keys)
    stay_patient(client)
    return client


class Answers:
    """Answers in the network's place, one after the other."""

    def __init__(self, client: Any, *answers: tuple[int, bytes] | Exception) -> None:
        self._left = list(answers)
        client.meta.events.register("before-send.sqs", self)

    def __call__(self, request: Any, **_: Any) -> AWSResponse:
        answer = self._left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Ready(request.url, *answer)


class Ready(AWSResponse):
    """A response whose body is there already."""

    def __init__(self, url: str, status: int, body: bytes) -> None:
        super().__init__(url, status, {"Content-Type": "application/x-amz-json-1.0"}, None)
        self._content = body


def refusal(code: str) -> bytes:
    return b'{"__type": "com.amazon#%s", "message": "no"}' % code.encode()


def test_a_call_is_made_until_it_passes_when_the_sdk_has_given_up(spent: Any) -> None:
    Answers(
        spent, (400, refusal("ThrottlingException")), (500, refusal("InternalFailure")), (200, b'{"Tags": {"a": "b"}}')
    )
    answer = spent.list_queue_tags(QueueUrl=f"{URL}/queue")
    assert answer["Tags"] == {"a": "b"}
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2


def test_an_answer_is_not_asked_for_again(spent: Any) -> None:
    Answers(spent, (403, refusal("AccessDeniedException")))
    with pytest.raises(ClientError, match="AccessDenied"):
        spent.list_queue_tags(QueueUrl=f"{URL}/queue")


def pauses(client: Any, error: Exception, attempts: int) -> list[float]:
    told = {"response": None, "endpoint": None, "operation": None, "request_dict": {"context": {}}}
    heard = client.meta.events.emit(ASKED, attempts=attempts, caught_exception=error, **told)
    return [pause for _, pause in heard if pause is not None]


@pytest.mark.parametrize("lost", [ConnectionClosedError(endpoint_url=URL), EndpointConnectionError(endpoint_url=URL)])
def test_a_broken_connection_is_tried_again_until_it_is_enough(spent: Any, lost: Exception) -> None:
    assert len(pauses(spent, lost, ATTEMPTS - 1)) == 1
    assert pauses(spent, lost, ATTEMPTS) == []


def test_a_time_out_has_waited_long_enough(spent: Any) -> None:
    assert pauses(spent, ReadTimeoutError(endpoint_url=URL), 1) == []
